"""Gaussian process of one loss over genomes, with numbers of a space that a smooth kernel can learn from.

n measured candidates, N others, F features.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from searchkit.front import Array
from searchkit.space import Choice, Genome, Lengths, Space, Thresholds

# Priors of the kernel's parameters: mean and spread of their logarithms. Those of lengths are what whole tables of real
# spaces show (docs/decisions/surrogate.md): the first layer matters most, and each after it less.
FIRST_LENGTH: Final = (0.0, 0.4)  # length scale, in features, of the first length, and of the last one
LAST_LENGTH: Final = (2.0, 0.4)
OTHER: Final = (0.5, 1.0)  # of any other feature
AMPLITUDE: Final = (1.5, 1.0)  # variance, in units of the losses' own
NOISE: Final = (-5.0, 1.0)
STEPS: Final = 40  # of the optimiser


class Features:
    """Features of genomes: logarithms of lengths (base 8), ranks of thresholds and numbers, choices one by one.

    What never varies is left out, such as a pinned length, or the last one where it is idle.
    """

    def __init__(self, space: Space) -> None:
        scales: list[tuple[float, float]] = []
        self._lengths: tuple[slice, Array] | None = None  # their block, and their values by level
        self._last_idle = space.last_idle
        self._columns: list[Callable[[Genome], Array]] = []
        position = 0
        for own in space.dimensions:
            low, high = own.bounds
            if isinstance(own, Lengths):
                self._lengths = slice(position, position + own.width), np.array(own.values, dtype=float)
            for slot in range(own.width):
                last = slot == own.width - 1
                idle = last and space.last_idle and isinstance(own, Lengths | Thresholds)
                if low[slot] == high[slot] or (idle and not (isinstance(own, Lengths) and own.last is not None)):
                    continue
                columns = _columns(own, position + slot, int(low[slot]), int(high[slot]))
                depth = slot / max(own.width - 1, 1)
                prior = _between(FIRST_LENGTH, LAST_LENGTH, depth) if isinstance(own, Lengths) else OTHER
                self._columns += columns
                scales += [prior] * len(columns)
            position += own.width
        self.scales = np.array(scales or [OTHER])  # (F, 2)

    @property
    def width(self) -> int:
        return len(self._columns)

    def of(self, genomes: Genome) -> Array:
        """(N, F) features of (N, W) genomes."""
        return (
            np.stack([column(genomes) for column in self._columns], 1) if self._columns else np.zeros((len(genomes), 1))
        )

    def log_cost(self, genomes: Genome) -> Array:
        """(N,) logarithm of the cost that lengths have in BERT's proportions; 0 without lengths.

        A token costs 1 in a layer's attention, and 2 in its feed-forward part, which is 4 times as wide as the model;
        in a last layer that computes one token alone, the others cost their keys and values, 1/2.
        """
        if self._lengths is None:
            return np.zeros(len(genomes))
        block, values = self._lengths
        kept = values[genomes[:, block]]
        given = np.concatenate([np.full((len(kept), 1), values[-1]), kept[:, :-1]], axis=1)
        if self._last_idle:
            given[:, -1] /= 2
            kept[:, -1] = 0
        return np.asarray(np.log((given + 2 * kept).sum(axis=1)))


def _is_option(position: int, option: int, genomes: Genome) -> Array:
    return np.asarray(genomes[:, position] == option, dtype=np.float64)


def _between(first: tuple[float, float], last: tuple[float, float], depth: float) -> tuple[float, float]:
    a, b = ((1 - depth) * one + depth * other for one, other in zip(first, last, strict=True))
    return a, b


def _columns(own: Any, position: int, low: int, high: int) -> list[Callable[[Genome], Array]]:
    if isinstance(own, Lengths):
        logs = np.log(np.array(own.values, dtype=float)) / np.log(8)
        return [lambda genomes: logs[genomes[:, position]] - logs[high]]
    if isinstance(own, Choice):
        return [functools.partial(_is_option, position, option) for option in range(low, high + 1)]
    return [lambda genomes: (genomes[:, position] - low) / (high - low)]


class GaussianProcess:
    """Gaussian process with a Matern 3/2 kernel that has a length scale per feature.

    Its parameters are the most probable ones under priors: a dozen measurements do not tell a dozen length scales.
    They are rounded, so that the last bits of a sum, which differ from one processor to another, decide nothing.
    """

    def __init__(
        self, features: Array, losses: Array, noise: float, more: Array, scales: Array, theta: Array | None = None
    ) -> None:
        """noise: variance of the losses' errors, at most; more: (n,) what it is more; scales: (F, 2) priors of the
        length scales; theta: parameters to take as they are, None to find them"""
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        self._mean, self._scale = float(losses.mean()), float(losses.std()) or 1.0
        most = max(noise / self._scale**2, 1e-6)
        kernel = ConstantKernel(1.0, (1e-3, 1e3)) * Matern(np.exp(scales[:, 0]), (1e-2, 1e3), nu=1.5)
        kernel += WhiteKernel(min(most, np.exp(NOISE[0])), (1e-9, 2 * most))
        priors = np.array([AMPLITUDE, *scales.tolist(), NOISE])
        self._process = GaussianProcessRegressor(
            kernel if theta is None else kernel.clone_with_theta(theta),
            alpha=1e-8 + more / self._scale**2,
            optimizer=_most_probable(priors[:, 0], priors[:, 1]) if theta is None else None,
        )
        with single_threaded():
            self._process.fit(features, (losses - self._mean) / self._scale)

    @property
    def theta(self) -> Array:
        """Logarithms of the parameters."""
        return np.asarray(self._process.kernel_.theta)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """(N,) mean and standard deviation of the loss itself, without errors of measurement."""
        process = self._process
        with single_threaded():
            mean, deviation = process.predict(features, return_std=True)
        noise = float(np.exp(self.theta[-1]))
        without = np.sqrt(np.maximum(deviation**2 - noise, 1e-12))
        return self._mean + self._scale * mean, self._scale * without


def _most_probable(mean: Array, spread: Array) -> Callable[..., tuple[Array, float]]:
    """Optimiser for scikit-learn that adds priors on the logarithms of the parameters: normal ones on amplitude, which
    comes first, and noise, which comes last; on length scales Student's t of 3 degrees, whose tails let outcomes that
    say otherwise prevail."""
    from scipy.optimize import minimize

    def optimiser(objective: Callable[..., Any], start: Array, bounds: Array) -> tuple[Array, float]:
        def penalised(theta: Array) -> tuple[float, Array]:
            value, gradient = objective(theta, eval_gradient=True)
            off = (theta - mean) / spread
            scales = off[1:-1]
            slope = off.copy()
            slope[1:-1] = 4 * scales / (3 + scales**2)
            penalty = (off[0] ** 2 + off[-1] ** 2) / 2 + 2 * np.log1p(scales**2 / 3).sum()
            return value + float(penalty), gradient + slope / spread

        found = minimize(penalised, start, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": STEPS})
        return np.clip(np.round(found.x, 2), bounds[:, 0], bounds[:, 1]), float(found.fun)

    return optimiser


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for linear algebra: the same bits whatever else the process has, and no slower on small matrices."""
    with _libraries().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn: a parameter at its bound is fine here
        yield


@functools.cache
def _libraries() -> Any:
    """Libraries of linear algebra in this process; to look for them takes longer than to solve."""
    import scipy.linalg  # noqa: F401  # one of them
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
