"""Figures of a search, as PNG and SVG: the front with everything it has to be compared with, and the hypervolume.

Every kind of point has its own marker, fill and line, so that the figures read without colour; the colours are those of
Okabe and Ito. Names of studies and objectives are drawn as they are, without mathematics or markup.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit import front
from searchkit.errors import one_line
from searchkit.files import replace_whole
from searchkit.objective import Objective
from searchkit.records import Trial
from searchkit.report.results import (
    CONSTANT_RATIO,
    RANDOM_TOKENS,
    TRUNCATION,
    UNREDUCED,
    Results,
    estimates,
    measured,
)
from searchkit.report.summary import reference
from searchkit.report.table import spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY, BLUE, VERMILION, GREEN, BLACK = "#999999", "#0072B2", "#D55E00", "#009E73", "#000000"
SKY, PURPLE = "#56B4E9", "#CC79A7"
SETTINGS: Final[dict[str, Any]] = {"text.parse_math": False, "svg.hashsalt": "searchkit", "axes.unicode_minus": False}
REACH: Final = 0.15  # how far axes may reach beyond the front and the unreduced model, in their own range, for trials
REACH_OF_BASELINES: Final = 0.5

FRONT_ON_REPORT: Final[dict[str, Any]] = {
    "label": "front, report split,\n95 % interval",
    "color": VERMILION,
    "fmt": "s-",
    "drawstyle": "steps-post",
    "markersize": 4.5,
    "linewidth": 1.2,
    "elinewidth": 0.9,
    "capsize": 2,
    "zorder": 4,
}
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
_FAMILY: Final[dict[str, Any]] = {"markersize": 5, "markerfacecolor": "white", "linewidth": 1.2, "zorder": 2}
FAMILIES: Final[dict[str, dict[str, Any]]] = {
    CONSTANT_RATIO: {"color": GREEN, "marker": "D", "linestyle": ":", **_FAMILY},
    TRUNCATION: {"color": SKY, "marker": "^", "linestyle": "-.", **_FAMILY},
    RANDOM_TOKENS: {"color": PURPLE, "marker": "v", "linestyle": (0, (5, 2)), **_FAMILY},
}
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
    """pareto.png and pareto.svg: quality over cost on both splits, with the baselines. StoreError if unwritable."""
    with _figure(results, folder / "pareto") as axes:
        _draw_pareto(axes, results)


def hypervolume(results: Results, folder: Path) -> None:
    """hypervolume.png and hypervolume.svg: what the front dominated after each evaluation. StoreError if unwritable."""
    with _figure(results, folder / "hypervolume") as axes:
        _draw_hypervolume(axes, results)


@dataclass(frozen=True)
class Points:
    """Where some measured trials lie: cost and quality, (N,) each, and the ends of the quality's 95 % interval."""

    x: front.Array
    y: front.Array
    low: front.Array
    high: front.Array

    @classmethod
    def of(cls, results: Results, trials: Iterable[Trial | None]) -> Points:
        """Trials that were not measured are left out; the cheapest comes first."""
        rows = sorted(measured(trials, results.objectives), key=lambda row: row[results.cost.name].value)
        qualities = [row[results.quality.name] for row in rows]
        y = np.array([quality.value for quality in qualities], dtype=np.float64)
        ends = [quality.interval or (quality.value, quality.value) for quality in qualities]
        low, high = np.array(ends, dtype=np.float64).reshape(-1, 2).T
        x = np.array([row[results.cost.name].value for row in rows], dtype=np.float64)
        return cls(x, y, np.minimum(low, y), np.maximum(high, y))

    @property
    def whiskers(self) -> front.Array:
        """(2, N) how far the interval reaches below and above."""
        return np.stack([self.y - self.low, self.high - self.y])

    def __len__(self) -> int:
        return len(self.x)


def _draw_pareto(axes: Axes, results: Results) -> None:
    every = Points.of(results, results.trials)
    searched = Points.of(results, results.front)
    reported = Points.of(results, (results.report.get(trial.key) for trial in results.front))
    families = {name: Points.of(results, results.baselines.get(name, ())) for name in FAMILIES}
    unreduced = Points.of(results, results.baselines.get(UNREDUCED, ()))
    label = [f"{_label(results.cost)}{_accounting(results)}"]
    axes.set_xlabel(label[0])
    axes.set_ylabel(_label(results.quality))
    if not len(every):
        _say_nothing_was_measured(axes)
        return
    if len(unreduced):
        axes.axhline(unreduced.y[0], color=BLACK, linewidth=0.7, linestyle=(0, (6, 4)), zorder=1)
    axes.errorbar(reported.x, reported.y, reported.whiskers, **FRONT_ON_REPORT)
    axes.plot(searched.x, searched.y, **FRONT_ON_SEARCH)
    axes.vlines(unreduced.x, unreduced.low, unreduced.high, color=BLACK, linewidth=0.9, zorder=2)
    axes.plot(unreduced.x, unreduced.y, **UNREDUCED_MODEL)
    for name, points in families.items():
        axes.plot(points.x, points.y, label=f"{name}, report split", **FAMILIES[name])
    axes.plot(every.x, every.y, **TRIALS)
    window = Window.around([searched, reported, unreduced], every, list(families.values()))
    axes.set_xlim(*window.x)
    axes.set_ylim(*window.y)
    hidden = {name: window.outside(points) for name, points in {"trials": every, **families}.items()}
    notes = [f"{name} {count}" for name, count in hidden.items() if count]
    if len(reported) or len(unreduced):
        count = _examples([*results.report.values(), *results.baselines.get(UNREDUCED, ())], results.quality)
        label.append(f"whiskers: 95 % interval on the report split, n = {count}")
    if notes:
        label.append(f"beyond the axes: {', '.join(notes)}")
    axes.set_xlabel("\n".join(label))
    _legend(axes)


