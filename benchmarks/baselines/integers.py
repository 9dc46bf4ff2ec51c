"""Candidates from plain integers, one per slot, for libraries that know no order between the slots.

N genomes, W width of the space.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from searchkit.space import Genome, Lengths, Space

Fall = Callable[[Genome], Genome]


def cumulative_minimum(space: Space, rows: NDArray[np.int64]) -> Genome:
    """(N, W) canonical genomes of N rows within the bounds: each length at most that of the layer before."""
    return _repaired(space, rows, lambda lengths: np.minimum.accumulate(lengths, axis=1))


def descending(space: Space, rows: NDArray[np.int64]) -> Genome:
    """(N, W) canonical genomes of N rows within the bounds: the lengths sorted, longest first."""
    return _repaired(space, rows, lambda lengths: -np.sort(-lengths, axis=1))


def _repaired(space: Space, rows: NDArray[np.int64], fall: Fall) -> Genome:
    genomes, start = rows.copy(), 0
    for own in space.dimensions:
        block = slice(start, start + own.width)
        if isinstance(own, Lengths):
            genomes[:, block] = np.clip(fall(genomes[:, block]), *own.bounds)
        start = block.stop
    return np.array([space.canonical(genome) for genome in genomes]).reshape(len(rows), space.width)
