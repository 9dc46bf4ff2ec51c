"""NSGA-II (Deb et al. 2002): selection and survival by pymoo; crossover and mutation by `Space`.

pymoo's own operators barely change small integer ranges, so children come from the space's; and pymoo looks for
duplicates in its population only, so the asks keep every candidate ever seen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchkit._internal.checks import check_count, check_fields
from searchkit.engines.base import LARGEST_POPULATION, ROUNDS, Asks, Engine
from searchkit.errors import StudyError
from searchkit.front import losses
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.space import Genome, Space

MAX_OFFSPRING: Final = 16  # children bred at a time in steady state, at most


@dataclass(frozen=True)
class NSGA2:
    """`crossover` and `mutation` are the shares of pairs that are crossed and of children that are mutated.

    first: candidates to begin with, before any that the space samples, such as the front of an earlier search; a
    dimension that one leaves out drops nothing.
    steady: a child is bred whenever an outcome comes in (steady state, mu + 1), so that no worker waits for the slowest
    of a generation. Racing is off then: a race compares with the front as it was a generation ago.

    >>> from searchkit import NSGA2, Candidate
    >>> NSGA2(population=12, first=(Candidate.of(lengths=(0.9, 0.5)),)).describe()["population"]
    12
    """

    population: int = 24
    crossover: float = 0.9
    mutation: float = 1.0
    first: Sequence[Candidate] = ()
    steady: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not isinstance(self.first, Sequence) or not all(
            isinstance(candidate, Candidate) for candidate in self.first
        ):
            raise StudyError(f"first is made of Candidate.of(...), got {self.first=}")
        object.__setattr__(self, "first", tuple(self.first))
        check_count("NSGA2: population", self.population, LARGEST_POPULATION, least=2)
        if not (0 <= self.crossover <= 1 and 0 <= self.mutation <= 1):
            raise StudyError(f"crossover and mutation are shares in [0, 1], got {self.crossover=}, {self.mutation=}")

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Accept any space and any objectives."""

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        return _Evolution(self, space, objectives, seed)

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "nsga2",
            "population": self.population,
            "crossover": self.crossover,
            "mutation": self.mutation,
            **({"first": [candidate.to_json() for candidate in self.first]} if self.first else {}),
            **({"steady": True} if self.steady else {}),
        }


