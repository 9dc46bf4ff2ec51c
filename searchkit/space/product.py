"""The space itself: the product of its dimensions, and the genomes that engines work on.

N genomes, W width of a genome.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.space.base import Dimension, Genome


@dataclass(frozen=True, init=False)
class Space:
    """The product of its dimensions; the only place that says which candidates are legal.

    Immutable, and free of state: every random choice comes from the generator passed in.
    """

    dimensions: tuple[Dimension, ...]

    def __init__(self, *dimensions: Dimension) -> None:
        names = [dimension.name for dimension in dimensions]
        if not names:
            raise StudyError("a space needs at least one dimension, got none")
        if len(set(names)) < len(names):
            raise StudyError(f"the dimensions of a space must have different names, got {names}")
        object.__setattr__(self, "dimensions", dimensions)

    def bound(self, layers: int) -> Space:
        """The same space for an encoder of that many layers."""
        return Space(*(dimension.bound(layers) for dimension in self.dimensions))

    @cached_property
    def _blocks(self) -> tuple[tuple[Dimension, slice], ...]:
        stops = list(itertools.accumulate(dimension.width for dimension in self.dimensions))
        starts = [0, *stops[:-1]]
        return tuple(zip(self.dimensions, map(slice, starts, stops), strict=True))

    @property
    def width(self) -> int:
        return sum(dimension.width for dimension in self.dimensions)

    @property
    def low(self) -> Genome:
        return np.concatenate([dimension.bounds[0] for dimension in self.dimensions])

    @property
    def high(self) -> Genome:
        return np.concatenate([dimension.bounds[1] for dimension in self.dimensions])

    @cached_property
    def size(self) -> int:
        """How many distinct candidates there are, exactly."""
        return math.prod(dimension.size for dimension in self.dimensions)

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        """(n, W) legal genomes; duplicates possible."""
        return np.hstack([dimension.sample(n, rng) for dimension in self.dimensions])

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """(W,) a neighbour in one or several dimensions, never the genome itself unless the space is a single point."""
        child = self._checked(genome).copy()
        movable = [block for block in self._blocks if block[0].size > 1]
        if movable:
            moved = rng.random(len(movable)) < 0.5
            moved[rng.integers(len(movable))] = True
            for (dimension, block), move in zip(movable, moved, strict=True):
                if move:
                    child[block] = dimension.mutate(genome[block], rng)
        return child

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two children (W,), mixed dimension by dimension."""
        one, other = self._checked(a).copy(), self._checked(b).copy()
        for dimension, block in self._blocks:
            one[block], other[block] = dimension.crossover(a[block], b[block], rng)
        return one, other

    def repair(self, genome: Genome) -> Genome:
        """(W,) the nearest legal genome."""
        self._checked(genome)
        return np.concatenate([dimension.repair(genome[block]) for dimension, block in self._blocks])

    def decode(self, genome: Genome) -> Candidate:
        """The candidate of a legal genome; ValueError for an illegal one."""
        self._checked(genome)
        return Candidate.of({dimension.name: dimension.decode(genome[block]) for dimension, block in self._blocks})

    def encode(self, candidate: Candidate) -> Genome:
        """The genome of a candidate; ValueError says which rule of the space it breaks."""
        own, given = {dimension.name for dimension in self.dimensions}, {name for name, _ in candidate.items}
        if own != given:
            raise ValueError(f"a candidate of this space has {sorted(own)}, got {sorted(given)}")
        return np.concatenate([dimension.encode(candidate[dimension.name]) for dimension in self.dimensions])

    def genomes(self) -> Iterator[tuple[int, ...]]:
        """Every legal genome once."""
        for blocks in _product([dimension.genomes for dimension in self.dimensions]):
            yield tuple(itertools.chain.from_iterable(blocks))

    def all(self) -> Iterator[Candidate]:
        """Every candidate once: `size` of them."""
        return (self.decode(np.array(genome, dtype=np.int64)) for genome in self.genomes())

    def describe(self) -> dict[str, Any]:
        """What identifies the space in a fingerprint, as JSON."""
        return {"dimensions": [dimension.describe() for dimension in self.dimensions]}

    def _checked(self, genome: Genome) -> Genome:
        if genome.shape != (self.width,) or not np.issubdtype(genome.dtype, np.integer):
            raise ValueError(f"a genome of this space is {self.width} integers, got {genome.shape=}, {genome.dtype=}")
        return genome


def _product(makers: list[Callable[[], Iterator[tuple[int, ...]]]]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """itertools.product that never holds a factor in memory: the makers are called again for every turn."""
    if not makers:
        yield ()
        return
    for head in makers[0]():
        for tail in _product(makers[1:]):
            yield (head, *tail)
