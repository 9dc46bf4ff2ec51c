"""Failures grouped by kind, and by message without its numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from searchkit.errors import QUOTED, one_line
from searchkit.records import Ask, Failed, Trial

_NUMBER: Final = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Failures:
    """Group of similar failures: kind, message and ask of the first; their number, and their attempts in all."""

    kind: str
    message: str
    example: Ask
    count: int
    attempts: int

    def __str__(self) -> str:
        tried = f" in {self.attempts} attempts" if self.attempts > self.count else ""
        return f"{self.count} x {self.kind}{tried}: {one_line(self.message, QUOTED)}"


def grouped(trials: Iterable[Trial]) -> list[Failures]:
    """Groups of the failed trials, most frequent first."""
    groups: dict[tuple[str, str], Failures] = {}
    for trial in trials:
        if isinstance(failed := trial.outcome, Failed):
            alike = failed.kind, _NUMBER.sub("#", failed.message)
            known = groups.get(alike) or Failures(failed.kind, failed.message, trial.ask, count=0, attempts=0)
            groups[alike] = replace(known, count=known.count + 1, attempts=known.attempts + failed.attempts)
    return sorted(groups.values(), key=lambda group: -group.count)
