"""Contexts, gold answers, and the characters of each token, for extractive question answering.

N windows of Q questions, T tokens in all; a long context is cut into several windows that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Answers:
    """Characters of each token, contexts and gold answers of a split of questions; every question has a window.

    Questions about one context share one string, which is pickled once. ValueError for arrays that do not fit.

    >>> from searchkit.tasks import GeneratedQuestions, word_tokenizer
    >>> task = GeneratedQuestions(train=2, search=2, report=2)
    >>> answers = task.encode(task.tables(0).train, word_tokenizer(task.words())).answers
    >>> answers.questions.tolist(), len(answers.contexts), answers.nullable
    ([0, 1], 2, False)
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
        """Take the chosen windows and tokens, and the questions that still have a window, in their order."""
        left, questions = np.unique(self.questions[np.asarray(windows, dtype=np.int64)], return_inverse=True)
        return Answers(
            questions.astype(np.int64),
            self.begins[tokens],
            self.ends[tokens],
            tuple(self.contexts[question] for question in left),
            tuple(self.golds[question] for question in left),
            self.nullable,
        )
