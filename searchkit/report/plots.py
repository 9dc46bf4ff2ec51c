"""Figures of a search, as PNG and SVG: the front with its baselines, and the hypervolume.

Every kind of point has its own marker, fill and line, so that the figures read without colour; the colours are those of
Okabe and Ito. Names of studies and objectives are drawn as they are, without mathematics or markup.
"""

from __future__ import annotations

import io
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit import front
from searchkit._internal.files import replace_whole
from searchkit.errors import one_line
from searchkit.objective import Objective
from searchkit.records import Measured, Scalar, Trial
from searchkit.report.columns import in_words
from searchkit.report.environment import environments, in_short
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
from searchkit.report.summary import reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DARK = "#555555"
GREY, BLUE, VERMILION, GREEN, BLACK = "#999999", "#0072B2", "#D55E00", "#009E73", "#000000"
SKY, PURPLE, ORANGE = "#56B4E9", "#CC79A7", "#E69F00"
SETTINGS: Final[dict[str, Any]] = {"text.parse_math": False, "svg.hashsalt": "searchkit", "axes.unicode_minus": False}

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


def pareto(results: Results, folder: Path) -> None:
    """Draw pareto.png and .svg: quality over cost on both splits, with the baselines. StoreError if unwritable."""
    with _figure(results, folder / "pareto") as axes:
        _draw_pareto(axes, results)


def quality_over(results: Results, objective: Objective, folder: Path) -> None:
    """Draw pareto_<objective>.png and .svg: quality over an objective of the front only, such as latency, on the report
    split. StoreError if unwritable.
    """
    with _figure(results, folder / f"pareto_{objective.name}") as axes:
        _draw_over(axes, results, objective)


def hypervolume(results: Results, folder: Path) -> None:
    """Draw hypervolume.png and .svg: the hypervolume after each evaluation. StoreError if unwritable."""
    with _figure(results, folder / "hypervolume") as axes:
        _draw_hypervolume(axes, results)


def _draw_pareto(axes: Axes, results: Results) -> None:
    every = Points.of(results, results.trials)
    searched = Points.of(results, results.front)
    axes.set_xlabel(f"{_label(results.cost)}{_accounting(results, results.cost)}")
    axes.set_ylabel(_label(results.quality))
    if not len(every):
        _say_nothing_was_measured(axes)
        return
    axes.plot(searched.x, searched.y, **FRONT_ON_SEARCH)
    _draw_report_split(axes, results, results.cost, FRONT_ON_REPORT, searched, every)
    axes.plot(every.x, every.y, **TRIALS)
    _legend(axes)


def _draw_over(axes: Axes, results: Results, objective: Objective) -> None:
    axes.set_xlabel(f"{_label(objective)}{_accounting(results, objective)}")
    axes.set_ylabel(_label(results.quality))
    nothing = Points.of(results, [])
    _draw_report_split(axes, results, objective, APART_ON_REPORT, nothing, nothing)
    _legend(axes)


def _draw_report_split(
    axes: Axes, results: Results, cost: Objective, style: Mapping[str, Any], searched: Points, every: Points
) -> None:
    """Draw front, baselines and unreduced model on the report split, and fit the axes around all points."""
    reported = Points.of(results, (results.report.get(trial.key) for trial in results.front), cost)
    styles = {**FAMILIES, **_rivals(results, cost)}
    families = {name: Points.of(results, results.baselines.get(name, ()), cost) for name in styles}
    unreduced = Points.of(results, results.baselines.get(UNREDUCED, ()), cost)
    if len(unreduced):
        axes.axhline(unreduced.y[0], color=BLACK, linewidth=0.7, linestyle=(0, (6, 4)), zorder=1)
    axes.errorbar(reported.x, reported.y, **reported.whiskers, **style)
    axes.errorbar(unreduced.x, unreduced.y, **unreduced.whiskers, **WHISKERS_OF_UNREDUCED)
    axes.plot(unreduced.x, unreduced.y, **UNREDUCED_MODEL)
    for name, points in families.items():
        line = {} if cost == results.cost else {"linestyle": "none"}  # in what was not searched they are in no order
        axes.plot(points.x, points.y, label=_in_lines(f"{name}, report split"), **{**styles[name], **line})
    window = Window.around([searched, reported, unreduced, _strong(results, cost)], every, list(families.values()))
    axes.set_xlim(*window.x)
    axes.set_ylim(*window.y)
    hidden = {name: window.outside(points) for name, points in {"trials": every, **families}.items()}
    notes = [f"{name} {count}" for name, count in hidden.items() if count]
    label = [axes.get_xlabel()]
    if len(reported) or len(unreduced):
        label.append(f"whiskers: 95 % interval on the report split, {_sizes(results, cost)}")
    if notes:
        label.append(f"beyond the axes: {', '.join(notes)}")
    flaw = timing_note(cost, results.on_report, "report split")
    label += textwrap.wrap((flaw or "").partition(";")[0], 95)
    axes.set_xlabel("\n".join(label))


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


