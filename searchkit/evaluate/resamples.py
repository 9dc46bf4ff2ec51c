"""Resamples of a split: the same draws for every candidate and objective, so that differences are paired.

R resamples, U units (examples; questions where the data has answers).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchkit.errors import StudyError
from searchkit.objective import Objective, Subject
from searchkit.records import Estimate
from searchkit.stats import Floats, resampled


def with_resamples(objective: Objective) -> Objective:
    """Objective whose estimates carry the values on resamples; unchanged where it has no `resample`."""
    if objective.resample is None:
        return objective
    return replace(objective, measure=partial(_measure, objective=objective))


def _measure(subject: Subject, *, objective: Objective) -> Estimate:
    estimate: Any = objective.measure(subject)
    if not isinstance(estimate, Estimate) or not math.isfinite(estimate.value):
        return estimate  # type: ignore[no-any-return]  # the caller refuses it
    units = int(subject.units.max()) + 1
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
    """Round to six digits, more than any interval needs, in a third of the storage; None for undefined values."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
