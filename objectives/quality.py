"""How good the predicted classes are, and the standard error of scores that are no means over examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.evaluate.subject import Subject
from searchkit.objective import Objective
from searchkit.records import Estimate

RESAMPLES = 200
SEED = 0  # the same resamples for every candidate, so that their errors are comparable

# (predicted, right) -> score, nan where it is not defined
Score = Callable[[NDArray[Any], NDArray[Any]], float]


def bootstrapped(score: Score, predicted: NDArray[Any], right: NDArray[Any]) -> Estimate:
    """The score of n examples, with the spread of the scores of `RESAMPLES` resamples of them as standard error."""
    value, n = score(predicted, right), len(right)
    rng = np.random.default_rng(SEED)
    draws = [rng.integers(0, n, n) for _ in range(RESAMPLES)] if np.isfinite(value) else []
    scores = np.array([score(predicted[rows], right[rows]) for rows in draws])
    defined = scores[np.isfinite(scores)]
    return Estimate(value, float(defined.std(ddof=1)) if len(defined) > 1 else None, n)


def _accuracy(subject: Subject) -> Estimate:
    subject.require("classification", what="accuracy")
    return Estimate.of_fraction(subject.correct.tolist())


def _macro_f1(subject: Subject) -> Estimate:
    from torchmetrics.functional.classification import multiclass_f1_score

    def score(predicted: Tensor, right: Tensor, classes: int) -> Tensor:
        return multiclass_f1_score(predicted, right, classes, average="macro", validate_args=False)

    return _of_classes(subject, "macro_f1", score)


def _matthews(subject: Subject) -> Estimate:
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    def score(predicted: Tensor, right: Tensor, classes: int) -> Tensor:
        # with a constant it is 0 by convention; torchmetrics' limit for two classes is another number
        if (predicted == predicted[0]).all() or (right == right[0]).all():
            return torch.zeros(())
        return multiclass_matthews_corrcoef(predicted, right, classes, validate_args=False)

    return _of_classes(subject, "matthews", score)


def _of_classes(subject: Subject, name: str, metric: Callable[[Tensor, Tensor, int], Tensor]) -> Estimate:
    subject.require("classification", what=name)
    classes = subject.logits.shape[1]

    def score(predicted: NDArray[Any], right: NDArray[Any]) -> float:
        return float(metric(torch.as_tensor(predicted), torch.as_tensor(right), classes))

    return bootstrapped(score, subject.predictions, subject.labels)


def _right(subject: Subject) -> NDArray[np.float64]:
    """(N,) 1 where the prediction is the label."""
    return subject.correct.astype(np.float64)


accuracy = Objective("accuracy", unit="fraction", better="higher", measure=_accuracy, examples=_right)
macro_f1 = Objective("macro_f1", unit="fraction", better="higher", measure=_macro_f1)
matthews = Objective("matthews", unit="correlation", better="higher", measure=_matthews)
