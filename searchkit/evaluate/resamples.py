"""Resamples of a split: the same draws for every candidate and every objective, so that differences are paired.

R resamples, U units (examples; questions where the data has answers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Estimate

if TYPE_CHECKING:
    from searchkit.evaluate.subject import Subject

RESAMPLES: Final = 400
SEED: Final = 0
AT_ONCE: Final = 1 << 22  # drawn units in memory at a time

Floats = NDArray[np.float64]


def draws(units: int) -> Iterator[NDArray[np.int64]]:
    """(r, U) numbers of units, drawn with repetition, a few resamples at a time and `RESAMPLES` in all."""
    rng = np.random.default_rng(SEED)
    most = max(1, AT_ONCE // units)
    for done in range(0, RESAMPLES, most):
        yield rng.integers(0, units, (min(most, RESAMPLES - done), units))


def resampled(score: Callable[[NDArray[np.int64]], Floats], units: int) -> Floats:
    """(R,) what `score` makes of the (r, U) draws."""
    return np.concatenate([score(rows) for rows in draws(units)])


def interval(values: Floats) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval by percentiles of resamples, of those that are defined; (None, None) for fewer than two."""
    defined = values[np.isfinite(values)]
    if len(defined) < 2:
        return None, None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def with_resamples(objective: Objective) -> Objective:
    """The objective, its estimates with the values on resamples; unchanged where it has no `resample`."""
    if objective.resample is None:
        return objective
    return replace(objective, measure=partial(_measure, objective=objective))


def _measure(subject: Subject, *, objective: Objective) -> Estimate:
    estimate: Any = objective.measure(subject)
    if not isinstance(estimate, Estimate) or not math.isfinite(estimate.value):
        return estimate  # type: ignore[no-any-return]  # which whoever measures refuses
    units = int(subject.bench.data.units.max()) + 1
    values = resampled(partial(_checked, objective, subject), units)
    return replace(estimate, resamples=tuple(_short(value) for value in values.tolist()))


def _checked(objective: Objective, subject: Subject, rows: NDArray[np.int64]) -> Floats:
    assert objective.resample is not None
    values = np.asarray(objective.resample(subject, rows), dtype=np.float64)
    if values.shape != rows.shape[:1]:
        raise StudyError(
            f"objective {objective.name!r}: resample must give one value for each row of units, "
            f"got {values.shape} for {rows.shape}"
        )
    return values


def _short(value: float) -> float | None:
    """Six digits are more than any interval needs, and a third of the storage; None for what is not defined."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
