"""Latency model: a table of prices, measured on the device once before the search, instead of timing each candidate.

A pass takes the sum of what it computes: so much per pass, per token that enters attention, per token that enters a
feed-forward part, per place of an attention map, and in layers that score their tokens so much more per layer, per
token and per place. The prices are fitted to measured times of a few candidates of the study's own space, by
non-negative least squares of the relative errors; a third of the candidates is held out and says how good the table is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from objectives.batches import drawn, seconds
from searchkit.errors import StudyError
from searchkit.evaluate.timing import Protocol, in_turns, steady
from searchkit.objective import Objective, Subject, Timing
from searchkit.records import Candidate, Estimate
from searchkit.reduction.device import threads_of_torch
from searchkit.reduction.trace import Trace

PRICES: Final = (
    "pass",
    "attention_token",
    "feed_forward_token",
    "map_place",
    "scored_layer",
    "scored_token",
    "scored_place",
)
TOGETHER: Final = 4  # candidates that take turns
PROTOCOL: Final = Protocol(width=0.02, budget_s=1.5, min_round_interval_s=0.0, fewest=6)
HELD_OUT: Final = 3  # every third candidate

Floats = NDArray[np.float64]


def modelled(measured: Objective, batch_size: int, batches: int, threads: int) -> Objective:
    """Objective that reads a table during the search; the final front is timed."""
    timing = measured.timing or Timing()
    return Objective(
        measured.name,
        measured.unit,
        "lower",
        measure=partial(_looked_up, name=measured.name, batch_size=batch_size, batches=batches),
        traced=True,
        timing=Timing(
            exclusive=False,
            with_batch=timing.with_batch,
            runtime=timing.runtime,
            int8=timing.int8,
            threads=threads,
            calibrate=partial(calibrated, batch_size=batch_size, batches=batches, threads=threads),
            final=measured,
        ),
    )


def calibrated(
    subject_of: Callable[[Candidate], Subject],
    candidates: Sequence[Candidate],
    *,
    batch_size: int,
    batches: int,
    threads: int = 0,
) -> dict[str, Any]:
    """Fit the prices in milliseconds, with their error on held-out candidates.

    kendall_tau: of the order of the held-out candidates; relative_error: their mean |modelled - measured| / measured.
    """
    subjects = [subject_of(candidate) for candidate in (Candidate.of(baseline="unreduced"), *dict.fromkeys(candidates))]
    with threads_of_torch(threads):
        measured = times_of(subjects, batch_size, batches)  # (P, J)
    work = np.array([_work_of(subject, batch_size, batches) for subject in subjects])  # (P, J, K)
    held_out = np.arange(len(subjects)) % HELD_OUT == HELD_OUT - 1
    prices = fitted(work[~held_out], measured[~held_out])
    tau, error = compared(work[held_out] @ prices, measured[held_out])
    return {
        "prices_ms": dict(zip(PRICES, prices.tolist(), strict=True)),
        "unreduced_ms": float(measured[0].mean()),
        "kendall_tau": tau,
        "relative_error": error,
        "fitted_on": int((~held_out).sum()),
        "held_out": int(held_out.sum()),
    }


def times_of(subjects: Sequence[Subject], batch_size: int, batches: int) -> Floats:
    """(P, J) milliseconds of each plan on each batch, timed in turns with the unreduced model."""
    first = subjects[0]
    inputs = [first.tokens(rows) for rows in drawn(first.lengths, batch_size, batches)]
    found, reference = [], None
    for start in range(0, len(subjects), TOGETHER):
        sides = [first.reference, *subjects[start : start + TOGETHER]]
        weights = [side.weights for side in sides]
        visit = steady(partial(_visit, sides, inputs), partial(_untimed, sides, inputs), weights.__getitem__)
        timed = in_turns(visit, len(sides), len(inputs), PROTOCOL)
        times = timed.by_input
        reference = times[0] if reference is None else reference  # one reference, or drift would look like a plan
        found.append(times[1:] / times[0] * reference)
    return 1e3 * np.concatenate(found)


def _visit(sides: Sequence[Subject], inputs: Sequence[Any], side: int, batch: int) -> float:
    return seconds(sides[side], inputs[batch])


def _untimed(sides: Sequence[Subject], inputs: Sequence[Any], side: int, batch: int) -> None:
    sides[side].forward(inputs[batch])


def fitted(work: Floats, measured: Floats) -> Floats:
    """(K,) the prices, none below 0, that explain (P, J) times by (P, J, K) work with the least relative error."""
    from scipy.optimize import nnls

    rows, times = work.reshape(-1, work.shape[-1]), measured.reshape(-1)
    scale = np.maximum(rows.max(0), 1e-12)
    prices, _ = nnls(rows / scale / times[:, None], np.ones(len(times)))
    solved: Floats = prices / scale
    return solved


def compared(modelled: Floats, measured: Floats) -> tuple[float, float]:
    """Kendall's tau and the mean relative error of (P, J) times, averaged over the batches first."""
    from scipy.stats import kendalltau

    modelled_ms, measured_ms = modelled.mean(1), measured.mean(1)
    return float(kendalltau(modelled_ms, measured_ms).statistic), float(
        (np.abs(modelled_ms - measured_ms) / measured_ms).mean()
    )


def work_of(trace: Trace) -> Floats:
    """(K,) the work of one batch, in the units of `PRICES`."""
    attended = trace.attention.double()
    scores = trace.scoring.sum(0) > 0  # (N,) layers that score anything
    pairs = (attended * trace.queries).sum()
    tokens, maps = attended[:, scores].sum(), (attended * trace.queries)[:, scores].sum()
    counts = (1.0, attended.sum(), trace.feed_forward.sum(), pairs, scores.sum(), tokens, maps)
    return np.array([float(count) for count in counts])


def _work_of(subject: Subject, batch_size: int, batches: int) -> Floats:
    """(J, K) the work in the batches that were timed."""
    rows = drawn(subject.lengths, batch_size, batches)
    return np.array([work_of(subject.trace_of(subject.tokens(batch))) for batch in rows])


def _looked_up(subject: Subject, *, name: str, batch_size: int, batches: int) -> Estimate:
    table: Mapping[str, Any] = subject.tables[name]
    try:
        prices = np.array([float(table["prices_ms"][price]) for price in PRICES])
        off, tau, unreduced = (
            float(table[rows_of_batch]) for rows_of_batch in ("relative_error", "kendall_tau", "unreduced_ms")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"the table of {name} in calibration.json is damaged ({error!r}): start a new run") from error
    rows = drawn(subject.lengths, batch_size, batches)
    work = np.array([work_of(subject.trace.take(torch.as_tensor(rows_of_batch))) for rows_of_batch in rows])
    value = float((work @ prices).mean())
    beside = {
        "modelled": 1.0,
        "model_relative_error": off,
        "model_kendall_tau": tau,
        "speedup": unreduced / value,
        "batch_size": float(batch_size),
    }
    return Estimate(value, value * off, len(rows), beside)
