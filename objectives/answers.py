"""Quality of extracted answers: SQuAD's exact match and F1, scored by torchmetrics, per question."""

from __future__ import annotations

from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from objectives.quality import Rows, mean, means
from searchkit.errors import StudyError
from searchkit.objective import Objective, Subject
from searchkit.records import Estimate

# both objectives need the same answers, and finding and scoring them takes longer than a mean
_SCORES: WeakKeyDictionary[Subject, NDArray[np.float64]] = WeakKeyDictionary()


def _exact_match(subject: Subject) -> Estimate:
    return Estimate.of_fraction(_scores(subject, "exact_match")[:, 0].astype(bool).tolist())


def _f1(subject: Subject) -> Estimate:
    return mean(_overlaps(subject))


def _scores(subject: Subject, name: str) -> NDArray[np.float64]:
    """(Q, 2) exact match and F1 of each question."""
    subject.require("question_answering", what=name)
    if subject not in _SCORES:
        answers = subject.data.answers
        if answers is None:
            raise StudyError(f"{name} needs a task whose examples say which answers are right (Encoded.answers)")
        _SCORES[subject] = squad_scores(subject.spans.texts(answers.contexts), answers.golds)
    return _SCORES[subject]


def squad_scores(predicted: tuple[str, ...], golds: tuple[tuple[str, ...], ...]) -> NDArray[np.float64]:
    """(Q, 2) exact match and F1 in [0, 1] of each question: the best over its gold answers, in SQuAD's spelling."""
    return np.array([_score(*pair) for pair in zip(predicted, golds, strict=True)])


@lru_cache(maxsize=1 << 18)  # candidates of a search give the same answer to most questions
def _score(text: str, right: tuple[str, ...]) -> tuple[float, float]:
    from torchmetrics.functional.text import squad

    # only the texts count; torchmetrics wants the rest of the format as well
    answers: dict[str, list[str] | list[int]] = {"text": list(right), "answer_start": [0] * len(right)}
    percent = squad({"id": "0", "prediction_text": text}, {"id": "0", "answers": answers})
    return float(percent["exact_match"]) / 100, float(percent["f1"]) / 100


def _exact(subject: Subject) -> NDArray[np.float64]:
    """(Q,) 1 where a question is answered exactly."""
    return _scores(subject, "exact_match")[:, 0]


def _overlaps(subject: Subject) -> NDArray[np.float64]:
    """(Q,) F1 of each question."""
    return _scores(subject, "f1")[:, 1]


def _exacts(subject: Subject, rows: Rows) -> NDArray[np.float64]:
    return means(_exact(subject), rows)


def _f1s(subject: Subject, rows: Rows) -> NDArray[np.float64]:
    return means(_overlaps(subject), rows)


exact_match = Objective("exact_match", "fraction", "higher", _exact_match, examples=_exact, resample=_exacts)
f1 = Objective("f1", "fraction", "higher", _f1, examples=_overlaps, resample=_f1s)
