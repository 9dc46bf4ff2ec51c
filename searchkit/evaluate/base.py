"""Protocols of evaluation: a workbench (plain data) is sent to a process and built into a bench there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from searchkit.records import Ask, Candidate, Pruned, Scalar, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Constraint, Subject


@dataclass(frozen=True, eq=False)
class Prepared:
    """Candidates by key after the computation that they share.

    verdicts: on those that need not be measured, since a constraint turns them down or they lost the race; subjects: of
    the others, as far as their passes are made already; outputs: of these, what their trials bring along
    """

    verdicts: Mapping[str, Pruned] = field(default_factory=dict)
    subjects: Mapping[str, Subject] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)


class Bench(Protocol):
    """Model and data in memory: candidates become subjects that objectives can measure."""

    @property
    def environment(self) -> Mapping[str, Scalar]: ...

    def resolved_constraints(self) -> Sequence[Constraint]:
        """Constraints as numbers; the first call may measure the unreduced model."""

    def subject(self, candidate: Candidate) -> Subject:
        """Subject of a candidate; nothing is computed yet."""

    def prepare(self, candidates: Sequence[Candidate], race: RaceState | None = None) -> Prepared:
        """Compute once what these candidates share, and decide which of them need not be measured."""

    def smaller(self) -> Bench:
        """Bench of less memory: the same values, from smaller batches."""


class Workbench(Protocol):
    """Plain data from which a bench is built, in this process or in another one."""

    def build(self) -> Bench: ...


class Evaluator(Protocol):
    """Runs asks and yields a trial for each, in any order; never raises for a candidate's fault.

    Use it as a context manager: it may hold processes.
    """

    def run(self, asks: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        """Evaluate the asks; with a race, trials carry `examples`, and candidates that incumbents beat are `Pruned`."""

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        """Evaluate asks that are added while it runs, without timed objectives.

        `more` hands out the asks that can be started now, possibly none: it is called at the start, and after each
        trial that was yielded has been dealt with. It ends when nothing is in flight and `more` gives nothing.
        """

    def halt(self) -> None:
        """Start no further ask: `run` ends after those in flight. May be called between two of its trials."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
