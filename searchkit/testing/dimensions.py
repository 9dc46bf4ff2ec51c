"""The contract of dimensions: legal samples, mutants and children, nearest repair, exact size."""

from __future__ import annotations

import json

import numpy as np
import pytest

from searchkit.space import Dimension


def legal(dimension: Dimension) -> set[tuple[int, ...]]:
    """All genomes."""
    return set(dimension.genomes())


class DimensionContract:
    """Tests of `dimension`, which is bound to an encoder, and small enough to list."""

    dimension: Dimension

    def test_the_size_counts_the_genomes_and_the_values(self) -> None:
        genomes = list(self.dimension.genomes())
        values = {self.dimension.decode(np.array(genome)) for genome in genomes}
        assert self.dimension.size == len(genomes) == len(set(genomes)) == len(values)

    def test_every_value_encodes_to_its_genome(self) -> None:
        for genome in self.dimension.genomes():
            assert tuple(self.dimension.encode(self.dimension.decode(np.array(genome))).tolist()) == genome

    def test_the_bounds_are_the_extremes_of_the_genomes(self) -> None:
        every = np.array(list(self.dimension.genomes()))
        low, high = self.dimension.bounds
        assert low.tolist() == every.min(axis=0).tolist()
        assert high.tolist() == every.max(axis=0).tolist()

    def test_samples_are_legal(self) -> None:
        rows = self.dimension.sample(200, np.random.default_rng(0))
        assert rows.shape == (200, self.dimension.width)
        assert {tuple(row) for row in rows.tolist()} <= legal(self.dimension)

    @pytest.mark.parametrize("n", [0, 1, 2, 3])
    def test_few_samples_have_the_right_shape(self, n: int) -> None:
        assert self.dimension.sample(n, np.random.default_rng(0)).shape == (n, self.dimension.width)

    def test_a_mutant_is_legal_and_differs_from_its_parent(self) -> None:
        rng = np.random.default_rng(0)
        everything = legal(self.dimension)
        for genome in self.dimension.genomes():
            for _ in range(5):
                mutant = tuple(self.dimension.mutate(np.array(genome), rng).tolist())
                assert mutant in everything
                assert mutant != genome or self.dimension.size == 1

    def test_mutation_reaches_every_value(self) -> None:
        rng = np.random.default_rng(0)
        genome = self.dimension.bounds[0]
        reached = {tuple(genome.tolist())}
        for _ in range(60 * self.dimension.size):
            genome = self.dimension.mutate(genome, rng)
            reached.add(tuple(genome.tolist()))
        assert reached == legal(self.dimension)

    def test_children_are_legal(self) -> None:
        rng = np.random.default_rng(0)
        everything = legal(self.dimension)
        parents = self.dimension.sample(60, rng)
        for a, b in zip(parents, parents[::-1], strict=True):
            assert {tuple(child.tolist()) for child in self.dimension.crossover(a, b, rng)} <= everything

    def test_no_operator_writes_into_its_arguments(self) -> None:
        rng = np.random.default_rng(0)
        low, high = self.dimension.bounds
        for genome in (low, high):
            genome.setflags(write=False)
        for _ in range(20):
            mutant = self.dimension.mutate(low, rng)
            children = self.dimension.crossover(low, high, rng)
            for made in (mutant, *children):
                assert not np.shares_memory(made, low)
                assert not np.shares_memory(made, high)

    def test_repair_finds_the_nearest_legal_genome(self) -> None:
        rng = np.random.default_rng(0)
        every = np.array(list(self.dimension.genomes()))
        for _ in range(50):
            wild = rng.integers(-4, 14, size=self.dimension.width)
            repaired = self.dimension.repair(wild)
            assert tuple(repaired.tolist()) in legal(self.dimension)
            assert ((repaired - wild) ** 2).sum() == ((every - wild) ** 2).sum(axis=1).min()

    def test_repair_leaves_a_legal_genome_alone(self) -> None:
        for genome in self.dimension.genomes():
            assert tuple(self.dimension.repair(np.array(genome)).tolist()) == genome

    def test_the_same_generator_state_gives_the_same_draws(self) -> None:
        def draws() -> list[list[int]]:
            rng = np.random.default_rng(3)
            rows = self.dimension.sample(10, rng)
            made = [self.dimension.mutate(row, rng) for row in rows]
            return [row.tolist() for row in (*rows, *made, *self.dimension.crossover(rows[0], rows[1], rng))]

        assert draws() == draws()

    def test_the_description_is_json(self) -> None:
        assert json.loads(json.dumps(self.dimension.describe())) == self.dimension.describe()

    def test_a_neutral_genome_is_legal_and_the_first_of_the_samples(self) -> None:
        if self.dimension.neutral is not None:
            assert tuple(self.dimension.neutral.tolist()) in legal(self.dimension)
            assert self.dimension.sample(2, np.random.default_rng(0))[0].tolist() == self.dimension.neutral.tolist()

    def test_a_start_changes_neither_what_is_legal_nor_the_description(self) -> None:
        started = self.dimension.started((0.7,) * self.dimension.width)
        assert legal(started) == legal(self.dimension)
        assert started.describe() == self.dimension.describe()
        rows = started.sample(100, np.random.default_rng(0))
        assert {tuple(row) for row in rows.tolist()} <= legal(self.dimension)
