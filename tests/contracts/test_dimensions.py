"""Every dimension under its contract, and where searches start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from searchkit.errors import StudyError
from searchkit.space import Choice, Dimension, Integer, Lengths, Thresholds
from searchkit.testing import DimensionContract
from tests.contracts import suites

DIMENSIONS: dict[str, Dimension] = {
    "lengths": Lengths(6, layers=3),
    "lengths of tokens": Lengths((8, 32, 128), basis="tokens", layers=4),
    "lengths with a first": Lengths(5, first=0.8, layers=4),
    "lengths with a last": Lengths(5, last=0.4, layers=4),
    "lengths with both ends": Lengths(5, first=0.8, last=0.4, layers=4),
    "lengths all pinned": Lengths(5, first=0.8, last=0.4, layers=2),
    "lengths of one layer": Lengths(5, layers=1),
    "lengths with a start": Lengths(5, layers=3, start=(1.0, 0.6, 0.6)),
    "thresholds of shares": Thresholds(levels=(0.5, 1.0), layers=3),
    "thresholds of probabilities": Thresholds("probability", (0.1, 0.5, 0.9), layers=2),
    "thresholds of one place": Thresholds(layers=1),
    "thresholds of one level": Thresholds(levels=(1.0,), layers=4),
    "thresholds with a start": Thresholds(levels=(0.5, 1.0), layers=3, start=(0.0, 0.5, 1.0)),
    "integer": Integer("depth", -3, 9),
    "integer of one value": Integer("depth", 4, 4),
    "choice": Choice("fate", ("discard", "freeze", None)),
    "choice of one option": Choice("fate", ("discard",)),
}


globals().update(suites(DimensionContract, {name: {"dimension": dimension} for name, dimension in DIMENSIONS.items()}))


# Starts of lengths, and when they reduce nothing (thresholds: tests/space/test_thresholds.py)


def test_the_draws_of_a_seed_are_those_of_stored_searches() -> None:
    """A search replays what it drew: other draws for a seed are a change that stored runs notice."""
    expected = [[5] * 4, [0] * 4, [3, 0, 0, 0], [5, 1, 0, 0], [4, 1, 1, 0], [0] * 4, [1, 1, 0, 0], [5, 2, 2, 2]]
    rng = np.random.default_rng(0)
    assert Lengths(6, layers=4).sample(8, rng).tolist() == expected
    assert rng.integers(10**6) == 615385  # nothing more is drawn


@pytest.mark.parametrize(
    ("lengths", "neutral"),
    [
        (Lengths(4, layers=3), [3, 3, 3]),
        (Lengths((0.5, 1), first=1, layers=2), [1, 1]),
        (Lengths((0.25, 0.5), layers=3), None),
        (Lengths(4, first=0.75, layers=3), None),
        (Lengths(4, last=0.5, layers=3), None),
        (Lengths((1,), basis="tokens", layers=3), None),
    ],
)
def test_lengths_are_neutral_where_every_layer_keeps_all(lengths: Lengths, neutral: list[int] | None) -> None:
    assert (None if lengths.neutral is None else lengths.neutral.tolist()) == neutral


@pytest.mark.parametrize(
    ("lengths", "found", "start"),
    [
        (Lengths(4), (0.97, 0.6, 0.61), (1.0, 0.5, 0.5)),
        (Lengths(4), (0.3, 0.8, 0.1), (0.5, 0.5, 0.25)),  # 0.25, 0.75 pooled; the lowest level is the least there is
        (Lengths(4, first=1.0, last=0.25, layers=3), (0.5, 0.5, 0.5), (1.0, 0.5, 0.25)),
        (Lengths((8, 32, 128), basis="tokens"), (90.0, 21.0, 3.5), (128, 32, 8)),
    ],
)
def test_trained_lengths_become_the_nearest_start(lengths: Lengths, found: Any, start: Any) -> None:
    assert lengths.started(found).start == start


def test_samples_hold_the_start_and_neighbours_of_it_beside_the_shapes() -> None:
    plain = Lengths(16, layers=12)
    lengths = plain.started(tuple(np.linspace(1, 0.3, 12)))
    start = lengths.encode(lengths.start or ())
    rows, without = (own.sample(400, np.random.default_rng(0)) for own in (lengths, plain))
    distance, apart = (np.abs(drawn - start).sum(axis=1) for drawn in (rows, without))
    assert rows[:2].tolist() == without[:2].tolist()
    assert distance[2] == 0
    assert (distance < 8).mean() > 0.15 + (apart < 8).mean()
    assert (distance > 24).mean() > 0.35


@pytest.mark.parametrize("found", [(0.5, 0.5), (0.5, float("nan"), 0.5), (0.5, "1", 0.5)])
def test_a_start_that_fits_no_encoder_or_is_no_number_is_refused(found: Any) -> None:
    with pytest.raises(StudyError, match=r"one number for each of the 3 layers|finite number"):
        Lengths(4, layers=3).started(found)