def _in_lines(label: str) -> str:
    """Entry of the legend in lines that leave room for the axes."""
    return "\n".join(textwrap.wrap(one_line(label, 120), 30))


def _sizes(results: Results, cost: Objective) -> str:
    """Sample sizes behind the intervals: examples, and repeats where the cost has a number of its own."""
    shown = [*results.report.values(), *results.baselines.get(UNREDUCED, ())]
    examples = _examples(shown, results.quality)
    counts = {row[cost.name].n for row in measured(shown, [cost])} - {examples}
    few, many = min(counts, default=0), max(counts, default=0)
    own = f", of {in_words(cost.name)} n = {few}{f' to {many}' if many > few else ''}" if counts else ""
    return f"n = {examples}{own}"


def _draw_hypervolume(axes: Axes, results: Results) -> None:
    point = ", ".join(f"{in_words(name)} {value:.4g}" for name, value in reference(results).items())
    costs = "".join(_accounting(results, objective) for objective in results.objectives)
    axes.set_xlabel(f"evaluations\n(reference point of the hypervolume: {point or 'none'}{costs})")
    axes.set_ylabel("hypervolume of the front, search split")
    curve = hypervolume_curve(results)
    if not curve.any():
        _say_nothing_was_measured(axes)
        return
    axes.step(np.arange(len(curve) + 1), [0.0, *curve], color=BLUE, linewidth=1.5, where="post")
    axes.margins(x=0.01)


def hypervolume_curve(results: Results) -> front.Array:
    """(N,) the hypervolume after 1, 2, ... N evaluations; failed and pruned ones add nothing."""
    tried = [trial if isinstance(trial.outcome, Measured) else None for trial in results.evaluations]
    rows = [estimates(trial, results.objectives) for trial in tried]
    losses = front.losses([row for row in rows if row is not None], results.objectives)
    if not len(losses):
        return np.zeros(len(rows))
    gained = front.hypervolume_curve(losses, front.reference_point(losses))
    known = np.cumsum([row is not None for row in rows])
    after: front.Array = np.concatenate([[0.0], gained])
    return np.asarray(after[known])


def _legend(axes: Axes) -> None:
    """Draw the legend beside the axes, the front on the report split first."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    entries = zip(*axes.get_legend_handles_labels(), strict=True)
    drawn = [(handle, label) for handle, label in entries if _has_points(handle)]
    drawn.sort(key=lambda entry: entry[1] != FRONT_ON_REPORT["label"])
    handles, labels = zip(*drawn, strict=True)
    figure.legend(handles, labels, loc="outside right upper", frameon=False)


def _has_points(handle: Any) -> bool:
    line = handle[0] if isinstance(handle, tuple) else handle  # error bars come as (line, caps, bars)
    return len(line.get_xdata()) > 0


def _label(objective: Objective) -> str:
    return f"{in_words(objective.name)} ({one_line(objective.unit, 100)}, {objective.better} is better)"


def _accounting(results: Results, objective: Objective) -> str:
    accounting = results.accounting(objective)
    return f", {accounting}" if accounting else ""


def _say_nothing_was_measured(axes: Axes) -> None:
    axes.annotate("no trial was measured", (0.5, 0.5), xycoords="axes fraction", ha="center")


def _title(results: Results) -> str:
    """Title: the study, and the number of examples in each split."""
    name = "\n".join(textwrap.wrap(one_line(str(results.study.get("name", "search")), 200), 70))
    splits = {"search": results.trials, "report": tuple(results.report.values())}
    sizes = {split: _examples(trials, results.quality) for split, trials in splits.items()}
    counts = ", ".join(f"{count} {split} examples" for split, count in sizes.items() if count)
    return f"{name}\n{counts}" if counts else name


def _conditions(results: Results) -> str:
    """Environment of the measurements, of either split where they differ."""
    splits = {"search": environments(results.trials), "report": environments(results.on_report)}
    texts = {split: _in_short(settings) for split, settings in splits.items() if settings}
    if len(set(texts.values())) == 1:
        return f"measured on {next(iter(texts.values()))}"
    return "\n".join(f"{split} split measured on {where}" for split, where in texts.items())


def _in_short(settings: Mapping[str, Mapping[str, Scalar]]) -> str:
    if len(settings) == 1:
        return in_short(next(iter(settings.values())))
    return one_line(f"{len(settings)} environments: {', '.join(settings)}", 200)


def _examples(trials: Iterable[Trial], quality: Objective) -> int:
    return max((row[quality.name].n for row in measured(trials, [quality])), default=0)


@contextmanager
def _figure(results: Results, path: Path) -> Iterator[Axes]:
    """Make axes, saved as PNG and SVG afterwards: the same bytes for the same results."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", SETTINGS]):
        figure = Figure(figsize=(9.5, 5.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(_title(results), fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        yield axes
        figure.supxlabel(_conditions(results), x=0.005, horizontalalignment="left", fontsize=8, color=DARK)
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            replace_whole(path.with_suffix(f".{kind}"), buffer.getvalue())
