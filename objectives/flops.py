"""Computation cost from the trace of the passes: MACs, and FLOPs = 2 MACs.

The value is a ratio of sums: all MACs of the candidate over all MACs of the unreduced model on the same examples, none
of them padded; those of a rival are of its own layers and its own tokens of these examples. Beside it stand the
absolute number per example with quantiles, and two numbers in the papers' padded accounting: `ratio_of_padded`, the
same MACs over those of the unreduced model on inputs padded to the maximum length, and `ratio_as_published`, what LAT's
protocol reports: one input of the maximum length, pads and all, against itself.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from searchkit.objective import Objective, Subject
from searchkit.records import Z_95, Estimate
from searchkit.reduction.cost import macs as macs_of
from searchkit.reduction.cost import ratio_as_published, unreduced_macs

Floats = NDArray[np.float64]


def _macs(subject: Subject) -> Estimate:
    return _cost(subject, "macs", per_mac=1)


def _flops(subject: Subject) -> Estimate:
    return _cost(subject, "flops", per_mac=2)


def _cost(subject: Subject, unit: str, per_mac: int) -> Estimate:
    shape, whole = subject.shape, subject.reference.shape
    own = macs_of(subject.trace, shape)
    unreduced = unreduced_macs(torch.as_tensor(subject.reference.lengths), whole)
    padded = unreduced_macs(torch.tensor([subject.padded_to]), whole)
    ratio = float(own.sum() / unreduced.sum())
    p50, p95 = torch.quantile(own, torch.tensor([0.5, 0.95], dtype=own.dtype)).tolist()
    beside = {
        f"{unit}_per_example": float(own.mean()) * per_mac,
        f"{unit}_per_example_p50": p50 * per_mac,
        f"{unit}_per_example_p95": p95 * per_mac,
        "ratio_of_padded": float(own.mean() / padded[0]),
        "ratio_as_published": ratio_as_published(subject.plan, shape, subject.padded_to, whole),  # NaN is left out
        "padded_to": float(subject.padded_to),
    }
    by_unit = _by_unit(subject)
    units, error = len(by_unit[0]), _error_of_ratio(*by_unit)
    return Estimate(ratio, error, units, beside, max(0.0, ratio - Z_95 * error), ratio + Z_95 * error)


def _error_of_ratio(own: Floats, whole: Floats) -> float:
    """Standard error of a ratio of sums of (U,) figures, from the residuals (Cochran, Sampling Techniques, 6.13)."""
    n = len(own)
    residuals = own - own.sum() / whole.sum() * whole
    return float(np.sqrt(np.square(residuals).sum() / max(n - 1, 1)) / (n**0.5 * whole.mean()))


def _by_unit(subject: Subject) -> tuple[Floats, Floats]:
    """(U,) MACs of each example, or of all windows of each question: the candidate's, and the unreduced model's."""
    reference = subject.reference
    whole = unreduced_macs(torch.as_tensor(reference.lengths), reference.shape).numpy()
    return _summed(_per_example(subject), subject.units), _summed(whole, reference.units)


def _summed(figures: Floats, units: NDArray[np.int64]) -> Floats:
    """(U,) the sums of (N,) figures over the examples of each unit."""
    sums: Floats = np.bincount(units, weights=figures).astype(np.float64)
    return sums


def _ratios(subject: Subject, rows: NDArray[np.int64]) -> Floats:
    """(R,) the ratio of sums on each resample."""
    own, whole = _by_unit(subject)
    ratios: Floats = own[rows].sum(1) / whole[rows].sum(1)
    return ratios


def _per_example(subject: Subject) -> Floats:
    """(N,) MACs of each example."""
    per_example: Floats = macs_of(subject.trace, subject.shape).numpy()
    return per_example


macs = Objective("macs", "of unreduced", "lower", _macs, examples=_per_example, traced=True, resample=_ratios)
flops = Objective("flops", "of unreduced", "lower", _flops, examples=_per_example, traced=True, resample=_ratios)
