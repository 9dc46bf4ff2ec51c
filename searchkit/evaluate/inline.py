"""Evaluates asks one after the other in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from searchkit.evaluate.base import Workbench
from searchkit.evaluate.trial import measure_together
from searchkit.records import Ask, Trial

if TYPE_CHECKING:
    from searchkit.objective import Objective


class Inline:
    """The evaluator without processes; nothing else runs meanwhile, so timed objectives need no special care."""

    def __init__(self, workbench: Workbench, objectives: Sequence[Objective]) -> None:
        self._bench = workbench.build()
        self._objectives = tuple(objectives)

    def run(self, asks: Sequence[Ask]) -> Iterator[Trial]:
        return measure_together(asks, self._bench, self._objectives)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None
