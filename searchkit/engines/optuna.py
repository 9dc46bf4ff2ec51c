"""Optuna's samplers through ask and tell; lengths are sorted integers, and samplers are told what was evaluated.

P free positions of a genome: the parameters of an Optuna trial.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from searchkit._internal.checks import check_count, check_fields, needs
from searchkit.engines.base import LARGEST_POPULATION, ROUNDS, Asks, Engine, checked_first
from searchkit.errors import StudyError, unknown
from searchkit.front import losses
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Measured, Outcome, Pruned, Trial
from searchkit.space import Choice, Genome, Lengths, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Sampler = Literal["tpe", "gp", "nsga2", "nsga3", "cma-es"]
REPEATS: Final = 4  # proposals of known candidates in a row, before a neighbour of one is asked
STARTUP: Final = 10  # measured candidates before a sampler is asked, as Optuna's default is


@dataclass(frozen=True)
class OptunaSampler:
    """One of Optuna's samplers: multivariate TPE, Gaussian processes, NSGA-II, NSGA-III, CMA-ES.

    sampler: "tpe", "gp", "nsga2", "nsga3" or "cma-es", which searches for one objective (`searchkit[cma-es]`). "gp" is
    slow: one to three seconds per candidate with 12 layers.
    population: the asks of a generation, and the population of NSGA-II and III.
    first: candidates to begin with, as in `NSGA2`; then samples of the space, and after a generation the sampler's.
    steady: the sampler is asked whenever an outcome comes in, and races are off, as in `NSGA2`.

    A failed or pruned candidate is told as such, without values; TPE keeps away from pruned ones. A measured one that
    TPE proposes again is told again, which costs no evaluation, and TPE is asked for another.

    >>> from searchkit import OptunaSampler
    >>> OptunaSampler("gp", population=8).describe()
    {'engine': 'optuna', 'sampler': 'gp', 'population': 8}
    """

    sampler: Sampler = "tpe"
    population: int = 24
    first: Sequence[Candidate] = ()
    steady: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sampler not in get_args(Sampler):
            raise StudyError(f"OptunaSampler: {unknown('sampler', str(self.sampler), get_args(Sampler))}")
        object.__setattr__(self, "first", checked_first(self.first))
        least = 2 if self.sampler in ("nsga2", "nsga3") else 1
        check_count("OptunaSampler: population", self.population, LARGEST_POPULATION, least)

    def check(self, space: Space, objectives: Sequence[Objective], *, plateau: bool) -> None:
        """Raise StudyError where CMA-ES is to search for several objectives or over options, or is not installed."""
        if self.sampler != "cma-es":
            return
        if len(objectives) > 1:
            names = ", ".join(objective.name for objective in objectives)
            raise StudyError(f"CMA-ES searches for one objective, got {names}: use OptunaSampler('tpe') or NSGA2()")
        options = [own.name for own in space.dimensions if isinstance(own, Choice)]
        if options:
            raise StudyError(f"CMA-ES searches over numbers, got the choice {options[0]}: use OptunaSampler('tpe')")
        needs("cmaes", extra="cma-es", what="searches by CMA-ES")

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine:
        self.check(space, objectives, plateau=False)
        return _Sampling(self, space, objectives, seed)

    def describe(self) -> dict[str, Any]:
        return {
            "engine": "optuna",
            "sampler": self.sampler,
            "population": self.population,
            **({"first": [candidate.to_json() for candidate in self.first]} if self.first else {}),
            **({"steady": True} if self.steady else {}),
        }


class _Sampling:
    """Running engine: each candidate is an Optuna trial, whose parameters are those of the candidate as evaluated.

    Where a proposal was sorted, or gave way to a neighbour or a sample of the space, the running trial's parameters are
    replaced. So a sampler knows what is in flight, and what it learns from is what was measured.
    """

    def __init__(self, config: OptunaSampler, space: Space, objectives: Sequence[Objective], seed: int) -> None:
        self._population, self._steady = config.population, config.steady
        self._space = space
        self._objectives = objectives
        self._rng = np.random.default_rng([seed, 1])
        self._asks = Asks(space, self._rng, config.first)
        self._parameters = _Parameters(space)
        sampled = len(self._parameters.distributions) > 0
        breeds = config.sampler in ("nsga2", "nsga3")  # generation 0 has to be full
        self._enough = (config.population if breeds else STARTUP) if sampled else math.inf
        self._measured = 0
        self._repeats = config.sampler == "tpe"  # an ask of the others takes long, or begins a generation
        self._values: dict[tuple[int, ...], list[float]] = {}  # losses of measured genomes
        self._begun = False
        self._open: dict[tuple[int, ...], Any] = {}  # Optuna's trials of genomes that are not told yet
        with _quiet():
            import optuna

            self._states = optuna.trial.TrialState
            self._storage = optuna.storages.InMemoryStorage()
            minimize = [optuna.study.StudyDirection.MINIMIZE] * len(objectives)
            self._id = self._storage.create_new_study(minimize, "search")
            self._study = optuna.load_study(
                study_name="search",
                storage=self._storage,
                sampler=_sampler(config, len(self._parameters.distributions), int(self._rng.integers(2**31))),
            )

    def ask(self, n: int) -> list[Ask]:
        with _quiet():
            return self._asks.ask(n, self._generation)

    def tell(self, trials: Sequence[Trial]) -> None:
        with _quiet():
            for trial in trials:
                genome = self._asks.register(trial)
                if genome is not None:
                    self._tell(genome, trial.outcome)

    def _generation(self) -> list[Genome]:
        """As many new genomes as the population, one in steady state after the first generation."""
        n = 1 if self._steady and self._begun else self._population
        self._begun = True
        if not self._asks.are_given and self._measured >= self._enough:
            return [genome for _ in range(n) for genome in self._proposed()]
        samples = self._asks.fresh(n)
        for genome in samples:
            self._run(genome, self._asked())
        return samples

    def _proposed(self) -> list[Genome]:
        """One new genome: the sampler's, a neighbour of it where it is known, or a sample of the space."""
        trial, genome = self._unknown()
        for candidates in ([genome], self._neighbours(genome)):
            new = self._asks.admit(candidates, 1)
            if new:
                break
        new = new or self._asks.fresh(1)
        for one in new:
            self._run(one, trial)
        return new

    def _unknown(self) -> tuple[Any, Genome]:
        """The sampler's trial and its genome; a measured one that the estimator proposes again counts once more."""
        for _ in range(REPEATS if self._repeats else 0):
            trial, genome = self._proposal()
            if (values := self._values.get(tuple(genome.tolist()))) is None:
                return trial, genome
            self._run(genome, trial)
            self._study.tell(self._open.pop(tuple(genome.tolist())), values)
        return self._proposal()

    def _proposal(self) -> tuple[Any, Genome]:
        trial = self._asked()
        return trial, self._parameters.genome(trial.params)

    def _neighbours(self, genome: Genome) -> Iterator[Genome]:
        """Mutants of a genome, then of those, and so on."""
        walkers = [genome]
        for _ in range(ROUNDS):
            walkers = [self._space.mutate(walker, self._rng) for walker in walkers for _ in range(2)]
            yield from walkers

    def _asked(self) -> Any:
        """Return a new running trial of Optuna's, with what the sampler proposes."""
        return self._study.ask(self._parameters.distributions)

    def _run(self, genome: Genome, trial: Any) -> None:
        """Keep the trial open as that of the genome."""
        proposed = trial.params
        number = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        for name, value in self._parameters.values(genome).items():
            if value != proposed[name]:
                own = self._parameters.distributions[name]
                self._storage.set_trial_param(number, name, own.to_internal_repr(value), own)
        self._open[tuple(genome.tolist())] = trial

    def _tell(self, genome: Genome, outcome: Outcome) -> None:
        key = tuple(genome.tolist())
        if key not in self._open:
            self._run(genome, self._asked())
        trial = self._open.pop(key)
        if isinstance(outcome, Measured):
            self._measured += 1
            values = losses([outcome.estimates], self._objectives)[0].tolist()
            self._values[key] = values
            self._study.tell(trial, values)
        elif isinstance(outcome, Pruned):
            for name, excess in outcome.excess.items():
                trial.set_constraint(name, excess)
            self._study.tell(trial, state=self._states.PRUNED)
        else:
            self._study.tell(trial, state=self._states.FAIL)


