"""Paired differences and the chance to be on the front, from resamples of the report split; from records alone.

Number r of every trial's resamples is its value on the same drawn examples, so that what makes these examples easy or
hard for all candidates cancels in a difference. K members, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from searchkit.front import losses_of, nondominated
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.results import Results, estimates
from searchkit.stats import percentile_interval

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Difference of two values, in the unit of the objective, and its 95 % interval: None where it is not known."""

    value: float
    low: float | None
    high: float | None


def between(own: Estimate, other: Estimate) -> Difference:
    """Difference `own` minus `other` on the same examples, with its interval from their resamples, if they have any."""
    low, high = percentile_interval(_values(own) - _values(other)) if _paired([own, other]) else (None, None)
    return Difference(own.value - other.value, low, high)


def difference(results: Results, member: Trial, objective: Objective) -> Difference | None:
    """Difference of a member to the unreduced model on the report split; None where either was not measured."""
    own = estimates(results.report.get(member.key), [objective])
    reference = estimates(results.unreduced, [objective])
    return None if own is None or reference is None else between(own[objective.name], reference[objective.name])


def front_probabilities(results: Results) -> dict[str, float]:
    """Share of resamples, by key, in which no other member dominates this one, on the report split.

    An objective without resamples (one that is timed) keeps its value in all of them. Empty where no objective of the
    search has resamples of every member that was measured, as in runs from before there were any.
    """
    rows = {trial.key: estimates(results.report.get(trial.key), results.objectives) for trial in results.members}
    measured = {key: row for key, row in rows.items() if row is not None}
    drawn = [
        objective for objective in results.objectives if _paired([row[objective.name] for row in measured.values()])
    ]
    if not measured or not drawn:
        return {}
    points = _points(list(measured.values()), results.objectives, drawn)
    defined = points[~np.isnan(points).any(axis=(1, 2))]
    if not len(defined):
        return {}
    shares = np.mean([_on_front(point) for point in defined], axis=0)
    return dict(zip(measured, shares.tolist(), strict=True))


def _points(
    rows: Sequence[Mapping[str, Estimate]], objectives: Sequence[Objective], drawn: Sequence[Objective]
) -> Floats:
    """(R, K, M) losses of the members on every resample."""
    count = len(rows[0][drawn[0].name].resamples)
    columns = []
    for objective in objectives:
        of_members = [row[objective.name] for row in rows]
        varies = objective in drawn
        values = [_values(member) if varies else np.full(count, member.value) for member in of_members]  # (K, R)
        columns.append(losses_of(objective, values).T)
    return np.stack(columns, axis=2)


def _on_front(losses: Floats) -> NDArray[np.bool_]:
    """(K,) True for the (K, M) points that nothing dominates; equal points share the result."""
    points, index = np.unique(losses, axis=0, return_inverse=True)
    return nondominated(points)[index.reshape(-1)]


def _paired(estimates: Sequence[Estimate]) -> bool:
    """Return whether all estimates have resamples of the same draws."""
    counts = {(len(estimate.resamples), estimate.n) for estimate in estimates}
    return len(counts) == 1 and estimates[0].resamples != ()


def _values(estimate: Estimate) -> Floats:
    """(R,) the value on each resample, nan where it is not defined."""
    return np.array([np.nan if value is None else value for value in estimate.resamples])
