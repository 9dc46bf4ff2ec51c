"""What evaluates asks: a workbench travels to wherever candidates are measured, and becomes a bench there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from searchkit.records import Ask, Candidate, Pruned, Scalar, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Constraint


class Bench(Protocol):
    """A place with model and data in memory: candidates become subjects that objectives can measure."""

    @property
    def environment(self) -> Mapping[str, Scalar]: ...

    @property
    def constraints(self) -> Sequence[Constraint]: ...

    def subject(self, candidate: Candidate) -> Any: ...

    def prepare(self, candidates: Sequence[Candidate], race: RaceState | None = None) -> Mapping[str, Pruned]:
        """These candidates will be measured next: what they share may be computed now, once for all.

        The verdict on those that need not be, by key: a constraint turns them down, or they lost the race.
        """

    def smaller(self) -> Bench:
        """The same bench in less memory: the same values, from smaller batches."""


class Workbench(Protocol):
    """Plain data from which a bench is built, in this process or in another one."""

    def build(self) -> Bench: ...


class Evaluator(Protocol):
    """Runs asks and yields a trial for each, in any order; never raises for a candidate's fault.

    Use it as a context manager: it may hold processes.
    """

    def run(self, asks: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        """With a race, trials bring their `examples`, and candidates that its rivals beat are `Pruned`."""

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        """The same, fed while it runs, without objectives that are timed.

        `more` hands out the asks that can be started now, possibly none: it is called at the start, and after each
        trial that was yielded has been dealt with. It ends when nothing is in flight and `more` gives nothing.
        """

    def halt(self) -> None:
        """Start nothing more: `run` ends with what is in flight. It may be called between two of its trials."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
