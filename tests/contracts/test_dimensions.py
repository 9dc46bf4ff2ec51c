"""What every dimension promises to a space and its engines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from searchkit.errors import StudyError
from searchkit.space import Choice, Dimension, Integer, Lengths, Thresholds

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


@pytest.fixture(params=DIMENSIONS)
def dimension(request: pytest.FixtureRequest) -> Dimension:
    return DIMENSIONS[request.param]


def legal(dimension: Dimension) -> set[tuple[int, ...]]:
    return set(dimension.genomes())


def test_the_size_counts_the_genomes_and_the_values(dimension: Dimension) -> None:
    genomes = list(dimension.genomes())
    values = {dimension.decode(np.array(genome)) for genome in genomes}
    assert dimension.size == len(genomes) == len(set(genomes)) == len(values)


def test_every_value_encodes_to_its_genome(dimension: Dimension) -> None:
    for genome in dimension.genomes():
        assert tuple(dimension.encode(dimension.decode(np.array(genome))).tolist()) == genome


def test_the_bounds_are_the_extremes_of_the_genomes(dimension: Dimension) -> None:
    every = np.array(list(dimension.genomes()))
    low, high = dimension.bounds
    assert low.tolist() == every.min(axis=0).tolist()
    assert high.tolist() == every.max(axis=0).tolist()


def test_samples_are_legal(dimension: Dimension) -> None:
    rows = dimension.sample(200, np.random.default_rng(0))
    assert rows.shape == (200, dimension.width)
    assert {tuple(row) for row in rows.tolist()} <= legal(dimension)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_samples_have_the_right_shape(dimension: Dimension, n: int) -> None:
    assert dimension.sample(n, np.random.default_rng(0)).shape == (n, dimension.width)


def test_a_mutant_is_legal_and_differs_from_its_parent(dimension: Dimension) -> None:
    rng = np.random.default_rng(0)
    everything = legal(dimension)
    for genome in dimension.genomes():
        for _ in range(5):
            mutant = tuple(dimension.mutate(np.array(genome), rng).tolist())
            assert mutant in everything
            assert mutant != genome or dimension.size == 1


def test_mutation_reaches_every_value(dimension: Dimension) -> None:
    rng = np.random.default_rng(0)
    genome = dimension.bounds[0]
    reached = {tuple(genome.tolist())}
    for _ in range(60 * dimension.size):
        genome = dimension.mutate(genome, rng)
        reached.add(tuple(genome.tolist()))
    assert reached == legal(dimension)


def test_children_are_legal(dimension: Dimension) -> None:
    rng = np.random.default_rng(0)
    everything = legal(dimension)
    parents = dimension.sample(60, rng)
    for a, b in zip(parents, parents[::-1], strict=True):
        assert {tuple(child.tolist()) for child in dimension.crossover(a, b, rng)} <= everything


def test_no_operator_writes_into_its_arguments(dimension: Dimension) -> None:
    rng = np.random.default_rng(0)
    low, high = dimension.bounds
    for genome in (low, high):
        genome.setflags(write=False)
    for _ in range(20):
        mutant = dimension.mutate(low, rng)
        children = dimension.crossover(low, high, rng)
        for made in (mutant, *children):
            assert not np.shares_memory(made, low)
            assert not np.shares_memory(made, high)


def test_repair_finds_the_nearest_legal_genome(dimension: Dimension) -> None:
    rng = np.random.default_rng(0)
    every = np.array(list(dimension.genomes()))
    for _ in range(50):
        wild = rng.integers(-4, 14, size=dimension.width)
        repaired = dimension.repair(wild)
        assert tuple(repaired.tolist()) in legal(dimension)
        assert ((repaired - wild) ** 2).sum() == ((every - wild) ** 2).sum(axis=1).min()


def test_repair_leaves_a_legal_genome_alone(dimension: Dimension) -> None:
    for genome in dimension.genomes():
        assert tuple(dimension.repair(np.array(genome)).tolist()) == genome


def test_the_same_generator_state_gives_the_same_draws(dimension: Dimension) -> None:
    def draws() -> list[list[int]]:
        rng = np.random.default_rng(3)
        rows = dimension.sample(10, rng)
        made = [dimension.mutate(row, rng) for row in rows]
        return [row.tolist() for row in (*rows, *made, *dimension.crossover(rows[0], rows[1], rng))]

    assert draws() == draws()


def test_the_description_is_json(dimension: Dimension) -> None:
    assert json.loads(json.dumps(dimension.describe())) == dimension.describe()


def test_a_neutral_genome_is_legal_and_the_first_of_the_samples(dimension: Dimension) -> None:
    if dimension.neutral is not None:
        assert tuple(dimension.neutral.tolist()) in legal(dimension)
        assert dimension.sample(2, np.random.default_rng(0))[0].tolist() == dimension.neutral.tolist()


def test_a_start_changes_neither_what_is_legal_nor_the_description(dimension: Dimension) -> None:
    started = dimension.started((0.7,) * dimension.width)
    assert legal(started) == legal(dimension)
    assert started.describe() == dimension.describe()
    rows = started.sample(100, np.random.default_rng(0))
    assert {tuple(row) for row in rows.tolist()} <= legal(dimension)


# Starts of lengths, and when they reduce nothing (thresholds: tests/space/test_thresholds.py)


def test_without_a_start_the_draws_are_what_they_were_before_there_were_any() -> None:
    """Stored searches replay: these rows were drawn by the version that knew no starts."""
    expected = [[5] * 4, [0] * 4, [4, 2, 1, 1], [3, 2, 2, 1], [5, 1, 1, 0], [3] * 4, [5, 5, 5, 0], [5, 5, 5, 2]]
    rng = np.random.default_rng(0)
    assert Lengths(6, layers=4).sample(8, rng).tolist() == expected
    assert rng.integers(10**6) == 650459  # nothing more is drawn


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
