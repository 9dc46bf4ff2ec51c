"""Every engine under its contract, and what its description holds."""

from __future__ import annotations

import json

import pytest
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.util.ref_dirs import get_reference_directions

from searchkit.engines import ENGINES, LAT, NSGA2, EngineConfig, OptunaSampler, PymooAlgorithm, Random, Surrogate
from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.testing import EndlessEngineContract, EngineContract
from searchkit.testing.engines import LARGE, OBJECTIVES, POPULATION, SUM
from tests.contracts import suites

ENDLESS: dict[str, EngineConfig] = {
    f"{name} {'steady' if steady else 'generational'}": engine
    for steady in (False, True)
    for name, engine in {
        "NSGA2": NSGA2(POPULATION, steady=steady),
        "Random": Random(POPULATION, steady=steady),
        "SMSEMOA": PymooAlgorithm(SMSEMOA(pop_size=POPULATION), steady=steady),
        "Surrogate": Surrogate(POPULATION, steady=steady),
    }.items()
}

globals().update(
    suites(
        EndlessEngineContract,
        {name: {"engine": engine, "learns": not isinstance(engine, Random)} for name, engine in ENDLESS.items()},
    )
)


class NSGA3Contract(EndlessEngineContract):
    learns = True
    directions = get_reference_directions("das-dennis", 2, n_partitions=POPULATION - 1)

    @pytest.mark.parametrize("objectives", [OBJECTIVES[:1], [*OBJECTIVES, SUM]])
    def test_one_and_three_objectives_work_as_two_do(self, objectives: list[Objective]) -> None:
        with pytest.raises(StudyError, match=f"NSGA3 cannot search these {len(objectives)} objectives"):
            self.engine.start(LARGE, objectives, seed=0)


class TestNSGA3(NSGA3Contract):
    engine = PymooAlgorithm(NSGA3(NSGA3Contract.directions))


class TestNSGA3Steady(NSGA3Contract):
    engine = PymooAlgorithm(NSGA3(NSGA3Contract.directions), steady=True)


class TestLAT(EngineContract):
    engine = LAT(initial=8, mutations=5, crossovers=5)
    ends = lengths_only = two_objectives = True


def test_every_engine_is_held_to_its_promises() -> None:
    # Optuna's samplers are in tests/engines/test_optuna.py
    assert {LAT, OptunaSampler, *map(type, ENDLESS.values())} == set(ENGINES.values())


@pytest.mark.parametrize("engine", [LAT(), OptunaSampler(), *ENDLESS.values()], ids=["LAT", "Optuna", *ENDLESS])
def test_the_description_is_json_and_names_the_registry_entry(engine: EngineConfig) -> None:
    described = engine.describe()
    assert json.loads(json.dumps(described)) == described
    assert ENGINES[described["engine"]] is type(engine)


@pytest.mark.parametrize("kind", [NSGA2, OptunaSampler, Random])
def test_the_description_holds_population_and_steady_state(
    kind: type[NSGA2] | type[OptunaSampler] | type[Random],
) -> None:
    described = kind(population=12).describe()
    assert described["population"] == 12
    assert "steady" not in described
    assert kind(population=12, steady=True).describe() == {**described, "steady": True}


@pytest.mark.parametrize("kind", [NSGA2, OptunaSampler, Random])
def test_an_empty_population_is_refused(kind: type[NSGA2] | type[OptunaSampler] | type[Random]) -> None:
    with pytest.raises(StudyError, match=r"population must be at least \d, got 0"):
        kind(population=0)
