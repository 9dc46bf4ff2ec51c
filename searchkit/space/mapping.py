"""Candidates of one space as the nearest ones of another: other layers, other levels, other dimensions.

S slots of an encoder: the input, where the recipe gives it a reducer, and its L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from searchkit.records import Candidate, Value
from searchkit.space.base import Dimension
from searchkit.space.lengths import Lengths
from searchkit.space.levels import Level, nearest
from searchkit.space.scalars import Integer
from searchkit.space.space import Space
from searchkit.space.thresholds import Thresholds

KINDS: Final = {"lengths": "basis", "thresholds": "scale"}  # dimension -> what has to be equal in both spaces


@dataclass(frozen=True)
class SpaceMap:
    """Map of the candidates of one space to the nearest legal candidates of another.

    Lengths and thresholds are functions of the relative depth, l / L after layer l = 1..L: between two layers they are
    interpolated, before the first they are those of the first. The result takes the nearest level, and is repaired. The
    slot of the input is mapped to that of the input; where only the target has one it drops nothing, as does a
    dimension that only the target has. What only the source has is left out.

    described: JSON of the source (`Space.describe`), bound; source_layers: of its encoder; target: bound to an encoder
    of target_layers

    >>> from searchkit import Candidate, Lengths, Space
    >>> six, twelve = Space(Lengths(levels=4)).bound(6), Space(Lengths(levels=8)).bound(12)
    >>> to_twelve = SpaceMap(six.describe(), 6, twelve, 12)
    >>> to_twelve(Candidate.of(lengths=(1.0, 1.0, 1.0, 0.5, 0.25, 0.25)))["lengths"]
    (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.375, 0.25, 0.25, 0.25)
    """

    described: Mapping[str, Any]
    source_layers: int
    target: Space
    target_layers: int

    def __call__(self, candidate: Candidate) -> Candidate:
        """Map a candidate of the source; ValueError names the dimension that cannot be mapped, and why."""
        shared = [own for own in self.target.dimensions if own.name in candidate]
        if not shared:
            there, here = (name for name, _ in candidate.items), (own.name for own in self.target.dimensions)
            raise ValueError(f"the candidates there have {' and '.join(there)}, those here {' and '.join(here)}")
        mapped = Candidate.of({own.name: self._value(own, candidate[own.name]) for own in shared})
        return self.target.decode(self.target.encode(self.target.completed(mapped)))

    def _value(self, dimension: Dimension, value: Value) -> Value:
        if isinstance(dimension, Lengths | Thresholds):
            self._check_kind(dimension)
            numbers = self._at_target_depths(dimension, value)
            return dimension.decode(dimension.repair(nearest(numbers, dimension.values, dimension.width)))
        if isinstance(dimension, Integer) and isinstance(value, int) and not isinstance(value, bool):
            return min(max(value, dimension.low), dimension.high)
        return dimension.decode(dimension.encode(value))  # options have no order: the same one, or none

    def _check_kind(self, dimension: Lengths | Thresholds) -> None:
        """Raise ValueError for counts of tokens against shares, and shares of scores against probabilities."""
        setting = KINDS[dimension.name]
        there, here = self._source_of(dimension.name).get(setting), getattr(dimension, setting)
        if there != here:
            raise ValueError(
                f"{dimension.name} have {setting}={there!r} there and {setting}={here!r} here, which do not convert"
            )

    def _source_of(self, name: str) -> Mapping[str, Any]:
        """JSON of the source's lengths or thresholds."""
        return next((own for own in self.described["dimensions"] if own["dimension"] == name), {})

    def _at_target_depths(self, dimension: Lengths | Thresholds, value: Value) -> list[Level]:
        """(S,) the value at each slot of the target, before the nearest level is taken."""
        numbers = _numbers(dimension.name, value)
        of_input, of_layers = numbers[: -self.source_layers], numbers[-self.source_layers :]
        if len(of_layers) < self.source_layers or len(of_input) > 1:
            raise ValueError(f"{dimension.name} are one for each of {self.source_layers} layers there, got {value!r}")
        if self.described.get("last_idle") and len(of_layers) > 1:
            of_layers = of_layers[:-1]  # the last slot drops nothing there: its value stands for none
        depths = [layer / self.source_layers for layer in range(1, len(of_layers) + 1)]
        wanted = [layer / self.target_layers for layer in range(1, self.target_layers + 1)]
        interpolated: list[Level] = np.interp(wanted, depths, of_layers).tolist()
        if dimension.width == self.target_layers:
            return interpolated
        whole = dimension.values[-1] if isinstance(dimension, Lengths) else dimension.values[0]
        return [*(of_input or [whole]), *interpolated]


def _numbers(name: str, value: Value) -> Sequence[Level]:
    numbers = value if isinstance(value, tuple) else ()
    if not numbers or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in numbers):
        raise ValueError(f"{name} are numbers, one for each slot, got {value!r}")
    return [item for item in numbers if isinstance(item, int | float)]
