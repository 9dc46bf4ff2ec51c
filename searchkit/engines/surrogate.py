"""Search with a model: a Gaussian process of each objective says which candidates promise most, and they are asked for.

The gain that a candidate promises is the expected increase of the front's hypervolume (Emmerich 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchkit._internal.checks import check_count, check_fields
from searchkit.engines.base import LARGEST_POPULATION, Asks, Engine, checked_first
from searchkit.engines.outlook import Outlook, View
from searchkit.front import nondominated
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Measured, Pruned, Trial
from searchkit.space import Genome, Space

LISTED: Final = 2_000  # candidates of a space, up to which all are compared
GENERATIONS: Final = 6  # of the inner search
PARENTS: Final = 32
CHILDREN: Final = 96


@dataclass(frozen=True)
class Surrogate:
    """Few evaluations: each batch of `population` candidates is the one that a model of all outcomes expects most of.

    initial: samples of the space to begin with, both corners among them
    first: candidates to begin with, before these samples
    steady: one candidate is asked whenever an outcome comes in

    >>> from searchkit import Surrogate
    >>> Surrogate(population=8).describe()
    {'engine': 'surrogate', 'population': 8, 'initial': 8}
    """

    population: int = 4
    initial: int = 8
    first: Sequence[Candidate] = ()
    steady: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "first", checked_first(self.first))
        check_count("Surrogate: population", self.population, LARGEST_POPULATION)
        check_count("Surrogate: initial", self.initial, LARGEST_POPULATION, least=2)

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Accept any space and any objectives."""

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        return _Search(self, space, objectives, seed)

    @property
    def expects_gains(self) -> bool:
        """Return whether a budget can end where little is left to gain."""
        return True

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "surrogate",
            "population": self.population,
            "initial": self.initial,
            **({"first": [candidate.to_json() for candidate in self.first]} if self.first else {}),
            **({"steady": True} if self.steady else {}),
        }


class _Search:
    """Running engine of `Surrogate`."""

    def __init__(self, config: Surrogate, space: Space, objectives: Sequence[Objective], seed: int) -> None:
        self._config, self._space = config, space
        self._rng = np.random.default_rng([seed, 2])
        self._asks = Asks(space, self._rng, config.first)
        self._outlook = Outlook(space, objectives)
        self.expected_gain: float | None = None
        self._bred: Genome | None = None  # of the inner search
        self._lasts = 0
        self._listed = np.array(list(space.genomes())) if space.size <= LISTED else None

    def ask(self, n: int) -> list[Ask]:
        return self._asks.ask(n, self._generation)

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            genome = self._asks.register(trial)
            if genome is not None and isinstance(trial.outcome, Measured):
                self._outlook.tell(genome, trial.outcome.estimates)
            elif genome is not None and isinstance(trial.outcome, Pruned):
                self._outlook.tell_part(genome, trial.outcome.seen)

    def _generation(self) -> list[Genome]:
        """The candidates to begin with, as one generation; then the batch that promises most."""
        size = 1 if self._config.steady else self._config.population
        begin = self._config.initial + len(self._config.first) - self._asks.admitted
        if begin > 0 or not self._outlook.is_known:
            return self._asks.fresh(max(begin, size))
        return self._promising(size) or self._asks.fresh(size)

    def _promising(self, n: int) -> list[Genome]:
        """At most n new genomes, each the one that promises most when those before it, and those that are asked and not
        told, turn out as expected."""
        view = self._outlook.view()
        view.expect(self._asks.open)
        pool = self._asks.unseen(self._pool(view))
        new: list[Genome] = []
        while len(new) < n and len(pool):
            gains = view.gains(pool)
            best = int(np.argmax(gains))
            if not new:
                self.expected_gain = float(gains[best]) / view.volume
            chosen = self._asks.admit(pool[[best]], 1)
            view.expect(chosen)
            pool, new = np.delete(pool, best, axis=0), new + chosen
        return new

    def _pool(self, view: View) -> Genome:
        """(N, W) genomes to choose from: all of a small space, or those of an inner search, which serves as many asks
        as a batch has."""
        if self._listed is not None:
            return self._listed
        self._lasts -= 1
        if self._bred is None or self._lasts < 0:
            self._bred, self._lasts = self._evolved(view), self._config.population - 1 if self._config.steady else 0
        return self._bred

    def _evolved(self, view: View) -> Genome:
        """(N, W) genomes of an evolution towards what promises most, and towards what could be best with some luck."""
        pool = parents = np.concatenate([view.front, self._space.sample(PARENTS, self._rng)])
        for _ in range(GENERATIONS):
            pool = np.unique(np.concatenate([pool, varied(self._space, parents, CHILDREN, self._rng)]), axis=0)
            mean, deviation = view.predict(pool)
            lucky = np.flatnonzero(nondominated(mean - deviation))
            best = np.argsort(-view.gains_of(mean, deviation), kind="stable")[:PARENTS]
            parents = pool[np.concatenate([best, lucky])]
        return pool


def varied(space: Space, parents: Genome, n: int, rng: np.random.Generator) -> Genome:
    """(n, W) legal children of (P, W) parents: slots of two of them, some of which step up or down."""
    first, second = (parents[rng.integers(len(parents), size=n)] for _ in range(2))
    crossed = np.where(rng.random((n, 1)) < 0.5, rng.random(first.shape) < 0.5, True)
    children = np.where(crossed, first, second)
    steps = np.minimum((1 / (1 - rng.random(children.shape))).astype(np.int64), space.high - space.low)
    moved = rng.random(children.shape) < np.maximum(1.0, 4.0 * rng.random((n, 1))) / space.width
    children = children + np.where(moved, np.where(rng.random(children.shape) < 0.5, steps, -steps), 0)
    return np.array([space.canonical(space.repair(child)) for child in np.clip(children, space.low, space.high)])
