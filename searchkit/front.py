"""Comparison of points: losses, domination, hypervolume, and the front of a search.

Axes: N points, M objectives, K members of the front. All maths sees losses, which are to be minimised; only
`losses_of` knows that some objectives are better when higher.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from searchkit._internal.html import table, titled
from searchkit._internal.progress import counted
from searchkit.errors import unknown
from searchkit.objective import Objective
from searchkit.records import Estimate, Measured, Pruned, Trial

Array = npt.NDArray[np.float64]


def losses(estimates: Sequence[Mapping[str, Estimate]], objectives: Sequence[Objective]) -> Array:
    """(N, M) values to minimise, one row per measured point, one column per objective."""
    columns = [losses_of(objective, [_value(row, objective.name) for row in estimates]) for objective in objectives]
    return np.array(columns, dtype=np.float64).reshape(len(objectives), len(estimates)).T


def in_units(point: Array, objectives: Sequence[Objective]) -> dict[str, float]:
    """Convert a point (M,) of losses to the objectives' own units, by name."""
    return {axis.name: float(losses_of(axis, [loss])[0]) for axis, loss in zip(objectives, point, strict=True)}


def losses_of(objective: Objective, values: npt.ArrayLike) -> Array:
    """Convert values of one objective to losses, or back; the sign is flipped nowhere else."""
    sign = -1.0 if objective.better == "higher" else 1.0
    return sign * np.asarray(values, dtype=np.float64)


def _value(estimates: Mapping[str, Estimate], name: str) -> float:
    if name not in estimates:
        raise KeyError(unknown("objective", name, estimates))
    return estimates[name].value


def nondominated(losses: Array) -> npt.NDArray[np.bool_]:
    """(N,) True for the rows of (N, M) that no other row dominates; of equal rows only the first is a member."""
    if np.isnan(losses).any():
        raise ValueError("losses must not be NaN")
    order = np.lexsort([np.arange(len(losses)), *losses.T[::-1]])  # a row can only be dominated by one before it
    rows = losses[order]
    member = np.zeros(len(losses), dtype=bool)
    member[order] = _sweep(rows[:, -1]) if losses.shape[1] == 2 else _sieve(rows)
    return member


def _sweep(second: Array) -> npt.NDArray[np.bool_]:
    """Sweep for two objectives, rows sorted by the first: a member is better in the second than all rows before it."""
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(second)[:-1]])
    return second < best_before[: len(second)]


def _sieve(rows: Array) -> npt.NDArray[np.bool_]:
    """Sieve for any number of objectives, rows in lexicographic order: no earlier member is as good in all."""
    member = np.zeros(len(rows), dtype=bool)
    front = np.empty_like(rows)
    size = 0
    for i, row in enumerate(rows):
        if not (front[:size] <= row).all(axis=1).any():
            member[i] = True
            front[size] = row
            size += 1
    return member


def hypervolume(losses: Array, reference: Sequence[float] | Array) -> float:
    """Hypervolume that the rows of (N, M) dominate within the reference point (M,); 0.0 without rows.

    Exact for any M (`moocore`). Points that are not better than the reference in every objective contribute nothing.
    """
    limit = np.asarray(reference, dtype=np.float64)
    if losses.ndim != 2 or limit.shape != losses.shape[1:]:
        raise ValueError(f"losses (N, M) need a reference (M,), got {losses.shape=}, {limit.shape=}")
    import moocore  # imported on use: it takes half a second

    return float(moocore.hypervolume(losses, ref=limit))


def hypervolume_curve(losses_in_order: Array, reference: Sequence[float] | Array) -> Array:
    """(N,) the hypervolume of the first 1, 2, ... N rows of (N, M)."""
    limit = np.asarray(reference, dtype=np.float64)
    gains = _gains_2d if len(limit) == 2 else _gains
    inside = (losses_in_order < limit).all(axis=1)
    gained = np.zeros(len(losses_in_order))
    gained[inside] = list(gains(losses_in_order[inside], limit))
    return np.cumsum(gained)


def _gains(points: Array, limit: Array) -> Iterator[float]:
    """The hypervolume that every point within the limit adds to those before it."""
    front = np.empty((0, len(limit)))
    for point in points:
        if (front <= point).all(axis=1).any():
            yield 0.0
            continue
        # its box less the others' share of it (While, Bradstreet and Barone 2012, WFG, eq. 3)
        yield float(np.prod(limit - point)) - hypervolume(np.maximum(front, point), limit)
        front = np.vstack([front[~(front >= point).all(axis=1)], point])


def _gains_2d(points: Array, limit: Array) -> Iterator[float]:
    """Compute `_gains` of two objectives on a staircase (xs rise, ys fall), by a bisection per point."""
    xs: list[float] = []
    ys: list[float] = []
    for x, y in points.tolist():
        before = bisect.bisect_right(xs, x)
        if before > 0 and ys[before - 1] <= y:
            yield 0.0
            continue
        start = stop = bisect.bisect_left(xs, x)
        gained, left, above = 0.0, x, ys[start - 1] if start > 0 else float(limit[1])
        while stop < len(xs) and ys[stop] >= y:  # the steps this point removes
            gained += (xs[stop] - left) * (above - y)
            left, above = xs[stop], ys[stop]
            stop += 1
        right = xs[stop] if stop < len(xs) else float(limit[0])
        xs[start:stop], ys[start:stop] = [x], [y]
        yield gained + (right - left) * (above - y)


