from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from searchkit.errors import DataError
from searchkit.tasks import Encoded, QuestionAnswering
from searchkit.tasks.encode import CHUNK, encode_table
from searchkit.tasks.windows import encode_questions
from tests.tasks.questions import TOKENIZER, examples, questions

SETTINGS = {"max_length": 18, "stride": 4, "question_length": 6}  # the words of a question are cut to 6


def encode(table: pd.DataFrame, **changes: int) -> Encoded:
    return encode_questions(table, TOKENIZER, **{**SETTINGS, **changes})


def row(question: str, context: str, answer: str | None = None) -> dict[str, object]:
    start = -1 if answer is None else context.index(answer)
    return {"question": question, "context": context, "answers": (answer or "",), "start": start}


def test_a_short_context_is_one_window_with_its_marks_and_places() -> None:
    data = encode(pd.DataFrame([row("a bb", "ccc a  é", "a  é")]))
    assert data.ids.tolist() == [2, 5, 6, 3, 7, 5, 9, 3]  # [CLS] a bb [SEP] ccc a é [SEP]
    assert data.types.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert data.marks["sep"].tolist() == [id == 3 for id in data.ids]
    assert data.marks["question"].tolist() == [False, True, True, False, False, False, False, False]
    assert data.labels.tolist() == [[5, 6]]
    assert data.answers is not None
    assert data.answers.begins.tolist() == [-1, -1, -1, -1, 0, 4, 7, -1]
    assert data.answers.ends.tolist() == [-1, -1, -1, -1, 3, 5, 8, -1]
    assert (data.answers.contexts, data.answers.golds) == (("ccc a  é",), (("a  é",),))


def test_a_long_context_is_several_windows_that_share_the_stride() -> None:
    table = pd.DataFrame([row("bb", "a ccc " * 10)])  # 20 words; a window has 18 - 4 of them
    data = encode(table)
    windows = examples(data, data.ids)
    assert [len(window) for window in windows] == [18, 14]
    assert windows[0][-5:-1] == windows[1][3:7]  # four tokens before the last [SEP], and the first ones of the context
    assert data.answers is not None
    assert data.answers.questions.tolist() == [0, 0]


def test_the_question_is_cut_to_its_length_and_the_context_has_the_rest() -> None:
    data = encode(pd.DataFrame([row("a bb " * 9, "ccc")]))
    assert data.ids.tolist() == [2, 5, 6, 5, 6, 5, 6, 3, 7, 3]


def test_a_question_is_cut_even_where_one_word_is_more_pieces_than_it_may_have(shared: Path) -> None:
    pieces = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    table = pd.DataFrame([row("unbelievably" * 30, "ccc"), row("é" * 400 + "x", "ccc"), row("?" * 99, "ccc")])
    data = encode_questions(table, pieces, max_length=32, stride=4, question_length=8)
    assert max(sum(marked) for marked in examples(data, data.marks["question"])) <= 8
    assert len(data) == 3


@given(questions(), st.integers(0, 5))
def test_windows_hold_every_word_of_the_context_in_order(table: pd.DataFrame, stride: int) -> None:
    data = encode(table, stride=stride)
    assert data.lengths.max() <= SETTINGS["max_length"]
    assert data.answers is not None
    begins, ends = (examples(data, values) for values in (data.answers.begins, data.answers.ends))
    for number, context in enumerate(table["context"]):
        spans: list[tuple[int, int]] = []
        for window in np.flatnonzero(data.answers.questions == number):
            own = [(a, b) for a, b in zip(begins[window], ends[window], strict=True) if a >= 0]
            shared_with_last = [span for span in own if span in spans]
            assert len(shared_with_last) == (min(stride, len(spans)) if spans else 0)
            spans += [span for span in own if span not in spans]
        assert [context[a:b] for a, b in spans] == context.split()


@given(questions())
def test_labels_are_the_answer_wherever_a_window_holds_it_whole(table: pd.DataFrame) -> None:
    data = encode(table)
    assert data.answers is not None
    begins, ends = (examples(data, values) for values in (data.answers.begins, data.answers.ends))
    for window, (first, last) in enumerate(data.labels.tolist()):
        question = table.iloc[data.answers.questions[window]]
        stop = question["start"] + len(question["answers"][0])
        whole = question["start"] >= 0 and {question["start"], stop} <= {*begins[window], *ends[window]}
        if whole and question["start"] in begins[window]:
            assert question["context"][begins[window][first] : ends[window][last]] == question["answers"][0]
            assert begins[window][first] == question["start"]
        else:
            assert (first, last) == (0, 0)


