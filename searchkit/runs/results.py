"""Results of a run: gathered from its records, and written into its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from searchkit._internal.code import digest
from searchkit._internal.progress import Stopwatch
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.records import Candidate, Trial
from searchkit.report.adopted import with_ratios
from searchkit.report.environment import common
from searchkit.report.results import Results
from searchkit.runs.folder import Folder
from searchkit.runs.offered import OFFERED
from searchkit.runs.offered import read as read_offered
from searchkit.runs.warm_start import WARM_START, WarmStart

PHASES: Final = ("train", "search", "report")
DUPLICATES: Final = "duplicates"  # the note in the store of a search


def gathered(
    folder: Folder,
    description: Mapping[str, Any],
    objectives: tuple[tuple[Objective, ...], tuple[Objective, ...]],
    baselines: Mapping[str, Sequence[Candidate]],
    trials: Sequence[Trial],
    measured: Mapping[str, Trial],
    notes: Mapping[str, Any],
) -> Results:
    """Gather results; objectives: those searched, those of the front only; measured: by key, on the report split.

    notes: of the search's store
    """
    start = WarmStart.from_note(notes.get(WARM_START))
    chances = read_offered(notes.get(OFFERED), len(trials)) or {}
    members = [member.key for member in Front.of(trials, objectives[0]).members]
    members += [key for key in chances if key not in members]
    results = Results(
        study={"fingerprint": digest(description), **description},
        objectives=objectives[0],
        front_objectives=objectives[1],
        trials=tuple(trials),
        report={key: measured[key] for key in members},
        baselines={name: tuple(measured[candidate.key] for candidate in family) for name, family in baselines.items()},
        environment=common([trial.environment for trial in trials if trial.environment]),
        seconds={phase: Stopwatch(folder.seconds(phase)).before for phase in PHASES},
        duplicates=counts(notes.get(DUPLICATES)) or {},
        chances=chances,
        began_with="" if start is None else str(start),
    )
    return with_ratios(results)


def write(results: Results, folder: Folder) -> None:
    """Write tables, summary, text and figures."""
    from searchkit.report import table, text

    table.write(results, folder.path)
    text.write(results, folder.path)
    draw(results, folder)


def draw(results: Results, folder: Folder) -> None:
    """Draw the figures."""
    from searchkit.report.figures.saved import of_run

    of_run(results, folder.path)


def counts(note: Any) -> dict[str, int] | None:
    """Read the note on shared texts; None for anything else."""
    written = isinstance(note, dict) and all(type(count) is int for count in note.values())
    return note if written else None
