"""Evaluator in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from searchkit.evaluate.base import Workbench
from searchkit.evaluate.trial import at_once, even, measure_together, neighbours
from searchkit.records import Ask, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Objective


TOGETHER: Final = 12  # asks that share prefixes, and the most that an interruption may cost, unless passes are short


class Inline:
    """Evaluator in this process; nothing else runs meanwhile, so timed objectives need no special care."""

    def __init__(self, workbench: Workbench, objectives: Sequence[Objective]) -> None:
        self._bench = workbench.build()
        self._objectives = tuple(objectives)
        self._halted = False

    def run(self, asks: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        size = at_once(asks, self._bench, self._objectives, TOGETHER)
        for group in neighbours(asks, even(len(asks), -(-len(asks) // size))):
            if not self._halted:
                yield from measure_together(group, self._bench, self._objectives, race)

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        """Evaluate one ask at a time, in order."""
        waiting = deque(more())
        while waiting:
            yield from measure_together([waiting.popleft()], self._bench, self._objectives)
            waiting.extend(more())

    def halt(self) -> None:
        self._halted = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
