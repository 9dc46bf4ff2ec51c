"""Progress of searches: the hypervolume of the front so far, over evaluations or seconds, and over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from searchkit import front
from searchkit.errors import unknown
from searchkit.records import Measured, Trial
from searchkit.report.columns import in_words
from searchkit.report.figures.style import (
    BLUE,
    GREY,
    Runs,
    accounting,
    drawing,
    each,
    label_below,
    legend,
    names_of,
    say_nothing_was_measured,
    series,
)
from searchkit.report.results import Results, estimates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OVER: Final = {
    "evaluations": "evaluations",
    "seconds": "seconds of evaluation, of all workers together, without the training",
}
CLOSE: Final = 0.99  # of the best hypervolume of all runs


def hypervolume(runs: Runs, ax: Axes | None = None, *, over: str = "evaluations") -> Axes:
    """Draw the hypervolume of the front so far over "evaluations" or "seconds", of one run or several.

    Several runs share a reference point, the worst of all of them; ValueError where their objectives differ. Seconds
    are those that the evaluations took, added up. Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> axes = figures.hypervolume(searchkit.open("runs/quickstart"), over="seconds")  # doctest: +SKIP
    """
    if over not in OVER:
        raise ValueError(unknown("axis", over, OVER))
    every = each(runs)
    with drawing(ax) as axes:
        limit = _dressed(axes, every, OVER[over])
        if limit is None:
            return axes
        styles = series(axes, len(every)) if len(every) > 1 else [{"color": BLUE, "linestyle": "-"}]
        for run, name, style in zip(every, names_of(every), styles, strict=True):
            curve = [0.0, *hypervolume_curve(run, limit)]
            places = np.arange(len(curve)) if over == "evaluations" else _seconds(run)
            line = {key: style[key] for key in ("color", "linestyle")}
            axes.step(places, curve, **line, linewidth=1.5, where="post", label=name)
        axes.margins(x=0.01)
        if len(every) > 1:
            legend(axes)
    return axes


def convergence(runs: Runs, ax: Axes | None = None) -> Axes:
    """Draw how near the runs, usually of one study with several seeds, come to the best hypervolume that any of them
    reached: each run as a thin line, their median and the range of the middle half.

    Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> runs = [searchkit.open(f"runs/sst2-seed-{seed}") for seed in range(5)]  # doctest: +SKIP
    >>> axes = figures.convergence(runs)  # doctest: +SKIP
    """
    every = each(runs)
    with drawing(ax) as axes:
        limit = _dressed(axes, every, "evaluations")
        if limit is None:
            return axes
        axes.set_ylabel("share of the best hypervolume of all runs, search split")
        curves = [np.array([0.0, *hypervolume_curve(run, limit)]) for run in every]
        best = max(curve.max() for curve in curves) or 1.0
        steps = np.arange(max(map(len, curves)))
        # a run that has ended keeps what it has
        rows = np.array([curve[np.minimum(steps, len(curve) - 1)] / best for curve in curves])
        for number, row in enumerate(rows):
            label = "each run" if number == 0 else "_"
            axes.step(steps, row, color=GREY, linewidth=0.8, where="post", label=label, zorder=2)
        low, middle, high = np.quantile(rows, [0.25, 0.5, 0.75], axis=0)
        if len(rows) > 2:
            band = "the middle half of the runs"
            axes.fill_between(steps, low, high, step="post", color=BLUE, alpha=0.2, linewidth=0, label=band)
        name = f"median of {len(rows)} runs" if len(rows) > 1 else "the only run"
        axes.step(steps, middle, color=BLUE, linewidth=1.8, where="post", label=name, zorder=3)
        axes.axhline(CLOSE, color=GREY, linewidth=0.8, linestyle=(0, (6, 4)), label="99 % of the best", zorder=1)
        axes.set_ylim(0, 1.02)
        axes.margins(x=0.01)
        legend(axes)
    return axes


def _dressed(axes: Axes, runs: Sequence[Results], over: str) -> front.Array | None:
    """Label the axes and return the reference point of all runs (M,); None where nothing was measured."""
    objectives = runs[0].objectives
    for run in runs[1:]:
        if [axis.name for axis in run.objectives] != [axis.name for axis in objectives]:
            names = [", ".join(axis.name for axis in other.objectives) for other in (runs[0], run)]
            raise ValueError(f"runs of other objectives have no common hypervolume: {names[0]}; {names[1]}")
    rows = np.concatenate([_losses(run)[0] for run in runs])
    limit = front.reference_point(rows) if len(rows) else None
    units = {} if limit is None else front.in_units(limit, objectives)
    point = ", ".join(f"{in_words(name)} {value:.4g}" for name, value in units.items())
    costs = "".join(accounting(runs[0], objective) for objective in objectives)
    label_below(axes, over, f"(reference point of the hypervolume: {point or 'none'}{costs})")
    axes.set_ylabel("hypervolume of the front, search split")
    if limit is None:
        say_nothing_was_measured(axes)
    return limit


def _losses(results: Results) -> tuple[front.Array, list[bool]]:
    """(N, M) losses of the measured evaluations, in order, and of every evaluation whether it was measured."""
    tried: list[Trial | None] = [
        trial if isinstance(trial.outcome, Measured) else None for trial in results.evaluations
    ]
    rows = [estimates(trial, results.objectives) for trial in tried]
    found = front.losses([row for row in rows if row is not None], results.objectives)
    return found, [row is not None for row in rows]


def hypervolume_curve(results: Results, limit: front.Array | None = None) -> front.Array:
    """(N,) the hypervolume after 1, 2, ... N evaluations; failed and pruned ones add nothing.

    limit: the reference point (M,) in losses; by default that of these evaluations
    """
    losses, known = _losses(results)
    if not len(losses):
        return np.zeros(len(known))
    gained = front.hypervolume_curve(losses, front.reference_point(losses) if limit is None else limit)
    after: front.Array = np.concatenate([[0.0], gained])
    return np.asarray(after[np.cumsum(known)])


def _seconds(results: Results) -> front.Array:
    """(N + 1,) seconds that 0, 1, ... N evaluations took together."""
    return np.concatenate([[0.0], np.cumsum([trial.seconds for trial in results.evaluations])])
