"""Objectives and constraints of a search, and the protocol of the subjects that objectives measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from searchkit._internal.checks import check_fields
from searchkit.errors import StudyError
from searchkit.records import Candidate, Estimate, Pruned

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from searchkit.reduction.cost import Shape
    from searchkit.reduction.plan import ReductionPlan
    from searchkit.reduction.ragged import Tokens
    from searchkit.reduction.trace import Trace
    from searchkit.tasks.base import Encoded, Labels
    from searchkit.tasks.spans import Spans

Kept = TypeVar("Kept")


class Subject(Protocol):
    """Protocol of what objectives read: one candidate on one split of the data.

    Outputs of the whole split are computed when first asked for, in the order of the data. Axes: N examples, C outputs,
    B examples of a batch, T tokens in all.
    """

    @property
    def candidate(self) -> Candidate: ...

    @property
    def plan(self) -> ReductionPlan:
        """Reduction plan of the candidate."""

    @property
    def data(self) -> Encoded:
        """Encoded split."""

    @property
    def labels(self) -> Labels:
        """(N,) gold classes or numbers."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each example."""

    @property
    def units(self) -> NDArray[np.int64]:
        """(N,) the number of the unit (example, or question of several windows) that each example belongs to."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits (N, C), or (T, C) where the head reads every token; TrialError if one is not finite."""

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) predicted classes."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether each prediction is the label."""

    @property
    def spans(self) -> Spans:
        """Best answer of each question of the data."""

    @property
    def trace(self) -> Trace:
        """Tokens per example and layer that the passes computed."""

    @property
    def reference(self) -> Subject:
        """Subject of the same model and data with nothing dropped."""

    @property
    def shape(self) -> Shape:
        """The sizes of the encoder and its head that costs follow from."""

    @property
    def padded_to(self) -> int:
        """Length that the padded accounting of the papers assumes."""

    @property
    def limit(self) -> int:
        """Maximum length of an example that the encoder takes, in tokens."""

    @property
    def weights_bytes(self) -> int: ...

    @property
    def weights(self) -> Hashable:
        """Identity of the weights in memory that `forward` reads."""

    @property
    def device(self) -> torch.device: ...

    @property
    def tables(self) -> Mapping[str, Any]:
        """The calibration tables of modelled objectives, by the objective's name."""

    def require(self, *heads: str, what: str) -> None:
        """Raise StudyError unless the model's head is one of `heads`: `what` makes no sense for others."""

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        """Tokens of these examples, packed, on the device."""

    def forward(self, tokens: Tokens) -> torch.Tensor:
        """Run one pass over a batch alone, as deployed: float32 logits (B, C), or (T, C) of every token."""

    def trace_of(self, tokens: Tokens) -> Trace:
        """Trace of one pass over a batch alone."""

    def remembered(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """Result of the first `compute` under this key on this device, shared by later measurements."""


@dataclass(frozen=True)
class Timing:
    """Timing of an objective that depends on the device, not on the outputs of the model alone.

    exclusive: nothing else of searchkit runs on the device meanwhile. together: measures several subjects in one go, so
    that their passes take turns. at_once: how many these may be, asked with a subject of the bench: as many as take
    their turns in one moment of the machine. with_batch: the same objective for another `batch_size` or `length`.
    calibrate: makes, once per run, a table (JSON) from a function of candidates to subjects and from candidates of the
    space; `measure` finds it in `subject.tables` under the objective's name. final: takes the objective's place on the
    report split, under the same name. runtime, int8: in which `subject.forward` has to run, None where any will do;
    `with_batch` then takes these two and `threads` as well. threads: of the CPU while it is measured, 0 for the run's.
    budget_s: of passes that a subject is timed for at most, None where it has no such limit.
    """

    exclusive: bool = True
    together: Callable[[Sequence[Subject]], list[Estimate]] | None = None
    at_once: Callable[[Subject], int] | None = None
    with_batch: Callable[..., Objective] | None = None
    calibrate: Callable[[Callable[[Candidate], Subject], Sequence[Candidate]], Mapping[str, Any]] | None = None
    final: Objective | None = None
    runtime: str | None = None
    int8: bool = False
    threads: int = 0
    budget_s: float | None = None


@dataclass(frozen=True)
class Objective:
    """Axis of the front: a name, a unit, a direction, and a function that measures a `Subject`.

    `measure` returns an `Estimate` in `unit`. `examples` gives the parts of the value, for racing: for each example
    (question) a quality in [0, 1] whose mean is the value, or for each example a cost of 0 or more; None where the
    value is not a sum over examples. `traced`: it reads the subject's trace and no output of the model, so that a plan
    of lengths alone has its cost before any pass. `resample` takes a subject and (R, U) numbers of units (examples;
    questions where the data has answers), drawn with repetition, and returns the (R,) values of the objective on them,
    nan where it is not defined: from these come paired differences and the chance to be on the front. `timing` belongs
    to objectives that depend on the device. `reads` names dimensions of the space, such as an `Integer`, that `measure`
    takes from `subject.candidate`; a study refuses one that neither plans nor its objectives read. `undefined` takes
    the labels of a split and returns the reason why the value is not defined on them, or None: it is asked before
    anything is trained.

    >>> from searchkit import Estimate, Objective
    >>> def kept(subject):
    ...     return Estimate(float(subject.trace.attention.sum()), None, len(subject.lengths))
    >>> Objective("kept_tokens", unit="tokens", better="lower", measure=kept, traced=True).describe()
    {'name': 'kept_tokens', 'unit': 'tokens', 'better': 'lower'}
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    measure: Callable[[Subject], Estimate]
    examples: Callable[[Subject], NDArray[np.float64]] | None = None
    traced: bool = False
    resample: Callable[[Subject, NDArray[np.int64]], NDArray[np.float64]] | None = None
    timing: Timing | None = None
    reads: Sequence[str] = ()
    undefined: Callable[[Labels], str | None] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.reads, str) or not all(isinstance(name, str) for name in self.reads):
            raise StudyError(f"Objective: reads is a list of names of dimensions, got {self.reads!r}")
        if not callable(self.measure):
            raise StudyError(f"Objective: measure is a function of a subject, got {self.measure!r}")
        if self.better not in ("higher", "lower"):
            raise ValueError(f"better must be 'higher' or 'lower', got {self.better=}")
        if not self.name.isidentifier():
            raise ValueError(f"an objective's name must be an identifier, got {self.name=}")

    @property
    def exclusive(self) -> bool:
        """Return whether nothing else of searchkit may run on the device while it is measured."""
        return self.timing is not None and self.timing.exclusive

    @property
    def together(self) -> Callable[[Sequence[Subject]], list[Estimate]] | None:
        """Function that measures several subjects at once, if there is one."""
        return None if self.timing is None else self.timing.together

    @property
    def with_batch(self) -> Callable[..., Objective] | None:
        """Function that makes the objective for another `batch_size` or `length`, if it depends on these."""
        return None if self.timing is None else self.timing.with_batch

    @property
    def modelled(self) -> bool:
        """Return whether a calibration table stands for the clock during the search."""
        return self.timing is not None and self.timing.calibrate is not None

    @property
    def final(self) -> Objective:
        """Objective in its form for the report split."""
        return self.timing.final if self.timing is not None and self.timing.final is not None else self

    def describe(self) -> dict[str, str]:
        """The JSON that identifies the objective in a fingerprint."""
        return {"name": self.name, "unit": self.unit, "better": self.better}

    @classmethod
    def described(cls, description: Mapping[str, Any]) -> Objective:
        """Read the objective of a record; it names trials' values, and cannot measure."""

        def unmeasurable(subject: object) -> Estimate:
            raise StudyError("objectives of a stored run cannot measure; load the study file")

        return cls(description["name"], description["unit"], description["better"], unmeasurable)


@dataclass(frozen=True)
class Constraint:
    """Limit on an objective, in its unit: candidates beyond it are left out of the front.

    `within`: at most this much worse than the unreduced model on the same split, whichever direction is worse.

    Where the plan alone decides (a `traced` objective, lengths without thresholds), a candidate is turned down before
    the model sees it, and costs the budget nothing; others are left out of the front once they are measured.

    >>> from searchkit import Constraint, Estimate, Objective
    >>> macs = Objective("macs", "of unreduced", "lower", lambda subject: Estimate(0.6, None, 1))
    >>> Constraint(macs, at_most=0.5).at_most
    0.5
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

    def __str__(self) -> str:
        """Text such as `macs at most 0.5`."""
        if self.within is not None:
            return f"{self.objective.name} within {self.within:g} of the unreduced model's"
        limits = {"at least": self.at_least, "at most": self.at_most}
        return f"{self.objective.name} " + " and ".join(
            f"{word} {limit:g}" for word, limit in limits.items() if limit is not None
        )

    def against(self, unreduced: float) -> Constraint:
        """Resolve the limit to a number, `unreduced` being the value of the model with nothing dropped."""
        if self.within is None:
            return self
        if not math.isfinite(unreduced):
            raise StudyError(f"{self.objective.name} is {unreduced} for the unreduced model: nothing can be within it")
        slack = 1e-12 * max(1.0, abs(unreduced))  # 0.9 - 0.1 is a little more than 0.8
        if self.objective.better == "higher":
            return Constraint(self.objective, at_least=unreduced - self.within - slack)
        return Constraint(self.objective, at_most=unreduced + self.within + slack)

    def verdict(self, value: float, examples: int) -> Pruned | None:
        """Verdict on a value: `Pruned` beyond the limits, None within them."""
        why = self.broken_by(value)
        return Pruned(why, examples, {self.objective.name: self.excess(value)}) if why else None

    def broken_by(self, value: float) -> str | None:
        """Description of the limit that this value breaks; None if it is within the limits."""
        if self.within is not None:
            raise ValueError(f"{self.within=} is relative to the unreduced model: resolve it with `against(...)` first")
        if self.at_most is not None and value > self.at_most:
            return f"{self.objective.name} is {value:.4g}, at most {self.at_most:g} is allowed"
        if self.at_least is not None and value < self.at_least:
            return f"{self.objective.name} is {value:.4g}, at least {self.at_least:g} is required"
        return None

    def excess(self, value: float) -> float:
        """Distance of the value beyond its limits, in the objective's unit; 0 or less within them."""
        above = -math.inf if self.at_most is None else value - self.at_most
        below = -math.inf if self.at_least is None else self.at_least - value
        return max(above, below)

    def describe(self) -> dict[str, Any]:
        """The JSON that identifies the constraint in a fingerprint."""
        limits = {"at_most": self.at_most, "at_least": self.at_least}
        relative = {} if self.within is None else {"within": self.within}
        return {"objective": self.objective.describe(), **limits, **relative}
