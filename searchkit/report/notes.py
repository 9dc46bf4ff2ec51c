"""Notes on a report: where the search began, verdicts on baselines, values that are missing, busy machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from searchkit.errors import QUOTED, one_line
from searchkit.front import rejections
from searchkit.objective import Objective
from searchkit.records import Estimate, Failed, Pruned, Trial
from searchkit.report.advice import advice
from searchkit.report.columns import in_words
from searchkit.report.gained import gained
from searchkit.report.results import Results, estimates, is_timed, measured
from searchkit.report.verdict import sentences


def notes(results: Results) -> list[str]:
    """Sentences on where the search began, on the verdicts on baselines, on what to change where little was saved, on
    values that could not be measured, on inexact times, and last on what was gained.
    """
    began = [f"The search began with {results.began_with}."] if results.began_with else []
    compared = sentences(results) if results.members else [empty_front(results.trials)]
    gains = [each.text for each in gained(results)]
    return [*began, *compared, *advice(results), *unmeasured(results), *timing_notes(results), *gains]


def empty_front(trials: Sequence[Trial]) -> str:
    """Explanation of an empty front: the constraints that turned candidates down, the nearest one, and the failures."""
    failed = [trial for trial in trials if isinstance(trial.outcome, Failed)]
    reasons = [f"turned down {rejection}" for rejection in rejections(trials)]
    reasons += [f"failed: {_reasons(failed, ())}"] if failed else []
    return f"No candidate is on the front. Of {len(trials)}: {'; '.join(reasons) or 'none was measured'}."


def unmeasured(results: Results) -> list[str]:
    """Sentences on members of the front, and baselines of each family, without values on the report split."""
    objectives = results.all_objectives
    members = [results.report.get(trial.key) for trial in results.members]
    groups = {"members of the front": members, **{f"baselines ({name})": of for name, of in results.baselines.items()}}
    return [line for group, trials in groups.items() for line in lost(filter(None, trials), objectives, group)]


def lost(trials: Iterable[Trial], objectives: Sequence[Objective], group: str = "candidates") -> list[str]:
    """Sentence where some of the trials lack values on the report split: how many, and the reasons."""
    every = list(trials)
    without = [trial for trial in every if estimates(trial, objectives) is None]
    if not without:
        return []
    return [
        f"Not measured on the report split: {len(without)} of {len(every)} {group}: {_reasons(without, objectives)}."
    ]


def _reasons(trials: Iterable[Trial], objectives: Sequence[Objective]) -> str:
    """Reasons with their counts, the most frequent first; at most two."""
    counts: dict[str, int] = {}
    for trial in trials:
        reason = _reason(trial, objectives)
        counts[reason] = counts.get(reason, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = "; ".join(f"{count} x {reason}" for reason, count in ordered[:2])
    return f"{shown}; and {len(ordered) - 2} other reasons" if len(ordered) > 2 else shown


def _reason(trial: Trial, objectives: Sequence[Objective]) -> str:
    match trial.outcome:
        case Failed(kind, message):
            return f"{kind}: {one_line(message, QUOTED)}"
        case Pruned(why):
            return one_line(why, QUOTED)
        case _:
            missing = [objective.name for objective in objectives if objective.name not in trial.outcome.estimates]
            return f"without {', '.join(missing)}"


def timing_notes(results: Results) -> list[str]:
    """Sentences for each objective and split whose values were timed on a busy machine, or less exactly than asked
    for."""
    objectives = results.all_objectives
    searched = [timing_note(objective, results.trials, "search split") for objective in results.objectives]
    reported = [timing_note(axis, results.on_report, "report split") for axis in objectives]
    return [note for note in (*searched, *reported) if note]


def timing_note(objective: Objective, trials: Iterable[Trial], split: str) -> str | None:
    """Sentence on `objective`; None where every value was timed as exactly as asked for, or nothing was timed."""
    timed_values = [row[objective.name] for row in measured(trials, [objective])]
    timed = list(filter(is_timed, timed_values))
    busy, wide = sum(map(contended, timed)), sum(not settled(estimate) for estimate in timed)
    if not busy and not wide:
        return None
    of = f"{in_words(objective.name).capitalize()} on the {split}, {len(timed)} values timed"
    wider = f"{wide} have wider intervals than asked for" if wide else ""
    if not busy:
        return f"{of}: {wider}, since the time for it was spent."
    why = f"{busy} while the machine was busy with something else"
    return f"{of}: {why}{f', {wider}' if wider else ''}; `searchkit measure` on an idle machine times the front again."


def timing_flaw(estimate: Estimate) -> str | None:
    """Flaw in the timing of one value; None where there is none, or nothing was timed."""
    if contended(estimate):
        return "timed while the machine was busy; `searchkit measure` on an idle machine times it again"
    return None if settled(estimate) else "its interval is wider than asked for, since the time for it was spent"


def contended(estimate: Estimate) -> bool:
    """Return whether other processes kept the machine busy: too few rounds were undisturbed, so all are used."""
    return bool(estimate.beside.get("contended", 0.0))


def settled(estimate: Estimate) -> bool:
    """Return whether the interval is as narrow as asked for; True for what is not timed."""
    return bool(estimate.beside.get("settled", 1.0))
