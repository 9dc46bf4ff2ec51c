"""What models of the outcomes expect of candidates that are not measured yet.

n measured candidates, N others, M objectives, W width of a genome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from searchkit.engines.gain import expected_gains
from searchkit.engines.gaussian import Features, GaussianProcess
from searchkit.front import Array, hypervolume, losses, losses_of, nondominated, reference_point
from searchkit.objective import Objective
from searchkit.records import Estimate
from searchkit.space import Genome, Space

MOST_POINTS: Final = 300  # measured candidates that a model is made of: its time grows with their third power
MOST_PARTS: Final = 100  # of those that lost a race, the latest
REFITTED: Final = 1.2  # parameters are looked for again when so many times as many are measured


class Outlook:
    """Outcomes so far, and the parameters of their models, which are looked for anew only now and then."""

    def __init__(self, space: Space, objectives: Sequence[Objective]) -> None:
        self._objectives, self._features = tuple(objectives), Features(space)
        self._genomes: list[Genome] = []
        self._estimates: list[Mapping[str, Estimate]] = []
        self._parts: list[tuple[Genome, Mapping[str, Estimate]]] = []
        self._theta: dict[str, tuple[int, Array]] = {}  # objective -> candidates at the last fit, parameters

    def tell(self, genome: Genome, estimates: Mapping[str, Estimate]) -> None:
        self._genomes.append(genome)
        self._estimates.append(estimates)

    def tell_part(self, genome: Genome, seen: Mapping[str, Estimate]) -> None:
        """Count what is known of a candidate that lost a race, on a part of the examples."""
        self._parts.append((genome, seen))

    @property
    def is_known(self) -> bool:
        """Return whether a model can be made."""
        return len(self._genomes) > 1

    def view(self) -> View:
        """What is expected after these outcomes."""
        every = losses(self._estimates, self._objectives)
        rows = self._chosen(every)
        genomes, points = np.array(self._genomes)[rows], every[rows]
        models: list[Model] = []
        for number, axis in enumerate(self._objectives):
            data = self._data(axis, genomes, points[:, number], [self._estimates[row] for row in rows])
            fitted, theta = self._theta.get(axis.name, (0, None))
            due = len(every) >= REFITTED * fitted
            model = Model(self._features, axis, data, None if due else theta)
            if due:
                self._theta[axis.name] = (len(every), model.theta)
            models.append(model)
        return View(models, genomes, points, reference_point(every))

    def _data(
        self, axis: Objective, genomes: Genome, values: Array, estimates: Sequence[Mapping[str, Estimate]]
    ) -> Data:
        """What is known of an objective: the measured values, then those of the latest that lost a race."""
        whole = [estimate[axis.name] for estimate in estimates]
        noise = max((estimate.standard_error or 0.0) ** 2 for estimate in whole)
        n = max(estimate.n for estimate in whole)
        lost = [(genome, seen[axis.name]) for genome, seen in self._parts[-MOST_PARTS:] if axis.name in seen]
        if not lost:
            return Data(genomes, values, noise, np.zeros(len(values)))
        more = losses_of(axis, [estimate.value for _, estimate in lost])
        left = [(estimate.standard_error or 0.0) ** 2 * max(0.0, 1 - estimate.n / n) for _, estimate in lost]
        return Data(
            np.concatenate([genomes, [genome for genome, _ in lost]]),
            np.concatenate([values, more]),
            noise,
            np.concatenate([np.zeros(len(values)), left]),
        )

    def _chosen(self, every: Array) -> Genome:
        """Rows that models are made of: all, or those nearest to the front and, as many, evenly spaced others."""
        if len(every) <= MOST_POINTS:
            return np.arange(len(every))
        front = every[nondominated(every)]
        spread = np.ptp(every, axis=0)
        spread[spread == 0] = 1.0
        behind = (((every[:, None] - front[None]) / spread).max(axis=2)).min(axis=1)  # how far a member is ahead
        order = np.argsort(behind, kind="stable")
        near, far = order[: MOST_POINTS // 2], order[MOST_POINTS // 2 :]
        return np.sort(np.concatenate([near, far[:: max(1, len(far) // (MOST_POINTS // 2))]]))


@dataclass(frozen=True, eq=False)
class Data:
    """Known values of a loss: (n, W) genomes, (n,) losses, the variance of their errors at most, and (n,) what that is
    more for those that were seen on a part of the examples."""

    genomes: Genome
    values: Array
    noise: float
    more: Array

    def with_expected(self, genomes: Genome, values: Array) -> Data:
        return Data(
            np.concatenate([self.genomes, genomes]),
            np.concatenate([self.values, values]),
            self.noise,
            np.concatenate([self.more, np.zeros(len(values))]),
        )


class Model:
    """Model of a loss by a Gaussian process.

    Of a cost that the trace decides, such as MACs, what is modelled is how it departs, as a ratio, from BERT's
    proportions, which lengths alone give: nearly nothing, where there are no thresholds.
    """

    def __init__(self, features: Features, objective: Objective, data: Data, theta: Array | None) -> None:
        self._features, self._is_cost = features, objective.traced and bool((data.values > 0).all())
        if self._is_cost:
            data = replace(data, values=np.log(data.values) - features.log_cost(data.genomes), noise=0.0)
        self._data = data
        self._process = self._fitted(theta)

    @property
    def theta(self) -> Array:
        return self._process.theta

    def predict(self, genomes: Genome) -> tuple[Array, Array]:
        """(N,) mean and standard deviation of the loss."""
        mean, deviation = self._process.predict(self._features.of(genomes))
        if not self._is_cost:
            return mean, deviation
        cost = np.exp(mean + self._features.log_cost(genomes))
        return cost, cost * deviation

    def expect(self, genomes: Genome) -> None:
        """Count these genomes as measured, at what is expected of them."""
        mean, _ = self._process.predict(self._features.of(genomes))
        self._data = self._data.with_expected(genomes, mean)
        self._process = self._fitted(self.theta)

    def _fitted(self, theta: Array | None) -> GaussianProcess:
        data, features = self._data, self._features
        return GaussianProcess(features.of(data.genomes), data.values, data.noise, data.more, features.scales, theta)


class View:
    """Expectations at one moment of a search."""

    def __init__(self, models: Sequence[Model], genomes: Genome, points: Array, reference: Array) -> None:
        self._models, self._genomes, self._reference = models, genomes, reference
        self._front = self.predict(genomes)[0]

    @property
    def front(self) -> Genome:
        """(K, W) measured genomes that no other is expected to dominate."""
        return self._genomes[nondominated(self._front[: len(self._genomes)])]

    @property
    def volume(self) -> float:
        """Hypervolume of what is measured, as the models have it; above 0."""
        return max(hypervolume(self._front, self._reference), 1e-300)

    def predict(self, genomes: Genome) -> tuple[Array, Array]:
        """(N, M) means and standard deviations of the losses."""
        every = [model.predict(genomes) for model in self._models]
        return np.stack([mean for mean, _ in every], 1), np.stack([deviation for _, deviation in every], 1)

    def gains(self, genomes: Genome) -> Array:
        """(N,) expected gains in hypervolume."""
        return self.gains_of(*self.predict(genomes))

    def gains_of(self, mean: Array, deviation: Array) -> Array:
        """(N,) expected gains of candidates with these (N, M) losses."""
        return expected_gains(self._front, self._reference, mean, deviation)

    def expect(self, genomes: Sequence[Genome]) -> None:
        """Count these genomes as measured, at what is expected of them."""
        if len(genomes):
            block = np.array(genomes)
            self._front = np.concatenate([self._front, self.predict(block)[0]])
            for model in self._models:
                model.expect(block)
