"""Quality of predicted classes, and bootstrap errors and intervals of scores that are no means over examples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.objective import Objective, Subject
from searchkit.records import Estimate
from searchkit.stats import percentile_interval, resampled

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]  # (R, U) units of each resample


def bootstrapped(value: float, units: int, score: Callable[[Rows], Floats]) -> Estimate:
    """Estimate of so many units: the spread of its resamples is the standard error, their percentiles the interval.

    score: (R, U) units -> (R,) values, nan where they are not defined
    """
    if units < 2 or not math.isfinite(value):
        return Estimate(value, None, units)
    scores = resampled(score, units)
    defined = scores[np.isfinite(scores)]
    low, high = _around(value, *percentile_interval(defined))
    return Estimate(value, float(defined.std(ddof=1)) if len(defined) > 1 else None, units, low=low, high=high)


def mean(values: Floats) -> Estimate:
    """Mean of (U,) values, its standard error in closed form, its interval by percentiles of resamples."""
    n = len(values)
    value = float(values.mean())
    low, high = _around(value, *percentile_interval(resampled(partial(means, values), n))) if n > 1 else (None, None)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return Estimate(value, error, n, low=low, high=high)


def _around(value: float, low: float | None, high: float | None) -> tuple[float, float] | tuple[None, None]:
    """Widen the interval to contain the value: percentiles of a biased score may lie to one side of it."""
    return (None, None) if low is None or high is None else (min(low, value), max(high, value))


def means(values: Floats, rows: Rows) -> Floats:
    """(R,) the mean of (U,) values on each resample."""
    means_of: Floats = values[rows].mean(1)
    return means_of


def _accuracy(subject: Subject) -> Estimate:
    subject.require("classification", what="accuracy")
    return Estimate.of_fraction(subject.correct.tolist())


def _right(subject: Subject) -> Floats:
    """(N,) 1 where the prediction is the label."""
    return subject.correct.astype(np.float64)


def _accuracies(subject: Subject, rows: Rows) -> Floats:
    return means(_right(subject), rows)


def _macro_f1(subject: Subject) -> Estimate:
    from torchmetrics.functional.classification import multiclass_f1_score

    def score(predicted: Tensor, right: Tensor, classes: int) -> Tensor:
        return multiclass_f1_score(predicted, right, classes, average="macro", validate_args=False)

    return _of_classes(subject, "macro_f1", score, _macro_f1s)


def _matthews(subject: Subject) -> Estimate:
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    def score(predicted: Tensor, right: Tensor, classes: int) -> Tensor:
        # with a constant it is 0 by convention; torchmetrics' limit for two classes is another number
        if (predicted == predicted[0]).all() or (right == right[0]).all():
            return torch.zeros(())
        return multiclass_matthews_corrcoef(predicted, right, classes, validate_args=False)

    return _of_classes(subject, "matthews", score, _matthews_of)


def _of_classes(
    subject: Subject,
    name: str,
    metric: Callable[[Tensor, Tensor, int], Tensor],
    resample: Callable[[Subject, Rows], Floats],
) -> Estimate:
    subject.require("classification", what=name)
    predicted, right = torch.as_tensor(subject.predictions), torch.as_tensor(subject.labels)
    value = float(metric(predicted, right, subject.logits.shape[1]))
    return bootstrapped(value, len(right), partial(resample, subject))


def _macro_f1s(subject: Subject, rows: Rows) -> Floats:
    """(R,) the mean F1 of the classes that are predicted or right."""
    counts = _confusion(subject, rows)
    both = counts.sum(1) + counts.sum(2)  # (R, C) 2 true positives + false positives + false negatives
    f1 = 2 * np.diagonal(counts, axis1=1, axis2=2) / np.maximum(both, 1)
    scores: Floats = f1.sum(1) / (both > 0).sum(1)
    return scores


def _matthews_of(subject: Subject, rows: Rows) -> Floats:
    """(R,) Gorodkin's coefficient of more than two classes (2004, eq. 8), 0 where a side is constant."""
    counts = _confusion(subject, rows)
    n, right, predicted = rows.shape[1], counts.sum(2), counts.sum(1)
    agreement = n * np.trace(counts, axis1=1, axis2=2) - (right * predicted).sum(1)
    spread = (n**2 - (right**2).sum(1)) * (n**2 - (predicted**2).sum(1))
    scores: Floats = np.where(spread > 0, agreement / np.sqrt(np.maximum(spread, 1)), 0.0)
    return scores


def _confusion(subject: Subject, rows: Rows) -> Floats:
    """(R, C, C) how often each right class (first) was predicted as each class."""
    classes = subject.logits.shape[1]
    cells = (subject.labels * classes + subject.predictions).astype(np.int64)  # (N,)
    placed = cells[rows] + np.arange(len(rows))[:, None] * classes**2
    counts = np.bincount(placed.ravel(), minlength=len(rows) * classes**2)
    return counts.reshape(len(rows), classes, classes).astype(np.float64)


accuracy = Objective("accuracy", "fraction", "higher", _accuracy, examples=_right, resample=_accuracies)
macro_f1 = Objective("macro_f1", "fraction", "higher", _macro_f1, resample=_macro_f1s)
matthews = Objective("matthews", "correlation", "higher", _matthews, resample=_matthews_of)