class _Evolution:
    """Running engine of `NSGA2`.

    pymoo sees measured trials only. A failed or pruned candidate never becomes a parent: its place among the survivors
    stays empty until a measured one takes it, and each empty place brings a fresh sample into the next generation. So a
    generation that fails as a whole is followed by new samples, and no invented value enters the selection. In steady
    state the place of the next candidate is drawn instead: an empty one brings a sample, a taken one a child.
    """

    def __init__(self, config: NSGA2, space: Space, objectives: Sequence[Objective], seed: int) -> None:
        self._population, self._steady = config.population, config.steady
        self._space = space
        self._objectives = objectives
        self._rng = np.random.default_rng([seed, 1])  # apart from pymoo's, which is seeded with `seed`
        self._asks = Asks(space, self._rng, config.first)
        self._algorithm = _algorithm(config, space, len(objectives), seed)
        self._parents: list[Genome] = []  # measured since the last generation
        self._estimates: list[dict[str, Estimate]] = []
        self._told, self._enough = 0, max(config.population, len(config.first))  # outcomes, before children are bred
        self._samples: deque[Genome] = deque()  # steady state: samples are drawn together and asked one by one

    def ask(self, n: int) -> list[Ask]:
        return self._asks.ask(n, self._next if self._steady else self._generation)

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            genome = self._asks.register(trial)
            self._told += genome is not None
            if genome is not None and isinstance(trial.outcome, Measured):
                self._parents.append(genome)
                self._estimates.append(dict(trial.outcome.estimates))
            if self._steady:
                self._survive()

    def _generation(self) -> list[Genome]:
        """Generation of as many new genomes as the population; fewer only when the space is exhausted."""
        self._survive()
        if self._asks.are_given:
            return self._asks.fresh(self._population)
        bred = self._breed(min(self._survivors, self._population)) if self._survivors else []
        return bred + self._asks.fresh(self._population - len(bred))

    def _next(self) -> list[Genome]:
        """Next genome in steady state: initial ones and samples until the population is full, then a child."""
        if self._told >= self._enough and self._rng.integers(self._population) < self._survivors:
            bred = self._breed(1)
            if bred:
                return bred
        if not self._samples:
            self._samples.extend(self._asks.fresh(self._enough))
        return [self._samples.popleft()] if self._samples else []

    @property
    def _survivors(self) -> int:
        return len(self._algorithm.pop) if self._algorithm.is_initialized else 0

    def _survive(self) -> None:
        """Run pymoo's survival on the population and all that was measured since."""
        from pymoo.core.population import Population

        if not self._parents:
            return
        every = born = Population.new("X", np.array(self._parents), "F", losses(self._estimates, self._objectives))
        algorithm = self._algorithm
        if algorithm.is_initialized:
            every = Population.merge(algorithm.pop, born)
        # the steps of `algorithm.tell` without its search for the optimum, which doubles the time
        needed = algorithm.pop_size if algorithm.is_initialized else len(born)
        chance = algorithm.random_state
        algorithm.pop = algorithm.survival.do(
            algorithm.problem, every, n_survive=needed, algorithm=algorithm, random_state=chance
        )
        algorithm.is_initialized = True
        self._parents, self._estimates = [], []

    def _breed(self, n: int) -> list[Genome]:
        """Children of the survivors; where too few are new, mutants of the front."""
        new: list[Genome] = []
        for attempt in range(ROUNDS):
            if len(new) < n:  # steady state: most children of a converged front are known, so more are tried at a time
                new += self._asks.admit(
                    self._children(2 << attempt if self._steady else self._population), n - len(new)
                )
        if len(new) < n:
            new += self._asks.admit(self._mutants(), n - len(new))
        return new

    def _children(self, n: int) -> list[Genome]:
        """Offspring of `algorithm.ask`, the same number every time."""
        algorithm = self._algorithm
        offspring = algorithm.mating.do(
            algorithm.problem, algorithm.pop, n, algorithm=algorithm, random_state=algorithm.random_state
        )
        return list(offspring.get("X"))

    def _mutants(self) -> Iterator[Genome]:
        """Mutants of each member of the front, then of these mutants, and so on: a walk away from the front."""
        from pymoo.util.optimum import filter_optimum

        walkers = self._rng.permutation(filter_optimum(self._algorithm.pop).get("X"))
        for _ in range(ROUNDS):
            for index, genome in enumerate(walkers):
                walkers[index] = self._space.mutate(genome, self._rng)
                yield walkers[index].copy()


def _algorithm(config: NSGA2, space: Space, objectives: int, seed: int) -> Any:
    """pymoo's NSGA-II in ask-and-tell form; the first outcomes are its initial population."""
    from pymoo.algorithms.moo.nsga2 import NSGA2 as Algorithm  # noqa: N811
    from pymoo.algorithms.moo.nsga2 import binary_tournament
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination
    from pymoo.operators.selection.tournament import TournamentSelection

    mating = _Mating(space, config.crossover, config.mutation, TournamentSelection(func_comp=binary_tournament))
    algorithm = Algorithm(pop_size=config.population, mating=mating)
    problem = Problem(n_var=space.width, n_obj=objectives, xl=space.low, xu=space.high, vtype=int)
    return algorithm.setup(problem, seed=seed, termination=NoTermination())


@dataclass(frozen=True)
class _Mating:
    """Mating for pymoo: its tournament chooses pairs, the space crosses and mutates them."""

    space: Space
    crossover: float
    mutation: float
    selection: Any

    def do(self, problem: Any, pop: Any, n_offsprings: int, algorithm: Any, random_state: np.random.Generator) -> Any:
        """Make a pymoo Population of n offspring. All randomness comes from the generator that pymoo passes."""
        from pymoo.core.population import Population

        genomes = pop.get("X")
        pairs = self.selection(
            problem,
            pop,
            math.ceil(n_offsprings / 2),
            n_parents=2,
            to_pop=False,
            algorithm=algorithm,
            random_state=random_state,
        )
        children = [child for a, b in pairs for child in self._children(genomes[a], genomes[b], random_state)]
        return Population.new("X", np.array(children[:n_offsprings]))

    def _children(self, a: Genome, b: Genome, rng: np.random.Generator) -> list[Genome]:
        crossed = self.space.crossover(a, b, rng) if rng.random() < self.crossover else (a, b)
        return [self.space.mutate(child, rng) if rng.random() < self.mutation else child for child in crossed]
