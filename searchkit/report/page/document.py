"""The page as one HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from searchkit.errors import SearchkitError, StoreError
from searchkit.report.gained import gained
from searchkit.report.limits import of_study
from searchkit.report.notes import notes
from searchkit.report.page.commands import pick_command, picking_limits
from searchkit.report.page.details import Panel
from searchkit.report.page.listing import listing
from searchkit.report.page.markup import Markup, data, escaped, joined, tag
from searchkit.report.page.plots import plots
from searchkit.report.page.provenance import provenance
from searchkit.report.page.shown import Axis, Row, Shown, axes, rows, told_apart
from searchkit.report.page.words import words_data, words_section
from searchkit.report.paired import front_probabilities
from searchkit.report.results import Results


def page(runs: Sequence[Shown]) -> str:
    """Make the page of the runs; the same runs make the same text.

    >>> from searchkit.report.page import Shown, page
    >>> html = page([Shown(results, "runs/quickstart")])  # doctest: +SKIP
    """
    runs = told_apart(runs)
    every, models = axes(runs), rows(runs)
    several, title = len(runs) > 1, ", ".join(shown.name for shown in runs)
    shown_first = [_first(number, shown, models) for number, shown in enumerate(runs)]
    panels, slots = _panels(runs, every, models, shown_first)
    selected = next((number for number in shown_first if number is not None), None)
    words = [
        words_section(run, shown.words, models[first].key, shown.name if several else "", hidden=selected != first)
        for run, (shown, first) in enumerate(zip(runs, shown_first, strict=True))
        if first is not None
    ]
    content = {
        "selected": selected,
        "slots": slots,
        "runs": [
            {"pick": pick_command(shown, ()), "words": words_data(shown.words, _members(run, models))}
            for run, shown in enumerate(runs)
        ],
    }
    body = [
        tag("header", tag("h1", title), [_headline(shown, several) for shown in runs], class_="notes"),
        tag(
            "main",
            tag("div", plots(runs, models, every, _limits(runs, every), selected), panels, class_="beside"),
            words,
            [_verdicts(shown, several) for shown in runs],
            listing(models, every, several, selected),
            [provenance(shown) for shown in runs],
        ),
        data(content, id="content"),
    ]
    return _document(title, body)


def _first(run: int, shown: Shown, models: Sequence[Row]) -> int | None:
    """Row of the member that is shown first: the fastest within a point of unreduced, else the knee."""
    members = _members(run, models)
    faster = (each.member.key for each in gained(shown.results) if each.is_faster and each.member)
    wanted = [*faster, *_knee(shown.results), *members]
    return next((members[key] for key in wanted if key in members), None)


def _knee(results: Results) -> list[str]:
    try:
        return [results.front.knee().key]
    except (SearchkitError, ValueError):
        return []


def _panels(
    runs: Sequence[Shown], every: Sequence[Axis], models: Sequence[Row], first: Sequence[int | None]
) -> tuple[list[Markup], dict[int, list[str]]]:
    """Panel of each run, and the texts of the slots by row."""
    panels: list[Markup] = []
    slots: dict[int, list[str]] = {}
    for run, shown in enumerate(runs):
        own = [axis for axis in every if axis.objective(shown)]
        named = shown.name if len(runs) > 1 else ""
        panel = Panel(shown, own, picking_limits(shown.results), front_probabilities(shown.results), named)
        for number, row in enumerate(models):
            if row.run == run and row.is_member:
                content, slots[number] = panel.html(row)
                if number == first[run]:
                    hidden = bool(panels)
                    panels.append(tag("section", content, class_="panel", data_run=run, hidden=hidden))
    return panels, slots


def _members(run: int, models: Sequence[Row]) -> dict[str, int]:
    """Row of each member of a run, by key."""
    return {row.key: number for number, row in enumerate(models) if row.run == run and row.is_member}


def _headline(shown: Shown, several: bool) -> Markup:
    """What the run came to: how many members, and the gain; everything that is said where there are none."""
    results = shown.results
    count = f"{len(results.members)} members of {len(results.evaluations):,} evaluations, "
    count += f"{len(results.reported_front)} of them on the front of the report split."
    said = [each.text for each in gained(results)] if results.members else notes(results)
    return tag("div", tag("h2", shown.name) if several else None, [tag("p", _marked(text)) for text in [count, *said]])


def _verdicts(shown: Shown, several: bool) -> Markup | None:
    """The other notes: on baselines and rivals, on what was not measured, on busy machines."""
    gains = [each.text for each in gained(shown.results)]
    said = [note for note in notes(shown.results) if note not in gains]
    if not said or not shown.results.members:
        return None
    heading = f"How the front of {shown.name} compares" if several else "How the front compares"
    return tag("section", tag("h2", heading), tag("ul", [tag("li", _marked(note)) for note in said]), class_="notes")


def _marked(note: str) -> list[Markup]:
    """Text in which what stands in backticks is code."""
    return [tag("code", part) if place % 2 else escaped(part) for place, part in enumerate(note.split("`"))]


def _limits(runs: Sequence[Shown], every: Sequence[Axis]) -> dict[str, float]:
    """Limits of the first run's study on its own axes, as numbers; the last one of an axis counts."""
    shown = runs[0]
    try:
        limits, _ = of_study(shown.results.study, shown.results.all_objectives)
    except StoreError:
        return {}
    better = {axis.id: axis.better for axis in every}
    found = {}
    for limit in limits:
        unreduced = shown.results.unreduced
        base = unreduced.estimates.get(limit.name) if limit.relative and unreduced else None
        if better.get(limit.name) == ("lower" if limit.sense == "<=" else "higher") and (base or not limit.relative):
            found[limit.name] = limit.number + (base.value if base else 0.0)
    return found


def _document(title: str, body: Sequence[Markup]) -> str:
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Markup(policy)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"{title}: searchkit"),
        tag("style", Markup(style)),
    ]
    whole = tag("html", tag("head", head), tag("body", joined(body), tag("script", Markup(script))), lang="en")
    return f"<!doctype html>\n{whole}\n"


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
