"""Scatter of quality over a cost as SVG, with intervals, baselines, and limits that can be dragged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from searchkit.records import Estimate
from searchkit.report.columns import in_words
from searchkit.report.page.marks import SHAPES, colour, shape
from searchkit.report.page.markup import Markup, tag
from searchkit.report.page.scale import Scale
from searchkit.report.page.shown import FRONT, Axis, Row, Shown, quality_over
from searchkit.report.points import Points, Window
from searchkit.report.results import (
    UNREDUCED,
    is_other_runtime,
    is_rival,
)

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 54, 468, 12, 306  # the area of the points
MOST_TRIALS: Final = 2_000  # points drawn of all trials
CELL: Final = 2.0  # trials nearer than this, in units of the figure, are one point


@dataclass(frozen=True)
class Scatter:
    """One figure: the runs that have this quality over this cost. limits: of the studies, by axis, in its unit."""

    runs: Sequence[Shown]
    rows: Sequence[Row]
    axes: Sequence[Axis]
    cost: Axis
    quality: Axis
    limits: Mapping[str, float]
    selected: int | None = None

    def svg(self) -> Markup:
        """The figure, without title and legend."""
        x, y = self._scales
        members = tag(
            "g",
            [self._member(number, row, x, y) for number, row in enumerate(self.rows) if row.is_member],
            role="listbox",
            aria_label=f"members of the front, {in_words(self.quality.name)} over {in_words(self.cost.name)}",
            aria_orientation="horizontal",
        )
        return tag(
            "svg",
            _frame(x, y),
            [
                tag("path", d=path, class_=f"trials r{run}", data_kind="trials", data_run=run)
                for run, path in enumerate(self._every)
                if path
            ],
            [self._lines(number, shown, x, y) for number, shown in enumerate(self.runs)],
            [self._searched_point(number, row, x, y) for number, row in enumerate(self.rows)],
            [self._other(number, row, x, y) for number, row in enumerate(self.rows) if not row.is_member],
            members,
            self._limit(self.cost, x, vertical=True),
            self._limit(self.quality, y, vertical=False),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="group",
            aria_label=f"{self.quality.label} over {self.cost.label}",
        )

    @property
    def kinds(self) -> list[str]:
        """Kinds of points other than trials that are there, the front first."""
        return list(dict.fromkeys(row.kind for row in self.rows if self._values(row)))

    @property
    def searched(self) -> bool:
        """Whether the cost was searched, so that there are values of the search split."""
        return not self.cost.setting and any(self._searched(shown) for shown in self.runs)

    @property
    def counts(self) -> tuple[int, int]:
        """Trials that are drawn, and all that were measured."""
        measured = sum(len(shown.results.measured_trials) for shown in self.runs if self._searched(shown))
        return sum(path.count("M") for path in self._every), measured

    @cached_property
    def _every(self) -> list[Markup]:
        """Trials of each run."""
        return [self._trials(shown, *self._scales) for shown in self.runs]

    def _searched(self, shown: Shown) -> bool:
        objective = self.cost.objective(shown)
        return self._has(shown) and not self.cost.setting and objective in shown.results.objectives

    def _has(self, shown: Shown) -> bool:
        """Return whether the run is drawn here."""
        return quality_over(self.cost, shown, self.axes) == self.quality

    def _values(self, row: Row) -> tuple[Estimate, Estimate] | None:
        """Cost and quality of a row on the report split; other runtimes differ in times alone."""
        cost, quality = (axis.estimate(row.shown, row.key) for axis in (self.cost, self.quality))
        if cost is None or quality is None or not self._has(row.shown):
            return None
        timed = "settled" in cost.beside
        return None if not timed and is_other_runtime([row.trial]) else (cost, quality)

    @cached_property
    def _scales(self) -> tuple[Scale, Scale]:
        window = self._window()
        return Scale(*window.x, LEFT, RIGHT), Scale(*window.y, BOTTOM, TOP)

    def _window(self) -> Window:
        """Axes around fronts and unreduced models of all runs, and around others that are near."""
        windows = []
        for shown in self.runs:
            view, objective = shown.view(self.cost.setting), self.cost.objective(shown)
            if view is None or objective is None or not self._has(shown):
                continue
            reported = Points.of(view, view.report.values(), objective)
            unreduced = Points.of(view, view.baselines.get(UNREDUCED, ()), objective)
            searched = Points.of(view, view.front if self._searched(shown) else (), objective)
            every = Points.of(view, view.trials if self._searched(shown) else (), objective)
            families = [Points.of(view, trials, objective) for trials in view.baselines.values()]
            if len(reported) + len(unreduced) + len(searched):
                windows.append(Window.around([searched, reported, unreduced], every, families))
        return Window(
            *(
                (min(ends[0] for ends in pairs), max(ends[1] for ends in pairs))
                for pairs in ([window.x for window in windows], [window.y for window in windows])
            )
        )

    def _trials(self, shown: Shown, x: Scale, y: Scale) -> Markup:
        """Path of the measured trials on the search split, thinned evenly to points that can be told apart."""
        if not self._searched(shown):
            return Markup()
        points = Points.of(shown.results, shown.results.trials, self.cost.objective(shown))
        inside = (points.x >= x.low) & (points.x <= x.high) & (points.y >= y.low) & (points.y <= y.high)
        across = LEFT + (points.x[inside] - x.low) / (x.high - x.low) * (RIGHT - LEFT)
        up = BOTTOM - (points.y[inside] - y.low) / (y.high - y.low) * (BOTTOM - TOP)
        cells = np.unique(np.round(np.stack([across, up], axis=1) / CELL).astype(int), axis=0)
        if len(cells) > MOST_TRIALS:
            cells = cells[np.linspace(0, len(cells) - 1, MOST_TRIALS).astype(int)]
        return Markup("".join(f"M{CELL * column:g} {CELL * line:g}h0" for column, line in cells.tolist()))

    def _lines(self, run: int, shown: Shown, x: Scale, y: Scale) -> Iterator[Markup]:
        """Level of the unreduced model, and lines through the front on both splits."""
        for row in self.rows:
            if row.run == run and row.kind == UNREDUCED and (values := self._values(row)):
                yield tag(
                    "path",
                    d=f"M{LEFT} {y.at(values[1].value)}H{RIGHT}",
                    class_=f"level r{run}",
                    data_kind=UNREDUCED,
                    data_run=run,
                )
        if not self._searched(shown):
            return
        searched = [
            (trial.estimates[self.cost.name].value, trial.estimates[self.quality.name].value)
            for trial in shown.results.front
        ]
        front = {trial.key for trial in shown.results.reported_front}
        pairs = [self._values(row) for row in self.rows if row.run == run and row.is_member and row.key in front]
        reported = [(cost.value, quality.value) for cost, quality in filter(None, pairs)]
        for points, name in ((searched, "search"), (reported, FRONT)):
            places = [f"{x.at(cost):g} {y.at(quality):g}" for cost, quality in sorted(points)]
            if places:
                yield tag(
                    "path", d=Markup(f"M{'L'.join(places)}"), class_=f"{name} line r{run}", data_kind=name, data_run=run
                )

    def _other(self, number: int, row: Row, x: Scale, y: Scale) -> Markup | None:
        values = self._values(row)
        if values is None or not _inside(values, x, y):
            return None
        place = f"translate({x.at(values[0].value):g} {y.at(values[1].value):g})"
        whiskers = tag("path", d=_whiskers(values, x, y), class_="w") if row.kind == UNREDUCED else None
        return tag(
            "g",
            tag("title", f"{self._said(values)}, {row.name}"),
            whiskers,
            tag("path", d=shape(row.kind, self.families)),
            class_=f"point {colour(row.kind)} r{row.run}",
            data_kind=row.kind,
            data_run=row.run,
            data_m=number,
            transform=place,
        )

    def _searched_point(self, number: int, row: Row, x: Scale, y: Scale) -> Markup | None:
        """Hollow point of a member's value on the search split."""
        if row.searched is None or not self._searched(row.shown):
            return None
        cost, quality = (row.searched.estimates[axis.name].value for axis in (self.cost, self.quality))
        return tag(
            "circle",
            cx=x.at(cost),
            cy=y.at(quality),
            r=3.5,
            class_=f"search r{row.run}",
            data_kind="search",
            data_run=row.run,
            data_m=number,
        )

    def _member(self, number: int, row: Row, x: Scale, y: Scale) -> Markup | None:
        """Point of a member on the report split."""
        values = self._values(row)
        if values is None:
            return None
        return tag(
            "g",
            tag("title", f"{self._said(values)}, {row.name}"),
            tag("path", d=_whiskers(values, x, y), class_="w"),
            tag("path", d=SHAPES[FRONT]),
            role="option",
            tabindex=0 if number == self.selected else -1,
            aria_selected="true" if number == self.selected else "false",
            class_=f"member r{row.run}",
            data_kind=FRONT,
            data_run=row.run,
            data_m=number,
            transform=f"translate({x.at(values[0].value):g} {y.at(values[1].value):g})",
        )

    def _said(self, values: tuple[Estimate, Estimate]) -> str:
        cost, quality = values
        return f"{in_words(self.quality.name)} {quality.value:.4g}, {in_words(self.cost.name)} {cost.value:.4g}"

    @property
    def hidden(self) -> str:
        """Points of baselines and rivals beyond the axes, by kind."""
        x, y = self._scales
        counts: dict[str, int] = {}
        for row in self.rows:
            if (values := self._values(row)) and not _inside(values, x, y):
                counts[row.kind] = counts.get(row.kind, 0) + 1
        return ", ".join(f"{kind} {count}" for kind, count in counts.items())

    @property
    def families(self) -> list[str]:
        return list(dict.fromkeys(row.kind for row in self.rows if is_rival([row.trial])))

    def _limit(self, axis: Axis, scale: Scale, *, vertical: bool) -> Markup:
        """Line of a limit, at the edge where there is none."""
        free = scale.high if axis.better == "lower" else scale.low
        value = self.limits.get(axis.id, free)
        place = scale.at(min(max(value, scale.low), scale.high))
        where = f"translate({place:g} 0)" if vertical else f"translate(0 {place:g})"
        line = f"M0 {TOP}V{BOTTOM + 10}" if vertical else f"M{LEFT - 10} 0H{RIGHT}"
        handle = f"M0 {BOTTOM + 2}l6 9h-12z" if vertical else f"M{LEFT - 2} 0l-9-6v12z"
        return tag(
            "g",
            tag("path", d=line, class_="hit"),
            tag("path", d=line),
            tag("path", d=handle, class_="handle"),
            class_="limit" if axis.id in self.limits else "limit free",
            role="slider",
            tabindex=0,
            aria_label=f"limit: {in_words(axis.name)} at {'most' if axis.better == 'lower' else 'least'}",
            aria_orientation="horizontal" if vertical else "vertical",
            aria_valuemin=f"{scale.low:.6g}",
            aria_valuemax=f"{scale.high:.6g}",
            aria_valuenow=f"{min(max(value, scale.low), scale.high):.6g}",
            data_axis=axis.id,
            data_better=axis.better,
            data_low=f"{scale.low:.9g}",
            data_high=f"{scale.high:.9g}",
            data_start=scale.start,
            data_stop=scale.stop,
            transform=where,
        )


