"""Runs as a page shows them: their results, what they were measured in, and the rows of models to compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from searchkit.errors import one_line
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.columns import in_words, named
from searchkit.report.environment import in_short
from searchkit.report.page.words import Example
from searchkit.report.results import Results, is_timed

if TYPE_CHECKING:
    from searchkit.evaluate.layers import LayerCosts

FRONT = "front"


@dataclass(frozen=True)
class Shown:
    """Run on a page.

    folder: as commands name it; settings: results of the same front in other settings, by fingerprint (see
    `searchkit measure`); layers: work of each layer by key, of those where it is known; words: examples with the words
    that survive
    """

    results: Results
    folder: str
    settings: Mapping[str, Results] = field(default_factory=dict)
    layers: Mapping[str, LayerCosts] = field(default_factory=dict)
    words: Sequence[Example] = ()
    label: str = ""  # in the place of the study's name

    @property
    def name(self) -> str:
        return one_line(self.label or str(self.results.study.get("name", "search")), 200)

    def view(self, setting: str) -> Results | None:
        """Results in a setting; "" is the run's own."""
        return self.settings.get(setting) if setting else self.results

    @cached_property
    def _on_report(self) -> Mapping[str, Mapping[str, Trial]]:
        views = {"": self.results, **self.settings}
        return {
            setting: {trial.key: trial for trial in view.on_report} | dict(view.report)
            for setting, view in views.items()
        }

    def measured(self, key: str, setting: str = "") -> Trial | None:
        """Trial of a model on the report split in a setting."""
        return self._on_report.get(setting, {}).get(key)


def told_apart(runs: Sequence[Shown]) -> list[Shown]:
    """Runs in which those of the same name have their folder beside it."""
    names = [shown.name for shown in runs]
    return [
        replace(shown, label=f"{shown.name} in {shown.folder}") if names.count(shown.name) > 1 else shown
        for shown in runs
    ]


@dataclass(frozen=True)
class Axis:
    """Figure that models are compared in: an objective, in the run's own or another setting."""

    name: str
    unit: str
    better: str
    setting: str = ""
    where: str = ""  # the setting in words
    variant: int = 0  # counts axes of the same name and setting in other units

    @property
    def id(self) -> str:
        return f"{self.name}{f'@{self.setting}' * bool(self.setting)}{f'#{self.variant}' * bool(self.variant)}"

    @property
    def label(self) -> str:
        return f"{in_words(self.name)} ({self.unit}{', ' if self.where else ''}{self.where}, {self.better} is better)"

    @property
    def short(self) -> str:
        """Label of a tab or column."""
        unit = "" if self.unit in ("fraction", "of unreduced") else f", {self.unit}"
        return f"{in_words(self.name)}{unit}{f', setting {self.setting}' if self.setting else ''}"

    @classmethod
    def of(cls, objective: Objective, setting: str = "", where: str = "") -> Axis:
        return cls(objective.name, objective.unit, objective.better, setting, where)

    def objective(self, shown: Shown) -> Objective | None:
        """The objective in a run; None where it has no such one."""
        view = shown.view(self.setting)
        same = (each for each in (view.all_objectives if view else ()) if (each.name, each.unit) == self._identity)
        return next(same, None)

    @property
    def _identity(self) -> tuple[str, str]:
        return self.name, self.unit

    def estimate(self, shown: Shown, key: str) -> Estimate | None:
        """Value of a model on the report split."""
        trial = shown.measured(key, self.setting)
        return trial.estimates.get(self.name) if trial and self.objective(shown) else None


@dataclass(frozen=True)
class Row:
    """Model of a run: a member, with its trial on the search split if it was searched, or a baseline or rival."""

    run: int
    shown: Shown
    kind: str  # FRONT, or the family
    key: str
    name: str
    searched: Trial | None = None

    @property
    def is_member(self) -> bool:
        return self.kind == FRONT

    @property
    def trial(self) -> Trial:
        """Trial on the report split, else on the search split."""
        found = self.shown.measured(self.key) or self.searched
        assert found is not None
        return found


def axes(runs: Sequence[Shown]) -> list[Axis]:
    """Axes of all runs, those of the runs' own settings first."""
    own = {axis: None for shown in runs for axis in _of_setting(shown, "", shown.results)}
    others = {
        axis: None
        for shown in runs
        for setting, view in shown.settings.items()
        for axis in _of_setting(shown, setting, view)
    }
    counts: dict[tuple[str, str], int] = {}
    numbered = []
    for axis in (*own, *others):
        counts[axis.name, axis.setting] = variant = counts.get((axis.name, axis.setting), -1) + 1
        numbered.append(replace(axis, variant=variant))
    return numbered


def _of_setting(shown: Shown, setting: str, view: Results) -> Iterator[Axis]:
    """Axes in which some member was measured; of another setting only those whose values differ from the run's own."""
    trials = [trial for trial in view.report.values() if trial.estimates]
    for objective in view.all_objectives:
        axis = Axis.of(objective, setting, _in_words(trials, setting) if setting else "")
        known = {trial.key: trial.estimates[axis.name] for trial in trials if axis.name in trial.estimates}
        own = Axis.of(objective)
        if known and (not setting or any(_differs(own.estimate(shown, key), each) for key, each in known.items())):
            yield axis


def _differs(own: Estimate | None, other: Estimate) -> bool:
    return own is None or own.value != other.value or is_timed(other)


def _in_words(trials: Sequence[Trial], setting: str) -> str:
    """Device and number format of a setting, and its name, by which `searchkit measure` keeps it."""
    where = in_short(trials[0].environment).rpartition("environment ")[0] if trials else ""
    return f"{where}setting {setting}"


def figures(runs: Sequence[Shown], every: Sequence[Axis]) -> list[tuple[Axis, Axis]]:
    """Cost and quality of each figure: every cost in which a member was measured, with the qualities of the runs."""
    pairs = {(cost, quality_over(cost, shown, every)): None for cost in every for shown in runs}
    return [(cost, quality) for cost, quality in pairs if quality]


def quality_over(cost: Axis, shown: Shown, every: Iterable[Axis]) -> Axis | None:
    """Quality that a run is drawn with over a cost, in the same setting where it differs there; None: not at all."""
    view = shown.view(cost.setting)
    if view is None or cost.better != "lower" or not cost.objective(shown) or cost.name == view.quality.name:
        return None
    own = (view.quality.name, view.quality.unit)
    same = [axis for axis in every if (axis.name, axis.unit) == own and axis.setting in ("", cost.setting)]
    quality = max(same, key=lambda axis: axis.setting, default=None)
    measured = quality and any(cost.estimate(shown, key) and quality.estimate(shown, key) for key in view.report)
    return quality if measured else None


def rows(runs: Sequence[Shown]) -> list[Row]:
    """Members of all fronts, cheapest first, then baselines and rivals; each model of a run once."""
    found = []
    for number, shown in enumerate(runs):
        seen = set()
        for trial in shown.results.members:
            found.append(Row(number, shown, FRONT, trial.key, trial.key, trial if trial.estimates else None))
            seen.add(trial.key)
        for family, trials in shown.results.baselines.items():
            for trial in trials:
                if trial.key not in seen:
                    found.append(Row(number, shown, family, trial.key, named(family, trial.ask.candidate)))
                    seen.add(trial.key)
    return found
