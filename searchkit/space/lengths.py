"""Tokens kept at every layer: a non-increasing vector with its own sampling, moves and repair.

K free layers, N genomes.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from searchkit.errors import StudyError
from searchkit.records import Value
from searchkit.space.base import Genome
from searchkit.space.levels import (
    MOST_LEVELS,
    Level,
    check_increasing,
    check_layers,
    checked_number,
    checked_start,
    index_of,
    length_of,
    nearest,
)
from searchkit.space.operators import MATINGS, MOVES, SHAPES, SHARES, around, changed, simulated_binary, uniform


@dataclass(frozen=True)
class Lengths:
    """Tokens kept at every layer, never growing with depth; the value is a tuple of levels, first layer first.

    `levels=16` means the fractions k/16, k = 1..16, of an example's own tokens. A sequence gives the increasing levels
    themselves: fractions in (0, 1], or token counts >= 1 with `basis="tokens"`. `first` and `last` pin the ends to one
    of the levels. The number of layers comes from the encoder (`bound`). Genome: the index of the level, per layer.
    `start` is a legal value to sample around, such as the lengths that training has found (`started`).

    >>> from searchkit import Lengths
    >>> Lengths(levels=4, layers=2).values
    (0.25, 0.5, 0.75, 1.0)
    """

    levels: int | Sequence[Level] = 16
    basis: Literal["fraction", "tokens"] = "fraction"
    first: Level | None = None
    last: Level | None = None
    layers: int | None = None
    start: tuple[Level, ...] | None = None

    def __post_init__(self) -> None:
        if self.basis not in ("fraction", "tokens"):
            raise StudyError(f"basis must be 'fraction' or 'tokens', got {self.basis=}")
        object.__setattr__(self, "levels", _number_or_tuple(self.levels))
        _check_levels(self.values, self.basis)
        if not isinstance(self.levels, int):
            object.__setattr__(self, "levels", self.values)  # in Python's numbers, so that equal lengths compare equal
        check_layers(self.layers)
        if self._lowest > self._highest:
            raise StudyError(f"lengths must not grow with depth, got {self.first=}, {self.last=}")
        if self.layers == 1 and None not in (self.first, self.last) and self._lowest < self._highest:
            raise StudyError(f"one layer has one length, got {self.first=}, {self.last=}")
        if self.start is not None:
            plain = replace(self, start=None, layers=self.layers or length_of(self.start))
            object.__setattr__(self, "start", checked_start(plain, self.start))

    @cached_property
    def values(self) -> tuple[Level, ...]:
        """The levels, increasing: exact k / levels for a number of levels."""
        if isinstance(self.levels, int):
            if self.levels < 1:
                raise StudyError(f"levels must be at least 1, got {self.levels=}")
            if self.levels > MOST_LEVELS:
                raise StudyError(f"levels must be at most {MOST_LEVELS}, got {self.levels=}")
            if self.basis == "tokens":
                raise StudyError(f"basis='tokens' needs the token counts themselves, got {self.levels=}")
            return tuple(k / self.levels for k in range(1, self.levels + 1))
        return tuple(_level(value, self.basis) for value in self.levels)

    @property
    def name(self) -> str:
        return "lengths"

    @property
    def width(self) -> int:
        if self.layers is None:
            raise StudyError("the lengths have no number of layers yet: call bound(layers) with the encoder's")
        return self.layers

    @cached_property
    def _highest(self) -> int:
        """The highest level index a layer may have."""
        return len(self.values) - 1 if self.first is None else self._index(self.first, StudyError)

    @cached_property
    def _lowest(self) -> int:
        """The lowest level index a layer may have."""
        return 0 if self.last is None else self._index(self.last, StudyError)

    @cached_property
    def _free(self) -> slice:
        """The layers that are not pinned."""
        start, stop = int(self.first is not None), self.width - int(self.last is not None)
        return slice(start, max(start, stop))

    @cached_property
    def _free_layers(self) -> int:
        return len(range(self.width)[self._free])

    @property
    def bounds(self) -> tuple[Genome, Genome]:
        k = self._free_layers
        return self._complete([self._lowest] * k), self._complete([self._highest] * k)

    @cached_property
    def size(self) -> int:
        """Number of multisets of K of the m levels in reach: C(K + m - 1, K)."""
        return math.comb(self._free_layers + self._highest - self._lowest, self._free_layers)

    @property
    def neutral(self) -> Genome | None:
        highest = self.bounds[1]
        whole = self.basis == "fraction" and all(self.values[index] == 1.0 for index in highest)
        return highest if whole else None

    def bound(self, layers: int) -> Lengths:
        if self.layers not in (None, layers):
            raise StudyError(f"the lengths are for {self.layers} layers, the encoder has {layers}")
        return replace(self, layers=layers)

    def started(self, value: tuple[Level, ...]) -> Lengths:
        """A copy that is searched from the legal value nearest to any finite numbers, one per layer."""
        indices = nearest(value, self.values, self.layers)
        bound = self.bound(len(value))
        return replace(self, start=bound.decode(bound.repair(indices)))

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        """Both corners (where n >= 2), then draws made monotone, decay curves, cliffs, uniform draws, constant ratios.

        A mix because no one shape suits every model; half are draws made monotone, which fall early, as fronts did on
        whole tables (docs/decisions/operators.md). With a start, the third row is the start, and about half of those
        after it are neighbours of it.
        """
        kinds = rng.choice(len(SHAPES), size=n, p=SHARES)
        rows = [self._complete(SHAPES[kind](self._free_layers, self._lowest, self._highest, rng)) for kind in kinds]
        if n >= 2:
            rows[:2] = self.bounds[::-1]
        if self.start is not None:
            rows = around(self.encode(self.start), self.mutate, rows, rng)
        return np.array(rows, dtype=np.int64).reshape(n, self.width)

    def uniform(self, n: int, rng: np.random.Generator) -> Genome:
        """(n, width) genomes, every legal one equally likely."""
        rows = [self._complete(uniform(self._free_layers, self._lowest, self._highest, rng)) for _ in range(n)]
        return np.array(rows, dtype=np.int64).reshape(n, self.width)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        if self.size == 1:
            return genome.copy()
        parent: list[int] = genome[self._free].tolist()
        return self._complete(changed(parent, MOVES, self._lowest, self._highest, rng))

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Simulated binary crossover, made legal by the cumulative minimum; or, as often, one of: exchange the deeper
        layers, blend, take the upper and the lower envelope."""
        if rng.random() < 0.5:
            low, high = self.bounds
            first, second = (np.clip(np.minimum.accumulate(child), low, high) for child in simulated_binary(a, b, rng))
            return first, second
        mate = MATINGS[rng.integers(len(MATINGS))]
        first, second = mate(a, b, rng)
        return self.repair(first), self.repair(second)

    def repair(self, genome: Genome) -> Genome:
        inner = _nearest_nonincreasing(genome[self._free].tolist())
        if inner and (inner[0] > self._highest or inner[-1] < self._lowest):
            inner = [min(max(level, self._lowest), self._highest) for level in inner]
        return self._complete(inner)

    def decode(self, genome: Genome) -> tuple[Level, ...]:
        if not np.array_equal(self.repair(genome), genome):
            raise ValueError(f"lengths must not grow with depth and keep first and last, got level indices {genome}")
        return tuple(self.values[index] for index in genome.tolist())

    def encode(self, value: Value) -> Genome:
        if not isinstance(value, tuple) or len(value) != self.width:
            raise ValueError(f"lengths must be {self.width} values, one per layer, got {value!r}")
        genome = np.array([self._index(level, ValueError) for level in value], dtype=np.int64)
        if (np.diff(genome) > 0).any():
            raise ValueError(f"lengths must not grow with depth, got lengths={value}")
        if not np.array_equal(np.clip(genome, *self.bounds), genome):
            raise ValueError(f"lengths must keep first={self.first}, last={self.last}, got lengths={value}")
        return genome

    def genomes(self) -> Iterator[tuple[int, ...]]:
        falling = range(self._highest, self._lowest - 1, -1)
        for inner in itertools.combinations_with_replacement(falling, self._free_layers):
            yield tuple(self._complete(inner).tolist())

    def describe(self) -> dict[str, Any]:
        return {
            "dimension": "lengths",
            "levels": list(self.values),
            "basis": self.basis,
            "first": None if self.first is None else self.values[self._highest],
            "last": None if self.last is None else self.values[self._lowest],
            "layers": self.layers,
        }

    def _index(self, level: Any, error: type[Exception]) -> int:
        index = index_of(level, self.values)
        if index is not None:
            return index
        raise error(f"a length must be one of the levels {list(self.values)}, got {level!r}")

    def _complete(self, inner: Sequence[int]) -> Genome:
        """Add the pinned ends around the free layers."""
        genome = np.empty(self.width, dtype=np.int64)
        if self.first is not None:
            genome[0] = self._highest
        if self.last is not None:
            genome[-1] = self._lowest
        genome[self._free] = inner
        return genome


