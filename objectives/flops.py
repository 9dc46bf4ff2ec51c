"""Computation, from the trace of the passes that were made: MACs, and FLOPs = 2 MACs.

The value is a ratio of sums: all MACs of the candidate over all MACs of the unreduced model on the same examples, none
of them padded. Beside it stand the absolute number per example with quantiles, and two numbers in the papers' padded
accounting: `ratio_of_padded`, the same MACs over those of the unreduced model on inputs padded to the maximum length,
and `ratio_as_published`, what LAT's protocol reports: one input of the maximum length, pads and all, against itself.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from searchkit.evaluate.subject import Subject
from searchkit.objective import Objective
from searchkit.records import Estimate
from searchkit.reduction.cost import macs as macs_of
from searchkit.reduction.cost import published_macs, unreduced_macs
from searchkit.reduction.encoder import Trace


def _macs(subject: Subject) -> Estimate:
    return _cost(subject, "macs", per_mac=1)


def _flops(subject: Subject) -> Estimate:
    return _cost(subject, "flops", per_mac=2)


def _cost(subject: Subject, unit: str, per_mac: int) -> Estimate:
    shape = subject.bench.model.shape
    own = macs_of(subject.trace, shape)
    lengths = torch.as_tensor(subject.bench.data.lengths)
    unreduced = unreduced_macs(lengths, shape)
    padded = unreduced_macs(torch.tensor([subject.bench.padded_to]), shape)
    ratio = float(own.sum() / unreduced.sum())
    # standard error of a ratio of sums, from the residuals (Cochran, Sampling Techniques, eq. 6.13)
    n = len(own)
    residuals = own - ratio * unreduced
    spread = float((residuals.square().sum() / max(n - 1, 1)).sqrt() / (n**0.5 * unreduced.mean()))
    p50, p95 = torch.quantile(own, torch.tensor([0.5, 0.95], dtype=own.dtype)).tolist()
    beside = {
        f"{unit}_per_example": float(own.mean()) * per_mac,
        f"{unit}_per_example_p50": p50 * per_mac,
        f"{unit}_per_example_p95": p95 * per_mac,
        "ratio_of_padded": float(own.mean() / padded[0]),
        "ratio_as_published": _as_published(subject),
        "padded_to": float(subject.bench.padded_to),
    }
    return Estimate(ratio, spread, n, beside)


def _as_published(subject: Subject) -> float:
    """NaN, and so left out, where thresholds decide and there is no one length."""
    shape, tokens = subject.bench.model.shape, subject.bench.padded_to
    counts = subject.plan.counts_at(tokens)
    if counts is None:
        return math.nan
    head = int(macs_of(Trace.of_unreduced(torch.tensor([tokens]), 0), shape))
    whole = published_macs(((tokens, tokens),) * shape.layers, shape, head=head)
    return published_macs(counts, shape, head=head) / whole


def _per_example(subject: Subject) -> NDArray[np.float64]:
    """(N,) MACs of each example."""
    per_example: NDArray[np.float64] = macs_of(subject.trace, subject.bench.model.shape).numpy()
    return per_example


macs = Objective("macs", "of unreduced", "lower", _macs, examples=_per_example, traced=True)
flops = Objective("flops", "of unreduced", "lower", _flops, examples=_per_example, traced=True)
