"""HTML of results for notebooks."""

from __future__ import annotations

from searchkit._internal.html import line, table, titled
from searchkit.records import Candidate, Trial
from searchkit.report.columns import NAMING
from searchkit.report.gained import gained
from searchkit.report.paired import difference
from searchkit.report.results import Results
from searchkit.report.table import shown_difference, values, with_interval


def results_html(results: Results) -> str:
    """Front and baselines on the report split as a table, and what was gained."""
    against = shown_difference(results)
    headings = ["", "key", "candidate", *(f"{axis.name} ({axis.unit})" for axis in results.all_objectives)]
    headings += [f"{objective.name} against unreduced" for objective in against]

    def row(family: str, trial: Trial, measured: Trial | None) -> list[str]:
        differences = [with_interval(difference(results, trial, objective)) for objective in against]
        own = Candidate(tuple(item for item in trial.ask.candidate.items if item[0] not in NAMING))
        return [family, trial.key, own.text, *values(results, measured), *differences]

    rows = [row("front", member, results.report.get(member.key)) for member in results.members]
    rows += [row(family, trial, trial) for family, trials in results.baselines.items() for trial in trials]
    return titled(
        f"{results.study.get('name', 'search')}: {len(results.evaluations)} evaluations, values of the report split",
        table(headings, rows, texts=3),
        line("Values ± one standard error; differences are paired, with their 95 % interval."),
        *(line(each.text) for each in gained(results)),
    )
