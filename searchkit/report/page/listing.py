"""Table of all models of a page: members of the fronts, baselines and rivals."""

from __future__ import annotations

from collections.abc import Sequence

from searchkit.records import Candidate, Estimate
from searchkit.report.columns import in_words, short
from searchkit.report.page.details import in_full
from searchkit.report.page.markup import Markup, tag
from searchkit.report.page.shown import Axis, Row

STRIP_HEIGHT = 12


def listing(rows: Sequence[Row], axes: Sequence[Axis], several: bool, selected: int | None) -> Markup:
    """The table; values are of the report split. several: the page shows more than one run."""
    columns = [("run", "run", None)] if several else []
    columns += [("kind", "kind", None), ("model", "model", None), ("candidate", "candidate", None)]
    heads = [_heading(name, label, None) for name, label, _ in columns]
    heads += [_heading(axis.id, axis.short, axis) for axis in axes]
    body = [_row(number, row, axes, several, number == selected) for number, row in enumerate(rows)]
    table = tag(
        "table",
        tag("caption", "Members of the front, baselines and rivals: values of the report split, with 95 % intervals."),
        tag("thead", tag("tr", heads)),
        tag("tbody", body),
        id="models",
    )
    search = tag("label", "Show rows with ", tag("input", type="search", id="filter"))
    download = tag("button", "download as CSV", type="button", id="download")
    tools = tag("div", search, download, tag("output", f"{len(rows)} rows", id="count"), class_="tools js")
    region = tag("div", table, class_="wide", tabindex=0, role="region", aria_label="all models")
    return tag("section", tag("h2", "All models"), tools, region, class_="listing")


def _heading(name: str, label: str, axis: Axis | None) -> Markup:
    button = tag("button", label, type="button", class_="sort")
    about = (axis.id, axis.better) if axis else (None, None)
    return tag("th", button, scope="col", aria_sort="none", data_name=name, data_axis=about[0], data_better=about[1])


def _row(number: int, row: Row, axes: Sequence[Axis], several: bool, selected: bool) -> Markup:
    name: Markup = tag("button", row.key, type="button", class_="choose") if row.is_member else tag("span", row.name)
    candidate = row.trial.ask.candidate
    cells = [
        tag("td", row.shown.name) if several else None,
        tag("td", row.kind),
        tag("th", name, scope="row"),
        tag("td", _strip(candidate), _said(candidate) if row.is_member else ""),
        [_cell(axis.estimate(row.shown, row.key)) for axis in axes],
    ]
    return tag(
        "tr",
        cells,
        data_m=number,
        data_run=row.run,
        class_="member" if row.is_member else None,
        aria_current="true" if selected else None,
    )


def _cell(estimate: Estimate | None) -> Markup:
    """Value with its interval; the script sorts by `data-v` and writes it to csv files: value, low, high."""
    numbers = [] if estimate is None else [estimate.value, *(estimate.interval or ())]
    return tag("td", in_full(estimate), data_v=" ".join(f"{number:.9g}" for number in numbers))


def _said(candidate: Candidate) -> str:
    several = len(candidate.items) > 1
    return "; ".join(f"{in_words(name)} " * several + short(candidate, name) for name, _ in candidate.items)


def _strip(candidate: Candidate) -> Markup | None:
    """Small bars of the values of all layers, where they are shares."""
    values = next((value for _, value in candidate.items if isinstance(value, tuple)), ())
    shares = [value for value in values if isinstance(value, int | float) and 0 <= value <= 1]
    if not shares or len(shares) < len(values):
        return None
    bars = "".join(
        f"M{4 * place} {STRIP_HEIGHT}v{-STRIP_HEIGHT * share:.3g}h3V{STRIP_HEIGHT}Z"
        for place, share in enumerate(shares)
    )
    width = 4 * len(shares)
    return tag(
        "svg",
        tag("path", d=bars),
        viewBox=f"0 0 {width} {STRIP_HEIGHT}",
        width=width,
        height=STRIP_HEIGHT,
        class_="spark",
        aria_hidden="true",
    )
