"""Tokenisation of questions and contexts to packed windows with answer spans, with a fast transformers tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.progress import step
from searchkit.errors import DataError
from searchkit.tasks.answers import Answers
from searchkit.tasks.base import Encoded
from searchkit.tasks.encode import CHUNK, check_first, check_tokenizer, segments

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

SPECIALS: Final = 4  # special tokens of a pair: three for BERT, four for RoBERTa


@dataclass(frozen=True)
class Window:
    """Window of L tokens, an example. spans: (L, 2) characters in the context, -1 outside; is_question: (L,)."""

    question: int
    ids: NDArray[np.int32]
    types: NDArray[np.int32]
    spans: NDArray[np.int32]
    is_question: NDArray[np.bool_]

    @property
    def begin(self) -> int:
        """First character of the context in this window; -1 if there is none."""
        return int(self.spans[self.spans[:, 0] >= 0, 0].min(initial=self.end))

    @property
    def end(self) -> int:
        """Character after the last one of the context in this window; -1 if there is none."""
        return int(self.spans[:, 1].max(initial=-1))


def encode_questions(
    table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int, question_length: int
) -> Encoded:
    """Tokenise `question` and `context` in windows of `max_length` tokens that share `stride` tokens of the context.

    Labels are the first and last token of the first gold answer (`answers`, which begins at the character `start`), or
    0, 0 in a window that does not hold it whole. A question is cut to `question_length` tokens. DataError: the
    tokenizer does not fit, or its windows leave a part of a context out.
    """
    check_tokenizer(tokenizer, max_length)
    if not tokenizer.is_fast:
        raise DataError("answers need a fast tokenizer, one that knows the characters of each token (tokenizer.json)")
    if (needed := tokenizer.num_special_tokens_to_add(pair=True)) > SPECIALS:
        raise DataError(
            f"the tokenizer adds {needed} special tokens to a question and a context, at most {SPECIALS} fit"
        )
    windows = list(_windows(table, tokenizer, max_length, stride, question_length))
    ids = _joined([window.ids for window in windows], np.int32)
    offsets = np.cumsum([0, *(len(window.ids) for window in windows)], dtype=np.int64)
    check_first(ids, offsets, tokenizer)
    spans = np.concatenate([np.empty((0, 2), np.int32), *(window.spans for window in windows)])
    questions = np.array([window.question for window in windows], dtype=np.int64)
    golds = tuple(tuple(dict.fromkeys(answers)) for answers in table["answers"])
    same: dict[str, str] = {}
    contexts = tuple(same.setdefault(context, context) for context in table["context"])
    return Encoded(
        ids=ids,
        types=_joined([window.types for window in windows], np.int32),
        offsets=offsets,
        labels=_labels(table, windows),
        marks={
            "sep": ids == tokenizer.sep_token_id,
            "question": _joined([window.is_question for window in windows], np.bool_),
        },
        answers=Answers(questions, spans[:, 0].copy(), spans[:, 1].copy(), contexts, golds, nullable=("",) in golds),
    )


def _windows(
    table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int, question_length: int
) -> Iterator[Window]:
    questions, contexts = table["question"].tolist(), table["context"].tolist()
    for start in range(0, len(table), CHUNK):
        chunk = slice(start, start + CHUNK)
        if len(table) > CHUNK:
            step(f"tokenising: {start} of {len(table)} questions")
        out = tokenizer(
            _shortened(questions[chunk], tokenizer, question_length),
            contexts[chunk],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_attention_mask=False,
        )
        types = segments(out)
        windows = [
            _window(start + row, out, number, types[number])
            for number, row in enumerate(out["overflow_to_sample_mapping"])
        ]
        _check_cover(windows, contexts, tokenizer)
        yield from windows


def _check_cover(windows: list[Window], contexts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError where the windows of a question lack characters that the tokens of the whole context have."""
    spans_of: dict[int, list[NDArray[np.int32]]] = {}
    for window in windows:
        spans_of.setdefault(window.question, []).append(window.spans)
    texts = list(dict.fromkeys(contexts[question] for question in spans_of))
    out = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    whole = dict(zip(texts, out["offset_mapping"], strict=True))
    for question, spans in spans_of.items():
        context = contexts[question]
        lost = _characters(np.array(whole[context], dtype=np.int32), len(context))
        lost &= ~_characters(np.concatenate(spans), len(context))
        if lost.any():
            raise DataError(
                f"question {question}: {int(lost.sum())} of the {len(context)} characters of its context are in no "
                f"window, the first at {int(lost.argmax())}; the tokenizer ({type(tokenizer).__name__}) loses them"
            )


