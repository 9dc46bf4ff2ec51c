"""Records of a search: plain frozen data with conversion to and from JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from searchkit._internal.checks import json_count, json_number, json_number_or_none, json_numbers, json_of
from searchkit._internal.plain_texts import lettered

Scalar = int | float | str | bool | None
Value = Scalar | tuple[Scalar, ...]

Z_95: Final = 1.959963984540054  # standard errors to either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Candidate:
    """Candidate: a point of the space in user terms, dimension name -> value, names sorted, values in canonical form.

    Build it with `Candidate.of(lengths=(1.0, 0.5))`. Two candidates that run the same computation have the same `key`,
    because a space only hands out canonical candidates.

    >>> from searchkit import Candidate
    >>> candidate = Candidate.of(lengths=(1.0, 0.5))
    >>> candidate["lengths"], candidate.to_json()
    ((1.0, 0.5), {'lengths': [1.0, 0.5]})
    >>> candidate.key == Candidate.of({"lengths": [1.0, 0.5]}).key
    True
    """

    items: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, values: Mapping[str, Any] | None = None, /, **named: Any) -> Candidate:
        every = {**(values or {}), **named}
        return cls(tuple((name, _frozen(every[name])) for name in sorted(every)))

    def __getitem__(self, name: str) -> Value:
        for own, value in self.items:
            if own == name:
                return value
        raise KeyError(f"the candidate has no {name!r}, only {[own for own, _ in self.items]}")

    def __contains__(self, name: str) -> bool:
        return any(own == name for own, _ in self.items)

    @cached_property
    def key(self) -> str:
        """16 hex digits, the same in every process and on every machine, which no spreadsheet takes for a number."""
        return lettered(self.former_key)

    @property
    def former_key(self) -> str:
        """The key in records from before keys were never digits alone, or such as 8e64310212345678."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def text(self) -> str:
        """Text such as `lengths 1.0 0.5`."""
        values = ((name, value if isinstance(value, tuple) else (value,)) for name, value in self.items)
        return ", ".join(f"{name} {' '.join(map(str, own))}" for name, own in values)

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.items}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        return cls.of(data)


def _frozen(value: Any) -> Value:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(_frozen_scalar, value))
    return _frozen_scalar(value)


def _frozen_scalar(value: Any) -> Scalar:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(f"a candidate holds finite numbers, strings, booleans and None, got {value!r}")


