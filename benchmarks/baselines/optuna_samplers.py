"""Optuna's samplers through ask and tell: an integer per slot, made legal before it is evaluated.

Each in the stronger of the simple forms: sorting suits the estimator, the cumulative minimum the evolution; and the
estimator learns from the integers that were evaluated, while NSGA-II builds its generations of its own trials only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from benchmarks.baselines.integers import cumulative_minimum, descending
from searchkit.front import losses
from searchkit.objective import Objective
from searchkit.records import Ask, Measured, Trial
from searchkit.space import Genome, Space

Repair = Callable[[Space, Genome], Genome]


@dataclass(frozen=True)
class OptunaTPE:
    """Tree-structured Parzen estimator of all slots together (`multivariate`), one ask at a time; lengths sorted."""

    population: int = 1

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> _Running:
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)
            return _Running(space, objectives, sampler, descending, learns_repaired=True)


@dataclass(frozen=True)
class OptunaNSGA2:
    """Optuna's own NSGA-II: uniform crossover, mutation by a new draw; the cumulative minimum of the lengths."""

    population: int = 20

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> _Running:
        sampler = optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)
        return _Running(space, objectives, sampler, cumulative_minimum, learns_repaired=False)


class _Running:
    """learns_repaired: the study holds the genomes that were evaluated, and the sampler's own trials as failed."""

    def __init__(
        self,
        space: Space,
        objectives: Sequence[Objective],
        sampler: optuna.samplers.BaseSampler,
        repair: Repair,
        learns_repaired: bool,
    ) -> None:
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it greets every new study
        self._study = optuna.create_study(directions=["minimize"] * len(objectives), sampler=sampler)
        optuna.logging.set_verbosity(verbosity)
        self._space, self._objectives = space, objectives
        self._repair, self._learns_repaired = repair, learns_repaired
        bounds = enumerate(zip(space.low.tolist(), space.high.tolist(), strict=True))
        self._slots: dict[str, optuna.distributions.BaseDistribution] = {
            f"x{slot}": optuna.distributions.IntDistribution(low, high) for slot, (low, high) in bounds
        }
        self._asked = 0
        self._open: list[optuna.Trial] = []
        self._genomes = np.empty((0, space.width), dtype=np.int64)  # of the open trials

    def ask(self, n: int) -> list[Ask]:
        self._open = [self._study.ask(self._slots) for _ in range(n)]
        rows = np.array([[trial.params[slot] for slot in self._slots] for trial in self._open], dtype=np.int64)
        self._genomes = self._repair(self._space, rows)
        asks = [Ask(number, self._space.decode(one)) for number, one in enumerate(self._genomes, self._asked)]
        self._asked += n
        return asks

    def tell(self, trials: Sequence[Trial]) -> None:
        estimates = [trial.outcome.estimates for trial in trials if isinstance(trial.outcome, Measured)]
        rows = losses(estimates, self._objectives).tolist()
        for own, genome, values in zip(self._open, self._genomes.tolist(), rows, strict=True):
            if self._learns_repaired:
                self._study.tell(own, state=optuna.trial.TrialState.FAIL)
                params = dict(zip(self._slots, genome, strict=True))
                self._study.add_trial(
                    optuna.trial.create_trial(params=params, distributions=self._slots, values=values)
                )
            else:
                self._study.tell(own, values)
