"""NSGA-II (Deb et al. 2002): selection and survival by pymoo; crossover and mutation by `Space`; children chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from searchkit._internal.checks import check_count, check_fields
from searchkit.engines.base import LARGEST_POPULATION, Engine, checked_first
from searchkit.engines.evolution import Evolution, SpaceOperators, check_breeding, described
from searchkit.engines.survivors import NSGA2Survivors
from searchkit.objective import Objective
from searchkit.records import Candidate
from searchkit.space import Space


@dataclass(frozen=True)
class NSGA2:
    """`crossover` and `mutation` are the shares of pairs that are crossed and of children that are mutated.

    first: candidates to begin with, before any that the space samples, such as the front of an earlier search; a
    dimension that one leaves out drops nothing.
    steady: a child is bred whenever an outcome comes in (steady state, mu + 1), so that no worker waits for the slowest
    of a generation. Racing is off then: a race compares with the front as it was a generation ago.
    bred: children that are bred for each that is asked; the nearest of the first 2,000 candidates that were measured
    tell which are the most promising. 1 asks for the children as they come, as published.

    >>> from searchkit import NSGA2, Candidate
    >>> NSGA2(population=12, first=(Candidate.of(lengths=(0.9, 0.5)),)).describe()["population"]
    12
    """

    population: int = 24
    crossover: float = 0.9
    mutation: float = 1.0
    first: Sequence[Candidate] = ()
    steady: bool = False
    bred: int = 8

    def __post_init__(self) -> None:
        check_fields(self)
        check_breeding(self)
        check_count("NSGA2: population", self.population, LARGEST_POPULATION, least=2)
        object.__setattr__(self, "first", checked_first(self.first))

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Accept any space and any objectives."""

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        vary = SpaceOperators(space, self.crossover, self.mutation)
        return Evolution(self, NSGA2Survivors(self.population, seed), vary, space, objectives, seed)

    def describe(self) -> dict[str, Any]:
        return {"engine": "nsga2", **described(self)}
