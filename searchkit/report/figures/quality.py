"""Quality over cost: the front on both splits with baselines and rivals, or the fronts of several runs.

Every kind of point has its own marker, fill and line, so that the figures read without colour.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit import front
from searchkit.errors import unknown
from searchkit.objective import Objective
from searchkit.records import Trial
from searchkit.report.columns import in_words
from searchkit.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    INTERVAL,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Runs,
    accounting,
    axis_label,
    drawing,
    each,
    in_lines,
    ink,
    label_below,
    legend,
    names_of,
    say_nothing_was_measured,
    series,
)
from searchkit.report.notes import timing_note
from searchkit.report.points import Points, Window
from searchkit.report.results import (
    CONSTANT_RATIO,
    PUBLISHED,
    RANDOM_TOKENS,
    TRUNCATION,
    UNREDUCED,
    Results,
    estimates,
    is_other_runtime,
    is_rival,
    is_timed,
    measured,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRONT_ON_REPORT: Final[dict[str, Any]] = {
    "label": "front, report split,\n95 % interval",
    "color": VERMILION,
    "fmt": "s-",
    "drawstyle": "steps-post",
    "markersize": 4.5,
    "linewidth": 1.2,
    "ecolor": (0.835, 0.369, 0.0, 0.5),
    "elinewidth": 0.9,
    "capsize": 2,
    "zorder": 4,
}
APART_ON_REPORT: Final[dict[str, Any]] = {**FRONT_ON_REPORT, "fmt": "s", "drawstyle": "default"}
FRONT_ON_SEARCH: Final[dict[str, Any]] = {
    "label": "front, search split",
    "color": BLUE,
    "marker": "o",
    "markersize": 6,
    "markerfacecolor": "none",
    "linestyle": "--",
    "linewidth": 0.8,
    "zorder": 3,
}
UNREDUCED_MODEL: Final[dict[str, Any]] = {
    "label": "unreduced model, report split",
    "color": BLACK,
    "marker": "*",
    "markersize": 13,
    "linestyle": "none",
    "zorder": 3,
}
WHISKERS_OF_UNREDUCED: Final[dict[str, Any]] = {
    "fmt": "none",
    "ecolor": BLACK,
    "elinewidth": 0.9,
    "capsize": 2,
    "label": "_",
    "zorder": 2,
}
_FAMILY: Final[dict[str, Any]] = {"markersize": 5, "markerfacecolor": "white", "linewidth": 1.2, "zorder": 2}
FAMILIES: Final[dict[str, dict[str, Any]]] = {
    CONSTANT_RATIO: {"color": GREEN, "marker": "D", "linestyle": ":", **_FAMILY},
    TRUNCATION: {"color": SKY, "marker": "^", "linestyle": "-.", **_FAMILY},
    RANDOM_TOKENS: {"color": PURPLE, "marker": "v", "linestyle": (0, (5, 2)), **_FAMILY},
    PUBLISHED: {"color": ORANGE, "marker": "P", "linestyle": (0, (3, 1, 1, 1, 1, 1)), **_FAMILY},
}
MARKERS_OF_RIVALS: Final = ("X", "p", "<", ">", "d", "h", "H", "8")  # in turn; none of another kind of point
RIVAL: Final[dict[str, Any]] = {"color": BLACK, "linestyle": ":", **_FAMILY, "markersize": 7, "zorder": 5}
TRIALS: Final[dict[str, Any]] = {
    "label": "all measured trials, search split",
    "color": GREY,
    "marker": ".",
    "markersize": 3,
    "linestyle": "none",
    "alpha": 0.6,
    "zorder": 1,
}


def pareto(runs: Runs, ax: Axes | None = None, *, cost: str | None = None) -> Axes:
    """Draw quality over a cost, with 95 % intervals: of one run its front on both splits, its baselines and rivals; of
    several runs the fronts on the report split.

    cost: an objective of the runs; by default the search's. Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> axes = figures.pareto(searchkit.open("runs/quickstart"), cost="latency")  # doctest: +SKIP
    """
    every = each(runs)
    with drawing(ax) as axes:
        if len(every) == 1:
            objective = _cost(every[0], cost)
            (_draw_pareto if objective == every[0].cost else _draw_over)(axes, every[0], objective)
        else:
            _draw_fronts(axes, every, cost)
    return axes


def _cost(results: Results, name: str | None) -> Objective:
    if name is None:
        return results.cost
    known = {objective.name: objective for objective in results.all_objectives if objective != results.quality}
    if name not in known:
        raise ValueError(unknown("cost", name, known))
    return known[name]


def _draw_pareto(axes: Axes, results: Results, cost: Objective) -> None:
    every = Points.of(results, results.trials)
    searched = Points.of(results, results.front)
    label_below(axes, f"{axis_label(cost)}{accounting(results, cost)}")
    axes.set_ylabel(axis_label(results.quality))
    if not len(every):
        say_nothing_was_measured(axes)
        return
    axes.plot(searched.x, searched.y, **FRONT_ON_SEARCH)
    _draw_report_split(axes, results, cost, FRONT_ON_REPORT, searched, every)
    axes.plot(every.x, every.y, **TRIALS)
    legend(axes, FRONT_ON_REPORT["label"])


def _draw_over(axes: Axes, results: Results, objective: Objective) -> None:
    label_below(axes, f"{axis_label(objective)}{accounting(results, objective)}")
    axes.set_ylabel(axis_label(results.quality))
    nothing = Points.of(results, [])
    if not len(Points.of(results, results.on_report, objective)):
        say_nothing_was_measured(axes)
        return
    _draw_report_split(axes, results, objective, APART_ON_REPORT, nothing, nothing)
    legend(axes, FRONT_ON_REPORT["label"])


def _draw_fronts(axes: Axes, runs: Sequence[Results], name: str | None) -> None:
    """Draw the fronts of several runs on their report splits, each with its unreduced model as a hollow point."""
    cost, quality = _cost(runs[0], name), runs[0].quality
    note = f"hollow: unreduced models; bars: 95 % interval ({INTERVAL})"
    label_below(axes, f"{axis_label(cost)}{accounting(runs[0], cost)}", note)
    axes.set_ylabel(axis_label(quality))
    drawn = 0
    for run, name_of_run, style in zip(runs, names_of(runs), series(axes, len(runs)), strict=True):
        if (_cost(run, name).name, run.quality.name) != (cost.name, quality.name):
            own, first = f"{run.quality.name} over {run.cost.name}", f"{quality.name} over {cost.name}"
            raise ValueError(f"{name_of_run} has {own}, the first run {first}")
        points = Points.of(run, (run.report.get(trial.key) for trial in run.front), cost)
        steps = {"drawstyle": "steps-post"} if cost == run.cost else {"linestyle": "none"}
        bars = {"elinewidth": 0.9, "capsize": 2, "markersize": 5, "linewidth": 1.2}
        axes.errorbar(points.x, points.y, **points.whiskers, **{**style, **steps, **bars}, label=name_of_run)
        unreduced = Points.of(run, run.baselines.get(UNREDUCED, ()), cost)
        axes.plot(unreduced.x, unreduced.y, **{**style, "linestyle": "none"}, markerfacecolor="none", markersize=9)
        drawn += len(points)
    if not drawn:
        say_nothing_was_measured(axes)
    legend(axes)


def _draw_report_split(
    axes: Axes, results: Results, cost: Objective, style: Mapping[str, Any], searched: Points, every: Points
) -> None:
    """Draw front, baselines and unreduced model on the report split, and fit the axes around all points."""
    shown = results.reported_front if cost == results.cost else results.members
    reported = Points.of(results, (results.report.get(trial.key) for trial in shown), cost)
    black = {"color": ink(axes)}
    styles = FAMILIES | {name: style | black for name, style in _rivals(results, cost).items()}
    families = {name: Points.of(results, results.baselines.get(name, ()), cost) for name in styles}
    unreduced = Points.of(results, results.baselines.get(UNREDUCED, ()), cost)
    if len(unreduced):
        axes.axhline(unreduced.y[0], color=ink(axes), linewidth=0.7, linestyle=(0, (6, 4)), zorder=1)
    axes.errorbar(reported.x, reported.y, **reported.whiskers, **style)
    axes.errorbar(unreduced.x, unreduced.y, **unreduced.whiskers, **{**WHISKERS_OF_UNREDUCED, "ecolor": ink(axes)})
    axes.plot(unreduced.x, unreduced.y, **{**UNREDUCED_MODEL, **black})
    for name, points in families.items():
        line = {} if cost == results.cost else {"linestyle": "none"}  # in what was not searched they are in no order
        axes.plot(points.x, points.y, label=in_lines(f"{name}, report split"), **styles[name] | line)
    window = Window.around([searched, reported, unreduced, _strong(results, cost)], every, list(families.values()))
    axes.set_xlim(*window.x)
    axes.set_ylim(*window.y)
    hidden = {name: window.outside(points) for name, points in {"trials": every, **families}.items()}
    notes = [f"{name} {count}" for name, count in hidden.items() if count]
    label = [f"{axis_label(cost)}{accounting(results, cost)}"]
    if len(reported) or len(unreduced):
        label += [f"bars: 95 % interval on the report split, {_sizes(results, cost)}", f"({INTERVAL})"]
    if notes:
        label.append(f"beyond the axes: {', '.join(notes)}")
    flaw = timing_note(cost, results.on_report, "report split")
    label_below(axes, *label, (flaw or "").partition(";")[0])


def _rivals(results: Results, cost: Objective) -> dict[str, dict[str, Any]]:
    """Style of each family of rivals, with a marker of its own; other runtimes differ in times alone."""
    timed = any(is_timed(row[cost.name]) for row in measured(results.on_report, [cost]))
    families = results.baselines.items()
    names = [name for name, trials in families if is_rival(trials) and (timed or not is_other_runtime(trials))]
    return {name: {**RIVAL, "marker": marker} for name, marker in zip(names, itertools.cycle(MARKERS_OF_RIVALS))}


def _strong(results: Results, cost: Objective) -> Points:
    """Rivals that cost no more than the unreduced model and are as good as some member: the axes always show them."""
    axes = [results.quality, cost]

    def losses(trial: Trial | None) -> front.Array:
        row = estimates(trial, axes)
        return np.full(2, np.inf) if row is None else front.losses([row], axes)[0]

    members = [own for own in map(losses, results.report.values()) if np.isfinite(own).all()]
    worst = np.max([own[0] for own in members], initial=-np.inf)
    rivals = (trial for name in _rivals(results, cost) for trial in results.baselines[name])
    limits = np.array([worst, losses(results.unreduced)[1]])
    return Points.of(results, (trial for trial in rivals if (losses(trial) <= limits).all()), cost)


def _sizes(results: Results, cost: Objective) -> str:
    """Sample sizes behind the intervals: examples, and repeats where the cost has a number of its own."""
    shown = [*results.report.values(), *results.baselines.get(UNREDUCED, ())]
    examples = most_examples(shown, results.quality)
    counts = {row[cost.name].n for row in measured(shown, [cost])} - {examples}
    few, many = min(counts, default=0), max(counts, default=0)
    own = f", of {in_words(cost.name)} n = {few}{f' to {many}' if many > few else ''}" if counts else ""
    return f"n = {examples}{own}"


def most_examples(trials: Iterable[Trial], quality: Objective) -> int:
    """Number of examples behind the values of a quality."""
    return max((row[quality.name].n for row in measured(trials, [quality])), default=0)
