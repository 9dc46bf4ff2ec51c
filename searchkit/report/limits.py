"""Limits on the figures of a model: parsed from text or from a study's record, and compared with measured values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from searchkit.errors import StoreError, StudyError
from searchkit.objective import Constraint, Objective
from searchkit.records import Z_95, Estimate
from searchkit.report.paired import between
from searchkit.report.results import UNREDUCED

EXAMPLE: Final = 'such as "macs <= 0.4" or "accuracy >= unreduced - 0.01"'

_KINDS: Final = ("at_most", "at_least", "within")  # kinds of constraints
_NUMBER: Final = r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?"
_LIMIT: Final = re.compile(
    rf"\s*(?P<name>\w+)\s*(?P<sense><=|>=)\s*"
    rf"(?:(?P<number>[+-]?(?:{_NUMBER}))|{UNREDUCED}(?:\s*(?P<sign>[+-])\s*(?P<shift>{_NUMBER}))?)\s*"
)


@dataclass(frozen=True)
class Limit:
    """Limit on a figure: at most (at least) a number, or the unreduced model's plus a number, in its unit."""

    name: str
    sense: Literal["<=", ">="]
    number: float
    relative: bool = False  # to the unreduced model
    by_study: bool = False

    @classmethod
    def parsed(cls, text: str) -> Limit:
        """Parse NAME <= NUMBER or NAME >= NUMBER; the number may be `unreduced`, with or without + or - another one.

        StudyError for anything else.
        """
        match = _LIMIT.fullmatch(text)
        if not match:
            raise StudyError(
                f"--where {text!r}: expected NAME <= NUMBER, NAME >= NUMBER, or unreduced + or - a number in the place "
                f"of the number, {EXAMPLE}"
            )
        number = float(match["number"] or f"{match['sign'] or ''}{match['shift'] or 0}")
        if not math.isfinite(number):
            raise StudyError(f"--where {text!r}: the number is beyond what can be computed with")
        return cls(match["name"], ">=" if match["sense"] == ">=" else "<=", number, match["number"] is None)

    def __str__(self) -> str:
        if not self.relative:
            return f"{self.name} {self.sense} {self.number:.12g}"
        shift = f" {'-' if self.number < 0 else '+'} {abs(self.number):.12g}" if self.number else ""
        return f"{self.name} {self.sense} {UNREDUCED}{shift}"

    def held(self, own: Estimate, unreduced: Estimate | None) -> Held:
        """Compare a figure with the limit; StudyError for a relative one where `unreduced` is None."""
        if not self.relative:
            low, high = own.interval or (None, None)
            return Held(self, own.value, low, high)
        if unreduced is None:
            raise StudyError(f"{self}: the unreduced model has no {self.name}")
        difference = between(own, unreduced)
        low, high = (difference.low, difference.high) if difference.low is not None else _apart(own, unreduced)
        return Held(self, difference.value, low, high)


def _apart(own: Estimate, other: Estimate) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of a difference of values that have no resamples in common."""
    if own.standard_error is None or other.standard_error is None:
        return None, None
    value, reach = own.value - other.value, Z_95 * math.hypot(own.standard_error, other.standard_error)
    return (value - reach, value + reach) if math.isfinite(reach) else (None, None)


@dataclass(frozen=True)
class Held:
    """Limit with a member's value, and its 95 % interval where that is known: of a limit that is relative to
    the unreduced model, the difference to it.
    """

    limit: Limit
    value: float
    low: float | None
    high: float | None

    @property
    def holds(self) -> bool:
        """Return whether the value is within the limit."""
        return self._room(self.value) >= 0

    @property
    def confident(self) -> bool | None:
        """Return whether the whole interval is within the limit; None where it is not known."""
        return None if self._worst is None else self._room(self._worst) >= 0

    def excess(self, confident: bool) -> float:
        """Distance beyond the limit of the value (confident: of the worse end of its interval).

        0 within the limit, inf where it is not known.
        """
        end = self._worst if confident else self.value
        return math.inf if end is None else max(0.0, -self._room(end))

    @property
    def _worst(self) -> float | None:
        return self.low if self.limit.sense == ">=" else self.high

    def _room(self, value: float) -> float:
        bound = self.limit.number
        slack = 1e-12 * max(1.0, abs(bound))  # 0.9 - 0.8 is a little less than 0.1
        return (value - bound if self.limit.sense == ">=" else bound - value) + slack

    def __str__(self) -> str:
        sign, beside = ("+", " against unreduced") if self.limit.relative else ("", "")
        value, low, high = (
            number if number is None else f"{number:{sign}.4g}" for number in (self.value, self.low, self.high)
        )
        ends = "" if low is None or high is None else f", 95 % interval {low} to {high}"
        return f"{self.limit.name} {value}{beside}{ends}"

    @property
    def verdict(self) -> str:
        if not self.holds:
            return "is broken"
        if self.confident is None:
            return "holds on the value; its interval is not known"
        return "holds on the whole interval" if self.confident else "holds on the value, not on its whole interval"


def keeps(own: Mapping[str, Estimate], limits: Sequence[Limit], unreduced: Mapping[str, Estimate]) -> bool:
    """Return whether figures are within all limits; False where one of them, or the unreduced model's, is not there."""
    return all(
        limit.name in own
        and (not limit.relative or limit.name in unreduced)
        and limit.held(own[limit.name], unreduced.get(limit.name)).holds
        for limit in limits
    )


def of_study(description: Mapping[str, Any], objectives: Sequence[Objective]) -> tuple[list[Limit], list[str]]:
    """Constraints of a study as limits, and as texts, unit included, those on quantities that no objective measures.

    description: what the run's record says of the study; StoreError where its constraints are not searchkit's.
    """
    known = {(axis.name, axis.unit) for axis in objectives}
    limits, untold = [], []
    for constraint in _constraints(description):
        objective = constraint.objective
        for limit in _limits(constraint):
            if (objective.name, objective.unit) in known:
                limits.append(limit)
            else:
                untold.append(f"{limit} ({objective.unit})")
    return limits, untold


def _constraints(description: Mapping[str, Any]) -> list[Constraint]:
    try:
        return [
            Constraint(Objective.described(constraint["objective"]), **{kind: constraint.get(kind) for kind in _KINDS})
            for constraint in description.get("constraints", ())
        ]
    except (AttributeError, KeyError, TypeError, ValueError, StudyError) as error:
        raise StoreError(f"study.json was not written by searchkit: its constraints: {error!r}") from error


def _limits(constraint: Constraint) -> Iterator[Limit]:
    objective, within = constraint.objective, constraint.within
    if constraint.at_most is not None:
        yield Limit(objective.name, "<=", constraint.at_most, by_study=True)
    if constraint.at_least is not None:
        yield Limit(objective.name, ">=", constraint.at_least, by_study=True)
    if within is not None and objective.better == "higher":
        yield Limit(objective.name, ">=", -within, relative=True, by_study=True)
    elif within is not None:
        yield Limit(objective.name, "<=", within, relative=True, by_study=True)
