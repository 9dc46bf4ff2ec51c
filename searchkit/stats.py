"""Statistics on numpy arrays: the sequential test by betting, and the bootstrap.

R resamples, U units (examples; questions where the data has answers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES: Final = 400
SEED: Final = 0
AT_ONCE: Final = 1 << 22  # drawn units in memory at a time

# Shares of the largest stake that cannot ruin the gambler. The wealth is the mean over them: no tuning, little loss.
STAKES: Final = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])[:, None]


def evidence(differences: Floats, population: int, claimed: float = 0.0, start: int = 0) -> float:
    """Log-wealth after these differences, each in [-1, 1], against "their mean over the population >= claimed".

    Bets are placed from number `start` on; what came before is known. Infinite once the claim is impossible, whatever
    the examples that are left may bring.
    """
    known = np.concatenate([[0.0], np.cumsum(differences)])
    left = population - np.arange(len(differences) + 1)
    missing = claimed * population - known  # lower bound of the sum over the remaining examples
    if (missing > left + 1e-9).any():
        return np.inf
    if len(differences) <= start:
        return 0.0
    demanded = missing[start:-1] / left[start:-1]
    stakes = STAKES / np.maximum(1.0 - demanded, 1e-12)
    with np.errstate(divide="ignore"):
        logs = np.log1p(np.maximum(-stakes * (differences[start:] - demanded), -1.0)).sum(1)
    return float(np.logaddexp.reduce(logs) - np.log(len(STAKES)))


def betting_interval(differences: Floats, population: int, error: float, start: int = 0) -> tuple[float, float]:
    """Interval of the mean difference over the population, at confidence 1 - `error` over all looks together."""
    bar = math.log(2 / error)

    def highest(signed: Floats) -> float:
        low, high = -1.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (low, middle) if evidence(signed, population, middle, start) > bar else (middle, high)
        return high

    return -highest(-differences), highest(differences)


def draws(units: int) -> Iterator[NDArray[np.int64]]:
    """(r, U) numbers of units, drawn with repetition, a few resamples at a time and `RESAMPLES` in all."""
    rng = np.random.default_rng(SEED)
    most = max(1, AT_ONCE // units)
    for done in range(0, RESAMPLES, most):
        yield rng.integers(0, units, (min(most, RESAMPLES - done), units))


def resampled(score: Callable[[NDArray[np.int64]], Floats], units: int) -> Floats:
    """(R,) values of `score` on the (r, U) draws."""
    return np.concatenate([score(rows) for rows in draws(units)])


def percentile_interval(values: Floats) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval by percentiles of resamples, of those that are defined; (None, None) for fewer than two."""
    defined = values[np.isfinite(values)]
    if len(defined) < 2:
        return None, None
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)