@dataclass(frozen=True)
class Estimate:
    """A measured value with its standard error and the number of examples (or repeats) behind it.

    `standard_error` is None where it is not known. `beside` holds figures that explain the value (another accounting, a
    quantile, an absolute number), by a name that carries the unit. `low` and `high` are the ends of a 95 % interval,
    None where it is not known. `resamples` are the values on resamples of the examples, number r of one candidate on
    the same examples as number r of another; None where the value is not defined.

    >>> from searchkit import Estimate
    >>> Estimate(0.9, 0.01, 900).value
    0.9
    """

    value: float
    standard_error: float | None
    n: int
    beside: Mapping[str, float] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    resamples: tuple[float | None, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise ValueError(f"an interval has both ends or none, got {self.low=}, {self.high=}")
        if self.low is not None and self.high is not None and not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"an interval's ends are finite and in order, got {self.low=}, {self.high=}")

    @classmethod
    def of_fraction(cls, correct: Iterable[bool]) -> Estimate:
        """Estimate a share of True, with binomial standard error sqrt(p (1 - p) / n) and 95 % interval by Wilson."""
        outcomes = [bool(item) for item in correct]
        if not outcomes:
            raise ValueError("a fraction needs at least one outcome, got none")
        n, right = len(outcomes), sum(outcomes)
        share = right / n
        low, high = wilson(right, n)
        return cls(share, math.sqrt(share * (1 - share) / n), n, low=low, high=high)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval: as it was measured, or else 1.96 standard errors to either side."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        if self.standard_error is None or not math.isfinite(self.standard_error):
            return None
        return self.value - Z_95 * self.standard_error, self.value + Z_95 * self.standard_error

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"value": self.value, "standard_error": self.standard_error, "n": self.n}
        if self.low is not None:
            data |= {"low": self.low, "high": self.high}
        if self.beside:
            data["beside"] = dict(self.beside)
        if self.resamples:
            data["resamples"] = list(self.resamples)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Estimate:
        """Read the record; TypeError, KeyError or ValueError for anything else, as in all `from_json` here."""
        json_of(data, dict)
        beside, resamples = json_of(data.get("beside", {}), dict), json_of(data.get("resamples", []), list)
        return cls(
            json_number(data["value"]),
            json_number_or_none(data["standard_error"]),
            json_count(data["n"]),
            {name: json_number(figure) for name, figure in beside.items()},
            json_number_or_none(data.get("low")),
            json_number_or_none(data.get("high")),
            tuple(json_number_or_none(value) for value in resamples),
        )


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `right` in n (E. B. Wilson, JASA 1927): never empty, never beyond 0 and 1."""
    z2 = Z_95**2
    middle = (right + z2 / 2) / (n + z2)
    reach = Z_95 / (n + z2) * math.sqrt(right * (n - right) / n + z2 / 4)
    return (0.0 if right == 0 else middle - reach), (1.0 if right == n else middle + reach)


@dataclass(frozen=True)
class Ask:
    """A numbered candidate; numbers count the asks of one engine from 0.

    >>> from searchkit import Ask, Candidate
    >>> Ask(0, Candidate.of(lengths=(1.0, 0.5))).number
    0
    """

    number: int
    candidate: Candidate

    @property
    def key(self) -> str:
        return self.candidate.key


@dataclass(frozen=True)
class Measured:
    """Outcome of a measured candidate: objective name -> estimate, every value finite.

    excess: constrained objective -> how far beyond its limit, in its unit; 0 or less within it

    >>> from searchkit import Estimate, Measured
    >>> Measured({"accuracy": Estimate(0.9, 0.01, 900)}).estimates["accuracy"].n
    900
    """

    estimates: Mapping[str, Estimate]
    excess: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, estimate in self.estimates.items():
            if not math.isfinite(estimate.value):
                raise ValueError(f"a measured value is finite, got {name}={estimate.value}")

    def to_json(self) -> dict[str, Any]:
        estimates = {name: estimate.to_json() for name, estimate in self.estimates.items()}
        return {"estimates": estimates, **({"excess": dict(self.excess)} if self.excess else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        estimates = {name: Estimate.from_json(item) for name, item in json_of(data["estimates"], dict).items()}
        return cls(estimates, json_numbers(data.get("excess", {})))


@dataclass(frozen=True)
class Pruned:
    """Outcome of a candidate that was stopped: the reason, and the examples seen; 0 where the model never ran.

    excess: the constrained objective whose limit it breaks -> how far beyond, in its unit; none where it lost a race
    seen: objective -> estimate on the examples that were seen; none where the model never ran

    >>> from searchkit import Pruned
    >>> Pruned("macs is 0.7, at most 0.5 is allowed", 0).examples
    0
    """

    why: str
    examples: int
    excess: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"why": self.why, "examples": self.examples}
        if self.excess:
            data["excess"] = dict(self.excess)
        if self.seen:
            data["seen"] = {name: estimate.to_json() for name, estimate in self.seen.items()}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pruned:
        seen = {name: Estimate.from_json(item) for name, item in json_of(data.get("seen", {}), dict).items()}
        return cls(json_of(data["why"], str), json_count(data["examples"]), json_numbers(data.get("excess", {})), seen)


@dataclass(frozen=True)
class Failed:
    """Outcome of a candidate that, or an objective of which, could not be measured.

    kind: one of exception, nan, out-of-memory, timeout, worker-died; reasons: objective -> why it failed, empty where
    the candidate itself did; estimates: the values of the other objectives, which are as good as a measured trial's

    >>> from searchkit import Failed
    >>> Failed("nan", "objective 'loss' is nan").kind
    'nan'
    """

    kind: str
    message: str
    trace: str = ""
    attempts: int = 1
    reasons: Mapping[str, str] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"kind": self.kind, "message": self.message, "trace": self.trace}
        if self.attempts != 1:
            data["attempts"] = self.attempts
        if self.reasons:
            data["reasons"] = dict(self.reasons)
        if self.estimates:
            data["estimates"] = {name: estimate.to_json() for name, estimate in self.estimates.items()}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failed:
        kind, message, trace = (json_of(text, str) for text in (data["kind"], data["message"], data.get("trace", "")))
        reasons = {name: json_of(reason, str) for name, reason in json_of(data.get("reasons", {}), dict).items()}
        estimates = {name: Estimate.from_json(item) for name, item in json_of(data.get("estimates", {}), dict).items()}
        return cls(kind, message, trace, json_count(data.get("attempts", 1)), reasons, estimates)


Outcome = Measured | Pruned | Failed
OUTCOMES: Final[dict[str, type[Measured] | type[Pruned] | type[Failed]]] = {
    "measured": Measured,
    "pruned": Pruned,
    "failed": Failed,
}


@dataclass(frozen=True)
class Trial:
    """An ask with its outcome, the seconds it took, and the environment it was measured in (device, dtype, ...).

    examples: objective -> what its value is made of, where racing needs it; outputs: what the model predicted, where
    that is kept. Neither is stored with the trial, since it can be measured again

    >>> from searchkit import Ask, Candidate, Failed, Trial
    >>> trial = Trial(Ask(0, Candidate.of(lengths=(0.5,))), Failed("timeout", "took more than 900 s"), 900.0)
    >>> trial.status, Trial.from_json(trial.to_json()) == trial
    ('failed', True)
    """

    ask: Ask
    outcome: Outcome
    seconds: float
    environment: Mapping[str, Scalar] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    outputs: Any = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        return self.ask.key

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """Objective -> estimate; where some objectives failed, those of the others."""
        return {} if isinstance(self.outcome, Pruned) else self.outcome.estimates

    @property
    def is_evaluation(self) -> bool:
        """Return whether the trial counts: False where a constraint turned the candidate down before the model ran."""
        return not (isinstance(self.outcome, Pruned) and self.outcome.examples == 0)

    @property
    def status(self) -> str:
        return next(name for name, kind in OUTCOMES.items() if isinstance(self.outcome, kind))

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.ask.number,
            "candidate": self.ask.candidate.to_json(),
            "status": self.status,
            "outcome": self.outcome.to_json(),
            "seconds": self.seconds,
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        ask = Ask(json_count(data["number"]), Candidate.from_json(json_of(data["candidate"], dict)))
        outcome = OUTCOMES[data["status"]].from_json(json_of(data["outcome"], dict))
        environment = {name: _frozen_scalar(value) for name, value in json_of(data["environment"], dict).items()}
        return cls(ask, outcome, json_number(data["seconds"]), environment)
