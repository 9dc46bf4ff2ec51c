"""Trade-offs beside the Pareto plot: times over the MACs that were to save them, and members as parallel lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit.errors import one_line
from searchkit.front import Array
from searchkit.objective import Objective
from searchkit.records import Trial
from searchkit.report.columns import brief, in_words
from searchkit.report.figures.quality import FAMILIES
from searchkit.report.figures.style import (
    GREY,
    INTERVAL,
    VERMILION,
    Runs,
    drawing,
    ink,
    label_below,
    legend,
    only,
    say_nothing_was_measured,
    stands_alone,
)
from searchkit.report.results import Results, estimates, is_timed, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS: Final = ("macs", "flops")  # objectives that count work, as a ratio to the unreduced model
SHADES: Final = "cividis"
MOST_BEHIND: Final = 300  # trials behind the front in parallel coordinates


def latency(runs: Runs, ax: Axes | None = None, *, timed: str | None = None) -> Axes:
    """Draw times over MACs, both as shares of the unreduced model's, with the line on which all saved work saves time.

    timed: an objective that is timed; by default the first. ValueError where nothing was timed, or no MACs were
    counted. Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> axes = figures.latency(searchkit.open("runs/quickstart"))  # doctest: +SKIP
    """
    results = only(runs)
    work, time = _work(results), _timed(results, timed)
    with drawing(ax) as axes:
        black = ink(axes)
        groups = {"front": tuple(filter(None, (results.report.get(member.key) for member in results.members)))}
        groups |= {name: results.baselines.get(name, ()) for name in FAMILIES}
        for name, trials in groups.items():
            points = np.array(list(_ratios(trials, work, time))).reshape(-1, 4)
            if not len(points):
                continue
            x, y, low, high = points.T
            style: dict[str, Any] = {"color": VERMILION, "fmt": "s", "markersize": 5}
            if name in FAMILIES:
                marker = {key: FAMILIES[name][key] for key in ("color", "markersize", "markerfacecolor")}
                style = {**marker, "fmt": FAMILIES[name]["marker"]}
            bars: Any = {"elinewidth": 0.8, "capsize": 2, "linestyle": "none"}
            label = "front, report split" if name == "front" else name
            axes.errorbar(x, y, yerr=[np.maximum(y - low, 0), np.maximum(high - y, 0)], label=label, **style, **bars)
        top = max(1.05, *axes.get_ylim())
        axes.plot([0, 1], [0, 1], color=black, linewidth=1, label="full realisation: half the\nMACs in half the time")
        axes.plot([1], [1], color=black, marker="*", markersize=13, linestyle="none", label="unreduced model")
        axes.axhline(1, color=GREY, linewidth=0.7, linestyle=(0, (6, 4)), zorder=1)
        axes.set_xlim(0, 1.05)
        axes.set_ylim(0, top)
        notes = ("above the line: less time is saved than work", f"bars: 95 % interval ({INTERVAL})")
        label_below(axes, f"{in_words(work.name)}, unreduced model = 1, report split", *notes)
        axes.set_ylabel(f"{in_words(time.name)}{_batch(results, time)}, unreduced model = 1")
        legend(axes)
    return axes


def _work(results: Results) -> Objective:
    found = next((objective for objective in results.all_objectives if objective.name in COSTS), None)
    if found is None:
        raise ValueError(f"no objective of the run counts work ({' or '.join(COSTS)})")
    return found


def _timed(results: Results, name: str | None) -> Objective:
    rows = measured(results.on_report, [])
    timed = [
        objective
        for objective in results.all_objectives
        if any(objective.name in row and is_timed(row[objective.name]) for row in rows)
    ]
    found = next((objective for objective in timed if name in (None, objective.name)), None)
    if found is None:
        listed = ", ".join(objective.name for objective in timed) or "none"
        raise ValueError(f"no times of {name or 'the front'} were measured; timed objectives: {listed}")
    return found


def _ratios(trials: Sequence[Trial], work: Objective, time: Objective) -> Iterator[tuple[float, float, float, float]]:
    """Share of the work, share of the time, and the ends of its interval."""
    for row in measured(trials, [work, time]):
        beside = row[time.name].beside
        if "ratio" in beside:
            ratio = beside["ratio"]
            yield row[work.name].value, ratio, beside.get("ratio_low", ratio), beside.get("ratio_high", ratio)


def _batch(results: Results, time: Objective) -> str:
    rows = measured(results.on_report, [time])
    sizes = {int(row[time.name].beside["batch_size"]) for row in rows if "batch_size" in row[time.name].beside}
    return f" at batch {sizes.pop()}" if len(sizes) == 1 else ""


def parallel(runs: Runs, ax: Axes | None = None) -> Axes:
    """Draw the members of the front as lines through parallel axes: their values per layer, then the objectives.

    Each axis runs from the lowest to the highest value, which stand at its ends; colours follow the cost, and other
    measured trials are grey. Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> axes = figures.parallel(searchkit.open("runs/quickstart"))  # doctest: +SKIP
    """
    results = only(runs)
    with drawing(ax) as axes:
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_yticks([])
        if not len(results.front):
            say_nothing_was_measured(axes)
            return axes
        table = _Table.of(results)
        _draw_lines(axes, table, results)
        for place in range(len(table.names)):
            axes.plot([place, place], [0, 1], color=GREY, linewidth=0.8, zorder=1)
            for height, value, side in ((0.0, table.low[place], "top"), (1.0, table.high[place], "bottom")):
                text, up = f"{brief(float(value))}", -0.02 if height == 0 else 0.02
                axes.text(place, height + up, text, ha="center", va=side, fontsize=8)
        axes.set_xticks(range(len(table.names)), table.names, fontsize=9)
        axes.tick_params(axis="x", length=0, pad=14)
        axes.set_ylim(-0.04, 1.08)
        axes.set_xlim(-0.4, len(table.names) - 0.6)
        dimensions = " and ".join(dict.fromkeys(in_words(name) for name in table.dimensions))
        what = f"{dimensions} by layer, then values on the search split"
        label_below(axes, f"{what}; each axis from its lowest to its highest; grey: others")
    return axes


@dataclass(frozen=True, eq=False)
class _Table:
    """Values of trials by axis: names (A,), dimensions of the layers' axes, front (K, A), other trials (R, A)."""

    names: list[str]
    dimensions: list[str]
    front: Array
    others: Array

    @classmethod
    def of(cls, results: Results) -> _Table:
        first = next(iter(results.front)).ask.candidate
        slots = [
            (name, place) for name, value in first.items if isinstance(value, tuple) for place in range(len(value))
        ]
        several = len({name for name, _ in slots}) > 1
        names = [f"{in_words(name)[0]}{place + 1}" if several else str(place + 1) for name, place in slots]
        names += ["\n".join(one_line(in_words(axis.name), 30).split()) for axis in results.objectives]

        def row(trial: Trial) -> list[float]:
            values, found = dict(trial.ask.candidate.items), estimates(trial, results.objectives) or {}
            of_layers = [(*_tuple(values.get(name)), *[np.nan] * len(slots))[place] for name, place in slots]
            return [*map(float, of_layers), *(found[axis.name].value for axis in results.objectives)]

        keys = {member.key for member in results.front}
        others = [trial for trial in results.measured_trials if trial.key not in keys]
        thinned = others[:: max(1, -(-len(others) // MOST_BEHIND))]
        width = len(names)
        front = np.array([row(member) for member in results.front]).reshape(-1, width)
        behind = np.array([row(trial) for trial in thinned]).reshape(-1, width)
        return cls(names, [name for name, _ in slots], front, behind)

    @property
    def low(self) -> Array:
        return np.asarray(np.nanmin(np.concatenate([self.front, self.others]), axis=0))

    @property
    def high(self) -> Array:
        return np.asarray(np.nanmax(np.concatenate([self.front, self.others]), axis=0))

    def scaled(self, rows: Array) -> Array:
        """Rows with every axis from 0 to 1; what never varies is in the middle."""
        spread = self.high - self.low
        return np.asarray(np.where(spread > 0, (rows - self.low) / np.where(spread > 0, spread, 1), 0.5))


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else ()


def _draw_lines(axes: Axes, table: _Table, results: Results) -> None:
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    for row in table.scaled(table.others):
        axes.plot(row, color=GREY, linewidth=0.5, alpha=0.35, zorder=2)
    costs = results.front.values(results.cost.name)
    scale = ScalarMappable(Normalize(float(costs.min()), float(costs.max()) or 1.0), matplotlib.colormaps[SHADES])
    for row, cost in zip(table.scaled(table.front), costs, strict=True):
        axes.plot(row, color=scale.to_rgba(cost), linewidth=1.5, zorder=3)
    inset = axes.inset_axes((1.015, 0.1, 0.025, 0.8) if stands_alone(axes) else (1.02, 0.1, 0.04, 0.8))
    bar = axes.figure.colorbar(scale, cax=inset)
    bar.set_label(f"{in_words(results.cost.name)} of the member")
    bar.outline.set_visible(False)
