"""Survivors of an evolution and their selection as parents: of any pymoo algorithm, and of its NSGA-II on arrays.

N candidates, K survivors, W numbers of a genome, M objectives.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from searchkit.front import Array
from searchkit.space import Genome

if TYPE_CHECKING:
    from pymoo.algorithms.base.genetic import GeneticAlgorithm

Vary = Callable[[Genome, Genome, np.random.Generator], Sequence[Genome]]  # two parents -> their two children
Indices = npt.NDArray[np.int64]


class Survivors(Protocol):
    """Survivors among all candidates that were told so far."""

    def __len__(self) -> int: ...

    def tell(self, genomes: Sequence[Genome], losses: Array) -> None:
        """Select survivors among those so far and N candidates with their losses (N, M)."""

    def children(self, n: int, vary: Vary) -> list[Genome]:
        """Return n children of pairs of survivors, which are selected together; one generator makes all choices."""

    def front(self) -> Genome:
        """(K, W) survivors that no other dominates."""


class PymooSurvivors:
    """Population of a running pymoo algorithm, which is taken over and must not have run before.

    low, high: (W,) bounds of the genomes; seed: of pymoo's random choices and of the variation of parents
    """

    def __init__(self, algorithm: GeneticAlgorithm, low: Genome, high: Genome, objectives: int, seed: int) -> None:
        from pymoo.core.callback import Callback
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination

        problem = Problem(n_var=len(low), n_obj=objectives, xl=low, xu=high, vtype=int)
        self._algorithm = algorithm.setup(
            problem, seed=seed, termination=NoTermination(), callback=Callback(), archive=None, save_history=False
        )
        self._genomes: Genome = np.empty((0, len(low)), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._genomes)

    def tell(self, genomes: Sequence[Genome], losses: Array) -> None:
        from pymoo.core.population import Population

        born = Population.new("X", np.array(genomes), "F", losses)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # survivals divide by ranges of 0; NSGA-III would silence the process
            self._algorithm.advance(infills=born)
        self._genomes = self._algorithm.pop.get("X")

    def children(self, n: int, vary: Vary) -> list[Genome]:
        algorithm = self._algorithm
        pairs = algorithm.mating.selection(
            algorithm.problem,
            algorithm.pop,
            math.ceil(n / 2),
            n_parents=2,
            to_pop=False,
            algorithm=algorithm,
            random_state=algorithm.random_state,
        )
        return _children(pairs, self._genomes, vary, algorithm.random_state, n)

    def front(self) -> Genome:
        from pymoo.util.optimum import filter_optimum

        return np.asarray(filter_optimum(self._algorithm.pop).get("X"))


class NSGA2Survivors:
    """Survivors and parents of NSGA-II (Deb et al. 2002), as pymoo's NSGA2 selects them, digit by digit.

    Sorting and crowding distance are pymoo's; that its population of objects is arrays here, and that most newcomers
    are seen to be no survivors at a glance, makes a steady search several times as fast.

    population: number of survivors, all that were told first where these are more
    """

    def __init__(self, population: int, seed: int) -> None:
        from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
        from pymoo.util.misc import random_permutations
        from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
        from pymoo.util.randomized_argsort import randomized_argsort

        self._fronts, self._crowding_of = NonDominatedSorting().do, get_crowding_function("cd").do
        self._by_crowding, self._permutations = randomized_argsort, random_permutations
        self._most, self._chance = population, np.random.default_rng(seed)
        self._genomes: list[Genome] = []
        self._losses: Array = np.empty((0, 0))
        self._rows: list[list[float]] = []  # the losses again, for comparisons of two
        self._crowding: list[float] = []
        self._last: Array = np.empty((0, 0))  # losses of the worst front, (K, M)
        self._settled = False  # the worst front's crowding distances count survivors alone

    def __len__(self) -> int:
        return len(self._genomes)

    def tell(self, genomes: Sequence[Genome], losses: Array) -> None:
        alone = len(losses) == 1 and len(self) == self._most
        if alone and self._settled and _dominated(losses[0], self._last):
            return  # a front of its own, behind all survivors: nothing changes
        every = np.concatenate([self._losses, losses]) if len(self) else losses
        all_genomes = [*self._genomes, *genomes]
        chosen = self._select(every, min(self._most, len(every)) if len(self) else len(every))
        self._losses, self._rows = every[chosen], every[chosen].tolist()
        self._genomes = [all_genomes[index] for index in chosen]

    def _select(self, losses: Array, n: int) -> list[int]:
        """Indices of n survivors, front by front; of the last front those with the largest crowding distance."""
        chosen: list[int] = []
        self._crowding = []
        for front in self._fronts(losses, n_stop_if_ranked=n):
            excess = len(chosen) + len(front) - n
            crowding = self._crowding_of(losses[front])
            if excess > 0:
                kept = self._by_crowding(crowding, order="descending", random_state=self._chance)[:-excess]
                front, crowding = front[kept], crowding[kept]
            chosen += front.tolist()
            self._crowding += crowding.tolist()
        self._last, self._settled = losses[front], excess <= 0
        return chosen

    def children(self, n: int, vary: Vary) -> list[Genome]:
        drawn = 4 * math.ceil(n / 2)  # two parents, for each of them two that compete
        permutations = self._permutations(math.ceil(drawn / len(self)), len(self), random_state=self._chance)
        rivals = permutations[:drawn].reshape(-1, 2).tolist()
        winners = [self._winner(a, b) for a, b in rivals]
        return _children(zip(winners[::2], winners[1::2], strict=True), self._genomes, vary, self._chance, n)

    def _winner(self, a: int, b: int) -> int:
        """Winner of a tournament: who dominates, else who is less crowded, else either."""
        better = worse = False
        for own, other in zip(self._rows[a], self._rows[b], strict=True):
            better, worse = better or own < other, worse or own > other
        if better != worse:
            return a if better else b
        if self._crowding[a] != self._crowding[b]:
            return a if self._crowding[a] > self._crowding[b] else b
        return (a, b)[self._chance.integers(2)]

    def front(self) -> Genome:
        one = self._losses.shape[1] == 1
        front = [np.argmin(self._losses)] if one else self._fronts(self._losses, only_non_dominated_front=True)
        return np.array([self._genomes[index] for index in front])


def _children(
    pairs: Iterable[Sequence[int]],
    genomes: Sequence[Genome] | Genome,
    vary: Vary,
    chance: np.random.Generator,
    n: int,
) -> list[Genome]:
    return [child for a, b in pairs for child in vary(genomes[a], genomes[b], chance)][:n]


def _dominated(row: Array, others: Array) -> bool:
    """Return whether one of the others (K, M) dominates the row (M,)."""
    return bool(((others <= row).all(axis=1) & (others < row).any(axis=1)).any())
