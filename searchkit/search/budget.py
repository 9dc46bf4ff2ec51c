"""The budget of a search, and the account of how much of it is spent."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchkit.errors import StudyError
from searchkit.front import Array, hypervolume, losses, nondominated, reference_point
from searchkit.objective import Objective
from searchkit.records import Ask, Failed, Measured, Trial
from searchkit.search.failures import grouped

FEWEST: Final = 20  # evaluations before their failures are judged
HOUR_S: Final = 3600.0
ENDED: Final = "ended"  # the note beside the trials that says what ended the search


@dataclass(frozen=True)
class Plateau:
    """Stopping criterion: over the last `evaluations` the hypervolume grew by less than the share `gain`.

    The reference point never moves: the worst of the first `evaluations` in every objective, plus 1 % of the range.

    >>> from searchkit import Plateau
    >>> print(Plateau(evaluations=200, gain=0.001))
    the hypervolume grew by less than 0.1 % over 200 evaluations
    """

    evaluations: int = 200
    gain: float = 0.001

    def __post_init__(self) -> None:
        _positive_integer("plateau: evaluations", self.evaluations)
        if not (_is_number(self.gain) and 0 < self.gain < 1):
            raise StudyError(f"plateau: gain is a share between 0 and 1, got {self.gain!r}")

    def __str__(self) -> str:
        return f"the hypervolume grew by less than {100 * self.gain:g} % over {self.evaluations} evaluations"


@dataclass(frozen=True)
class Budget:
    """Limits of a search, which ends with the first that is reached; a larger budget continues it seamlessly.

    evaluations: distinct candidates; hours: of the search by the clock, interruptions not counted; worker_hours: what
    the evaluations took, summed over workers; plateau: the front stands still; gain: the engine expects no candidate
    that is left to add more than this share to the hypervolume (`Surrogate` alone expects anything)

    >>> from searchkit import Budget
    >>> print(Budget(evaluations=600, hours=8))
    600 evaluations or 8 hours
    """

    evaluations: int
    hours: float | None = None
    worker_hours: float | None = None
    plateau: Plateau | None = None
    gain: float | None = None

    def __post_init__(self) -> None:
        _positive_integer("budget: evaluations", self.evaluations)
        if self.gain is not None and not (_is_number(self.gain) and 0 < self.gain < 1):
            raise StudyError(f"budget: gain is a share between 0 and 1, or None, got {self.gain!r}")
        for name in ("hours", "worker_hours"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise StudyError(f"budget: {name} must be more than 0, or None, got {value!r}")
        if not isinstance(self.plateau, Plateau | None):
            raise StudyError(f"budget: plateau is a Plateau(evaluations=..., gain=...) or None, got {self.plateau!r}")

    def __str__(self) -> str:
        limits = [f"{self.evaluations} evaluations"]
        limits += [f"{self.hours:g} hours"] if self.hours else []
        limits += [f"{self.worker_hours:g} worker-hours"] if self.worker_hours else []
        limits += [f"a plateau ({self.plateau})"] if self.plateau else []
        limits += [self.little_left] if self.gain else []
        return " or ".join(limits)

    @property
    def little_left(self) -> str:
        """The limit `gain` as a clause."""
        return f"no candidate is expected to add {100 * (self.gain or 0):g} % to the hypervolume"


class Account:
    """Evaluations and time that a search has spent, and its failures.

    stored: earlier trials in the order of their tells, which is that of their asks unless the engine is steady;
    generation: how many are told at once, 1 where the engine is steady; seconds: of the search so far, by the clock
    """

    def __init__(
        self,
        budget: Budget,
        objectives: Sequence[Objective],
        stored: Sequence[Trial] = (),
        *,
        generation: int = 1,
        max_failures: float = 1.0,
        seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._budget, self._seconds, self._max_failures = budget, seconds, max_failures
        self._curve = _Curve(budget.plateau, objectives) if budget.plateau else None
        self._exhausted = self._flat = self._little_left = False
        self._failed: list[Trial] = []
        self._worker_s = 0.0
        self.evaluations = 0
        for trial in stored:
            self.add(trial)
        whole = len(stored) if generation == 1 else _unbroken(stored) // generation * generation
        for start in range(0, whole, generation):
            self.judge_plateau(stored[start : start + generation])

    def add(self, trial: Trial) -> None:
        """Count a stored trial, in any order."""
        self.evaluations += trial.is_evaluation
        self._worker_s += trial.seconds
        if isinstance(trial.outcome, Failed):
            self._failed.append(trial)

    def judge_plateau(self, trials: Sequence[Trial]) -> None:
        """Judge the plateau, after the engine was told these trials in this order; a search that was killed in between
        judges at the same places."""
        if self._curve:
            for trial in trials:
                self._curve.add(trial)
            self._flat = self._flat or self._curve.is_flat

    def judge_gain(self, engine: object, fresh: Sequence[Ask]) -> None:
        """Judge what the engine expects of the candidates that it has just asked for, where some of them are new and it
        expects anything."""
        expected = getattr(engine, "expected_gain", None)
        if fresh and self._budget.gain is not None and expected is not None:
            self._little_left = self._little_left or expected < self._budget.gain

    def exhausted(self) -> None:
        """Record that no candidate is left, which ends the search."""
        self._exhausted = True

    @property
    def left(self) -> int:
        """Evaluations that may still be made."""
        return max(0, self._budget.evaluations - self.evaluations)

    @property
    def ended(self) -> str | None:
        """Limit that ended the search, as a clause; None while it goes on."""
        budget = self._budget
        if not self.left:
            return f"{budget.evaluations} evaluations are made"
        if self._exhausted:
            return "every candidate of the space is tried"
        if self._flat and budget.plateau:
            return str(budget.plateau)
        if self._little_left:
            return budget.little_left
        if budget.worker_hours is not None and self._worker_s >= HOUR_S * budget.worker_hours:
            return f"{budget.worker_hours:g} worker-hours are spent"
        if budget.hours is not None and self._seconds() >= HOUR_S * budget.hours:
            return f"{budget.hours:g} hours are spent"
        return None

    def refuse_failures(self) -> None:
        """Raise StudyError where more evaluations failed than the study allows."""
        failed = len(self._failed)
        if self.evaluations >= FEWEST and failed > self._max_failures * self.evaluations:
            most = "; ".join(map(str, grouped(self._failed)[:3]))
            raise StudyError(
                f"{failed} of {self.evaluations} evaluations failed, more than max_failures={self._max_failures:g} "
                f"allows: {most}"
            )


class _Curve:
    """Hypervolume after each of the last evaluations, within a reference point that the first ones fix."""

    def __init__(self, plateau: Plateau, objectives: Sequence[Objective]) -> None:
        self._plateau, self._objectives = plateau, tuple(objectives)
        self._first: list[Array] = []  # (0 or 1, M) each, until the reference point is known
        self._reference: Array | None = None
        self._front = np.empty((0, len(self._objectives)))
        self._volumes: deque[float] = deque(maxlen=plateau.evaluations + 1)

    def add(self, trial: Trial) -> None:
        if not trial.is_evaluation:
            return
        estimates = [trial.outcome.estimates] if isinstance(trial.outcome, Measured) else []
        row = losses(estimates, self._objectives)
        if self._reference is not None:
            self._enter(row)
            return
        self._first.append(row)
        rows = np.concatenate(self._first)
        if len(self._first) >= self._plateau.evaluations and len(rows):
            self._reference = reference_point(rows)
            for row in self._first:
                self._enter(row)
            self._first = []

    @property
    def is_flat(self) -> bool:
        if len(self._volumes) <= self._plateau.evaluations:
            return False
        return self._volumes[-1] - self._volumes[0] < self._plateau.gain * self._volumes[0]

    def _enter(self, row: Array) -> None:
        volume = self._volumes[-1] if self._volumes else 0.0
        if len(row) and not (self._front <= row).all(axis=1).any():
            front = np.concatenate([self._front, row])
            self._front = front[nondominated(front)]
            assert self._reference is not None
            volume = hypervolume(self._front, self._reference)
        self._volumes.append(volume)


def _unbroken(stored: Sequence[Trial]) -> int:
    """Number of asks, without gap from number 0 on, that have their trial."""
    return next((index for index, trial in enumerate(stored) if trial.ask.number != index), len(stored))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive_integer(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise StudyError(f"{name} must be a whole number of at least 1, got {value!r}")