@pytest.mark.parametrize(("words", "labels"), [(14, [[3, 16], [0, 0]]), (15, [[0, 0], [0, 0]])])
def test_a_window_that_cuts_the_answer_does_not_hold_it(words: int, labels: list[list[int]]) -> None:
    context = "a ccc " * 10  # 20 words, of which a window has 14
    answer = " ".join(context.split()[:words])
    assert encode(pd.DataFrame([row("bb", context, answer)])).labels.tolist() == labels


def test_blanks_at_the_edges_of_an_answer_do_not_matter() -> None:
    data = encode(pd.DataFrame([row("bb", "a ccc a", " ccc "), row("bb", " ccc a", " ccc")]))
    assert data.labels.tolist() == [[4, 4], [3, 3]]


def test_questions_beyond_one_chunk_keep_their_numbers() -> None:
    table = pd.DataFrame([row("a", "bb ccc", "ccc")] * (CHUNK + 2))
    data = encode(table)
    assert data.answers is not None
    assert data.answers.questions.tolist() == list(range(CHUNK + 2))
    assert data.labels.tolist() == [[4, 4]] * (CHUNK + 2)


def test_no_questions_are_encoded_as_no_windows() -> None:
    data = encode(pd.DataFrame([row("a", "bb", "bb")]).iloc[:0])
    assert (len(data), data.labels.shape) == (0, (0, 2))


def test_only_data_with_questions_that_have_no_answer_may_be_answered_by_nothing() -> None:
    some = encode(pd.DataFrame([row("a", "bb", "bb"), row("a", "bb")]))
    none = encode(pd.DataFrame([row("a", "bb", "bb")]))
    assert some.answers is not None
    assert none.answers is not None
    assert (some.answers.nullable, none.answers.nullable) == (True, False)
    assert some.labels.tolist() == [[3, 3], [0, 0]]


def test_tokenizers_that_cannot_do_it_are_refused() -> None:
    class Slow:
        cls_token, sep_token, model_max_length, is_fast = "[CLS]", "[SEP]", 512, False

    with pytest.raises(DataError, match="fast tokenizer"):
        encode_questions(pd.DataFrame([row("a", "bb")]), Slow(), **SETTINGS)  # type: ignore[arg-type]
    short = PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZER.backend_tokenizer, cls_token="[CLS]", sep_token="[SEP]", model_max_length=16
    )
    with pytest.raises(DataError, match="max_length=18 is more than the tokenizer allows"):
        encode_questions(pd.DataFrame([row("a", "bb")]), short, **SETTINGS)


@pytest.mark.real
def test_real_windows_cover_their_contexts_and_labels_decode_to_the_answers(shared: Path) -> None:
    task = QuestionAnswering(str(shared / "data" / "squad"), max_length=128, stride=32, question_length=32, limit=400)
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    table = task.tables(0).report
    data = task.encode(table, tokenizer)
    assert data.answers is not None
    assert len(data) > 1.5 * len(table)  # contexts are 150 tokens or so, a window holds about 110
    begins, ends = (examples(data, values) for values in (data.answers.begins, data.answers.ends))
    found = 0
    for number, (context, answers, start) in enumerate(
        zip(table["context"], table["answers"], table["start"], strict=True)
    ):
        alone = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        own = np.flatnonzero(data.answers.questions == number).tolist()
        spans = {span for window in own for span in zip(begins[window], ends[window], strict=True) if span[0] >= 0}
        assert spans == set(alone)
        held = [window for window in own if data.labels[window].any()]
        for window in held:
            first, last = data.labels[window].tolist()
            piece = (begins[window][first], ends[window][last])
            inner = {edge for span in alone for edge in span}
            if {start, start + len(answers[0])} <= inner:  # an answer may begin or end inside of a token
                assert context[slice(*piece)] == answers[0]
        found += bool(held)
    assert found > 0.98 * len(table)


