"""Product of the dimensions, and the genomes that engines work on.

N genomes, W width of a genome.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.space.base import Dimension, Genome
from searchkit.space.lengths import Lengths
from searchkit.space.thresholds import Thresholds


@dataclass(frozen=True, init=False)
class Space:
    """Product of dimensions; it alone decides which candidates are legal.

    Immutable, and free of state: every random choice comes from the generator passed in.

    Candidates are canonical: a threshold that a length already implies is off. Where `Lengths(basis="tokens")` keeps
    one token, that is the protected first one, and no threshold at this slot or a later one changes anything. With
    `last_idle` what the last slot drops is never looked at: its threshold is off, and its length that of the slot
    before unless it is pinned. So several legal genomes may decode to one candidate; `canonical` gives the one that
    stands for them, and `encode` and `genomes` hand out no other.

    >>> from searchkit import Lengths, Space
    >>> space = Space(Lengths(levels=2)).bound(2)
    >>> space.size
    3
    """

    dimensions: tuple[Dimension, ...]
    last_idle: bool

    def __init__(self, *dimensions: Dimension, last_idle: bool = False) -> None:
        for one in dimensions:
            if isinstance(one, type) or not hasattr(one, "crossover"):
                raise StudyError(f"a space is made of dimensions, Lengths() for one, got {one!r}")
        names = [dimension.name for dimension in dimensions]
        if not names:
            raise StudyError("a space needs at least one dimension, got none")
        if len(set(names)) < len(names):
            raise StudyError(f"the dimensions of a space must have different names, got {names}")
        layers = {own.layers for own in dimensions if isinstance(own, Lengths | Thresholds)} - {None}
        if len(layers) > 1:
            raise StudyError(f"the dimensions of a space are for one encoder, got {layers=}")
        object.__setattr__(self, "dimensions", dimensions)
        object.__setattr__(self, "last_idle", last_idle)

    def bound(self, layers: int, *, last_idle: bool = False) -> Space:
        """A copy for an encoder of that many layers, the last of which may make no use of dropping."""
        return Space(*(dimension.bound(layers) for dimension in self.dimensions), last_idle=last_idle)

    def started(self, values: Mapping[str, tuple[float, ...]]) -> Space:
        """A copy that is searched from a trained starting point: dimension -> one number per layer.

        Names that the space does not have are ignored.
        """
        started = (own.started(values[own.name]) if own.name in values else own for own in self.dimensions)
        return Space(*started, last_idle=self.last_idle)

    @cached_property
    def _blocks(self) -> tuple[tuple[Dimension, slice], ...]:
        stops = list(itertools.accumulate(dimension.width for dimension in self.dimensions))
        starts = [0, *stops[:-1]]
        return tuple(zip(self.dimensions, map(slice, starts, stops), strict=True))

    @cached_property
    def _movable(self) -> tuple[tuple[Dimension, slice], ...]:
        return tuple(block for block in self._blocks if block[0].size > 1)

    @cached_property
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
        """Exact number of distinct candidates; an upper bound where some genomes stand for others."""
        return math.prod(dimension.size for dimension in self.dimensions)

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        """(n, W) legal genomes; duplicates possible.

        Where two or more dimensions can be neutral, a joint search contains the searches of its parts: row 0 is neutral
        in all of them (if n >= 2: one row alone must not always be the same), row 2 has the starts that there are and
        the others neutral, and about a third of the other rows keep one of these dimensions and the others neutral.
        """
        rows = np.hstack([dimension.sample(n, rng) for dimension in self.dimensions])
        return self._with_parts_alone(rows, rng)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """(W,) a neighbour in one or several dimensions, never the genome itself unless the space is a single point."""
        child = self._checked(genome).copy()
        if self._movable:
            moved = rng.random(len(self._movable)) < 0.5
            moved[rng.integers(len(self._movable))] = True
            for (dimension, block), move in zip(self._movable, moved, strict=True):
                if move:
                    child[block] = dimension.mutate(genome[block], rng)
        return child

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two children (W,), mixed dimension by dimension."""
        first, second = self._checked(a).copy(), self._checked(b).copy()
        for dimension, block in self._blocks:
            first[block], second[block] = dimension.crossover(a[block], b[block], rng)
        return first, second

    def repair(self, genome: Genome) -> Genome:
        """(W,) the nearest legal genome."""
        self._checked(genome)
        return np.concatenate([dimension.repair(genome[block]) for dimension, block in self._blocks])

    def decode(self, genome: Genome) -> Candidate:
        """The canonical candidate of a legal genome; ValueError for an illegal one."""
        candidate = self._candidate(genome)  # every block must be legal, also where it changes nothing
        canonical = self.canonical(genome)
        return candidate if np.array_equal(canonical, genome) else self._candidate(canonical)

    def canonical(self, genome: Genome) -> Genome:
        """(W,) the canonical one of all genomes that mean the same candidate."""
        canonical = genome.copy()
        if self.last_idle:
            for dimension, block in self._blocks:
                own = canonical[block]
                if isinstance(dimension, Lengths) and dimension.last is None:
                    own[-1] = own[-2] if len(own) > 1 else dimension.bounds[1][-1]
                elif isinstance(dimension, Thresholds):
                    own[-1] = 0
        if self._implied is not None:
            lengths, thresholds = self._implied
            canonical[thresholds][canonical[lengths] == 0] = 0  # the lowest length is one token, off is index 0
        return canonical

    def completed(self, candidate: Candidate) -> Candidate:
        """Complete a candidate with neutral values; ValueError where a missing dimension has none."""
        values = dict(candidate.items)
        for dimension in self.dimensions:
            if dimension.name not in values:
                if dimension.neutral is None:
                    raise ValueError(f"{dimension.name} cannot be left out: no value of it drops nothing")
                values[dimension.name] = dimension.decode(dimension.neutral)
        return Candidate.of(values)

    def encode(self, candidate: Candidate) -> Genome:
        """The canonical genome of a candidate; ValueError says which rule of the space it breaks."""
        own, given = {dimension.name for dimension in self.dimensions}, {name for name, _ in candidate.items}
        if own != given:
            raise ValueError(f"a candidate of this space has {sorted(own)}, got {sorted(given)}")
        blocks = [dimension.encode(candidate[dimension.name]) for dimension in self.dimensions]
        return self.canonical(np.concatenate(blocks))

    def genomes(self) -> Iterator[tuple[int, ...]]:
        """Every canonical genome once."""
        for blocks in _product([dimension.genomes for dimension in self.dimensions]):
            genome = tuple(itertools.chain.from_iterable(blocks))
            if self.canonical(np.array(genome)).tolist() == list(genome):
                yield genome

    def all(self) -> Iterator[Candidate]:
        """Every candidate once: `size` of them, or fewer where some genomes stand for others."""
        return (self.decode(np.array(genome, dtype=np.int64)) for genome in self.genomes())

    def describe(self) -> dict[str, Any]:
        """The JSON that identifies the space in a fingerprint."""
        return {"dimensions": [dimension.describe() for dimension in self.dimensions], "last_idle": self.last_idle}

    @cached_property
    def _implied(self) -> tuple[slice, slice] | None:
        """Blocks of lengths and thresholds where one token is among the lengths; None: nothing is implied."""
        blocks = {type(own): (own, block) for own, block in self._blocks}
        if Lengths not in blocks or Thresholds not in blocks:
            return None
        lengths, block = blocks[Lengths]
        one_token = isinstance(lengths, Lengths) and lengths.basis == "tokens" and lengths.values[0] == 1
        return (block, blocks[Thresholds][1]) if one_token else None

    def _candidate(self, genome: Genome) -> Candidate:
        self._checked(genome)
        return Candidate.of({dimension.name: dimension.decode(genome[block]) for dimension, block in self._blocks})

    def _with_parts_alone(self, rows: Genome, rng: np.random.Generator) -> Genome:
        """(n, W) the rows, in some of which all dimensions but one are made neutral (see `sample`)."""
        parts = [(own, block, own.neutral) for own, block in self._blocks if own.neutral is not None]
        if len(rows) < 2 or len(parts) < 2:
            return rows
        together = rng.random((len(rows), 1)) >= 1 / 3
        kept = together | (rng.integers(len(parts), size=(len(rows), 1)) == np.arange(len(parts)))  # (n, parts)
        started = [isinstance(own, Lengths | Thresholds) and own.start is not None for own, _, _ in parts]
        if any(started):
            kept[2:3] = started
        mixed = rows.copy()
        for (_, block, neutral), own in zip(parts, kept.T, strict=True):
            mixed[~own, block] = neutral
        return mixed

    def _checked(self, genome: Genome) -> Genome:
        if genome.shape != (self.width,) or genome.dtype.kind not in "iu":
            raise ValueError(f"a genome of this space is {self.width} integers, got {genome.shape=}, {genome.dtype=}")
        return genome


def _product(makers: list[Callable[[], Iterator[tuple[int, ...]]]]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Iterate a product without holding a factor in memory: the makers are called again for every turn."""
    if not makers:
        yield ()
        return
    for head in makers[0]():
        for tail in _product(makers[1:]):
            yield (head, *tail)
