"""pymoo's NSGA-II with its default operators on integers, children made legal by the cumulative minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.baselines.integers import cumulative_minimum
from searchkit.front import losses
from searchkit.objective import Objective
from searchkit.records import Ask, Measured, Trial
from searchkit.space import Space


@dataclass(frozen=True)
class PymooNSGA2:
    """Simulated binary crossover (rate 0.9, eta 15) and polynomial mutation (eta 20), rounded.

    Duplicates are removed within the population, as pymoo does it; earlier candidates may come again.
    """

    population: int = 20

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> _Running:
        return _Running(space, objectives, seed, self.population)


class _Running:
    def __init__(self, space: Space, objectives: Sequence[Objective], seed: int, population: int) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination
        from pymoo.operators.crossover.sbx import SBX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling

        self._space, self._objectives, self._asked = space, objectives, 0
        self._problem = Problem(n_var=space.width, n_obj=len(objectives), xl=space.low, xu=space.high, vtype=int)
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling(),
            crossover=SBX(eta=15, prob=0.9, vtype=float, repair=RoundingRepair()),
            mutation=PM(eta=20, vtype=float, repair=RoundingRepair()),
            repair=_Legal(space),
            eliminate_duplicates=True,
        )
        self._algorithm.setup(self._problem, seed=seed, termination=NoTermination())
        self._born: Any = None

    def ask(self, n: int) -> list[Ask]:
        """The whole next generation, whatever `n`; [] where mating finds nothing that the population lacks."""
        self._born = self._algorithm.ask()
        if self._born is None or len(self._born) == 0:
            return []
        numbered = enumerate(self._born.get("X").astype(np.int64), self._asked)
        asks = [Ask(number, self._space.decode(genome)) for number, genome in numbered]
        self._asked += len(asks)
        return asks

    def tell(self, trials: Sequence[Trial]) -> None:
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        estimates = [trial.outcome.estimates for trial in trials if isinstance(trial.outcome, Measured)]
        known = StaticProblem(self._problem, F=losses(estimates, self._objectives))
        Evaluator().eval(known, self._born)
        self._algorithm.tell(infills=self._born)


@dataclass(frozen=True)
class _Legal:
    """Repair for pymoo."""

    space: Space

    def __call__(self, problem: Any, pop: Any, **given: Any) -> Any:
        if len(pop) > 0:
            pop.set("X", cumulative_minimum(self.space, pop.get("X").astype(np.int64)))
        return pop
