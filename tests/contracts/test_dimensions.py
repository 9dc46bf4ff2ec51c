"""What every dimension promises to a space and its engines."""

from __future__ import annotations

import json

import numpy as np
import pytest

from searchkit.space import Choice, Dimension, Integer, Lengths

DIMENSIONS: dict[str, Dimension] = {
    "lengths": Lengths(6, layers=3),
    "lengths of tokens": Lengths((8, 32, 128), basis="tokens", layers=4),
    "lengths with a first": Lengths(5, first=0.8, layers=4),
    "lengths with a last": Lengths(5, last=0.4, layers=4),
    "lengths with both ends": Lengths(5, first=0.8, last=0.4, layers=4),
    "lengths all pinned": Lengths(5, first=0.8, last=0.4, layers=2),
    "lengths of one layer": Lengths(5, layers=1),
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