class _Parameters:
    """Optuna's parameters of a space: an integer for each free position of the genome, an option for each choice.

    Positions that are pinned, or that follow from others, are left out. The lengths of a proposal are sorted.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._free = [position for position in range(space.width) if _is_free(space, position)]
        self._falling: list[list[int]] = []  # positions of each block of lengths
        self._names: list[str] = []
        self.distributions: dict[str, BaseDistribution] = {}
        start = 0
        for dimension in space.dimensions:
            own = [position for position in self._free if start <= position < start + dimension.width]
            if isinstance(dimension, Lengths):
                self._falling.append(own)
            for position in own:
                name = f"{dimension.name} {position - start:05}"
                self._names.append(name)
                self.distributions[name] = _distribution(space, position, isinstance(dimension, Choice))
            start += dimension.width

    def values(self, genome: Genome) -> dict[str, int]:
        return dict(zip(self._names, genome[self._free].tolist(), strict=True))

    def genome(self, values: Mapping[str, Any]) -> Genome:
        """(W,) the canonical genome of a sampler's proposal."""
        genome = self._space.high
        genome[self._free] = [values[name] for name in self._names]
        for positions in self._falling:
            genome[positions] = np.sort(genome[positions])[::-1]
        return self._space.canonical(self._space.repair(self._space.canonical(genome)))


def _is_free(space: Space, position: int) -> bool:
    """Return whether a position may have its lowest and its highest number, whatever the others are."""
    ends = {int(space.low[position]), int(space.high[position])}
    kept = set()
    for end in ends:
        genome = space.high
        genome[position] = end
        kept.add(int(space.canonical(genome)[position]))
    return len(ends) > 1 and kept == ends


def _distribution(space: Space, position: int, categorical: bool) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    low, high = int(space.low[position]), int(space.high[position])
    return CategoricalDistribution(range(low, high + 1)) if categorical else IntDistribution(low, high)


def _sampler(config: OptunaSampler, parameters: int, seed: int) -> BaseSampler:
    """Optuna's sampler; where it would begin with random trials, the space's samples are measured instead."""
    from optuna import samplers

    population = config.population
    if config.sampler == "gp":
        return samplers.GPSampler(n_startup_trials=STARTUP, seed=seed, warn_independent_sampling=False)
    if config.sampler == "nsga2":
        return samplers.NSGAIISampler(population_size=population, seed=seed)
    if config.sampler == "nsga3":
        return samplers.NSGAIIISampler(population_size=population, seed=seed)
    if config.sampler == "cma-es":
        own = 4 + int(3 * math.log(max(1, parameters)))  # Hansen 2016, eq. 48; a larger generation is used whole
        return samplers.CmaEsSampler(popsize=max(own, population), seed=seed, warn_independent_sampling=False)
    return samplers.TPESampler(n_startup_trials=STARTUP, multivariate=True, seed=seed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's messages and warnings; its settings are afterwards what they were."""
    logger = logging.getLogger("optuna")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
