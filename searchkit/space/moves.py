"""How lengths are drawn, moved and mated, on lists of level indices that never grow with depth.

K layers, indices from low to high.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from searchkit.space.base import Genome, blend, power_law

# Shapes to sample: K layers, level indices from low to high -> K indices that never grow.


def _decay(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """From a start to an end along (1 - depth) ** p, p between 1/4 and 4."""
    start = rng.uniform(0, 1)
    end = rng.uniform(0, start)
    depth = np.linspace(0, 1, k)
    curve = end + (start - end) * (1 - depth) ** (4.0 ** rng.uniform(-1, 1))
    return [low + int(level) for level in np.rint(curve * (high - low))]


def _cliff(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Keep much up to a layer and little after it; both within half the range, mostly close to the ends."""
    edge = int(rng.integers(0, k + 1))
    much = high - int((high - low) / 2 * rng.random() ** 2)
    little = low + int((high - low) / 2 * rng.random() ** 2)
    return [much] * edge + [little] * (k - edge)


def uniform(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Stars and bars: k distinct positions of k + m - 1, less their rank, are a uniform multiset of k of m levels."""
    bars = np.sort(rng.choice(k + high - low, size=k, replace=False)) - np.arange(k)
    return [low + int(level) for level in bars[::-1]]


def _constant(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    return [int(rng.integers(low, high + 1))] * k


SHAPES: Final = (_decay, _cliff, uniform, _constant)
SHARES: Final = (0.35, 0.3, 0.25, 0.1)


# Moves of a mutation: a non-increasing list within low..high (changed in place, it is a copy) -> another one.


def _push(v: list[int], start: int, stop: int) -> list[int]:
    """Layers before start.. rise to it and layers after ..stop fall to it, so that a changed block keeps its change."""
    v[:start] = [max(level, v[start]) for level in v[:start]]
    v[stop:] = [min(level, v[stop - 1]) for level in v[stop:]]
    return v


def _shift(v: list[int], start: int, stop: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    step = power_law(high - low, rng) * (1 if rng.random() < 0.5 else -1)
    v[start:stop] = [min(max(level + step, low), high) for level in v[start:stop]]
    return _push(v, start, stop)


def _step_layers(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    for layer in rng.choice(len(v), size=power_law(len(v), rng), replace=False).tolist():
        v = _shift(v, layer, layer + 1, low, high, rng)
    return v


def _shift_block(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    start, stop = sorted(rng.choice(len(v) + 1, size=2, replace=False).tolist())
    return _shift(v, start, stop, low, high, rng)


def _shift_all(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    return _shift(v, 0, len(v), low, high, rng)


def _copy_neighbour(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    layer = int(rng.integers(len(v)))
    neighbour = layer + (1 if rng.random() < 0.5 else -1)
    v[layer] = v[min(max(neighbour, 0), len(v) - 1)]
    return v


def _move_cliff(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    """The whole profile some layers deeper or shallower; the ends fill the gap."""
    by = power_law(len(v), rng)
    return [v[0]] * by + v[:-by] if rng.random() < 0.5 else v[by:] + [v[-1]] * by


Move = Callable[[list[int], int, int, np.random.Generator], list[int]]
MOVES: Final[tuple[Move, ...]] = (_step_layers, _copy_neighbour, _shift_block, _shift_all, _move_cliff)


# Matings: two parents -> two children, made legal afterwards by the projection where they cross.


def _exchange_depths(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    cut = int(rng.integers(1, max(2, len(a))))
    return np.concatenate([a[:cut], b[cut:]]), np.concatenate([b[:cut], a[cut:]])


def _envelopes(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    return np.maximum(a, b), np.minimum(a, b)


MATINGS: Final = (_exchange_depths, blend, _envelopes)
