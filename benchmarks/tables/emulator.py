"""Emulator of a large space: what a sample of its candidates says of all others, always the same numbers.

Accuracy is the mean of gradient-boosted trees, which never fall when a length grows; the cost, which has next to no
error, is a polynomial of second degree. Trees and not a Gaussian process, so that no engine has the truth's own form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from searchkit.records import Candidate

Floats = NDArray[np.float64]
Emulator = Callable[[Sequence[Candidate]], Floats]


def emulated_from(candidates: Sequence[Candidate], values: Floats) -> Emulator:
    """Emulator from these candidates and their (N, 2) accuracy and cost: other candidates -> the same."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures

    given = numbers(candidates)
    quality = HistGradientBoostingRegressor(
        max_iter=400,
        learning_rate=0.05,
        max_leaf_nodes=16,
        min_samples_leaf=8,
        l2_regularization=1.0,
        monotonic_cst=[1] * given.shape[1],
        early_stopping=False,
        random_state=0,
    ).fit(given, values[:, 0])
    cost = make_pipeline(PolynomialFeatures(2), LinearRegression()).fit(given, values[:, 1])

    def emulated(others: Sequence[Candidate]) -> Floats:
        asked = numbers(others)
        return np.stack([quality.predict(asked), cost.predict(asked)], 1)

    return emulated


def numbers(candidates: Sequence[Candidate]) -> Floats:
    """(N, layers) lengths."""
    return np.array([candidate["lengths"] for candidate in candidates], dtype=float)


def errors_of(candidates: Sequence[Candidate], values: Floats, folds: int = 5) -> Floats:
    """(2,) root mean square errors of accuracy and cost on candidates that the emulator was not fitted to."""
    off = np.empty_like(values)
    for fold in range(folds):
        held = np.arange(len(candidates)) % folds == fold
        rest = [one for one, out in zip(candidates, held, strict=True) if not out]
        others = [one for one, out in zip(candidates, held, strict=True) if out]
        off[held] = emulated_from(rest, values[~held])(others) - values[held]
    return np.asarray(np.sqrt((off**2).mean(axis=0)))
