"""Stores of times from one environment: device, threads, number format, versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Trial

if TYPE_CHECKING:
    from searchkit.storage.store import Store


class OneSetting:
    """Store, read once, that refuses times of another setting than those it holds, since they do not compare."""

    def __init__(self, store: Store, objectives: Sequence[Objective]) -> None:
        self.store = store
        self._kept = store.appended()
        self._timed = [objective.name for objective in objectives if objective.exclusive]
        self._setting = next((trial.environment for trial in self.trials() if trial.environment), None)

    def trials(self) -> list[Trial]:
        return sorted(self._kept, key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        return list(self._kept)

    def append(self, trial: Trial) -> None:
        before = self._setting = self._setting or trial.environment
        now = trial.environment
        differs = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        if self._timed and differs:
            changes = ", ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in differs)
            raise StudyError(
                f"{self._timed[0]} was measured in another setting before ({changes}), and times of "
                "different settings do not compare: go on as before, or start a new run; "
                "`searchkit measure` measures a finished front anew"
            )
        self.store.append(trial)
        self._kept.append(replace(trial, examples={}, outputs=None))
