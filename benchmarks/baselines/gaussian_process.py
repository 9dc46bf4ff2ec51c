"""A Gaussian process of scikit-learn, asked for the candidates of the greatest expected hypervolume gain.

What a practitioner writes in an afternoon, for two objectives, the first a quality and the second a cost: the quality
is modelled on the logarithms of the lengths; the cost is given where lengths alone decide it, and modelled otherwise.

n known candidates, N others, K members of the front.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from searchkit.front import losses, nondominated
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Measured, Trial
from searchkit.space import Genome, Lengths, Space

LISTED: Final = 50_000  # candidates of a space that is looked at as a whole; of a larger one, draws and neighbours
DRAWN: Final = 5_000
FAVOURITES: Final = 1_000  # by their gain as the first of a batch; the others of the batch are chosen among them
EVERY: Final = 5  # batches between two fits of the length scales, once there are many points
MANY: Final = 100

Cost = Callable[[Candidate], float]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianProcess:
    """Batches of `population`, after so many candidates at random.

    Within a batch, each choice is believed to be worth its mean before the next one is made.
    """

    population: int = 4
    random: int = 12

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> _Running:
        return _Running(self, space, objectives, seed, None)

    def start_at(self, space: Space, objectives: Sequence[Objective], seed: int, cost: Cost) -> _Running:
        """Start a search that knows a candidate's cost before it is measured."""
        return _Running(self, space, objectives, seed, cost)


