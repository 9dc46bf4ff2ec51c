"""Sampling, mutation and crossover of levels per layer: lengths, which never grow with depth, and free thresholds.

K layers, level indices from low to high; of a threshold 0 is off.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from searchkit.space.base import Genome, blend, power_law

BLOCKS: Final = 6  # of layers that are drawn together

# Shapes to sample: K layers, level indices from low to high -> K indices, those of lengths never grow.


def _decay(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Decay curve from a start to an end along (1 - depth) ** p, p between 1/4 and 4."""
    start = rng.uniform(0, 1)
    end = rng.uniform(0, start)
    depth = np.linspace(0, 1, k)
    curve = end + (start - end) * (1 - depth) ** (4.0 ** rng.uniform(-1, 1))
    return [low + int(level) for level in np.rint(curve * (high - low))]


def _cliff(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Cliff: much is kept up to a layer and little after it; both within half the range, mostly close to the ends."""
    edge = int(rng.integers(0, k + 1))
    much = high - int((high - low) / 2 * rng.random() ** 2)
    little = low + int((high - low) / 2 * rng.random() ** 2)
    return [much] * edge + [little] * (k - edge)


def uniform(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Draw uniform multisets by stars and bars: k distinct positions of k + m - 1, less their rank, of m levels."""
    bars = np.sort(rng.choice(k + high - low, size=k, replace=False)) - np.arange(k)
    return [low + int(level) for level in bars[::-1]]


def _constant(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    return [int(rng.integers(low, high + 1))] * k


def _falling(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Draw six blocks of layers independently, and take the smallest so far: late layers keep little.

    Not every layer of a deep encoder: of a dozen draws the smallest is nearly always the lowest level.
    """
    blocks = min(k, BLOCKS)
    lowest = np.minimum.accumulate(rng.integers(low, high + 1, size=blocks))
    drawn: list[int] = lowest[np.arange(k) * blocks // k].tolist()
    return drawn


SHAPES: Final = (_falling, _decay, _cliff, uniform, _constant)
SHARES: Final = (0.5, 0.2, 0.1, 0.1, 0.1)


def _off(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    return [0] * k


def _constant_on(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    return _constant(k, 1, high, rng)


def _ramp(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Ramp that rises with a power of the depth; LTP begins its training with a straight one (Kim et al. 2022)."""
    return _decay(k, low, high, rng)[::-1]


def _off_then_level(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    edge = int(rng.integers(0, k))
    return [0] * edge + _constant(k - edge, 1, high, rng)


def _scattered(k: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Draw every layer independently: off with a probability that is drawn once, or else any level."""
    off = rng.random(k) < rng.random()
    levels: list[int] = np.where(off, 0, rng.integers(1, high + 1, size=k)).tolist()
    return levels


THRESHOLD_SHAPES: Final = (_off, _constant_on, _ramp, _off_then_level, _scattered)
THRESHOLD_SHARES: Final = (0.02, 0.18, 0.3, 0.25, 0.25)


Mutate = Callable[[Genome, np.random.Generator], Genome]


def around(start: Genome, mutate: Mutate, rows: Sequence[Genome], rng: np.random.Generator) -> list[Genome]:
    """Replace the third row by the start, and about half of those after it by mutants: mostly near, some far."""
    near = rng.random(len(rows)) < 0.5
    mutants = [mutate(start, rng) if own else row for row, own in zip(rows[3:], near[3:], strict=True)]
    return [*rows[:2], *[start for _ in rows[2:3]], *mutants]


# Moves of a mutation: a list within low..high (changed in place, it is a copy) -> another one of the same kind.


def _shift(v: list[int], start: int, stop: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    step = power_law(high - low, rng) * (1 if rng.random() < 0.5 else -1)
    v[start:stop] = [min(max(level + step, low), high) for level in v[start:stop]]
    return v


def _step_layers(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    for layer in rng.choice(len(v), size=power_law(len(v), rng), replace=False).tolist():
        v = _shift(v, layer, layer + 1, low, high, rng)
    return v


def _shift_block(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    start, stop = sorted(rng.choice(len(v) + 1, size=2, replace=False).tolist())
    return _shift(v, start, stop, low, high, rng)


def _shift_all(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    return _shift(v, 0, len(v), low, high, rng)


def _step_some(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Step each layer with probability 1/K, one at least; no layer then keeps more than one before it."""
    moved = rng.random(len(v)) < 1 / len(v)
    moved[rng.integers(len(v))] |= not moved.any()
    for layer in np.flatnonzero(moved).tolist():
        v = _shift(v, layer, layer + 1, low, high, rng)
    return list(itertools.accumulate(v, min))


def _copy_neighbour(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    layer = int(rng.integers(len(v)))
    neighbour = layer + (1 if rng.random() < 0.5 else -1)
    v[layer] = v[min(max(neighbour, 0), len(v) - 1)]
    return v


def _switch(v: list[int], low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Switch one layer off, or from off to any level."""
    layer = int(rng.integers(len(v)))
    v[layer] = 0 if v[layer] else int(rng.integers(1, high + 1))
    return v


Move = Callable[[list[int], int, int, np.random.Generator], list[int]]
MOVES: Final[tuple[Move, ...]] = (*[_step_some] * 6, _shift_all)  # of lengths
THRESHOLD_MOVES: Final[tuple[Move, ...]] = (
    _step_layers,
    _switch,
    _shift_block,
    _shift_all,
    _copy_neighbour,
)


def changed(parent: list[int], moves: tuple[Move, ...], low: int, high: int, rng: np.random.Generator) -> list[int]:
    """Change the parent by one of the moves; from every parent at least one of them must lead elsewhere."""
    child = parent
    while child == parent:  # a move may do nothing here, such as up from the top; all of them never do
        move = moves[rng.integers(len(moves))]
        child = move(parent.copy(), low, high, rng)
    return child


CROWDING: Final = 15  # how like a parent children are: the index of simulated binary crossover

# Matings: two parents -> two children; those of lengths made legal afterwards by the projection where they cross.


def _exchange_depths(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    cut = int(rng.integers(1, max(2, len(a))))
    return np.concatenate([a[:cut], b[cut:]]), np.concatenate([b[:cut], a[cut:]])


def _exchange_layers(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    own = rng.random(len(a)) < 0.5
    return np.where(own, a, b), np.where(own, b, a)


def _envelopes(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    return np.maximum(a, b), np.minimum(a, b)


def simulated_binary(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    """Simulated binary crossover (Deb and Agrawal 1995) of half of the layers, rounded: children like a parent."""
    u = rng.random(len(a))
    spread = np.where(u < 0.5, 2 * u, 1 / (2 * (1 - u))) ** (1 / (CROWDING + 1))
    spread = np.where(rng.random(len(a)) < 0.5, spread, 1.0) * np.where(rng.random(len(a)) < 0.5, 1, -1)
    middle, half = (a + b) / 2, spread * (a - b) / 2
    return np.rint(middle + half).astype(np.int64), np.rint(middle - half).astype(np.int64)


MATINGS: Final = (_exchange_depths, blend, _envelopes)
THRESHOLD_MATINGS: Final = (_exchange_depths, blend, _exchange_layers)
