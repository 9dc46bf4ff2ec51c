"""Expected gain in hypervolume of candidates that are not measured yet.

N candidates, K members of the front, S steps of its staircase, M objectives, R draws.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from searchkit.front import Array, hypervolume, nondominated

DRAWS: Final = 8  # of losses that no closed form covers
COMPARED: Final = 64  # candidates that are drawn for, those whose luck would bring most


def expected_gains(front: Array, reference: Array, mean: Array, deviation: Array) -> Array:
    """(N,) expected hypervolume that each candidate alone would add to the front (K, M) within the reference (M,).

    mean, deviation: (N, M) of the candidates' losses, independent and normal; 0 where a loss is known. With two
    objectives it is exact where one of them is known (Emmerich, Deutz and Klinkenberg 2011 for the general case), and
    the mean over quantiles of the second one otherwise; with more it is estimated from draws.
    """
    if mean.shape[1] == 1:
        best = min(float(reference[0]), *front[:, 0].tolist())
        return expected_shortfall(best, mean[:, 0], deviation[:, 0])
    if mean.shape[1] > 2:
        return _drawn(front, reference, mean, deviation)
    uncertain, known = (0, 1) if deviation[:, 1].sum() <= deviation[:, 0].sum() else (1, 0)
    points = _normal_quantiles(1 if not deviation[:, known].any() else 4)
    gains = [
        _against_staircase(
            front[:, [uncertain, known]],
            reference[[uncertain, known]],
            mean[:, uncertain],
            deviation[:, uncertain],
            mean[:, known] + point * deviation[:, known],
        )
        for point in points
    ]
    return np.asarray(np.mean(gains, axis=0))


def expected_shortfall(limit: Array | float, mean: Array, deviation: Array) -> Array:
    """E[max(0, limit - x)] of normal x; of known x where the deviation is 0."""
    from scipy.special import ndtr  # imported on use: it takes a tenth of a second

    below = limit - mean
    spread = np.maximum(deviation, 1e-12)
    z = below / spread
    expected = below * ndtr(z) + spread * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray(np.where(deviation > 0, np.maximum(expected, 0.0), np.maximum(below, 0.0)))


def _against_staircase(front: Array, reference: Array, mean: Array, deviation: Array, cost: Array) -> Array:
    """(N,) gains where the second loss is known: every step of the staircase is a rectangle as wide as what is left of
    it beyond the candidate's cost, and as high as the candidate falls below it."""
    inside = front[(front < reference).all(axis=1)]
    steps = inside[nondominated(inside)] if len(inside) else inside
    steps = steps[np.argsort(steps[:, 1])]
    left = np.concatenate([[-np.inf], steps[:, 1]])
    right = np.concatenate([steps[:, 1], [reference[1]]])
    height = np.concatenate([[reference[0]], steps[:, 0]])
    width = np.clip(right - np.maximum(left, cost[:, None]), 0.0, None)  # (N, S)
    return np.asarray((width * expected_shortfall(height, mean[:, None], deviation[:, None])).sum(axis=1))


def _normal_quantiles(n: int) -> Array:
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(n) + 0.5) / n))


def _drawn(front: Array, reference: Array, mean: Array, deviation: Array) -> Array:
    """(N,) gains as means over the same R draws for every candidate; 0 for all but the best of the optimistic ones."""
    draws = np.random.default_rng(0).standard_normal((DRAWS, mean.shape[1]))
    inside = front[(front < reference).all(axis=1)]
    inside = inside[nondominated(inside)] if len(inside) else inside
    base = hypervolume(inside, reference)
    lucky = np.maximum(reference - (mean - deviation), 0.0).prod(axis=1)
    gains = np.zeros(len(mean))
    for number in np.argsort(-lucky, kind="stable")[:COMPARED]:
        points = mean[number] + draws * deviation[number]
        gains[number] = np.mean([hypervolume(np.vstack([inside, point]), reference) - base for point in points])
    return gains
