"""Evolution of a space: what `NSGA2` and `PymooAlgorithm` run as.

pymoo selects parents and survivors; samples, crossover and mutation are the space's. pymoo's own operators barely
change small integer ranges, and it looks for duplicates in its population only, so the asks keep every candidate ever
seen. More children are bred than are asked for; what is known of their neighbours chooses among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from searchkit._internal.checks import check_count
from searchkit.engines.base import ROUNDS, Asks
from searchkit.engines.nearest import Nearest
from searchkit.engines.survivors import Survivors, Vary
from searchkit.errors import StudyError
from searchkit.front import losses
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.space import Genome, Space

MOST_BRED: Final = 1_000


class Settings(Protocol):
    """Protocol of an engine's settings that an evolution reads."""

    @property
    def population(self) -> int: ...
    @property
    def crossover(self) -> float: ...
    @property
    def mutation(self) -> float: ...
    @property
    def first(self) -> Sequence[Candidate]: ...
    @property
    def steady(self) -> bool: ...
    @property
    def bred(self) -> int: ...


def check_breeding(settings: Settings) -> None:
    """Raise StudyError where a share is outside [0, 1], or no child is bred."""
    check_count(f"{type(settings).__name__}: bred", settings.bred, MOST_BRED)
    crossover, mutation = settings.crossover, settings.mutation
    if not (0 <= crossover <= 1 and 0 <= mutation <= 1):
        raise StudyError(f"crossover and mutation are shares in [0, 1], got {crossover=}, {mutation=}")


def described(settings: Settings) -> dict[str, Any]:
    """JSON of the settings that an evolution reads; those that change nothing are left out."""
    return {
        "population": settings.population,
        "crossover": settings.crossover,
        "mutation": settings.mutation,
        **({"first": [candidate.to_json() for candidate in settings.first]} if settings.first else {}),
        **({"steady": True} if settings.steady else {}),
        **({"bred": settings.bred} if settings.bred > 1 else {}),
    }


@dataclass(frozen=True)
class SpaceOperators:
    """Two parents -> two children by the space: `crossover` is the share of pairs that are crossed, `mutation` that of
    children that are mutated."""

    space: Space
    crossover: float
    mutation: float

    def __call__(self, a: Genome, b: Genome, rng: np.random.Generator) -> list[Genome]:
        crossed = self.space.crossover(a, b, rng) if rng.random() < self.crossover else (a, b)
        return [self.space.mutate(child, rng) if rng.random() < self.mutation else child for child in crossed]


class Evolution:
    """Running engine: asks from generations of children, or one child after every outcome in steady state.

    Survivors are chosen among measured trials only. A failed or pruned candidate never becomes a parent: its place
    among the survivors stays empty until a measured one takes it, and each empty place brings a fresh sample into the
    next generation. So a generation that fails as a whole is followed by new samples, and no invented value enters the
    selection. In steady state the place of the next candidate is drawn instead: an empty one brings a sample, a taken
    one a child.

    vary: makes children of two parents, whose random choices come from the survivors' generator
    """

    def __init__(
        self,
        settings: Settings,
        survivors: Survivors,
        vary: Vary,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
    ) -> None:
        self._population, self._steady = settings.population, settings.steady
        self._survivors, self._vary = survivors, vary
        self._bred, self._nearest = settings.bred, Nearest()
        self._space = space
        self._objectives = objectives
        self._rng = np.random.default_rng([seed, 1])  # apart from pymoo's, which is seeded with `seed`
        self._asks = Asks(space, self._rng, settings.first)
        self._born: list[Genome] = []  # measured since survivors were chosen last
        self._estimates: list[dict[str, Estimate]] = []
        self._told, self._enough = 0, max(settings.population, len(settings.first))  # outcomes, before children
        self._samples: deque[Genome] = deque()  # steady state: samples are drawn together and asked one by one

    def ask(self, n: int) -> list[Ask]:
        return self._asks.ask(n, self._next if self._steady else self._generation)

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            genome = self._asks.register(trial)
            self._told += genome is not None
            if genome is not None and isinstance(trial.outcome, Measured):
                self._born.append(genome)
                self._estimates.append(dict(trial.outcome.estimates))
            if self._steady:
                self._survive()

    def _generation(self) -> list[Genome]:
        """Generation of as many new genomes as the population; fewer only when the space is exhausted."""
        self._survive()
        if self._asks.are_given:
            return self._asks.fresh(self._population)
        bred = self._breed(min(len(self._survivors), self._population)) if len(self._survivors) else []
        return bred + self._asks.fresh(self._population - len(bred))

    def _next(self) -> list[Genome]:
        """Next genome in steady state: initial ones and samples until the population is full, then a child."""
        if self._told >= self._enough and self._rng.integers(self._population) < len(self._survivors):
            bred = self._breed(1)
            if bred:
                return bred
        if not self._samples:
            self._samples.extend(self._asks.fresh(self._enough))
        return [self._samples.popleft()] if self._samples else []

    def _survive(self) -> None:
        if self._born:
            values = losses(self._estimates, self._objectives)
            self._survivors.tell(self._born, values)
            self._nearest.tell(self._born, values)
            self._born, self._estimates = [], []

    def _breed(self, n: int) -> list[Genome]:
        """Children of the survivors, the most promising; where too few are new, mutants of the front."""
        new = self._promising(n) if self._bred > 1 and self._nearest.can_choose else []
        for attempt in range(ROUNDS):
            if len(new) < n:  # steady state: most children of a converged front are known, so more are tried at a time
                tried = 2 << attempt if self._steady else self._population
                new += self._asks.admit(self._survivors.children(tried, self._vary), n - len(new))
        if len(new) < n:
            new += self._asks.admit(self._mutants(), n - len(new))
        return new

    def _promising(self, n: int) -> list[Genome]:
        """The n most promising of as many new children as are bred for them; fewer where fewer are new."""
        wanted = min(self._bred * n, max(n, MOST_BRED))
        new: list[Genome] = []
        for _ in range(ROUNDS):
            if len(new) < wanted:
                new = list(self._asks.unseen(np.array([*new, *self._survivors.children(wanted, self._vary)])))
        return self._asks.admit(self._nearest.promising(np.array(new), n), n) if new else []

    def _mutants(self) -> Iterator[Genome]:
        """Mutants of each member of the front, then of these mutants, and so on: a walk away from the front."""
        walkers = self._rng.permutation(self._survivors.front())
        for _ in range(ROUNDS):
            for index, genome in enumerate(walkers):
                walkers[index] = self._space.mutate(genome, self._rng)
                yield walkers[index].copy()