def reference_point(losses: Array) -> Array:
    """(M,) the worst of all rows of (N, M) plus 1 % of the range (of the magnitude where there is no range)."""
    if len(losses) == 0:
        raise ValueError("a reference point needs at least one measured point, got none")
    worst = losses.max(axis=0)
    scale = worst - losses.min(axis=0)
    scale = np.where(scale > 0, scale, np.abs(worst))
    return np.asarray(worst + 0.01 * np.where(scale > 0, scale, 1.0))


@dataclass(frozen=True)
class Front:
    """Non-dominated measured trials, cheapest first: by the first objective that is better when lower.

    >>> from searchkit import Ask, Candidate, Estimate, Front, Measured, Objective, Trial
    >>> cost = Objective("cost", "share", "lower", lambda subject: Estimate(1.0, None, 1))
    >>> def trial(number, value):
    ...     outcome = Measured({"cost": Estimate(value, None, 1)})
    ...     return Trial(Ask(number, Candidate.of(lengths=(value,))), outcome, 0.0)
    >>> [member.ask.number for member in Front.of([trial(0, 0.7), trial(1, 0.5)], [cost])]
    [1]
    """

    members: tuple[Trial, ...]
    objectives: tuple[Objective, ...]

    @classmethod
    def of(cls, trials: Iterable[Trial], objectives: Sequence[Objective]) -> Front:
        """Select from trials in any order, pruned and failed ones ignored; of equal points the first asked."""
        measured = sorted((t for t in trials if isinstance(t.outcome, Measured)), key=lambda trial: trial.ask.number)
        every = losses([_estimates(trial) for trial in measured], objectives)
        cost = next((i for i, objective in enumerate(objectives) if objective.better == "lower"), 0)
        cheapest_first = np.argsort(every[:, cost], kind="stable")
        keep = nondominated(every)
        return cls(tuple(measured[i] for i in cheapest_first if keep[i]), tuple(objectives))

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.members)

    def _repr_html_(self) -> str:
        """Table for notebooks: a member each row, with its values and standard errors."""
        headings = ["key", "candidate", *(f"{objective.name} ({objective.unit})" for objective in self.objectives)]
        rows = [
            [member.key, member.ask.candidate.text, *(_shown(member.estimates[axis.name]) for axis in self.objectives)]
            for member in self.members
        ]
        return titled(f"front of {counted(len(self), 'candidate')}", table(headings, rows, texts=2))

    @cached_property
    def losses(self) -> Array:
        """(K, M) losses of the members."""
        return losses([_estimates(trial) for trial in self.members], self.objectives)

    def values(self, name: str) -> Array:
        """(K,) the values of one objective in its own unit, in the order of the members."""
        self._column(name)
        return np.array([_value(_estimates(trial), name) for trial in self.members], dtype=np.float64)

    def hypervolume(self, reference: Sequence[float] | Array) -> float:
        """Hypervolume within a reference point in losses (M,), such as that of `reference_point`."""
        return hypervolume(self.losses, reference)

    def knee(self) -> Trial:
        """Member furthest below the plane through the worst corners, each objective scaled to 0..1 over the front.

        For two objectives that plane is the line through the two extremes (Das 1999). Without any member below it, the
        cheapest member.
        """
        if not self.members:
            raise ValueError("an empty front has no knee: no trial was measured")
        low, high = self.losses.min(axis=0), self.losses.max(axis=0)
        scaled = (self.losses - low) / np.where(high > low, high - low, 1.0)
        return self.members[int(np.argmin(scaled.sum(axis=1)))]  # every point of the plane has the same sum

    def _column(self, name: str) -> int:
        names = [objective.name for objective in self.objectives]
        if name not in names:
            raise ValueError(unknown("objective", name, names))
        return names.index(name)


def _shown(estimate: Estimate) -> str:
    error = f" ± {estimate.standard_error:.2g}" if estimate.standard_error else ""
    return f"{estimate.value:.4g}{error}"


def _estimates(trial: Trial) -> Mapping[str, Estimate]:
    if not isinstance(trial.outcome, Measured):
        raise ValueError(f"a member of a front is measured, trial {trial.ask.number} is {trial.status}")
    return trial.outcome.estimates


def rejections(trials: Iterable[Trial]) -> list[str]:
    """Rejections by constraint, most frequent first: a clause with their number, and the value nearest to the limit.

    Records that do not say how far beyond the limit they are come last, by the reason of the first.
    """
    groups: dict[str, list[Pruned]] = {}
    without: list[Pruned] = []
    for trial in trials:
        if isinstance(pruned := trial.outcome, Pruned):
            for name in pruned.excess:
                groups.setdefault(name, []).append(pruned)
            if not pruned.excess and not trial.is_evaluation:
                without.append(pruned)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    clauses = [
        f"{len(group)} for {name}, the nearest: {min(group, key=lambda pruned: pruned.excess[name]).why}"
        for name, group in ordered
    ]
    return clauses + ([f"{len(without)}, the first: {without[0].why}"] if without else [])
