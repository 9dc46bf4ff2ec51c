"""Wall-clock time of a forward pass on real examples, on the device where the model runs.

Batches are drawn from the real length distribution; every round times each batch once under the candidate and once
under the unreduced model, alternating which goes first, so that drift of the machine hits both. The value is the median
over all timed passes; beside it stand the 95th percentile, the unreduced median and the speed-up measured in the same
run.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from numpy.typing import NDArray

from searchkit.errors import StudyError
from searchkit.evaluate.subject import Subject
from searchkit.objective import Objective
from searchkit.records import Estimate
from searchkit.reduction.device import synchronize
from searchkit.reduction.ragged import Tokens

WARM_UP_ROUNDS = 1


def latency(batch_size: int = 1, batches: int = 30, rounds: int = 5) -> Objective:
    """Milliseconds per batch of `batch_size` examples: median of `batches` x `rounds` passes."""
    for name, value in {"batch_size": batch_size, "batches": batches, "rounds": rounds}.items():
        if value < 1:
            raise StudyError(f"latency: {name} must be at least 1, got {value}")
    measure = partial(_latency, batch_size=batch_size, batches=batches, rounds=rounds)
    return Objective("latency", unit=f"ms at batch {batch_size}", better="lower", measure=measure, exclusive=True)


def _latency(subject: Subject, *, batch_size: int, batches: int, rounds: int) -> Estimate:
    inputs = [subject.bench.tokens(rows) for rows in _draw(subject.bench.data.lengths, batch_size, batches)]
    sides = (subject, subject.bench.unreduced)
    times = np.zeros((2, rounds, len(inputs)))  # milliseconds
    for number in range(-WARM_UP_ROUNDS, rounds):
        for column, tokens in enumerate(inputs):
            for side in (0, 1) if (number + column) % 2 else (1, 0):
                elapsed = _time_ms(sides[side], tokens)
                if number >= 0:
                    times[side, number, column] = elapsed
    own, unreduced = times.reshape(2, -1)
    beside = {
        "latency_ms_p95": float(np.quantile(own, 0.95)),
        "unreduced_ms_p50": float(np.median(unreduced)),
        "speedup": float(times[1].sum() / times[0].sum()),
        "batch_size": float(batch_size),
    }
    return Estimate(float(np.median(own)), _error_of_median(times[0]), own.size, beside)


def _draw(lengths: NDArray[np.int64], batch_size: int, batches: int) -> list[NDArray[np.int64]]:
    """`batches` batches of examples spread evenly over the sorted lengths; neighbours in length share a batch."""
    order = np.argsort(lengths, kind="stable")
    starts = np.linspace(0, max(len(order) - batch_size, 0), min(batches, len(order))).round().astype(int)
    return [order[start : start + batch_size] for start in starts]


def _time_ms(subject: Subject, tokens: Tokens) -> float:
    device = subject.bench.device
    synchronize(device)
    start = time.perf_counter()
    subject.forward(tokens)
    synchronize(device)
    return (time.perf_counter() - start) * 1e3


def _error_of_median(times: NDArray[np.float64]) -> float:
    """Bootstrap over rounds and batches of the (rounds, batches) times."""
    rng = np.random.default_rng(0)
    medians = [
        np.median(
            times[
                np.ix_(rng.integers(0, times.shape[0], times.shape[0]), rng.integers(0, times.shape[1], times.shape[1]))
            ]
        )
        for _ in range(100)
    ]
    return float(np.std(medians))