def _whiskers(values: tuple[Estimate, Estimate], x: Scale, y: Scale) -> str:
    """95 % intervals of both values, around the point at (0, 0), cut at the edges of the figure."""
    paths = []
    for estimate, scale, letter in ((values[0], x, "H"), (values[1], y, "V")):
        if estimate.interval:
            ends = [min(max(end, scale.low), scale.high) for end in estimate.interval]
            low, high = (scale.at(end) - scale.at(estimate.value) for end in ends)
            paths.append(f"M{f'{low:.3g} 0' if letter == 'H' else f'0 {low:.3g}'}{letter}{high:.3g}")
    return "".join(paths)


def _inside(values: tuple[Estimate, Estimate], x: Scale, y: Scale) -> bool:
    return x.low <= values[0].value <= x.high and y.low <= values[1].value <= y.high


def _frame(x: Scale, y: Scale) -> Iterator[Markup]:
    """Grid with numbers."""
    for tick in x.ticks:
        yield tag("path", d=f"M{x.at(tick):g} {TOP}V{BOTTOM}", class_="grid")
        yield tag("text", f"{tick:.4g}", x=x.at(tick), y=BOTTOM + 24, class_="across")
    for tick in y.ticks:
        yield tag("path", d=f"M{LEFT} {y.at(tick):g}H{RIGHT}", class_="grid")
        yield tag("text", f"{tick:.4g}", x=LEFT - 5, y=y.at(tick), class_="up")
