"""Random search: distinct samples of the space, independent of the outcomes; the floor for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from searchkit._internal.checks import check_count
from searchkit.engines.base import LARGEST_POPULATION, Asks, Engine
from searchkit.objective import Objective
from searchkit.records import Ask, Trial
from searchkit.space import Space


@dataclass(frozen=True)
class Random:
    """Samples of the space, both corners first; `steady` asks whenever a worker is free, as in `NSGA2`.

    >>> from searchkit import Random
    >>> Random(population=8).describe()
    {'engine': 'random', 'population': 8}
    """

    population: int = 24
    steady: bool = False

    def __post_init__(self) -> None:
        check_count("Random: population", self.population, LARGEST_POPULATION)

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Accept any space and any objectives."""

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        return _Sampling(self.population, space, seed)

    def describe(self) -> dict[str, Any]:
        return {"engine": "random", "population": self.population, **({"steady": True} if self.steady else {})}


class _Sampling:
    def __init__(self, population: int, space: Space, seed: int) -> None:
        self._population = population
        self._asks = Asks(space, np.random.default_rng(seed))

    def ask(self, n: int) -> list[Ask]:
        return self._asks.ask(n, lambda: self._asks.fresh(self._population))

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self._asks.register(trial)
