"""Algorithms of pymoo as engines: what is the same as `NSGA2`, what is refused, and what a fingerprint holds."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pymoo.algorithms.moo.ctaea import CTAEA
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.algorithms.moo.nsde import NSDE
from pymoo.algorithms.moo.nsga2 import NSGA2 as PymooNSGA2  # noqa: N811
from pymoo.algorithms.moo.nsga2 import binary_tournament
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.rvea import RVEA
from pymoo.algorithms.moo.sms import SMSEMOA, LeastHypervolumeContributionSurvival
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.algorithms.moo.unsga3 import UNSGA3
from pymoo.algorithms.soo.nonconvex.cmaes import CMAES
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import Problem
from pymoo.operators.mutation.pm import PM
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.operators.selection.rnd import RandomSelection
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.util.ref_dirs import get_reference_directions

from searchkit import (
    NSGA2,
    Candidate,
    Estimate,
    Failed,
    Lengths,
    Measured,
    PymooAlgorithm,
    Random,
    Space,
    StudyError,
    Trial,
)
from searchkit.front import hypervolume
from searchkit.records import Outcome
from tests.engines.test_nsga2 import OBJECTIVES, measured_losses, problem, search

SPACE = Space(Lengths(16, layers=12))
DIRECTIONS = get_reference_directions("das-dennis", 2, n_partitions=11)


def sometimes(candidate: Candidate) -> Outcome:
    return Failed("nan", "loss is NaN") if int(candidate.key, 16) % 5 == 0 else problem(12, seed=0)(candidate)


@pytest.mark.parametrize("steady", [False, True])
def test_nsga2_of_pymoo_searches_as_nsga2_does(steady: bool) -> None:
    first = (Candidate.of(lengths=(0.5,) * 12),)
    own = NSGA2(population=12, crossover=0.8, mutation=0.5, first=first, steady=steady)
    theirs = PymooAlgorithm(PymooNSGA2(pop_size=12), crossover=0.8, mutation=0.5, first=first, steady=steady)
    asked = [[trial.ask for trial in search(config, SPACE, sometimes, 150, seed=4)] for config in (own, theirs)]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("algorithm", [NSGA3(DIRECTIONS, pop_size=24), SMSEMOA(pop_size=24), SPEA2(pop_size=24)])
def test_the_hypervolume_is_larger_than_that_of_random_search(algorithm: Any) -> None:
    found, floor = (
        hypervolume(measured_losses(search(config, SPACE, problem(12, seed=1), 300, seed=0)), (0.0, 1.01))
        for config in (PymooAlgorithm(algorithm), Random())
    )
    assert found > floor


def test_the_algorithm_decides_who_survives() -> None:
    asked = {
        tuple(trial.key for trial in search(PymooAlgorithm(algorithm), SPACE, problem(12, seed=0), 100, seed=0))
        for algorithm in (PymooNSGA2(pop_size=12), SMSEMOA(pop_size=12), NSGA3(DIRECTIONS, pop_size=12))
    }
    assert len(asked) == 3


def test_the_object_stays_as_it_was_and_later_changes_of_it_do_not_count() -> None:
    algorithm = NSGA3(DIRECTIONS.copy(), pop_size=12)
    config = PymooAlgorithm(algorithm)
    before = config.describe()
    search(config, SPACE, problem(12, seed=0), 40, seed=0)
    assert PymooAlgorithm(algorithm).describe() == config.describe() == before
    assert algorithm.problem is algorithm.pop is None
    algorithm.ref_dirs[0] = 0.5
    algorithm.pop_size = 50
    assert config.describe() == before
    assert config.population == 12


def test_a_copy_with_other_settings_has_the_same_algorithm() -> None:
    config, first = PymooAlgorithm(NSGA3(DIRECTIONS, pop_size=12)), (Candidate.of(lengths=(0.5,) * 12),)
    assert replace(config, first=first).describe() == {**config.describe(), "first": [{"lengths": [0.5] * 12}]}


def test_warnings_of_the_process_stay_as_they_are() -> None:
    """NSGA-III turns all warnings off whenever it computes a nadir point."""
    filters = list(warnings.filters)
    search(PymooAlgorithm(NSGA3(DIRECTIONS, pop_size=12)), SPACE, problem(12, seed=0), 40, seed=0)
    assert warnings.filters == filters


def ran() -> SMSEMOA:
    return SMSEMOA(pop_size=4).setup(Problem(n_var=1, n_obj=2, xl=0, xu=1))


@pytest.mark.parametrize(
    ("algorithm", "rule"),
    [
        (SMSEMOA, r"a genetic algorithm of pymoo with a survival, such as .*, got the class SMSEMOA"),
        ("nsga3", "with a survival, such as .*, got str"),
        (CMAES(), "with a survival, such as .*, got CMAES"),
        (MOEAD(DIRECTIONS), "with a survival, such as .*, got MOEAD"),
        (NSDE(pop_size=8), "NSDE makes its children in its own way"),
        (CTAEA(DIRECTIONS), "CTAEA makes its children in its own way"),
        (ran(), "this SMSEMOA has run already"),
        (SMSEMOA(pop_size=1), "pop_size must be at least 2, got 1"),
        (SMSEMOA(pop_size=8, n_offsprings=2), r"has pop_size=8 children .*leave out n_offsprings=2"),
        (SMSEMOA(pop_size=8, mutation=PM(eta=5)), r"mutation comes from the space, leave it out of SMSEMOA\(...\)"),
        (UNSGA3(DIRECTIONS, sampling=IntegerRandomSampling()), "sampling comes from the space"),
    ],
)
def test_what_cannot_be_driven_is_refused_in_one_line(algorithm: Any, rule: str) -> None:
    with pytest.raises(StudyError, match=rule):
        PymooAlgorithm(algorithm)


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        (GA(pop_size=8), "single objective"),
        (NSGA3(get_reference_directions("das-dennis", 3, n_partitions=3)), "Dimensionality of reference points"),
        (RVEA(DIRECTIONS), "termination criterion to run RVEA"),
    ],
)
def test_what_fails_for_the_objectives_is_refused_before_the_search(algorithm: Any, reason: str) -> None:
    config = PymooAlgorithm(algorithm)
    rule = rf"{type(algorithm).__name__} cannot search these 2 objectives, accuracy, flops: .*{reason}"
    with pytest.raises(StudyError, match=rule):
        config.check(Space(Lengths(8)), OBJECTIVES, plateau=False)
    with pytest.raises(StudyError, match=rule):
        config.start(SPACE, OBJECTIVES, seed=0)


def test_one_objective_is_searched_by_an_algorithm_for_one() -> None:
    def deviation(candidate: Candidate) -> float:
        return float(np.square(np.array(candidate["lengths"]) - np.linspace(0.9, 0.2, 12)).sum())

    engine = PymooAlgorithm(GA(pop_size=8)).start(SPACE, OBJECTIVES[1:], seed=0)
    best = []
    for _ in range(12):
        asks = engine.ask(8)
        best.append(min(deviation(ask.candidate) for ask in asks))
        losses = [Measured({"flops": Estimate(deviation(ask.candidate), None, 1)}) for ask in asks]
        engine.tell([Trial(ask, loss, 0.0) for ask, loss in zip(asks, losses, strict=True)])
    assert min(best[6:]) < 0.5 * best[0]


@pytest.mark.parametrize("settings", [{"crossover": 1.5}, {"mutation": -1}, {"first": (1,)}, {"steady": 1}])
def test_settings_are_checked_as_those_of_nsga2(settings: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match=f"{next(iter(settings))}"):
        PymooAlgorithm(SMSEMOA(pop_size=8), **settings)


def own_tournament(pop: Any, P: Any, **kwargs: Any) -> Any:
    return binary_tournament(pop, P, **kwargs)


class OwnSurvival(LeastHypervolumeContributionSurvival):
    """The same under another name."""


ALGORITHMS = {
    "": SMSEMOA(pop_size=8),
    "population": SMSEMOA(pop_size=10),
    "class": SPEA2(pop_size=8),
    "setting": SMSEMOA(pop_size=8, normalize=False),
    "setting of survival": SMSEMOA(pop_size=8, survival=LeastHypervolumeContributionSurvival(eps=1.0)),
    "selection": SMSEMOA(pop_size=8, selection=RandomSelection()),
    "tournament": SMSEMOA(pop_size=8, selection=TournamentSelection(func_comp=binary_tournament)),
    "directions": NSGA3(DIRECTIONS, pop_size=12),
    "other directions": NSGA3(DIRECTIONS[1:], pop_size=12),
    "wrapped tournament": NSGA3(DIRECTIONS, pop_size=12, selection=UNSGA3(DIRECTIONS).mating.selection),
}


def test_the_description_tells_algorithms_apart() -> None:
    described = {name: PymooAlgorithm(algorithm).describe() for name, algorithm in ALGORITHMS.items()}
    assert len({json.dumps(one, allow_nan=False) for one in described.values()}) == len(described)
    assert described[""] == PymooAlgorithm(SMSEMOA(pop_size=8)).describe()
    assert all(json.loads(json.dumps(one)) == one for one in described.values())
    assert not any("code" in one["algorithm"] for one in described.values())


def test_the_description_holds_the_users_code_in_an_algorithm() -> None:
    own = {
        "survival": SMSEMOA(pop_size=8, survival=OwnSurvival()),
        "tournament": SMSEMOA(pop_size=8, selection=TournamentSelection(func_comp=own_tournament)),
    }
    codes = {PymooAlgorithm(algorithm).describe()["algorithm"]["code"] for algorithm in own.values()}
    assert len(codes) == 2


def test_the_description_names_the_other_settings() -> None:
    first = (Candidate.of(lengths=(0.5,) * 12),)
    described = PymooAlgorithm(SMSEMOA(pop_size=8), crossover=0.5, mutation=0.6, first=first, steady=True).describe()
    rest = {name: value for name, value in described.items() if name != "algorithm"}
    assert rest == {
        "engine": "pymoo",
        "population": 8,
        "crossover": 0.5,
        "mutation": 0.6,
        "first": [{"lengths": [0.5] * 12}],
        "steady": True,
        "bred": 8,
    }


def test_an_algorithm_asks_the_same_after_others_ran_in_the_process() -> None:
    """Defaults of pymoo's constructors are shared objects, some with a state."""
    first, again = (
        [trial.ask for trial in search(PymooAlgorithm(SPEA2(pop_size=8)), SPACE, problem(12, seed=0), 48, seed=0)]
        for _ in range(2)
    )
    assert first == again
