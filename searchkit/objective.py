"""What a search optimises: a name, a unit, a direction, and how it is measured on a subject."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from searchkit._checks import check_fields
from searchkit.errors import StudyError
from searchkit.records import Candidate, Estimate, Pruned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from searchkit.evaluate.subject import Subject


@dataclass(frozen=True)
class Objective:
    """One axis of the front.

    `measure` takes a `Subject` (the supernet under one plan, on one split) and returns an `Estimate` in `unit`. An
    `exclusive` objective is timed: nothing else of searchkit runs on the device while it is measured. `examples` gives
    what the value is made of, for racing: for each example (question) a quality in [0, 1] whose mean is the value, or
    for each example a cost of 0 or more; None where the value is not a sum over examples. `traced`: it looks at the
    subject's trace and at no output of the model, so that a plan of lengths alone has its cost before any pass.
    `together` measures several subjects of one bench in one go, for timed objectives whose candidates take turns.
    `with_batch` gives the objective for another `batch_size` or `length`, where it depends on these. `calibrate` finds,
    once per run, a table (JSON) that `measure` looks up under the objective's name in `subject.bench.tables`; `final`
    takes its place on the report split, under the same name.
    `resample` takes a subject and (R, U) numbers of units (examples; questions where the data has answers), drawn with
    repetition, and returns the (R,) values of the objective on them, nan where it is not defined: from these come
    paired differences and the chance to be on the front.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    measure: Callable[[Subject], Estimate]
    exclusive: bool = False
    examples: Callable[[Subject], NDArray[np.float64]] | None = None
    traced: bool = False
    together: Callable[[Sequence[Subject]], list[Estimate]] | None = None
    with_batch: Callable[..., Objective] | None = None
    calibrate: Callable[[Any, Sequence[Candidate]], Mapping[str, Any]] | None = None
    final: Objective | None = None
    resample: Callable[[Subject, NDArray[np.int64]], NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not callable(self.measure):
            raise StudyError(f"Objective: measure is a function of a subject, got {self.measure!r}")
        if self.better not in ("higher", "lower"):
            raise ValueError(f"better must be 'higher' or 'lower', got {self.better=}")
        if not self.name.isidentifier():
            raise ValueError(f"an objective's name must be an identifier, got {self.name=}")

    def describe(self) -> dict[str, str]:
        """What identifies the objective in a fingerprint."""
        return {"name": self.name, "unit": self.unit, "better": self.better}

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> Objective:
        """The objective of a record, to read trials by; it cannot measure."""

        def unmeasurable(subject: object) -> Estimate:
            raise StudyError("objectives of a stored run cannot measure; load the study file")

        return cls(description["name"], description["unit"], description["better"], unmeasurable)


@dataclass(frozen=True)
class Constraint:
    """A limit on an objective, in its unit: candidates beyond it are no choice, whatever else they are good at.

    `within`: at most this much worse than the unreduced model on the same split, whichever direction is worse.

    Where the plan alone decides (a `traced` objective, lengths without thresholds), a candidate is turned down before
    the model sees it, and costs the budget nothing; others are left out of the front once they are measured.
    """

    objective: Objective
    at_most: float | None = None
    at_least: float | None = None
    within: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        name, limits = self.objective.name, (self.at_most, self.at_least, self.within)
        if all(limit is None for limit in limits):
            raise StudyError(f"the constraint on {name!r} needs at_most or at_least, or within")
        if not all(math.isfinite(limit) for limit in limits if limit is not None):
            raise StudyError(
                f"the constraint on {name!r} must be finite, got {self.at_most=}, {self.at_least=}, {self.within=}"
            )
        if self.within is not None and (self.at_most is not None or self.at_least is not None):
            raise StudyError(
                f"the constraint on {name!r} takes within alone: for {self.at_most=}, {self.at_least=} "
                "add another Constraint"
            )
        if self.within is not None and self.within < 0:
            raise StudyError(f"the constraint on {name!r} must not be negative, got {self.within=}")
        if self.within is not None and self.objective.exclusive:
            raise StudyError(f"{name!r} is timed: give at_most or at_least; within is for what a pass alone tells")
        if self.at_most is not None and self.at_least is not None and self.at_least > self.at_most:
            raise StudyError(f"the constraint on {name!r} allows nothing, got {self.at_least=} > {self.at_most=}")

    def against(self, unreduced: float) -> Constraint:
        """The same limit as a number, `unreduced` being the value of the model with nothing dropped."""
        if self.within is None:
            return self
        if not math.isfinite(unreduced):
            raise StudyError(f"{self.objective.name} is {unreduced} for the unreduced model: nothing can be within it")
        slack = 1e-12 * max(1.0, abs(unreduced))  # 0.9 - 0.1 is a little more than 0.8
        if self.objective.better == "higher":
            return Constraint(self.objective, at_least=unreduced - self.within - slack)
        return Constraint(self.objective, at_most=unreduced + self.within + slack)

    def verdict(self, value: float, examples: int) -> Pruned | None:
        """Why a candidate with this value is no choice; None if it is within the limits."""
        why = self.broken_by(value)
        return Pruned(why, examples, {self.objective.name: self.excess(value)}) if why else None

    def broken_by(self, value: float) -> str | None:
        """What is wrong with this value of the objective; None if it is within the limits."""
        if self.within is not None:
            raise ValueError(f"what is {self.within=} depends on the unreduced model: ask `against(...)` it")
        if self.at_most is not None and value > self.at_most:
            return f"{self.objective.name} is {value:.4g}, at most {self.at_most:g} is allowed"
        if self.at_least is not None and value < self.at_least:
            return f"{self.objective.name} is {value:.4g}, at least {self.at_least:g} is asked for"
        return None

    def excess(self, value: float) -> float:
        """How far beyond its limits the value is, in the objective's unit; 0 or less within them."""
        above = -math.inf if self.at_most is None else value - self.at_most
        below = -math.inf if self.at_least is None else self.at_least - value
        return max(above, below)

    def describe(self) -> dict[str, Any]:
        """What identifies the constraint in a fingerprint."""
        limits = {"at_most": self.at_most, "at_least": self.at_least}
        relative = {} if self.within is None else {"within": self.within}
        return {"objective": self.objective.describe(), **limits, **relative}
