"""Results of a search as records only, so that tables, plots and pages need no storage and no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from searchkit._internal.html import titled
from searchkit._internal.progress import counted
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.records import Estimate, Measured, Trial

UNREDUCED = "unreduced"
TRUNCATION = "truncation"
RANDOM_TOKENS = "random tokens"
CONSTANT_RATIO = "constant ratio"
PUBLISHED = "published search"


@dataclass(frozen=True)
class Results:
    """Results of a finished (or interrupted) search, with the measurements for its report.

    >>> import searchkit
    >>> results = searchkit.run(study)  # doctest: +SKIP
    >>> results.front.knee().ask.candidate, len(results.evaluations)  # doctest: +SKIP
    """

    study: Mapping[str, Any]  # JSON that describes it: name, fingerprint, seed, ...
    objectives: tuple[Objective, ...]  # searched
    front_objectives: tuple[Objective, ...]  # measured on the front only, on the report split: latency, usually
    trials: tuple[Trial, ...]  # on the search split, by ask number
    report: Mapping[str, Trial]  # key of a candidate -> the same candidate on the report split
    baselines: Mapping[str, tuple[Trial, ...]]  # by name, on the report split
    environment: Mapping[str, Any]
    seconds: Mapping[str, float]  # by phase: train, search, report
    duplicates: Mapping[str, int] = field(default_factory=dict)  # "search/report" -> texts in both; {} if not counted
    chances: Mapping[str, float] = field(default_factory=dict)  # by key, to be on the true front, as the search has it
    began_with: str = ""  # first candidates that came from an earlier run, as a clause; "" for none

    def _repr_html_(self) -> str:
        """Table for notebooks: the front on the search split; an opened run has the report split too."""
        counts = f"{self.study.get('name', 'search')}: {counted(len(self.evaluations), 'evaluation')}, search split"
        return titled(counts, self.front._repr_html_())

    @cached_property
    def evaluations(self) -> tuple[Trial, ...]:
        """Trials without those that a constraint turned down before the model ran."""
        return tuple(trial for trial in self.trials if trial.is_evaluation)

    @cached_property
    def measured_trials(self) -> tuple[Trial, ...]:
        """Trials on the search split in which nothing failed."""
        return tuple(trial for trial in self.trials if isinstance(trial.outcome, Measured))

    @cached_property
    def front(self) -> Front:
        """Front on the search split."""
        return Front.of(self.trials, self.objectives)

    @cached_property
    def members(self) -> tuple[Trial, ...]:
        """Candidates that a user can choose, cheapest first: on the search split, as far as they were measured there.

        Those of the front on the search split, those that luck may hide from it, and constant ratios that none of them
        dominates on the report split. All are measured on the report split.
        """
        front = {trial.key for trial in self.front}
        known = {trial.key: trial for trial in self.measured_trials if trial.key in front or trial.key in self.chances}
        measured = [ratio for ratio in self.baselines.get(CONSTANT_RATIO, ()) if estimates(ratio, self.objectives)]
        ratios = {ratio.key: ratio for ratio in measured if ratio.key in self.report}
        every = {**ratios, **known}
        ordered = sorted(every.values(), key=lambda trial: (trial.estimates[self.cost.name].value, trial.ask.number))
        return tuple(known.get(trial.key, replace(trial, outcome=Measured({}))) for trial in ordered)

    @cached_property
    def reported_front(self) -> tuple[Trial, ...]:
        """Members that no other dominates on the report split, cheapest first; all where none was measured there."""
        values = (self.report.get(trial.key) for trial in self.members)
        rows = (trial for trial in values if trial and estimates(trial, self.objectives) is not None)
        keys = {trial.key for trial in Front.of(rows, self.objectives)}
        return tuple(trial for trial in self.members if trial.key in keys or not keys)

    def chosen_as(self, key: str) -> str:
        """How a member was chosen: `front` of the search split, `maybe` on the true one, or `constant ratio`."""
        if any(trial.key == key for trial in self.front):
            return "front"
        return "maybe" if key in self.chances else CONSTANT_RATIO

    @property
    def unreduced(self) -> Trial | None:
        """Unreduced model on the report split."""
        return next(iter(self.baselines.get(UNREDUCED, ())), None)

    @cached_property
    def on_report(self) -> tuple[Trial, ...]:
        """Trials on the report split, each once: baselines and members."""
        baselines = {trial.key: trial for trials in self.baselines.values() for trial in trials}
        return tuple({**baselines, **self.report}.values())

    @property
    def all_objectives(self) -> tuple[Objective, ...]:
        """Objectives of the search, then those of the front only."""
        return (*self.objectives, *self.front_objectives)

    @property
    def measured_apart(self) -> tuple[Objective, ...]:
        """Objectives of the front only in which at least one member was measured."""
        return tuple(
            objective
            for objective in self.front_objectives
            if measured(self.report.values(), [self.quality, objective])
        )

    @property
    def quality(self) -> Objective:
        """Objective on the vertical axis of plots: the first that is better when higher, otherwise the second."""
        higher = (objective for objective in self.objectives if objective.better == "higher")
        return next(higher, self.objectives[min(1, len(self.objectives) - 1)])

    @property
    def cost(self) -> Objective:
        """Objective on the horizontal axis: the first that is better when lower, else one other than quality."""
        lower = (objective for objective in self.objectives if objective.better == "lower")
        others = (objective for objective in self.objectives if objective != self.quality)
        return next(lower, next(others, self.quality))

    def accounting(self, objective: Objective) -> str | None:
        """Accounting of a cost, where known: a ratio with the papers' padded one beside it counts no pads."""
        rows = measured([*self.front, *self.on_report], [objective])
        unpadded = any("ratio_of_padded" in row[objective.name].beside for row in rows)
        return "pads counted on neither side" if unpadded else None


def is_rival(trials: Sequence[Trial]) -> bool:
    """Return whether a family is of rivals: of other models, not of the supernet under a plan."""
    return any("rival" in trial.ask.candidate for trial in trials)


def is_other_runtime(trials: Sequence[Trial]) -> bool:
    """Return whether a family is the unreduced model in another runtime."""
    return any("runtime" in trial.ask.candidate for trial in trials)


def is_timed(estimate: Estimate) -> bool:
    """Return whether a value is a time, by what stands beside it."""
    return "settled" in estimate.beside


def estimates(trial: Trial | None, objectives: Sequence[Objective]) -> Mapping[str, Estimate] | None:
    """Estimates of a trial that was measured in all of the objectives, else None; others may have failed."""
    values = trial.estimates if trial else {}
    return values if all(objective.name in values for objective in objectives) else None


def measured(trials: Iterable[Trial | None], objectives: Sequence[Objective]) -> list[Mapping[str, Estimate]]:
    """Estimates of the trials that were measured in all of the objectives."""
    return [row for trial in trials if (row := estimates(trial, objectives)) is not None]
