"""Quality of predicted numbers: squared error, and correlation with the right ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from objectives.quality import Rows, bootstrapped, mean, means
from searchkit.errors import TrialError
from searchkit.objective import Objective, Subject
from searchkit.records import Estimate
from searchkit.tasks.base import Labels

Floats = NDArray[np.float64]


def _mse(subject: Subject) -> Estimate:
    return mean(_errors(subject))


def _errors(subject: Subject) -> Floats:
    """(N,) squared errors."""
    return np.square(np.subtract(*_pair(subject, "mse")))


def _mses(subject: Subject, rows: Rows) -> Floats:
    return means(_errors(subject), rows)


def _pearson(subject: Subject) -> Estimate:
    from torchmetrics.functional.regression import pearson_corrcoef

    return _correlation(subject, "pearson", pearson_corrcoef, _pearsons)


def _spearman(subject: Subject) -> Estimate:
    from torchmetrics.functional.regression import spearman_corrcoef

    return _correlation(subject, "spearman", spearman_corrcoef, _spearmans)


def _correlation(
    subject: Subject,
    name: str,
    metric: Callable[[Tensor, Tensor], Tensor],
    resample: Callable[[Subject, Rows], Floats],
) -> Estimate:
    predicted, right = _pair(subject, name)
    # torchmetrics warns of constants, or calls their correlation 0; it is not defined
    if reason := _constant(right, "labels") or _constant(predicted, "predictions"):
        raise TrialError(f"objective {name!r} is not defined: {reason}", kind="nan")
    value = float(metric(torch.as_tensor(predicted), torch.as_tensor(right)))
    return bootstrapped(value, len(right), partial(resample, subject))


def _constant(numbers: Labels | Floats, kind: str) -> str | None:
    """Reason why there is no correlation with these numbers, or None."""
    if len(numbers) and np.ptp(numbers):
        return None
    return f"its {len(numbers)} {kind} are all {numbers[0]:g}" if len(numbers) else f"it has no {kind}"


def _pearsons(subject: Subject, rows: Rows) -> Floats:
    predicted, right = _pair(subject, "pearson")
    return _correlations(predicted[rows], right[rows])


def _spearmans(subject: Subject, rows: Rows) -> Floats:
    """Correlations of ranks among the units of each resample; ties share a rank."""
    from scipy.stats import rankdata

    predicted, right = _pair(subject, "spearman")
    return _correlations(rankdata(predicted[rows], axis=1), rankdata(right[rows], axis=1))


def _correlations(predicted: Floats, right: Floats) -> Floats:
    """(R,) Pearson's coefficient of the rows of two (R, U) arrays; nan where one is constant."""
    defined = (np.ptp(predicted, axis=1) > 0) & (np.ptp(right, axis=1) > 0)
    x, y = (side - side.mean(1, keepdims=True) for side in (predicted, right))
    spread = np.sqrt(np.square(x).sum(1) * np.square(y).sum(1))
    correlations: Floats = np.where(defined, (x * y).sum(1) / np.where(defined, spread, 1.0), np.nan)
    return correlations


def _pair(subject: Subject, name: str) -> tuple[Floats, Floats]:
    """(N,) the predicted and the right numbers."""
    subject.require("regression", what=name)
    return subject.logits[:, 0].astype(np.float64), subject.labels.astype(np.float64)


mse = Objective("mse", "squared error", "lower", _mse, resample=_mses)
_undefined = partial(_constant, kind="labels")
pearson = Objective("pearson", "correlation", "higher", _pearson, resample=_pearsons, undefined=_undefined)
spearman = Objective("spearman", "correlation", "higher", _spearman, resample=_spearmans, undefined=_undefined)
