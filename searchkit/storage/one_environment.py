"""Numbers of one setting: device, threads, number format, versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from searchkit.errors import StudyError, one_line
from searchkit.objective import Objective
from searchkit.records import Scalar, Trial
from searchkit.training.supernet import digest

if TYPE_CHECKING:
    from searchkit.storage.store import Store


class OneSetting:
    """A store, read once, that refuses times of another setting than those it holds: they do not compare."""

    def __init__(self, store: Store, objectives: Sequence[Objective]) -> None:
        self.store = store
        self._kept = store.appended()
        self._timed = [objective.name for objective in objectives if objective.exclusive]
        self._setting = next((one.environment for one in self.trials() if one.environment), None)

    def trials(self) -> list[Trial]:
        return sorted(self._kept, key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        return list(self._kept)

    def append(self, trial: Trial) -> None:
        before = self._setting = self._setting or trial.environment
        differs = sorted(name for name, value in trial.environment.items() if before.get(name) != value)
        if self._timed and differs:
            told = ", ".join(f"{name} was {before.get(name)} and is {trial.environment[name]}" for name in differs)
            raise StudyError(
                f"{self._timed[0]} was measured in another setting before ({told}), and times of different settings do "
                "not compare: go on as before, or start a new run; `searchkit measure` measures a finished front anew"
            )
        self.store.append(trial)
        self._kept.append(replace(trial, examples={}) if trial.examples else trial)


def common(environments: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """What all trials share; `mixed` where a run was continued under other conditions, to be read as such."""
    first = environments[0] if environments else {}
    return {
        name: value if all(other.get(name) == value for other in environments) else "mixed"
        for name, value in first.items()
    }


def fingerprint(setting: Mapping[str, Scalar]) -> str:
    """8 hex digits of what numbers depend on beside the candidate. Times of different fingerprints are not compared."""
    return digest(dict(setting))[:8]


def fingerprint_of(trial: Trial | None) -> str | None:
    """The fingerprint of what it was measured in; None where that is not known."""
    return fingerprint(trial.environment) if trial and trial.environment else None


def environments(trials: Iterable[Trial]) -> dict[str, Mapping[str, Scalar]]:
    """Fingerprint -> environment, of all that the trials were measured in, the first one first."""
    distinct = {frozenset(one.environment.items()): one.environment for one in trials if one.environment}
    return {fingerprint(one): one for one in distinct.values()}


def in_short(environment: Mapping[str, Scalar]) -> str:
    """The environment for readers: device, threads, number format, and its fingerprint."""
    name, device, threads = (environment.get(name) for name in ("device_name", "device", "threads"))
    told = [
        f"{name} ({device})" if name and device else name or device,
        f"{threads} thread{'' if threads == 1 else 's'}" if threads else None,
        environment.get("dtype"),
        f"environment {fingerprint(environment)}",
    ]
    return one_line(", ".join(str(one) for one in told if one), 150)