class Forgetful(PreTrainedTokenizerFast):
    """A tokenizer that reads the first words of a text alone when it makes windows, as tokenizers 0.23.2 does."""

    def __call__(self, text: Any, text_pair: Any = None, **settings: Any) -> Any:
        if text_pair and settings.get("return_overflowing_tokens"):
            text_pair = [" ".join(context.split(" ")[:12]) for context in text_pair]
        return super().__call__(text, text_pair, **settings)


def test_windows_that_leave_out_a_part_of_the_context_are_refused_whatever_the_release() -> None:
    lossy = Forgetful(tokenizer_object=TOKENIZER.backend_tokenizer, cls_token="[CLS]", sep_token="[SEP]")
    short, long = row("bb", "a ccc " * 6, "ccc"), row("bb", "a ccc " * 20)
    assert len(encode_questions(pd.DataFrame([short]), lossy, **SETTINGS)) == 1
    with pytest.raises(DataError, match=r"question 1: 56 of the 120 characters .* in no window, the first at 36"):
        encode_questions(pd.DataFrame([short, long]), lossy, **SETTINGS)


@pytest.mark.parametrize("release", ["0.23.1", "0.23.2"])
def test_releases_that_lose_windows_are_refused(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    monkeypatch.setattr("tokenizers.__version__", release)
    with pytest.raises(DataError, match=rf"tokenizers {release} loses the windows .* install another release"):
        encode(pd.DataFrame([row("a", "bb")]))
    with pytest.raises(DataError, match="cuts pairs of texts wrongly"):
        encode_table(pd.DataFrame({"text": ["a"], "label": [0]}), TOKENIZER, max_length=8)


def families() -> dict[str, PreTrainedTokenizerFast]:
    """Tokenizers of bytes and of unigrams, whose special tokens are those of RoBERTa."""
    corpus = ["a bb ccc dd,d é", "what is it", "ééé 漢字 x"] * 20
    specials = ["<s>", "</s>", "<pad>", "<unk>"]
    pieces = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    pieces.train_from_iterator(corpus, trainer)
    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.NFKC()
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.train_from_iterator(
        corpus, trainers.UnigramTrainer(vocab_size=60, special_tokens=specials, unk_token="<unk>", show_progress=False)
    )
    found = {"words": TOKENIZER}
    for name, backend in (("bytes", pieces), ("unigrams", unigram)):
        backend.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
        found[name] = PreTrainedTokenizerFast(
            tokenizer_object=backend, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>"
        )
    return found


FAMILIES = families()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=20, deadline=None)  # the clock of a shared machine
@given(questions(most=2), st.text(max_size=40))
def test_labels_are_whole_answers_whichever_side_the_tokenizer_cuts(
    name: str, side: str, table: pd.DataFrame, odd: str
) -> None:
    """The slow way: an answer is held if every token of the whole context that touches it is in the window."""
    tokenizer = copy.deepcopy(FAMILIES[name])
    tokenizer.truncation_side = side
    table = pd.concat([table, pd.DataFrame([row(odd[:9], f"{odd} a {odd} bb", "a")])], ignore_index=True)
    table.loc[len(table) - 1, "start"] = len(odd) + 1
    data = encode_questions(table, tokenizer, **SETTINGS)
    assert data.answers is not None
    begins, ends = (examples(data, values) for values in (data.answers.begins, data.answers.ends))
    for window, (first, last) in enumerate(data.labels.tolist()):
        question = table.iloc[data.answers.questions[window]]
        start, stop = question["start"], question["start"] + len(question["answers"][0])
        whole = tokenizer(question["context"], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        needed = {span for span in whole if span[0] < stop and span[1] > start and span[0] < span[1]}
        spans = list(zip(begins[window], ends[window], strict=True))
        if start >= 0 and needed and needed <= set(spans):
            assert {span for span in spans[first : last + 1] if span[0] < span[1]} == needed
        else:
            assert (first, last) == (0, 0)


def test_more_special_tokens_than_windows_have_room_for_are_refused() -> None:
    backend = copy.deepcopy(TOKENIZER.backend_tokenizer)
    backend.post_processor = processors.TemplateProcessing(
        pair="[CLS] [CLS] $A [SEP] [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    many = PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]")
    with pytest.raises(DataError, match="adds 5 special tokens"):
        encode_questions(pd.DataFrame([row("a", "bb")]), many, **SETTINGS)