def _characters(spans: NDArray[np.int32], length: int) -> NDArray[np.bool_]:
    """(length,) whether a token has this character. spans: (L, 2) first character and the one after the last."""
    inside = spans.reshape(-1, 2)[spans.reshape(-1, 2)[:, 0] >= 0]
    begins, ends = (np.bincount(edge, minlength=length + 1) for edge in inside.T)
    covered: NDArray[np.bool_] = np.cumsum(begins - ends)[:length] > 0
    return covered


def _window(question: int, out: Any, number: int, types: list[int]) -> Window:
    segment = np.array(out.sequence_ids(number), dtype=np.float32)  # (L,) 0 question, 1 context, nan special
    spans = np.array(out["offset_mapping"][number], dtype=np.int32)  # (L, 2)
    ids = np.array(out["input_ids"][number], dtype=np.int32)
    inside = np.where(segment[:, None] == 1, spans, np.int32(-1))
    return Window(question, ids, np.array(types, dtype=np.int32), inside, segment == 0)


def _shortened(questions: list[str], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[str]:
    """Cut the questions to at most `limit` tokens.

    A word that is cut may become more pieces than it was, so what was cut is looked at again.
    """
    short = list(questions)
    long = list(range(len(short)))
    while long:
        out = tokenizer([short[row] for row in long], add_special_tokens=False, return_offsets_mapping=True)
        over = [(row, spans) for row, spans in zip(long, out["offset_mapping"], strict=True) if len(spans) > limit]
        for row, spans in over:
            short[row] = short[row][: min(spans[limit][0], len(short[row]) - 1)]
        long = [row for row, _ in over]
    return short


def _labels(table: pd.DataFrame, windows: list[Window]) -> NDArray[np.int64]:
    """(N, 2) the tokens of each window's answer."""
    starts = table["start"].tolist()
    stops = [start + len(answers[0]) for start, answers in zip(starts, table["answers"], strict=True)]
    labels = np.zeros((len(windows), 2), dtype=np.int64)
    # sorted by characters, since a tokenizer that cuts on the left begins with the end of the context
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    for window in windows:
        begins[window.question] = min(window.begin, begins.get(window.question, window.begin))
        ends[window.question] = max(window.end, ends.get(window.question, window.end))
    for row, window in enumerate(windows):
        start, stop = starts[window.question], stops[window.question]
        if start >= 0:
            edges = (window.begin == begins[window.question], window.end == ends[window.question])
            labels[row] = answer_tokens(window.spans, start, stop, *edges)
    return labels


def answer_tokens(spans: NDArray[np.int32], start: int, stop: int, first: bool, last: bool) -> tuple[int, int]:
    """First and last token of a window that overlap the characters start..stop of the context; 0, 0 if some of
    those tokens stand outside.

    spans: (L, 2); first, last: whether the context begins and ends in this window. Characters without a token (blanks,
    control characters) do not matter.
    """
    context = np.flatnonzero(spans[:, 0] >= 0)
    held = np.flatnonzero((spans[:, 0] < stop) & (spans[:, 1] > start))
    if not len(held):
        return 0, 0
    left, right = int(held[0]), int(held[-1])
    whole_left = first or left > context[0] or spans[left, 0] <= start
    whole_right = last or right < context[-1] or spans[right, 1] >= stop
    return (left, right) if whole_left and whole_right else (0, 0)


def _joined(arrays: list[Any], dtype: Any) -> Any:
    return np.concatenate([np.empty(0, dtype), *arrays])
