"""Text of the front for the terminal, with the baselines below it and the verdicts on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from searchkit.errors import one_line
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.columns import Name, Numbers, in_words, tables, wrapped
from searchkit.report.notes import notes
from searchkit.report.paired import difference
from searchkit.report.results import Results
from searchkit.report.table import (
    decimals,
    estimate_of,
    objectives_with_optimism,
    optimism_of,
    plus_minus,
    shown_difference,
    with_interval,
)

ROWS: Final = 12  # members of the front
POINTS: Final = 3  # points shown of a family of baselines


def console_text(results: Results, width: int, *, ascii_only: bool = False) -> str:
    """Text of the front for a terminal of `width` columns, the baselines below it, and notes; values of the report
    split.

    At most 12 members, and 3 points of a family, evenly picked with both ends. The difference to the unreduced model is
    there if `width` has room for it.
    """
    members = evenly(results.reported_front, ROWS)
    baselines = [(family, trial) for family, group in results.baselines.items() for trial in evenly(group, POINTS)]
    names = [Name("", trial.ask.candidate) for trial in members]
    names += [Name(one_line(family), trial.ask.candidate) for family, trial in baselines]
    numbers = _numbers(results, members, [trial for _, trial in baselines])
    table = tables(names, numbers, width, ascii_only=ascii_only)
    sign = "+-" if ascii_only else "±"
    explained = [f"Values of the report split, {sign} one standard error; optimism is search minus report."]
    if any(column.optional for column in numbers) and "against" in table:
        explained.append("Against unreduced: paired difference on the report split, 95 % interval.")
    paragraphs = [line for text in [*explained, *notes(results)] for line in wrapped(one_line(text), width, "  ")]
    return "\n".join([*wrapped(_title(results, len(members)), width), "", table, "", *paragraphs])


def evenly(items: Sequence[Trial], most: int) -> list[Trial]:
    """Select at most `most` of the items: the first, the last, and evenly spaced ones between."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _title(results: Results, shown: int) -> str:
    every = len(results.reported_front)
    count = f"{shown} of {every} candidates" if shown < every else f"{every} candidate{'' if every == 1 else 's'}"
    return f"{one_line(str(results.study.get('name', 'search')))}: front, {count}"


def _numbers(results: Results, members: Sequence[Trial], baselines: Sequence[Trial]) -> list[Numbers]:
    """Columns of numbers: each objective, the optimism of qualities, and the difference to the unreduced model."""
    measured = [*(results.report.get(trial.key) for trial in members), *baselines]
    gaps = [""] * len(baselines)
    columns = [
        Numbers(
            in_words(objective.name), objective.unit, [plus_minus(estimate_of(trial, objective)) for trial in measured]
        )
        for objective in results.all_objectives
    ]
    columns += [
        Numbers(in_words(axis.name), "optimism", [*(_optimism(results, trial, axis) for trial in members), *gaps])
        for axis in objectives_with_optimism(results)
    ]
    columns += [
        Numbers(
            in_words(item.name),
            "against unreduced",
            [*(with_interval(difference(results, trial, item)) for trial in members), *gaps],
            optional=True,
        )
        for item in shown_difference(results)
    ]
    return columns


def _optimism(results: Results, member: Trial, objective: Objective) -> str:
    report: Estimate | None = estimate_of(results.report.get(member.key), objective)
    optimism = optimism_of(estimate_of(member, objective), report)
    digits = decimals(report.standard_error if report else None) or 4
    return "-" if optimism is None else f"{optimism:+.{digits}f}"
