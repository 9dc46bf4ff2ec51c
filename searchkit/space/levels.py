"""Levels: the increasing numbers that a slot may take, and look-up of the nearest level."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from searchkit.errors import StudyError
from searchkit.records import Value
from searchkit.space.base import Dimension, Genome

MOST_LAYERS: Final = 10_000
MOST_LEVELS: Final = 100_000  # upper limit, since all levels are listed

Level = int | float


def checked_number(value: Any) -> Level:
    """Return the value; StudyError where it is no finite number."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise StudyError(f"a level must be a finite number, got {value!r}")
    return value  # type: ignore[no-any-return]


def check_increasing(levels: tuple[Level, ...]) -> None:
    """Raise StudyError for no levels at all, and for levels that do not strictly increase."""
    if not levels:
        raise StudyError("levels must not be empty")
    if any(b <= a for a, b in itertools.pairwise(levels)):
        raise StudyError(f"levels must increase, got levels={levels}")


def check_layers(layers: int | None) -> None:
    if layers is not None and (type(layers) is not int or not 1 <= layers <= MOST_LAYERS):
        raise StudyError(f"layers must be an integer of at least 1, got self.{layers=}")


def index_of(level: Any, levels: Sequence[Level]) -> int | None:
    """The index of a level, also when it was computed with a rounding error; None for anything else."""
    if isinstance(level, int | float | np.integer) and not isinstance(level, bool):
        index = int(np.searchsorted(levels, level * (1 - 1e-9)))
        if index < len(levels) and math.isclose(levels[index], level, rel_tol=1e-9):
            return index
    return None


def nearest(numbers: Sequence[Any], levels: Sequence[Level], layers: int | None) -> Genome:
    """(W,) the index of the level nearest to each finite number, the higher one in the middle between two.

    StudyError where there is not one finite number per layer.
    """
    if layers not in (None, len(numbers)):
        raise StudyError(f"a start has one number for each of the {layers} layers, got {numbers!r}")
    middles = [(a + b) / 2 for a, b in itertools.pairwise(levels)]
    return np.searchsorted(middles, [checked_number(number) for number in numbers], side="right").astype(np.int64)


def length_of(start: Any) -> int:
    """Number of slots of a start; StudyError where it is no list of numbers."""
    if not isinstance(start, Sequence) or isinstance(start, str) or not start:
        raise StudyError(f"start: a number for each layer is needed, got {start!r}")
    return len(start)


def checked_start(dimension: Dimension, start: Sequence[Any]) -> Value:
    """Starting point of a search as a legal value of the dimension; StudyError names the rule that it breaks."""
    length_of(start)
    try:
        return dimension.decode(dimension.encode(tuple(start)))
    except ValueError as error:
        raise StudyError(f"start: {error}") from error
