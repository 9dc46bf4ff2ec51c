"""Answers in a text: where each token stands in its context, the gold answers, and the best span of a question.

N windows of Q questions, T tokens in all; a long context is cut into several windows that overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

N_BEST: Final = 20  # starts, and ends, of a window that are paired
MAX_ANSWER: Final = 30  # tokens of the longest answer


@dataclass(frozen=True, eq=False)
class Answers:
    """What turns spans of tokens into texts and says which texts are right; every question has a window.

    Questions about one context share one string, which is pickled once.
    """

    questions: NDArray[np.int64]  # (N,) the question of each window
    begins: NDArray[np.int32]  # (T,) a token's first character in its context; -1 outside the context
    ends: NDArray[np.int32]  # (T,) the character after its last; -1 outside the context
    contexts: tuple[str, ...]  # (Q,)
    golds: tuple[tuple[str, ...], ...]  # (Q,) answers that are right; ("",) where the context holds none
    nullable: bool = False  # whether the data have questions without an answer, so that "" may be predicted

    def __post_init__(self) -> None:
        for name, dtype in {"questions": np.int64, "begins": np.int32, "ends": np.int32}.items():
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != dtype:
                raise ValueError(f"{name} must be one {dtype.__name__} axis, got {array.dtype} {array.shape}")
        if len(self.begins) != len(self.ends) or len(self.contexts) != len(self.golds):
            raise ValueError(
                f"lengths disagree: {len(self.begins)=} {len(self.ends)=} {len(self.contexts)=} {len(self.golds)=}"
            )
        if np.unique(self.questions).tolist() != list(range(len(self.contexts))):
            raise ValueError(f"every one of the {len(self.contexts)} questions must have a window, and no other")

    def take(self, windows: ArrayLike, tokens: NDArray[np.int64]) -> Answers:
        """The chosen windows and tokens; only the questions that still have a window, in their order."""
        left, questions = np.unique(self.questions[np.asarray(windows, dtype=np.int64)], return_inverse=True)
        return Answers(
            questions.astype(np.int64),
            self.begins[tokens],
            self.ends[tokens],
            tuple(self.contexts[question] for question in left),
            tuple(self.golds[question] for question in left),
            self.nullable,
        )


def best_answers(
    logits: NDArray[np.float32], data: Encoded, n_best: int = N_BEST, max_answer: int = MAX_ANSWER
) -> tuple[str, ...]:
    """(Q,) the text of the span with the highest start + end logit over all windows of each question.

    logits: (T, 2). A span lies in the context, has at most `max_answer` tokens, and begins and ends at one of the
    `n_best` best tokens of its window; of equal ones the first counts. A question without any has the answer "". Where
    the data have questions without an answer, "" wins if [CLS] scores higher than the best span in every window that
    may hold one: the lowest null score of the windows counts, since a window without the answer says so rightly.
    """
    answers = data.answers
    if answers is None:
        raise ValueError("these examples have no answers")
    scores = np.full(len(answers.contexts), -np.inf)  # (Q,)
    nulls = np.full(len(answers.contexts), np.inf)  # (Q,)
    texts = [""] * len(answers.contexts)
    wide = logits.astype(np.float64)
    for question, tokens in _windows(answers.questions, data.offsets):
        nulls[question] = min(nulls[question], wide[tokens.start].sum())
        begins = answers.begins[tokens]
        score, first, last = best_span(wide[tokens], begins >= 0, n_best, max_answer)
        if score > scores[question]:
            scores[question] = score
            texts[question] = answers.contexts[question][begins[first] : answers.ends[tokens][last]]
    empty = (nulls > scores) & answers.nullable
    return tuple("" if none else text for none, text in zip(empty, texts, strict=True))


def best_span(
    logits: NDArray[np.float64], allowed: NDArray[np.bool_], n_best: int, max_answer: int
) -> tuple[float, int, int]:
    """Score, first and last token of the best span of a window's (L, 2) logits; -inf where there is none."""
    places = np.flatnonzero(allowed)
    if not len(places):
        return -np.inf, 0, 0
    # in order of place, so that the argmax takes the first of equal spans
    starts, ends = (np.sort(places[np.argsort(-column, kind="stable")[:n_best]]) for column in logits[places].T)
    scores = logits[starts, 0][:, None] + logits[ends, 1][None, :]  # (starts, ends)
    tokens = ends[None, :] - starts[:, None] + 1
    scores[(tokens < 1) | (tokens > max_answer)] = -np.inf
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[first, last]), int(starts[first]), int(ends[last])


def _windows(questions: NDArray[np.int64], offsets: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """The question and the tokens of every window."""
    for window, question in enumerate(questions.tolist()):
        yield question, slice(int(offsets[window]), int(offsets[window + 1]))
