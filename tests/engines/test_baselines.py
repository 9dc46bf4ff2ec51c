"""The searches of other libraries that our engines are measured against."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines import GaussianProcess, OptunaNSGA2, OptunaTPE, PymooNSGA2
from benchmarks.baselines.gaussian_process import expected_gain, features_of
from benchmarks.baselines.integers import cumulative_minimum, descending
from benchmarks.tables import Table
from benchmarks.tables.search import Starts, search, started
from searchkit.front import hypervolume
from searchkit.space import Lengths, Space
from tests.tables import JOINT, table

BASELINES = {
    "pymoo_nsga2": PymooNSGA2(population=8),
    "optuna_tpe": OptunaTPE(),
    "optuna_nsga2": OptunaNSGA2(population=8),
    "gaussian_process": GaussianProcess(random=8),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    folder: Path = tmp_path_factory.mktemp("tables")
    return {"lengths": table(folder), "joint": table(folder, "joint", JOINT)}


def test_the_cumulative_minimum_is_a_slow_loop_s(tables: dict[str, Table]) -> None:
    rows = np.array(list(itertools.product(range(3), range(3), range(3), range(3))))
    expected = []
    for row in rows.tolist():
        lengths = [min(row[: layer + 1]) for layer in range(4)]
        expected.append([*lengths[:3], lengths[2]])  # the last layer is idle
    assert cumulative_minimum(Space(Lengths(3)).bound(4, last_idle=True), rows).tolist() == expected


@pytest.mark.parametrize("repair", [cumulative_minimum, descending])
@pytest.mark.parametrize(
    "space",
    [
        JOINT,
        Space(Lengths([8, 16, 32, 64], basis="tokens", first=32, last=16)).bound(4),
        Space(Lengths(4, last=0.25)).bound(3, last_idle=True),
    ],
    ids=["joint", "pinned", "last pinned"],
)
def test_repaired_integers_are_canonical_genomes(repair: object, space: Space) -> None:
    rows = np.random.default_rng(0).integers(space.low, space.high + 1, (200, space.width))
    genomes = repair(space, rows)  # type: ignore[operator]
    assert all(space.encode(space.decode(genome)).tolist() == genome.tolist() for genome in genomes)
    assert len({tuple(genome) for genome in genomes.tolist()}) > 2


def test_thresholds_stay_beside_the_lengths_as_they_were() -> None:
    rows = np.array([[0, 2, 1, 1, 0, 1, 1, 0]])
    assert cumulative_minimum(JOINT, rows).tolist() == [[0, 0, 0, 0, 0, 1, 1, 0]]
    assert descending(JOINT, rows).tolist() == [[2, 1, 1, 1, 0, 1, 1, 0]]


@pytest.mark.parametrize("space", ["lengths", "joint"])
@pytest.mark.parametrize("name", sorted(BASELINES))
def test_a_baseline_searches_a_table_the_same_way_twice(name: str, space: str, tables: dict[str, Table]) -> None:
    one, again, other = (search(tables[space], BASELINES[name], seed, 30) for seed in (0, 0, 1))
    assert one.share.tolist() == again.share.tolist() != other.share.tolist()
    assert (np.diff(one.share) >= 0).all()
    assert 0.5 < one.share[-1] <= 1 + 1e-12


def test_expected_gain_is_the_mean_of_simulated_gains() -> None:
    rng = np.random.default_rng(0)
    seen = np.array([[-0.9, 0.9], [-0.8, 0.5], [-0.85, 0.55], [-0.7, 0.2], [-0.6, 0.6]])
    reference = np.array([-0.5, 1.0])
    mean, deviation = np.array([-0.75, -0.82, -0.95, -0.4]), np.array([0.05, 0.02, 0.1, 0.2])
    costs = np.array([0.1, 0.52, 0.95, 0.2])
    drawn = rng.normal(mean, deviation, (4000, 4))
    before = hypervolume(seen, reference)
    simulated = [
        np.mean([hypervolume(np.vstack([seen, [loss, cost]]), reference) - before for loss in losses])
        for losses, cost in zip(drawn.T, costs, strict=True)
    ]
    assert expected_gain(mean, deviation, costs, seen, reference) == pytest.approx(np.array(simulated), rel=0.05)


def test_without_doubt_the_expected_gain_is_the_gain() -> None:
    seen, reference = np.array([[-0.9, 0.9], [-0.7, 0.2]]), np.array([-0.5, 1.0])
    gain = expected_gain(np.array([-0.8]), np.array([0.0]), np.array([0.4]), seen, reference)
    after = hypervolume(np.vstack([seen, [-0.8, 0.4]]), reference)
    assert gain[0] == pytest.approx(after - hypervolume(seen, reference))


def test_an_idle_last_layer_is_no_feature() -> None:
    genomes = np.array([[2, 1, 0, 0, 1, 0, 1, 0]])
    assert features_of(JOINT, genomes)[0] == pytest.approx([0.0, np.log(2 / 3), np.log(1 / 3), 1.0, 0.0, 1.0])


def test_the_process_finds_the_front_sooner_than_chance(tables: dict[str, Table]) -> None:
    guided, by_chance = GaussianProcess(random=8), GaussianProcess(random=1000)
    shares = [[search(tables["lengths"], one, seed, 32).share[-1] for seed in range(4)] for one in (guided, by_chance)]
    assert np.mean(shares[0]) > np.mean(shares[1]) + 0.02


def test_a_process_never_asks_for_a_candidate_again_and_ends_with_the_space(tables: dict[str, Table]) -> None:
    config: Starts = GaussianProcess(random=110)
    engine, evaluator = started(config, tables["lengths"], 0), tables["lengths"].evaluator()
    asked: list[str] = []
    while asks := engine.ask(4):
        asked += [ask.key for ask in asks]
        engine.tell(list(evaluator.run(asks)))
    assert sorted(asked) == sorted(tables["lengths"].rows)
