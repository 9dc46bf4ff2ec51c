"""Report as Markdown: the verdicts on the baselines, the front, the baselines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from searchkit._internal.files import replace_whole
from searchkit.errors import one_line
from searchkit.records import Candidate, Trial
from searchkit.report.columns import in_words, named, short
from searchkit.report.notes import notes
from searchkit.report.paired import difference, front_probabilities
from searchkit.report.results import Results
from searchkit.report.table import shown_difference, values, with_interval


def write(results: Results, folder: Path) -> None:
    """Write report.md to the folder; StoreError if unwritable."""
    replace_whole(folder / "report.md", markdown(results).encode())


def markdown(results: Results) -> str:
    """Make the Markdown text; values are those of the report split."""
    objectives = [f"{in_words(objective.name)} ({objective.unit})" for objective in results.all_objectives]
    chances = front_probabilities(results)
    front = [_member(results, trial, chances) for trial in results.reported_front]
    differences = [f"{in_words(axis.name)} against unreduced" for axis in shown_difference(results)]
    baselines = [
        [*values(results, trial), named(family, trial.ask.candidate)]
        for family, trials in results.baselines.items()
        for trial in trials
    ]
    parts = [
        f"# {_escaped(str(results.study.get('name', 'search')))}",
        f"{len(results.reported_front)} candidates are on the front of the report split, of {len(results.members)} "
        f"that {len(results.evaluations)} evaluations on the search split offered. Every value below is of the report "
        "split, with one standard error. Differences to the unreduced model are paired, with a 95 % interval; the "
        "chance to be on the front is that on the report split. A member was chosen as one of the search split's "
        "front, as one that luck with its examples may have hidden (maybe), or as a constant ratio that no other "
        "dominates.",
        *map(_escaped, notes(results)),
        "![quality over cost](pareto.png)",
        *(f"![quality over {in_words(item.name)}](pareto_{item.name}.png)" for item in results.measured_apart),
        "## Front",
        _table([*objectives, *differences, *(["on the front"] if chances else []), "chosen as", "candidate"], front),
        "## Baselines",
        _table([*objectives, "baseline"], baselines),
    ]
    return "\n\n".join(parts) + "\n"


def _member(results: Results, trial: Trial, chances: Mapping[str, float]) -> list[str]:
    """Row of a member; `chances` to be on the front have a column where they are known."""
    return [
        *values(results, results.report.get(trial.key)),
        *(with_interval(difference(results, trial, objective)) for objective in shown_difference(results)),
        *([f"{100 * chances[trial.key]:.0f} %" if trial.key in chances else "-"] if chances else []),
        results.chosen_as(trial.key),
        _candidate(trial.ask.candidate),
    ]


def _candidate(candidate: Candidate) -> str:
    return ", ".join(f"{in_words(name)} {short(candidate, name)}" for name, _ in candidate.items)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, cells))} |" for cells in lines)


def _escaped(text: str) -> str:
    """Escape marks of Markdown and HTML, on one line."""
    plain = " ".join(one_line(text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in plain)
