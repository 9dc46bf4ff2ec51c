"""A search without any model: candidates whose losses are a formula, for tests of loop, store and evaluators."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.base import Prepared
from searchkit.evaluate.racing import RaceState
from searchkit.objective import Constraint, Objective
from searchkit.records import Ask, Candidate, Estimate, Pruned, Scalar
from searchkit.space import Lengths, Space

SPACE = Space(Lengths(levels=6)).bound(3)


@dataclass(frozen=True)
class Point:
    """Subject of the objectives of this module."""

    candidate: Candidate

    @property
    def lengths(self) -> tuple[float, ...]:
        return self.candidate["lengths"]  # type: ignore[return-value]


def _quality(point: Point) -> Estimate:
    first, second, third = point.lengths
    return Estimate(1 - (1 - first) ** 2 - 0.5 * (1 - second) ** 3 - 0.2 * (1 - third), 0.01, 100)


def _cost(point: Point) -> Estimate:
    return Estimate(sum(point.lengths) / 3, 0.0, 100)


QUALITY = Objective("quality", "fraction", "higher", _quality)  # type: ignore[arg-type]
COST = Objective("cost", "of unreduced", "lower", _cost, traced=True)  # type: ignore[arg-type]
OBJECTIVES = (QUALITY, COST)


@dataclass(frozen=True)
class FormulaBench:
    """Builds points; what happens to some of them is decided by `mishaps`: first length -> mishap."""

    mishaps: Mapping[float, str]
    scratch: str = ""
    constraints: tuple[Constraint, ...] = ()
    small: bool = False

    @property
    def environment(self) -> Mapping[str, Scalar]:
        return {"device": "none"}

    def resolved_constraints(self) -> Sequence[Constraint]:
        return self.constraints

    def prepare(self, candidates: Sequence[Candidate], race: RaceState | None = None) -> Prepared:
        """Nothing is shared or raced; what is traced is known beforehand."""
        limits = [limit for limit in self.constraints if limit.objective.traced]
        verdicts = {
            candidate.key: limit.broken_by(limit.objective.measure(Point(candidate)).value)  # type: ignore[arg-type]
            for candidate in candidates
            for limit in limits
        }
        return Prepared({key: Pruned(why, 0) for key, why in verdicts.items() if why})

    def smaller(self) -> FormulaBench:
        return replace(self, small=True)

    def subject(self, candidate: Candidate) -> Any:
        mishap = self.mishaps.get(Point(candidate).lengths[0])
        if mishap == "no memory" or (mishap == "memory" and not self.small):
            raise MemoryError("cannot allocate 1 PiB")
        if mishap == "allocate":
            np.ones(1 << 50)
        if mishap == "nan":
            raise TrialError("the logits are not finite", kind="nan")
        if mishap == "hang":
            time.sleep(3600)
        if mishap == "raise":
            raise ZeroDivisionError("a mishap")
        if mishap == "study":
            raise StudyError("the study is wrong")
        if mishap == "die":
            os._exit(1)
        if mishap == "die once":
            flag = Path(self.scratch) / candidate.key
            if not flag.exists():
                flag.touch()
                os._exit(1)
        if mishap == "slow":
            time.sleep(0.05)
        return Point(candidate)


@dataclass(frozen=True)
class FormulaWorkbench:
    """Builds a `FormulaBench`, or fails to where it is `broken`."""

    mishaps: Mapping[float, str]
    scratch: str = ""
    broken: bool = False
    constraints: tuple[Constraint, ...] = ()

    def build(self) -> FormulaBench:
        if self.broken:
            raise FileNotFoundError("weights.bin is not here")
        return FormulaBench(self.mishaps, self.scratch, self.constraints)


def asks() -> list[Ask]:
    """Every candidate of the space, numbered."""
    return [Ask(number, candidate) for number, candidate in enumerate(SPACE.all())]