class _Running:
    def __init__(
        self,
        config: GaussianProcess,
        space: Space,
        objectives: Sequence[Objective],
        seed: int,
        cost: Cost | None,
    ) -> None:
        self._config, self._space, self._objectives, self._cost = config, space, objectives, cost
        self._rng = np.random.default_rng(seed)
        self._all = np.array(list(space.genomes())) if space.size <= LISTED else None
        self._genomes: list[tuple[int, ...]] = []  # asked
        self._losses = np.empty((0, 2))  # of these, told
        self._known_costs: dict[tuple[int, ...], float] = {}
        self._quality, self._modelled_cost = Process(), Process()

    def ask(self, n: int) -> list[Ask]:
        pool, first = self._pool(), len(self._genomes)
        if first < self._config.random:
            chosen = pool[self._rng.permutation(len(pool))[:n]]
        else:
            chosen = self._best(pool, min(n, len(pool)))
        self._genomes += map(tuple, chosen.tolist())
        return [Ask(first + i, self._space.decode(genome)) for i, genome in enumerate(chosen)]

    def tell(self, trials: Sequence[Trial]) -> None:
        estimates = [trial.outcome.estimates for trial in trials if isinstance(trial.outcome, Measured)]
        self._losses = np.vstack([self._losses, losses(estimates, self._objectives)])

    def _best(self, pool: Genome, n: int) -> Genome:
        """(n, W) the greatest expected gain, then the greatest once that one is believed, ..."""
        known, seen = features_of(self._space, np.array(self._genomes)), self._losses
        features, reference = features_of(self._space, pool), seen.max(0)
        tune = len(seen) < MANY or len(seen) // self._config.population % EVERY == 0
        costs = self._costs(pool, known, features, tune)
        rows, chosen = np.arange(len(pool)), list[int]()
        for _ in range(n):
            self._quality.fit(known, seen[:, 0], tune and not chosen)
            mean, deviation = self._quality.predict(features[rows])
            gain = expected_gain(mean, deviation, costs[rows], seen, reference) + 1e-12 * deviation
            best = int(np.argmax(gain))
            known = np.vstack([known, features[rows[best]]])
            seen = np.vstack([seen, [mean[best], costs[rows[best]]]])
            chosen.append(int(rows[best]))
            rows = rows[np.argsort(-gain, kind="stable")[1 : 1 + FAVOURITES]]
        return pool[chosen]

    def _costs(self, pool: Genome, known: Floats, features: Floats, tune: bool) -> Floats:
        """(N,) costs of the pool."""
        if self._cost is None:
            self._modelled_cost.fit(known, self._losses[:, 1], tune)
            return self._modelled_cost.predict(features)[0]
        keys = list(map(tuple, pool.tolist()))
        for key, genome in zip(keys, pool, strict=True):
            if key not in self._known_costs:
                self._known_costs[key] = self._cost(self._space.decode(genome))
        return np.array([self._known_costs[key] for key in keys])

    def _pool(self) -> Genome:
        """(N, W) candidates that were never asked for: all of a small space, else draws and the front's neighbours."""
        if self._all is not None:
            rows = self._all
        else:
            drawn = [
                own.uniform(DRAWN, self._rng) if isinstance(own, Lengths) else own.sample(DRAWN, self._rng)
                for own in self._space.dimensions
            ]
            members = np.array(self._genomes).reshape(-1, self._space.width)[nondominated(self._losses)]
            near = [self._space.mutate(one, self._rng) for one in members for _ in range(DRAWN // len(members))]
            rows = np.array([self._space.canonical(one) for one in [*np.hstack(drawn), *near]])
        asked = set(self._genomes)
        new = dict.fromkeys(key for key in map(tuple, rows.tolist()) if key not in asked)
        return np.array(list(new), dtype=np.int64).reshape(len(new), self._space.width)


class Process:
    """Matern 5/2 with a length scale per feature, and noise; one fit begins with the scales of the one before."""

    def __init__(self) -> None:
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._kernel: Any = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(1.0, (1e-1, 1e2), nu=2.5)
        self._kernel += WhiteKernel(1e-3, (1e-7, 1e-1))
        self._fitted: Any = None

    def fit(self, features: Floats, values: Floats, tune: bool) -> None:
        """Fit to (n, F) features and (n,) values; with the length scales, where they are tuned."""
        from sklearn.gaussian_process import GaussianProcessRegressor

        if self._fitted is None:
            self._kernel = self._kernel.clone_with_theta(self._kernel.theta)
            self._kernel.k1.k2.length_scale = np.ones(features.shape[1])
        optimizer = "fmin_l_bfgs_b" if tune else None
        process = GaussianProcessRegressor(self._kernel, optimizer=optimizer, normalize_y=True)
        with warnings.catch_warnings(action="ignore"):  # length scales at their bounds: an idle layer
            self._fitted = process.fit(features, values)
        self._kernel = self._fitted.kernel_

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """(N,) means and (N,) standard deviations."""
        mean, deviation = self._fitted.predict(features, return_std=True)
        return mean, deviation


def expected_gain(mean: Floats, deviation: Floats, costs: Floats, seen: Floats, reference: Floats) -> Floats:
    """(N,) expected gain of hypervolume within the reference, exactly, from candidates of normal loss and known cost.

    seen: (n, 2) known losses. The front is a staircase: from one member's cost to the next, a loss of y gains
    max(0, height - y) times the width, and E max(0, h - Y) = (h - m) Phi(z) + s phi(z) with z = (h - m) / s.
    """
    front = seen[nondominated(seen) & (seen < reference).all(1)]
    front = front[np.argsort(front[:, 1])]
    edges = np.concatenate([[-np.inf], front[:, 1], [reference[1]]])  # of the K + 1 steps, by cost
    heights = np.concatenate([[reference[0]], front[:, 0]])
    widths = np.clip(edges[1:] - np.maximum(edges[:-1], costs[:, None]), 0.0, None)  # (N, K + 1)
    above, scale = heights - mean[:, None], np.maximum(deviation, 1e-12)[:, None]
    z = above / scale
    return np.asarray((widths * (above * norm.cdf(z) + scale * norm.pdf(z))).sum(1))


def features_of(space: Space, genomes: Genome) -> Floats:
    """(n, F) logarithms of the lengths and indices of the thresholds; without what the last layer never looks at."""
    columns, start = [], 0
    for own in space.dimensions:
        block = genomes[:, start : start + own.width - space.last_idle]
        columns.append(np.log(np.array(own.values))[block] if isinstance(own, Lengths) else block.astype(np.float64))
        start += own.width
    return np.hstack(columns)
