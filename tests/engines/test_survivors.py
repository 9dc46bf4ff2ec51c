"""NSGA-II's survivors on arrays are those of pymoo's NSGA2, one by one, ties and equal points included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2

from searchkit.engines.survivors import NSGA2Survivors, PymooSurvivors
from searchkit.space import Genome

POPULATION = 10


def drawn(a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
    """The parents, each with a random number: it shows whether both generators are in the same state."""
    return np.append(a, rng.integers(1 << 40)), np.append(b, rng.integers(1 << 40))


def both(objectives: int) -> tuple[NSGA2Survivors, PymooSurvivors]:
    low, high = np.zeros(1, dtype=np.int64), np.full(1, 10**6, dtype=np.int64)
    pymoos = PymooSurvivors(NSGA2(pop_size=POPULATION), low, high, objectives, seed=5)
    return NSGA2Survivors(POPULATION, seed=5), pymoos


def assert_same(ours: NSGA2Survivors, pymoos: PymooSurvivors, children: int) -> None:
    assert np.array_equal(ours._genomes, pymoos._genomes)  # in the same order
    assert ours._crowding == pymoos._algorithm.pop.get("crowding").tolist()
    for own, other in zip(ours.children(children, drawn), pymoos.children(children, drawn), strict=True):
        assert own.tolist() == other.tolist()
    assert ours.front().tolist() == pymoos.front().tolist()


@pytest.mark.parametrize("born", [1, 3, 12])
@pytest.mark.parametrize("values", [2, 5, 10**9], ids=["many ties", "some ties", "no ties"])
@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_arrays_select_as_the_objects_of_pymoo_do(objectives: int, values: int, born: int) -> None:
    ours, pymoos = both(objectives)
    rng = np.random.default_rng([objectives, born])
    for step in range(48 // born + 12):
        genomes = [np.array([100 * step + place]) for place in range(born)]
        losses = rng.integers(values, size=(born, objectives)) * 0.99**step
        ours.tell(genomes, losses)
        pymoos.tell(genomes, losses)
        assert_same(ours, pymoos, children=1 + step % 5)


@pytest.mark.parametrize("first", [1, 2, 25])
def test_the_first_to_be_told_all_survive(first: int) -> None:
    ours, pymoos = both(objectives=2)
    rng = np.random.default_rng(first)
    for born in (first, 1, 4, 1):
        genomes, losses = [np.array([place]) for place in range(born)], rng.random((born, 2))
        ours.tell(genomes, losses)
        pymoos.tell(genomes, losses)
        assert_same(ours, pymoos, children=3)
    assert len(ours) == min(POPULATION, first + 6)


def test_a_newcomer_behind_all_survivors_is_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, pymoos = both(objectives=2)
    rng = np.random.default_rng(0)
    told: list[Any] = []
    select = ours._select
    monkeypatch.setattr(ours, "_select", lambda losses, n: told.append(len(losses)) or select(losses, n))
    for step in range(200):
        genomes, losses = [np.array([step])], rng.random((1, 2))
        ours.tell(genomes, losses)
        pymoos.tell(genomes, losses)
        assert_same(ours, pymoos, children=2)
    assert len(told) < 150
