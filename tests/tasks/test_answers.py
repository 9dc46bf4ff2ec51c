from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from transformers import AutoTokenizer

from objectives.answers import squad_scores
from searchkit.reduction.heads import UNREACHABLE
from searchkit.tasks import Answers, Encoded, QuestionAnswering, best_answers
from searchkit.tasks.windows import encode_questions
from tests.tasks.questions import TOKENIZER, examples, one_hot, questions


def encode(table: pd.DataFrame) -> Encoded:
    return encode_questions(table, TOKENIZER, max_length=18, stride=4, question_length=6)


def answers_of(data: Encoded) -> Answers:
    assert data.answers is not None
    return data.answers


def slow_best_answers(logits: NDArray[np.float32], data: Encoded, n_best: int, max_answer: int) -> tuple[str, ...]:
    """Every pair of tokens of every window, one after the other."""
    known, texts = answers_of(data), []
    for question, context in enumerate(known.contexts):
        best, text, null = -np.inf, "", np.inf
        for window in np.flatnonzero(known.questions == question):
            tokens = range(data.offsets[window], data.offsets[window + 1])
            null = min(null, float(logits[tokens[0], 0]) + float(logits[tokens[0], 1]))
            inside = [token for token in tokens if known.begins[token] >= 0]
            top = [sorted(inside, key=lambda token: (-logits[token, end], token))[:n_best] for end in (0, 1)]
            for first in sorted(top[0]):
                for last in sorted(top[1]):
                    score = float(logits[first, 0]) + float(logits[last, 1])
                    if first <= last < first + max_answer and score > best:
                        best, text = score, context[known.begins[first] : known.ends[last]]
        texts.append("" if known.nullable and null > best else text)
    return tuple(texts)


@given(questions(), st.data(), st.integers(1, 6), st.integers(1, 6))
def test_the_best_answers_are_those_of_a_loop_over_all_spans(
    table: pd.DataFrame, draw: st.DataObject, n_best: int, max_answer: int
) -> None:
    data = encode(table)
    few = st.integers(-3, 3).map(np.float32)  # so that there are ties
    logits = draw.draw(arrays(np.float32, (len(data.ids), 2), elements=few))
    assert best_answers(logits, data, n_best, max_answer) == slow_best_answers(logits, data, n_best, max_answer)


@given(questions(without_answer=False))
def test_a_model_that_knows_the_labels_gives_the_gold_answers(table: pd.DataFrame) -> None:
    data = encode(table)
    held = {int(question) for question in answers_of(data).questions[data.labels.any(axis=1)]}
    found = best_answers(one_hot(data), data)
    for question, (text, gold) in enumerate(zip(found, answers_of(data).golds, strict=True)):
        assert text == gold[0] or question not in held


def two_windows() -> Encoded:
    """One question, a context of 20 words (a window has 14 of them), and a question without an answer."""
    rows = [
        {"question": "bb", "context": "a ccc " * 10, "answers": ("ccc",), "start": 2},
        {"question": "bb", "context": "a a", "answers": ("",), "start": -1},
    ]
    return encode(pd.DataFrame(rows))


def test_the_better_window_of_a_question_wins() -> None:
    data = two_windows()
    logits = np.zeros((len(data.ids), 2), dtype=np.float32)
    logits[5] = 1.0  # in the first window, the third word: a
    assert best_answers(logits, data)[0] == "a"
    second = int(data.offsets[1])
    logits[second + 4] = 2.0  # its first words are those from the eleventh on
    assert best_answers(logits, data)[0] == "ccc"


def test_the_empty_answer_wins_where_every_window_prefers_it() -> None:
    data = two_windows()
    logits = np.zeros((len(data.ids), 2), dtype=np.float32)
    logits[data.offsets[[0, 2]]] = 1.0  # the [CLS] of the first window of the first question, and of the other question
    assert best_answers(logits, data) == ("a", "")
    logits[data.offsets[1]] = 1.0
    assert best_answers(logits, data) == ("", "")
    certain = replace(data, answers=replace(answers_of(data), nullable=False))
    assert best_answers(logits, certain) == ("a", "a")


def test_a_discarded_token_is_no_answer() -> None:
    data = two_windows()
    logits = np.full((len(data.ids), 2), 5.0, dtype=np.float32)
    logits[1:] = UNREACHABLE
    logits[[6, 8]] = -50.0  # what is left of the contexts; [CLS] is always left
    assert best_answers(logits, replace(data, answers=replace(answers_of(data), nullable=False)))[0] == "ccc"


