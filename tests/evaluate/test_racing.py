"""Racing: the test keeps its error at any number of looks, has power, and stops only what a rival beats."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit import Objective, Racing, StudyError
from searchkit.evaluate.racing import Incumbent, RaceState, SequentialTest
from searchkit.records import Pruned
from searchkit.stats import betting_interval, evidence

N, SHARDS = 400, 8


def outcomes(rng: np.random.Generator, behind: int, apart: int) -> np.ndarray[Any, Any]:
    """Differences of N examples: `apart` to either side, and `behind` more on the worse one, in random order."""
    differences = np.zeros(N)
    differences[:apart], differences[apart : 2 * apart + behind] = 1.0, -1.0
    return rng.permutation(differences)


def looks(differences: np.ndarray[Any, Any]) -> float:
    """The highest evidence after any shard but the last."""
    return max(evidence(differences[: N * shard // SHARDS], N) for shard in range(1, SHARDS))


@pytest.mark.parametrize("apart", [3, 20, 80])
def test_an_equal_candidate_is_stopped_no_more_often_than_stated(apart: int) -> None:
    rng = np.random.default_rng(apart)
    wrong = np.mean([looks(outcomes(rng, 0, apart)) > math.log(10) for _ in range(1000)])
    assert wrong <= 0.1


def test_evidence_grows_with_what_a_candidate_is_behind() -> None:
    rng = np.random.default_rng(0)
    stopped = [
        np.mean([looks(outcomes(rng, behind, 15)) > math.log(1000) for _ in range(100)]) for behind in (0, 20, 40)
    ]
    assert stopped[0] <= 0.01
    assert stopped[1] > 0.5
    assert stopped[2] > 0.99


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=40))
def test_the_evidence_is_infinite_once_the_examples_left_cannot_save_the_claim(differences: list[float]) -> None:
    """A claim that the examples left cannot save has infinite evidence against it, and only such a claim."""
    seen = np.array(differences)
    for left in (0, 1, 5):
        give_up = any(seen[:n].sum() + (len(seen) - n) + left < 0 for n in range(len(seen) + 1))
        assert math.isinf(evidence(seen, len(seen) + left)) == give_up


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 60))
def test_the_interval_holds_the_mean_and_narrows(seed: int, behind: int, apart: int) -> None:
    differences = outcomes(np.random.default_rng(seed), behind, apart)
    few, many = (betting_interval(differences[:n], N, 0.001) for n in (50, 350))
    assert few[0] <= -behind / N <= few[1]
    assert many[0] <= -behind / N <= many[1]
    assert many[1] - many[0] <= few[1] - few[0] + 1e-6


@pytest.mark.parametrize("apart", [3, 40])
def test_bets_that_begin_later_keep_the_error_too(apart: int) -> None:
    """The first shard is known to both sides: what it brought is part of the claim about the rest."""
    rng, start = np.random.default_rng(apart), N // SHARDS
    wrong = 0
    for _ in range(1000):
        differences = outcomes(rng, 0, apart)
        seen = (differences[: N * shard // SHARDS] for shard in range(2, SHARDS))
        wrong += max(evidence(one, N, start=start) for one in seen) > math.log(10)
    assert wrong <= 100
    assert evidence(differences[:start], N, start=start) == 0.0


def test_the_interval_of_everything_is_the_mean() -> None:
    differences = outcomes(np.random.default_rng(0), 20, 15)
    assert betting_interval(differences, N, 0.001) == pytest.approx((-0.05, -0.05), abs=1e-6)


QUALITY = Objective("quality", "", "higher", measure=lambda _: None, examples=lambda one: one.quality)  # type: ignore[arg-type, return-value]
COST = Objective("cost", "", "lower", measure=lambda _: None, examples=lambda one: one.cost)  # type: ignore[arg-type, return-value]


def race_of(error: float, *rivals: Incumbent) -> RaceState:
    return RaceState(QUALITY, COST, error, SHARDS - 1, rivals)


def run_heat(
    race: RaceState, quality: np.ndarray[Any, Any], cost: np.ndarray[Any, Any], seed: int, known: bool = True
) -> Pruned | None:
    heat = SequentialTest(race, cost if known else None)
    for rows in np.array_split(np.random.default_rng(seed).permutation(N), SHARDS)[:-1]:
        verdict = heat.stops(SimpleNamespace(quality=quality[rows], cost=cost[rows]), rows, rows)
        if verdict is not None:
            return verdict
    return None


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("stated", [0.05, 0.2])
def test_true_front_members_survive_whole_searches(stated: float, known: bool) -> None:
    """60 searches of 30 candidates, some of them poor, that come one after the other, each against those before.

    Stopped members of the true front, per member and per search, against the stated probability. Costs are known
    beforehand, or differ from example to example and are seen as these come.
    """
    members, lost, stopped = 0, 0, 0
    for search in range(60):
        rng = np.random.default_rng(search)
        costs, poor = rng.uniform(0.2, 1.0, 30), rng.exponential(0.06, 30)
        each = [np.full(N, one) if known else one + rng.uniform(-0.1, 0.1, N) for one in costs]
        costs = np.array([one.mean() for one in each])
        difficulty = rng.random(N)
        able = 0.9 - 0.3 * (1 - costs) ** 2 - poor
        quality = [(difficulty + rng.normal(0, 0.05, N) < one).astype(float) for one in able]
        totals = np.array([one.sum() for one in quality])
        true = [
            not any((totals >= totals[one]) & (costs <= costs[one]) & ((totals > totals[one]) | (costs < costs[one])))
            for one in range(30)
        ]
        measured: list[int] = []
        for one in range(30):
            rivals = [Incumbent(str(other), quality[other], each[other]) for other in measured]
            verdict = run_heat(race_of(stated, *rivals), quality[one], each[one], search, known)
            if verdict is None:
                measured.append(one)
            stopped += verdict is not None
            members += true[one]
            lost += true[one] and verdict is not None
    assert lost <= stated * members
    assert stopped > (0.35 if known else 0.25) * 60 * 30  # it is worth it


def test_only_an_incumbent_of_no_higher_cost_stops_a_candidate() -> None:
    good, bad = np.ones(N), (np.arange(N) % 2).astype(float)
    for cost, beaten in ((0.5, True), (1.0, True), (1.5, False)):
        race = race_of(0.001, Incumbent("rival", good, np.full(N, cost)))
        for known in (True, False):
            assert (run_heat(race, bad, np.ones(N), seed=0, known=known) is not None) == beaten
    stopped = run_heat(race_of(0.001, Incumbent("abc", good, good)), bad, good, seed=0)
    assert stopped is not None
    assert "behind abc by 0.5" in stopped.why
    assert stopped.examples < N


@pytest.mark.parametrize(
    ("quality", "cost", "rule"),
    [
        ([0.5, 1.5], [1.0, 1.0], r"'quality': examples must be qualities in \[0, 1\]"),
        ([0.5, math.nan], [1.0, 1.0], "'quality'"),
        ([[0.5, 0.5]], [1.0, 1.0], "'quality'"),
        ([0.5, 0.5], [1.0, -1.0], "'cost': examples must be finite costs"),
        ([0.5, 0.5], [1.0, math.inf], "'cost'"),
    ],
)
def test_examples_that_the_test_is_not_made_for_are_refused(quality: Any, cost: Any, rule: str) -> None:
    """An objective of the user's own could hold anything, and the bound on the error would hold no more."""
    subject = SimpleNamespace(quality=np.array(quality), cost=np.array(cost))
    with pytest.raises(StudyError, match=rule):
        race_of(0.05).outcomes(subject)


def test_a_race_needs_exactly_a_quality_and_a_cost_known_per_example() -> None:
    plain = Objective("mse", "", "lower", measure=lambda _: None)  # type: ignore[arg-type, return-value]
    assert RaceState.of(Racing(), [QUALITY, COST]) is not None
    for racing, objectives in ((None, [QUALITY, COST]), (Racing(), [QUALITY]), (Racing(), [QUALITY, plain])):
        assert RaceState.of(racing, objectives) is None
    assert RaceState.of(Racing(), [QUALITY, COST, plain]) is None


@pytest.mark.parametrize("given", [{"confidence": 1.0}, {"confidence": 0.2}, {"shards": 1}, {"shards": 0}])
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="racing"):
        Racing(**given)
