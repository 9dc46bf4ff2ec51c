"""Protocol of a dimension: a structured block of the space with its own genome of integers.

W is the width of a genome.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from searchkit.records import Value

Genome = npt.NDArray[np.int64]  # (W,), or (N, W) for several


class Dimension(Protocol):
    """A structured block of the space; its own genome is `width` integers."""

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def bounds(self) -> tuple[Genome, Genome]:
        """Lowest and highest number at every position of the genome, both included."""

    @property
    def size(self) -> int:
        """Exact number of distinct values."""

    @property
    def neutral(self) -> Genome | None:
        """Genome that reduces nothing, where the dimension has one; for n >= 2 the first of its samples."""

    def bound(self, layers: int) -> Dimension:
        """A copy for an encoder of that many layers."""

    def started(self, value: tuple[float, ...]) -> Dimension:
        """A copy that is searched from a trained starting point, one number per layer; itself where there is none."""

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        """(n, width) legal genomes, duplicates possible."""

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Mutate to a legal neighbour, different from the genome wherever `size` > 1."""

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Cross two legal parents to two legal children."""

    def repair(self, genome: Genome) -> Genome:
        """Repair to the legal genome nearest in squared distance; a legal one stays unchanged."""

    def decode(self, genome: Genome) -> Value:
        """Decode a legal genome to its value."""

    def encode(self, value: Value) -> Genome:
        """Encode a value as a genome; ValueError names the rule that an illegal value breaks."""

    def genomes(self) -> Iterator[tuple[int, ...]]:
        """Every legal genome once."""

    def describe(self) -> dict[str, Any]:
        """The JSON that identifies the dimension in a fingerprint."""


def power_law(most: int, rng: np.random.Generator) -> int:
    """Draw a step d >= 1 with P(d >= k) = 1 / k, at most `most`: mostly small, sometimes large."""
    return min(most, int(1.0 / (1.0 - rng.random())))


def blend(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    """Blend two parents to two children between (or, rounded, around) them; the sum is preserved."""
    weight = rng.random()
    first = np.floor(weight * a + (1 - weight) * b + 0.5).astype(np.int64)
    return first, a + b - first