def test_a_context_without_a_word_has_no_answer() -> None:
    data = encode(pd.DataFrame([{"question": "a", "context": " ", "answers": ("",), "start": -1}]))
    assert best_answers(np.zeros((len(data.ids), 2), dtype=np.float32), data) == ("",)


@given(questions(), st.data())
def test_taking_windows_takes_their_questions(table: pd.DataFrame, draw: st.DataObject) -> None:
    data = encode(table)
    chosen = draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=8))
    taken, known = data.take(chosen), answers_of(data)
    left = sorted({int(known.questions[window]) for window in chosen})
    own = answers_of(taken)
    assert [left[question] for question in own.questions] == [int(known.questions[window]) for window in chosen]
    assert own.contexts == tuple(known.contexts[question] for question in left)
    assert own.golds == tuple(known.golds[question] for question in left)
    assert own.nullable == known.nullable
    for values, whole in ((own.begins, known.begins), (own.ends, known.ends)):
        assert examples(taken, values) == [examples(data, whole)[window] for window in chosen]


@given(questions())
def test_answers_travel_by_pickle_and_the_digest_covers_them(table: pd.DataFrame) -> None:
    data = encode(table)
    assert pickle.loads(pickle.dumps(data)).digest() == data.digest()
    known = answers_of(data)
    changes = [
        {"questions": np.where(known.questions == 0, len(known.contexts) - 1, known.questions - 1)},
        {"begins": known.begins + np.int32(1)},
        {"ends": known.ends + np.int32(1)},
        {"contexts": (*known.contexts[1:], "other")},
        {"golds": (*known.golds[1:], ("other",))},
        {"nullable": not known.nullable},
    ]
    digests = {replace(data, answers=replace(known, **change)).digest() for change in changes}  # type: ignore[arg-type]
    digests |= {data.digest(), replace(data, answers=None).digest()}
    same = len(known.contexts) == 1  # one question cannot be numbered otherwise
    assert len(digests) == len(changes) + 2 - same


def test_a_context_that_many_questions_share_travels_once() -> None:
    context = "a ccc " * 200
    row = {"question": "bb", "context": context, "answers": ("ccc",), "start": 2}
    known = answers_of(encode(pd.DataFrame([row] * 50)))
    alone = answers_of(encode(pd.DataFrame([row])))
    texts = len(pickle.dumps((known.contexts, known.golds))) - len(pickle.dumps((alone.contexts, alone.golds)))
    assert texts < len(context)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": np.array([0, 0], dtype=np.int64)}, "every one of the 2 questions"),
        ({"questions": np.array([0, 1], dtype=np.int32)}, "questions must be one int64 axis"),
        ({"ends": np.array([1], dtype=np.int32)}, "lengths disagree"),
        ({"golds": (("x",),)}, "lengths disagree"),
    ],
)
def test_answers_that_do_not_fit_together_are_refused(change: dict[str, object], message: str) -> None:
    good = Answers(
        np.array([0, 1], dtype=np.int64),
        np.array([-1, 0, -1, 0], dtype=np.int32),
        np.array([-1, 1, -1, 1], dtype=np.int32),
        ("x", "y"),
        (("x",), ("y",)),
    )
    with pytest.raises(ValueError, match=message):
        replace(good, **change)  # type: ignore[arg-type]


def test_answers_of_other_examples_are_refused() -> None:
    data = two_windows()
    with pytest.raises(ValueError, match="answers are of 1 windows, the examples are 3"):
        replace(data, answers=answers_of(data.take([0])))
    with pytest.raises(ValueError, match="have no answers"):
        best_answers(one_hot(data), replace(data, answers=None))


@pytest.mark.real
def test_real_labels_give_full_marks_where_an_answer_is_whole_tokens_of_a_window(shared: Path) -> None:
    task = QuestionAnswering(str(shared / "data" / "squad"), limit=1000)
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    table = task.tables(0).report
    data = task.encode(table, tokenizer)
    known = answers_of(data)
    can = np.zeros(len(table), dtype=bool)
    for window, (first, last) in enumerate(data.labels + data.offsets[:-1, None]):
        question = known.questions[window]
        start, text = table["start"][question], table["answers"][question][0]
        ends = known.begins[first] == start and known.ends[last] == start + len(text)
        can[question] |= ends and last - first < 30
    scores = squad_scores(best_answers(one_hot(data), data), known.golds)
    assert scores[can].min() == 1.0
    assert can.mean() > 0.98
