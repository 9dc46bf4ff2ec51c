"""Score threshold at every slot: a free vector of levels, with off below all of them.

W slots of the encoder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np

from searchkit.errors import StudyError
from searchkit.records import Value
from searchkit.space.base import Genome
from searchkit.space.levels import (
    check_increasing,
    check_layers,
    checked_number,
    checked_start,
    index_of,
    length_of,
    nearest,
)
from searchkit.space.operators import (
    THRESHOLD_MATINGS,
    THRESHOLD_MOVES,
    THRESHOLD_SHAPES,
    THRESHOLD_SHARES,
    around,
    changed,
)

LEVELS: Final[dict[str, tuple[float, ...]]] = {
    "relative": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0),
    "probability": (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99),
}


@dataclass(frozen=True)
class Thresholds:
    """Score thresholds slot by slot; the value is a tuple of levels, 0.0 for off, first slot first.

    `scale="relative"`: a token stays if its share of the score is at least eta / n_alive, so that 1.0 is "at least
    uniform". `scale="probability"`: a token stays if its gate's keep-probability is at least the threshold, in (0, 1].
    `levels` are the increasing thresholds above 0 to choose from (`LEVELS` by default); off is always one more. There
    is no order between the slots, and their number comes from the encoder (`bound`). `start` is a legal value to
    sample around, such as the thresholds that training has found (`started`). Genome: 0 for off, or 1 + the index of
    the level, per slot.

    >>> from searchkit import Thresholds
    >>> Thresholds().name
    'thresholds'
    """

    scale: Literal["relative", "probability"] = "relative"
    levels: Sequence[float] | None = None
    layers: int | None = None
    start: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.scale not in LEVELS:
            raise StudyError(f"scale must be 'relative' or 'probability', got {self.scale=}")
        levels = _checked_levels(LEVELS[self.scale] if self.levels is None else self.levels, self.scale)
        object.__setattr__(self, "levels", levels)  # in Python's numbers, so that equal thresholds compare equal
        check_layers(self.layers)
        if self.start is not None:
            plain = replace(self, start=None, layers=self.layers or length_of(self.start))
            object.__setattr__(self, "start", checked_start(plain, self.start))

    @cached_property
    def values(self) -> tuple[float, ...]:
        """Values: off and the levels, increasing."""
        return (0.0, *(self.levels or ()))

    @property
    def name(self) -> str:
        return "thresholds"

    @property
    def width(self) -> int:
        if self.layers is None:
            raise StudyError("the thresholds have no number of layers yet: call bound(layers) with the encoder's")
        return self.layers

    @property
    def _highest(self) -> int:
        return len(self.values) - 1

    @property
    def bounds(self) -> tuple[Genome, Genome]:
        return np.zeros(self.width, dtype=np.int64), np.full(self.width, self._highest, dtype=np.int64)

    @property
    def size(self) -> int:
        return math.prod([len(self.values)] * self.width)

    @property
    def neutral(self) -> Genome:
        """Genome that is off at every slot."""
        return self.bounds[0]

    def bound(self, layers: int) -> Thresholds:
        if self.layers not in (None, layers):
            raise StudyError(f"the thresholds are for {self.layers} layers, the encoder has {layers}")
        return replace(self, layers=layers)

    def started(self, value: tuple[float, ...]) -> Thresholds:
        """A copy that is searched from the levels nearest to any finite numbers, one per slot.

        Numbers below half of the lowest level become off.
        """
        return replace(self, start=tuple(self.values[index] for index in nearest(value, self.values, self.layers)))

    def sample(self, n: int, rng: np.random.Generator) -> Genome:
        """Sample all off (if n >= 2), then one level throughout, ramps, levels from some depth on, and scattered ones.

        With a start, the third row is the start, and about half of those after it are neighbours of it.
        """
        kinds = rng.choice(len(THRESHOLD_SHAPES), size=n, p=THRESHOLD_SHARES)
        rows = [np.array(THRESHOLD_SHAPES[kind](self.width, 0, self._highest, rng), dtype=np.int64) for kind in kinds]
        if n >= 2:
            rows[0] = self.neutral
        if self.start is not None:
            rows = around(self.encode(self.start), self.mutate, rows, rng)
        return np.array(rows, dtype=np.int64).reshape(n, self.width)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        return np.array(changed(genome.tolist(), THRESHOLD_MOVES, 0, self._highest, rng), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Exchange the deeper slots, blend, or exchange slot by slot."""
        mate = THRESHOLD_MATINGS[rng.integers(len(THRESHOLD_MATINGS))]
        return mate(a, b, rng)

    def repair(self, genome: Genome) -> Genome:
        return np.clip(genome, 0, self._highest)

    def decode(self, genome: Genome) -> tuple[float, ...]:
        if not np.array_equal(self.repair(genome), genome):
            raise ValueError(f"the genome of thresholds must be from 0 to {self._highest}, got level indices {genome}")
        return tuple(self.values[index] for index in genome.tolist())

    def encode(self, value: Value) -> Genome:
        if not isinstance(value, tuple) or len(value) != self.width:
            raise ValueError(f"thresholds must be {self.width} values, one per slot, got {value!r}")
        return np.array([self._index(level) for level in value], dtype=np.int64)

    def genomes(self) -> Iterator[tuple[int, ...]]:
        return itertools.product(range(len(self.values)), repeat=self.width)

    def describe(self) -> dict[str, Any]:
        """Describe without the start, which follows from the training."""
        return {
            "dimension": "thresholds",
            "scale": self.scale,
            "levels": list(self.values[1:]),
            "layers": self.layers,
        }

    def _index(self, level: Any) -> int:
        index = index_of(level, self.values)
        if index is None:
            raise ValueError(f"a threshold must be off (0.0) or one of {list(self.values[1:])}, got {level!r}")
        return index


def _checked_levels(levels: Any, scale: str) -> tuple[float, ...]:
    if not isinstance(levels, Sequence | np.ndarray) or isinstance(levels, str):
        raise StudyError(f"levels must be the thresholds themselves, got {levels=}")
    checked = tuple(float(checked_number(value)) for value in levels)
    if 0.0 in checked:
        raise StudyError(f"off (0) is always included: leave it out of the levels, got levels={checked}")
    check_increasing(checked)
    if checked[0] < 0:
        raise StudyError(f"levels must be above 0, got levels={checked}")
    if scale == "probability" and checked[-1] > 1:
        raise StudyError(f"levels of scale='probability' must be in (0, 1], got levels={checked}")
    return checked
