from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.tasks import GeneratedQuestions, best_answers, word_tokenizer
from searchkit.tasks.generated_questions import FACTS
from tests.tasks.questions import one_hot

SMALL = GeneratedQuestions(train=3_000, search=300, report=300)


def facts_of(context: str, task: GeneratedQuestions) -> dict[str, str]:
    """Read a context word by word: a value is the run of value words after "<key> is"."""
    values = set(chain.from_iterable(task.lexicon.values.values()))
    facts, words = {}, context.split()
    for place, word in enumerate(words):
        if word in task.lexicon.values:
            assert words[place + 1] == "is"
            assert word not in facts
            run = [value in values for value in words[place + 2 :]] + [False]
            facts[word] = " ".join(words[place + 2 : place + 2 + run.index(False)])
    return facts


@given(st.integers(0, 2**32), st.integers(12, 20), st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_the_answer_is_the_value_of_the_key_that_is_asked_for(seed: int, fewest: int, more: int) -> None:
    task = GeneratedQuestions(train=40, search=1, report=1, length=(fewest, fewest + more), seed=seed)
    table = task.tables(0).train
    for row in table.itertuples():
        facts, (what, verb, key) = facts_of(row.context, task), row.question.split()
        assert (what, verb, (facts[key],)) == ("what", "is", row.answers)
        assert row.context[row.start :].startswith(facts[key])
        assert row.context[: row.start].endswith(f"{key} is ")
        assert len(facts) in FACTS
        assert set(facts[key].split()) <= set(task.lexicon.values[key])
    lengths = table["context"].str.split().str.len()
    assert fewest <= lengths.min()
    assert lengths.max() <= fewest + more


def test_every_choice_is_made_as_often_as_any_other() -> None:
    table = SMALL.tables(0).train
    facts = [facts_of(context, SMALL) for context in table["context"]]
    asked = [
        (len(own), list(own).index(question.split()[2])) for own, question in zip(facts, table["question"], strict=True)
    ]
    for name, share, of in (
        ("two facts", np.mean([len(own) == 2 for own in facts]), 1 / 2),
        ("one word", np.mean([" " not in answer for (answer,) in table["answers"]]), 1 / 2),
        ("the first of two is asked for", np.mean([place == 0 for count, place in asked if count == 2]), 1 / 2),
        ("the last of three is asked for", np.mean([place == 2 for count, place in asked if count == 3]), 1 / 3),
        ("the first key", table["question"].str.endswith(next(iter(SMALL.lexicon.values))).mean(), 1 / 10),
    ):
        assert share == pytest.approx(of, abs=4 * np.sqrt(of * (1 - of) / 1_400)), name


def test_the_seed_of_the_task_decides_every_word_and_the_other_seed_none() -> None:
    for split in ("train", "search", "report"):
        assert SMALL.tables(7)[split].equals(GeneratedQuestions(train=3_000, search=300, report=300).tables(0)[split])
    other = GeneratedQuestions(train=3_000, search=300, report=300, seed=1)
    assert not other.tables(0).train.equals(SMALL.tables(0).train)


def test_splits_differ_and_do_not_change_with_each_other() -> None:
    tables = SMALL.tables(0)
    contexts = [set(tables[split]["context"]) for split in ("train", "search", "report")]
    assert len(set.union(*contexts)) == 3_600
    assert GeneratedQuestions(train=5, search=300, report=300).tables(0).search.equals(tables.search)


def test_the_tokenizer_of_the_words_needs_one_window_and_its_labels_are_the_answers() -> None:
    table = SMALL.tables(0).search
    tokenizer = word_tokenizer(SMALL.words())
    data = SMALL.encode(table, tokenizer)
    assert (data.lengths == table["context"].str.split().str.len() + 6).all()
    assert data.lengths.max() <= SMALL.max_length
    assert tokenizer.unk_token_id not in data.ids
    assert best_answers(one_hot(data), data) == tuple(answer for (answer,) in table["answers"])


def test_a_tokenizer_that_makes_pieces_of_the_words_is_served_too() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(["[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"])}
    letters |= {f"##{letter}": len(letters) + number for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    backend = Tokenizer(models.WordPiece(letters, unk_token="[SEP]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    pieces = PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]")
    data = SMALL.encode(SMALL.tables(0).search, pieces)
    assert len(data) > 300
    assert data.lengths.max() <= SMALL.max_length


def test_the_table_has_the_columns_of_questions() -> None:
    tables = SMALL.tables(0)
    assert list(tables.train) == ["question", "context", "answers", "start", "rationale"]
    assert tables.labels == ("start", "end")
    assert isinstance(tables.train, pd.DataFrame)
    assert SMALL.head == "question_answering"


def test_the_description_is_json_and_changes_with_every_parameter() -> None:
    changes = [{}, {"train": 30}, {"search": 30}, {"report": 30}, {"length": (20, 30)}, {"seed": 1}]
    described = [json.dumps(GeneratedQuestions(**change).describe()) for change in changes]  # type: ignore[arg-type]
    assert len(set(described)) == len(changes)
    assert json.loads(described[0]) == GeneratedQuestions().describe()


@pytest.mark.parametrize(
    "arguments", [{"length": (11, 20)}, {"length": (20, 19)}, {"train": 0}, {"search": 0}, {"report": -1}]
)
def test_impossible_contexts_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        GeneratedQuestions(**arguments)  # type: ignore[arg-type]
