"""How good predicted numbers are: how far they are off, and how well they rise with the right ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from objectives.quality import bootstrapped
from searchkit.evaluate.subject import Subject
from searchkit.objective import Objective
from searchkit.records import Estimate


def _mse(subject: Subject) -> Estimate:
    errors = np.square(np.subtract(*_pair(subject, "mse")))  # (N,)
    n = len(errors)
    return Estimate(float(errors.mean()), float(errors.std(ddof=1)) / math.sqrt(n) if n > 1 else None, n)


def _pearson(subject: Subject) -> Estimate:
    from torchmetrics.functional.regression import pearson_corrcoef

    return _correlation(subject, "pearson", pearson_corrcoef)


def _spearman(subject: Subject) -> Estimate:
    from torchmetrics.functional.regression import spearman_corrcoef

    return _correlation(subject, "spearman", spearman_corrcoef)


def _correlation(subject: Subject, name: str, metric: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    def score(predicted: NDArray[Any], right: NDArray[Any]) -> float:
        # torchmetrics warns of constants, or calls their correlation 0; it is not defined
        if not np.ptp(predicted) or not np.ptp(right):
            return math.nan
        return float(metric(torch.as_tensor(predicted), torch.as_tensor(right)))

    return bootstrapped(score, *_pair(subject, name))


def _pair(subject: Subject, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) the predicted and the right numbers."""
    subject.require("regression", what=name)
    return subject.logits[:, 0].astype(np.float64), subject.labels.astype(np.float64)


mse = Objective("mse", unit="squared error", better="lower", measure=_mse)
pearson = Objective("pearson", unit="correlation", better="higher", measure=_pearson)
spearman = Objective("spearman", unit="correlation", better="higher", measure=_spearman)
