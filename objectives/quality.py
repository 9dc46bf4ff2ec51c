"""How good the predictions are."""

from __future__ import annotations

from searchkit.evaluate.subject import Subject
from searchkit.objective import Objective
from searchkit.records import Estimate


def _accuracy(subject: Subject) -> Estimate:
    return Estimate.of_fraction(subject.correct.tolist())


accuracy = Objective("accuracy", unit="fraction", better="higher", measure=_accuracy)
