"""Plots of a page: one for each cost, behind tabs that work without a script, with legend and limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from searchkit.report.columns import in_words
from searchkit.report.page.commands import pick_command
from searchkit.report.page.details import command
from searchkit.report.page.marks import colour, shape
from searchkit.report.page.markup import Markup, tag
from searchkit.report.page.scatter import Scatter
from searchkit.report.page.shown import FRONT, Axis, Row, Shown, figures
from searchkit.report.results import UNREDUCED

SEARCH_CIRCLE = "M3.5 0A3.5 3.5 0 1 1-3.5 0 3.5 3.5 0 1 1 3.5 0Z"


def plots(
    runs: Sequence[Shown],
    rows: Sequence[Row],
    axes: Sequence[Axis],
    limits: Mapping[str, float],
    selected: int | None,
) -> Markup:
    """Section with a plot for each cost; limits: of the studies, by axis; selected: the number of a row."""
    pairs = figures(runs, axes)
    scatters = [Scatter(runs, rows, axes, cost, quality, limits, selected) for cost, quality in pairs]
    if not scatters:
        return tag("section", tag("p", "No member of the front was measured on the report split."))
    several = len({quality.name for _, quality in pairs}) > 1
    tabs = [_tab(number, scatter, several) for number, scatter in enumerate(scatters)]
    choice = tag(
        "div",
        tag("p", "Drag the lines to set limits, or type them. This chooses the best member within them:"),
        command(tag("code", pick_command(runs[0], ()), id="pick")),
        class_="js",
    )
    return tag(
        "section",
        tag("h2", "Quality over cost"),
        tag("div", tabs, class_="tabs"),
        choice,
        class_="plots runs" if len(runs) > 1 else "plots",
    )


def _tab(number: int, scatter: Scatter, several: bool) -> Iterator[Markup]:
    """Switch, its label and the figure: a style sheet shows the figure after the switch that is on."""
    cost, quality = scatter.cost, scatter.quality
    yield tag("input", type="radio", name="cost", id=f"cost{number}", checked=number == 0)
    name = f"{in_words(quality.name)} over {cost.short}" if several else cost.short
    yield tag("label", name, for_=f"cost{number}")
    yield tag(
        "figure",
        tag("p", quality.label, class_="upwards"),
        scatter.svg(),
        tag("p", cost.label, class_="onwards"),
        tag("figcaption", _legend(scatter), tag("p", _caption(scatter), class_="note")),
        _limits(scatter),
        data_setting=cost.setting,
    )


def _legend(scatter: Scatter) -> Markup:
    """Kinds of points; each can be switched off."""
    several = len(scatter.runs) > 1
    entries = []
    for kind in scatter.kinds:
        name = {FRONT: "front, report split", UNREDUCED: "unreduced model"}.get(kind, kind)
        entries.append(_entry(kind, name, shape(kind, scatter.families), "" if several else colour(kind)))
    if scatter.searched:
        entries.insert(1, _entry("search", "front, search split", SEARCH_CIRCLE, "search"))
        entries.append(
            _entry("trials", "all trials, search split", "M-1.5 0A1.5 1.5 0 1 1 1.5 0 1.5 1.5 0 1 1-1.5 0Z", "trial")
        )
    if several:
        entries += [
            _entry(f"run {run}", shown.name, "M-7-2H7V2H-7Z", f"r{run}") for run, shown in enumerate(scatter.runs)
        ]
    return tag("ul", entries, class_="legend")


def _entry(kind: str, name: str, path: str, style: str) -> Markup:
    mark = tag(
        "svg",
        tag("path", d=path, class_=style),
        viewBox="-9 -9 18 18",
        width=18,
        height=18,
        aria_hidden="true",
        class_=f"mark {style}",
    )
    switch = tag("input", type="checkbox", checked=True, data_kind=kind, class_="js")
    return tag("li", tag("label", switch, mark, name))


def _caption(scatter: Scatter) -> str:
    drawn, measured = scatter.counts
    texts = [
        "Lines through points are 95 % intervals on the report split: on average 19 of 20 such intervals hold the "
        "value on all texts of this kind."
    ]
    if scatter.searched:
        rest = "the others lie beyond the axes or near these" if drawn < measured else "which is all"
        texts.append(f"{drawn:,} of {measured:,} trials are drawn, {rest}.")
    if scatter.hidden:
        texts.append(f"Beyond the axes: {scatter.hidden}.")
    return " ".join(texts)


def _limits(scatter: Scatter) -> Markup:
    """Fields of the two limits; the lines in the figure move with them."""
    fields = []
    for axis in (scatter.quality, scatter.cost):
        sense = "at most" if axis.better == "lower" else "at least"
        value = scatter.limits.get(axis.id)
        fields.append(
            tag(
                "label",
                f"{in_words(axis.name)} {sense} ",
                tag(
                    "input",
                    type="number",
                    step="any",
                    value=None if value is None else f"{value:.6g}",
                    data_limit=axis.id,
                ),
            )
        )
    return tag("div", fields, class_="limits js")