def _draw_hypervolume(axes: Axes, results: Results) -> None:
    point = ", ".join(f"{spoken(name)} {value:.4g}" for name, value in reference(results).items())
    axes.set_xlabel(f"evaluations\n(reference point of the hypervolume: {point or 'none'})")
    axes.set_ylabel("hypervolume of the front, search split")
    curve = hypervolume_curve(results)
    if not curve.any():
        _say_nothing_was_measured(axes)
        return
    axes.step(np.arange(len(curve) + 1), [0.0, *curve], color=BLUE, linewidth=1.5, where="post")
    axes.margins(x=0.01)


def hypervolume_curve(results: Results) -> front.Array:
    """(N,) the hypervolume after 1, 2, ... N evaluations; failed and pruned ones add nothing."""
    rows = [estimates(trial, results.objectives) for trial in results.evaluations]
    found = front.losses([row for row in rows if row is not None], results.objectives)
    if not len(found):
        return np.zeros(len(rows))
    gained = front.hypervolume_curve(found, front.reference_point(found))
    known = np.cumsum([row is not None for row in rows])
    after: front.Array = np.concatenate([[0.0], gained])
    return np.asarray(after[known])


@dataclass(frozen=True)
class Window:
    """What the axes show: (low, high) each."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def around(cls, core: Sequence[Points], trials: Points, baselines: Sequence[Points]) -> Window:
        """All of the core with its error bars, and of the others what is near: a hopeless trial must not squeeze it."""
        whole = cls._of(core)
        near, farther = whole.widened(REACH), whole.widened(REACH_OF_BASELINES)
        others = [near.inside(trials), *(farther.inside(points) for points in baselines)]
        return cls._of([*core, *others]).widened(0.05)

    @classmethod
    def _of(cls, groups: Sequence[Points]) -> Window:
        xs = np.concatenate([points.x for points in groups])
        lows = np.concatenate([points.low for points in groups])
        highs = np.concatenate([points.high for points in groups])
        return cls((float(xs.min()), float(xs.max())), (float(lows.min()), float(highs.max())))

    def widened(self, share: float) -> Window:
        """By a share of its range on every side; of the magnitude where there is no range."""
        return Window(_widened(*self.x, share), _widened(*self.y, share))

    def inside(self, points: Points) -> Points:
        """The points whose centres it shows; their error bars may be cut."""
        shown = self._shows(points)
        return Points(points.x[shown], *[points.y[shown]] * 3)

    def outside(self, points: Points) -> int:
        return int((~self._shows(points)).sum())

    def _shows(self, points: Points) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        across = (points.x >= self.x[0]) & (points.x <= self.x[1])
        return np.asarray(across & (points.y >= self.y[0]) & (points.y <= self.y[1]))


def _widened(low: float, high: float, share: float) -> tuple[float, float]:
    margin = share * ((high - low) or abs(high) or 1.0)
    return low - margin, high + margin


def _legend(axes: Axes) -> None:
    """Beside the axes, of what was drawn, the front on the report split first."""
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
    return f"{spoken(objective.name)} ({one_line(objective.unit, 100)}, {objective.better} is better)"


def _accounting(results: Results) -> str:
    """Whether a cost counts pads, where it says so: a ratio that has the papers' padded one beside it does not."""
    rows = measured(results.trials, [results.cost])
    unpadded = any("ratio_of_padded" in row[results.cost.name].beside for row in rows)
    return ", pads counted on neither side" if unpadded else ""


def _say_nothing_was_measured(axes: Axes) -> None:
    axes.annotate("no trial was measured", (0.5, 0.5), xycoords="axes fraction", ha="center")


def _title(results: Results) -> str:
    """The study and the examples behind each split."""
    name = "\n".join(textwrap.wrap(one_line(str(results.study.get("name", "search")), 200), 70))
    splits = {"search": results.trials, "report": tuple(results.report.values())}
    sizes = {split: _examples(trials, results.quality) for split, trials in splits.items()}
    told = ", ".join(f"{count} {split} examples" for split, count in sizes.items() if count)
    return f"{name}\n{told}" if told else name


def _examples(trials: Iterable[Trial], quality: Objective) -> int:
    return max((row[quality.name].n for row in measured(trials, [quality])), default=0)


@contextmanager
def _figure(results: Results, path: Path) -> Iterator[Axes]:
    """Axes to draw on, saved as PNG and SVG: the same bytes for the same results."""
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
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            replace_whole(path.with_suffix(f".{kind}"), buffer.getvalue())