def _number_or_tuple(levels: Any) -> int | tuple[Any, ...]:
    if isinstance(levels, int | np.integer) and not isinstance(levels, bool):
        return int(levels)
    if isinstance(levels, Sequence | np.ndarray) and not isinstance(levels, str):
        return tuple(levels)
    raise StudyError(f"levels must be their number or the levels themselves, got {levels=}")


def _level(value: Any, basis: str) -> Level:
    value = checked_number(value)
    if basis == "fraction":
        return float(value)
    if int(value) != value:
        raise StudyError(f"basis='tokens' counts whole tokens, got the level {value!r}")
    return int(value)


def _check_levels(levels: tuple[Level, ...], basis: str) -> None:
    check_increasing(levels)
    if basis == "fraction" and not (levels[0] > 0 and levels[-1] <= 1):
        raise StudyError(f"levels of basis='fraction' must be in (0, 1], got levels={levels}")
    if basis == "tokens" and levels[0] < 1:
        raise StudyError(f"levels of basis='tokens' must be at least 1, got levels={levels}")


def _nearest_nonincreasing(vector: list[int]) -> list[int]:
    """Nearest integer vector in squared distance, by pooling adjacent violators, each pool at its rounded mean."""
    if all(map(operator.ge, vector, vector[1:])):
        return vector  # as most are
    pools: list[tuple[int, int]] = []  # (sum, count), means strictly falling
    for value in vector:
        total, count = value, 1
        while pools and pools[-1][0] * count <= total * pools[-1][1]:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    return [(2 * total + count) // (2 * count) for total, count in pools for _ in range(count)]
