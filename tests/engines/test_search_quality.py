"""The benchmark of engines on complete tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import search_quality
from benchmarks.search_quality import interval, nsga2_over_pymoo, over_seconds, paired, searched, summary, worst
from benchmarks.tables import Table
from benchmarks.tables.emulator import emulated_from, errors_of
from benchmarks.tables.search import Search, search
from benchmarks.tables.table import OBJECTIVES
from searchkit.engines import NSGA2
from searchkit.evaluate.racing import RaceState, Racing
from searchkit.front import hypervolume
from searchkit.objective import Objective
from searchkit.records import Ask, Pruned, Trial
from searchkit.space import Space
from tests.tables import JOINT, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    table(folder)
    table(folder, "joint", JOINT)
    return folder


@pytest.fixture(scope="module")
def small(folder: Path) -> Table:
    return Table.read("small", folder)


def made(*share: float, seconds: Sequence[float] = (), optimism: float | None = None) -> Search:
    return Search(np.array(share), np.array(seconds or np.arange(len(share))), optimism, 1.0)


@dataclass
class Repeating:
    """Asks for candidate 0, then for 0 and 1, then for 0, 1 and 2, ... up to a last one."""

    table: Table
    last: int
    population: int = 1

    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Repeating:
        self.asked, self.told = 0, list[list[Trial]]()
        return self

    def ask(self, n: int) -> list[Ask]:
        self.asked = min(self.asked + 1, self.last)
        return [Ask(number, self.table.candidates[number]) for number in range(self.asked)]

    def tell(self, trials: Sequence[Trial]) -> None:
        self.told.append(list(trials))


def test_candidates_asked_again_are_no_evaluations_and_their_outcomes_are_told_again(small: Table) -> None:
    engine = Repeating(small, last=100)
    one = search(small, engine, 0, 5)
    volumes = [small_volume(small, n) for n in range(1, 6)]
    assert one.share == pytest.approx(np.array(volumes) / small.volume, abs=1e-5)
    assert [len(trials) for trials in engine.told] == [1, 2, 3, 4, 5]
    assert [trial.key for trial in engine.told[-1]] == [candidate.key for candidate in small.candidates[:5]]


def small_volume(small: Table, n: int) -> float:
    """Area below the staircase of the first n rows, by a fine sum."""
    costs = np.linspace(0, small.reference[1], 200_001)[:-1] + small.reference[1] / 400_000
    rows = small.losses[:n]
    best = np.full(len(costs), small.reference[0])
    for loss, cost in rows:
        best = np.where(costs >= cost, np.minimum(best, loss), best)
    return float((small.reference[0] - best).mean() * small.reference[1])


def test_a_search_that_finds_nothing_new_any_more_ends_and_its_curve_stays(small: Table) -> None:
    one = search(small, Repeating(small, last=3), 0, 50)
    assert len(one.share) == len(one.seconds) == 50
    assert (one.share[2:] == one.share[2]).all()


def test_a_whole_table_has_the_whole_hypervolume(small: Table) -> None:
    one = search(small, NSGA2(population=12), 0, 200)
    assert one.share[125] == pytest.approx(1)
    assert one.to(0.99) <= one.to(1.0) <= 126


def test_a_search_ends_with_the_whole_hypervolume(small: Table) -> None:
    """Candidate 0 costs most and candidate 125 least; all in between are asked for once, and then no more."""
    engine = Repeating(small, last=126)
    one = search(small, engine, 0, 1000)
    whole = next(n for n in range(1, 127) if hypervolume(small.losses[:n], small.reference) > (1 - 1e-9) * small.volume)
    assert len(engine.told) == one.to(1.0) == whole


def test_optimism_is_of_the_members_of_the_front_alone(small: Table) -> None:
    one = search(small, Repeating(small, last=3), 0, 3)
    first = range(3)
    members = [row for row in first if not any(dominates(small, other, row) for other in first)]
    difference = small.outcomes.mean(1) - small.report_outcomes.mean(1)
    assert one.optimism == pytest.approx(np.mean([difference[row] for row in members]) - difference.mean())


def test_a_table_without_a_report_split_has_no_optimism(small: Table) -> None:
    one = search(replace(small, report_qualities=None), Repeating(small, last=3), 0, 3)
    assert one.optimism is None


def dominates(small: Table, one: int, other: int) -> bool:
    a, b = small.losses[one], small.losses[other]
    return bool((a <= b).all() and (a < b).any())


def test_evaluations_to_a_level_are_counted_from_one() -> None:
    assert made(0.5, 0.95, 0.96, 0.995).to(0.95) == 2
    assert made(0.99).to(0.99) == 1
    assert made(0.5, 0.98).to(0.99) == np.inf


def test_seeds_that_never_get_there_count_as_more_than_the_limit() -> None:
    late, never = made(0.5, 0.96, 0.99), made(0.5, 0.6, 0.7)
    most_do = summary([late, late, never])
    assert (most_do["to_95"], most_do["to_99"], most_do["never_99"]) == (2, 3, 1)
    half_do = summary([late, never])
    assert (half_do["to_95"], half_do["to_99"], half_do["never_95"]) == (None, None, 1)


def test_shares_are_means_over_seeds_with_the_interval_of_student() -> None:
    searches = [made(*np.full(30, share)) for share in (0.90, 0.92, 0.97)]
    figures = summary(searches)
    assert figures["share"] == {"25": 0.93}
    half = 4.302653 * 0.0360555 / np.sqrt(3)  # the t distribution's 97.5 % point, 2 degrees of freedom
    assert figures["share_interval"]["25"] == [round(0.93 - half, 4), round(0.93 + half, 4)]
    assert "optimism" not in figures
    assert interval(np.array([1.0, 1.0])) == (1.0, 1.0, 1.0)


def test_the_worst_table_decides_the_ratio_of_the_best_on_each_side() -> None:
    medians = {
        "a": {"nsga2": 30.0, "random": 90.0, "pymoo_nsga2": 60.0, "optuna_tpe": 45.0},
        "b": {"nsga2": 100.0, "random": 50.0, "pymoo_nsga2": 80.0, "optuna_tpe": np.inf},
    }
    assert worst(medians, ["pymoo_nsga2", "optuna_tpe"], ["nsga2", "random"], 400) == 45 / 30
    assert worst(medians, ["optuna_tpe"], ["nsga2"], 400) == 45 / 30
    assert worst({"b": medians["b"]}, ["optuna_tpe"], ["nsga2"], 400) == 400 / 100  # at least
    assert worst(medians, ["pymoo_nsga2"], ["nsga2"], 400) == 80 / 100
    assert worst(medians, ["optuna_tpe"], ["nsga2_12"], 400) is None  # left out
    assert worst(medians, ["gaussian_process"], ["nsga2"], 400) is None
    assert worst({"a": {"nsga2": np.inf, "pymoo_nsga2": 9.0}}, ["pymoo_nsga2"], ["nsga2"], 400) is None


def test_one_configuration_is_held_against_pymoo_on_all_tables() -> None:
    medians = {
        "a": {"nsga2": 30.0, "nsga2_12": 50.0, "pymoo_nsga2": 60.0},
        "b": {"nsga2": 120.0, "nsga2_12": 70.0, "pymoo_nsga2": 80.0},
    }
    assert nsga2_over_pymoo(medians, 400) == pytest.approx(70 / 80)  # of nsga2: 120 / 80


def test_shares_are_compared_seed_by_seed_with_our_best() -> None:
    flat = {
        "random": [0.80, 0.80, 0.83],
        "nsga2": [0.90, 0.94, 0.98],
        "optuna_tpe": [0.88, 0.92, 0.96],
        "gaussian_process": [0.92, 0.94, 0.90],
    }
    figures = paired({engine: [made(*np.full(60, share)) for share in shares] for engine, shares in flat.items()})
    assert figures["ours"] == "nsga2"
    assert figures["less"]["optuna_tpe"] == [0.02, 0.02, 0.02]
    mean, low, high = figures["less"]["gaussian_process"]
    assert (mean, low < 0 < high) == (0.02, True)
    assert "random" not in figures["less"]


def test_over_time_a_share_counts_from_the_second_on_in_which_it_was_asked_for() -> None:
    fast, slow = made(0.5, 0.7, seconds=[1.0, 2.0]), made(0.5, 0.9, seconds=[1.0, 4.0])
    seconds, missing = over_seconds([fast, slow])
    assert (seconds[0], seconds[-1]) == (1.0, pytest.approx(3.0))
    assert missing[seconds < 2] == pytest.approx(0.5)
    assert missing[seconds > 2.01] == pytest.approx(0.4)


def test_the_same_searches_are_made_in_other_processes(folder: Path) -> None:
    here, there = (searched(["small"], ["random"], 2, 30, folder, workers) for workers in (1, 2))
    shares = [[one.share.tolist() for one in searches["small"]["random"]] for searches in (here, there)]
    assert shares[0] == shares[1]


def benchmark(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["search_quality", "--workers", "1", *arguments])
    search_quality.main()


def test_a_smoke_run_of_all_engines_is_printed_and_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search_quality, "finish", pytest.fail)
    benchmark(monkeypatch, "--smoke", "--folder", str(folder))
    line = capsys.readouterr().out.strip()
    figures = json.loads(line.removeprefix("search_quality, in part and not kept "))
    engines = {table: set(of_engine) for table, of_engine in figures["tables"].items()}
    assert engines == {"small": set(search_quality.ENGINES), "joint": set(search_quality.ENGINES) - {"lat"}}
    assert "lengths, thresholds" in figures["cannot_search"]["joint"]["lat"]
    assert all(0.5 < row["share"]["25"] <= 1 and row["ask_ms"] > 0 for row in figures["tables"]["small"].values())


def test_a_whole_run_is_kept_with_its_figure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = dict[str, object]()
    monkeypatch.setattr(search_quality, "finish", kept.__setitem__)
    monkeypatch.setattr(search_quality, "IMAGE", tmp_path / "engines.png")
    monkeypatch.setattr(search_quality, "ENGINES", {name: search_quality.OURS[name] for name in ("random", "nsga2")})
    monkeypatch.setattr(search_quality, "AT", (10, 20))
    monkeypatch.setattr(search_quality, "LEAST_SEEDS", 2)
    monkeypatch.setattr(search_quality, "LEAST_EVALUATIONS", 20)
    benchmark(monkeypatch, "--folder", str(folder), "--engines", "random", "nsga2", "--seeds", "2")
    assert set(kept["search_quality"]["tables"]["joint"]["nsga2"]["share"]) == {"10", "20"}  # type: ignore[index]
    assert (tmp_path / "engines.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--seeds", "1"], "at least 2 seeds"), (["--engines", "nsga3"], "nsga3"), (["--tables", "imdb"], "imdb")],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str],
    complaint: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark(monkeypatch, "--folder", str(folder), *arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_table_is_read_without_searchkit_as_its_page_says(small: Table, folder: Path) -> None:
    page = (Path(search_quality.__file__).parent / "tables" / "README.md").read_text()
    code = page.split("```python\n")[1].split("```")[0].replace("benchmarks/tables/data/sst2", str(folder / "small"))
    read = dict[str, object]()
    exec(code, read)
    assert "searchkit." not in code
    assert np.array_equal(read["losses"], small.losses)  # type: ignore[arg-type]
    assert np.array_equal(read["correct"], small.outcomes)  # type: ignore[arg-type]
    assert np.array_equal(read["reference"], small.reference)  # type: ignore[arg-type]


def test_a_table_holds_races() -> None:
    """What an incumbent of no higher cost beats is stopped early; others are measured as without a race."""
    race, small = RaceState.of(Racing(), OBJECTIVES), Table.read("sst2")
    assert race is not None
    asks = [Ask(number, candidate) for number, candidate in enumerate(small.candidates)]
    evaluator = small.evaluator()
    quality, cost = small.qualities, small.costs
    beaten = (quality[:, None] > quality + 0.02) & (cost[:, None] <= cost)  # [a, b]: a beats b
    incumbent = int(beaten.sum(1).argmax())
    (best,) = evaluator.run([asks[incumbent]], race)
    whole = evaluator.looked_at
    trials = list(evaluator.run(asks, race.against([best])))
    stopped = [trial for trial in trials if isinstance(trial.outcome, Pruned)]
    assert stopped
    assert evaluator.looked_at - whole < len(asks) * whole
    for trial in trials:
        row = small.rows[trial.key]
        if isinstance(trial.outcome, Pruned):
            assert cost[row] >= cost[incumbent]
            assert quality[row] < quality[incumbent]
            assert trial.outcome.seen["accuracy"].n == trial.outcome.examples < whole
        else:
            assert trial.outcome == small.evaluator().trial(trial.ask).outcome


def test_an_emulator_says_the_same_numbers_every_time_and_nearly_the_true_ones() -> None:
    table = Table.read("sst2")
    values = np.stack([table.qualities, table.costs], 1)
    some = np.random.default_rng(0).permutation(len(values))[:400]
    candidates = [table.candidates[row] for row in some]
    first, second = (emulated_from(candidates, values[some])(table.candidates) for _ in range(2))
    assert (first == second).all()
    unseen = np.setdiff1d(np.arange(len(values)), some)
    off = np.sqrt(((first - values)[unseen] ** 2).mean(0))
    assert off[0] < 0.01 < values[:, 0].std() / 2
    assert off[1] < 0.005
    assert errors_of(candidates, values[some]) == pytest.approx(off, rel=0.5)
