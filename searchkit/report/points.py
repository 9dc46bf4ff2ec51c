"""Coordinates of trials in a figure, and the window of its axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchkit.front import Array
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.results import Results, measured

REACH: Final = 0.15  # how far axes may reach beyond the front and the unreduced model, in their own range, for trials
REACH_OF_BASELINES: Final = 0.5


@dataclass(frozen=True)
class Points:
    """Coordinates of measured trials: cost and quality, (N,) each, and (2, N) the ends of their 95 % intervals."""

    x: Array
    y: Array
    across: Array
    upwards: Array

    @classmethod
    def of(cls, results: Results, trials: Iterable[Trial | None], cost: Objective | None = None) -> Points:
        """Collect the measured trials, cheapest first; `cost`: by default the search's."""
        cost, quality = cost or results.cost, results.quality
        rows = sorted(measured(trials, [cost, quality]), key=lambda row: row[cost.name].value)
        x, across = cls._of([row[cost.name] for row in rows])
        y, upwards = cls._of([row[quality.name] for row in rows])
        return cls(x, y, across, upwards)

    @staticmethod
    def _of(estimates: Sequence[Estimate]) -> tuple[Array, Array]:
        values = np.array([estimate.value for estimate in estimates], dtype=np.float64)
        ends = np.array(
            [estimate.interval or (estimate.value, estimate.value) for estimate in estimates], dtype=np.float64
        )
        ends = ends.reshape(-1, 2).T
        return values, np.stack([np.minimum(ends[0], values), np.maximum(ends[1], values)])

    @property
    def whiskers(self) -> dict[str, Any]:
        """(2, N) extent of the intervals to either side, as matplotlib's `errorbar` takes them."""
        return {"xerr": abs(self.across - self.x), "yerr": abs(self.upwards - self.y)}

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Window:
    """Limits of both axes, (low, high) each."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def around(cls, core: Sequence[Points], trials: Points, baselines: Sequence[Points]) -> Window:
        """Fit the window to the core with its error bars, and to others that are near: outliers must not squeeze it."""
        whole = cls._of(core)
        near, farther = whole.widened(REACH), whole.widened(REACH_OF_BASELINES)
        others = [near.inside(trials), *(farther.inside(points) for points in baselines)]
        return cls._of([*core, *others]).widened(0.05)

    @classmethod
    def _of(cls, groups: Sequence[Points]) -> Window:
        xs = np.concatenate([points.across.ravel() for points in groups])
        ys = np.concatenate([points.upwards.ravel() for points in groups])
        return cls((float(xs.min()), float(xs.max())), (float(ys.min()), float(ys.max())))

    def widened(self, share: float) -> Window:
        """Widen by a share of the range on every side; of the magnitude where there is no range."""
        return Window(_widened(*self.x, share), _widened(*self.y, share))

    def inside(self, points: Points) -> Points:
        """Points whose centres are inside; their error bars may be cut."""
        shown = self._shows(points)
        x, y = points.x[shown], points.y[shown]
        return Points(x, y, np.stack([x, x]), np.stack([y, y]))

    def outside(self, points: Points) -> int:
        return int((~self._shows(points)).sum())

    def _shows(self, points: Points) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        across = (points.x >= self.x[0]) & (points.x <= self.x[1])
        return np.asarray(across & (points.y >= self.y[0]) & (points.y <= self.y[1]))


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    margin = share * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin
