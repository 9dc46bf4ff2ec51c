"""Every engine under its contract, and what its description holds."""

from __future__ import annotations

import json

import pytest

from searchkit.engines import ENGINES, LAT, NSGA2, OptunaSampler, Random, Surrogate
from searchkit.errors import StudyError
from searchkit.testing import EndlessEngineContract, EngineContract
from searchkit.testing.engines import POPULATION
from tests.contracts import suites

ENDLESS = [kind(POPULATION, steady=steady) for kind in (NSGA2, Random, Surrogate) for steady in (False, True)]

globals().update(
    suites(
        EndlessEngineContract,
        {
            f"{type(engine).__name__} {engine.steady}": {"engine": engine, "learns": not isinstance(engine, Random)}
            for engine in ENDLESS
        },
    )
)


class TestLAT(EngineContract):
    engine = LAT(initial=8, mutations=5, crossovers=5)
    ends = lengths_only = two_objectives = True


def test_every_engine_is_held_to_its_promises() -> None:
    # Optuna's samplers are in tests/engines/test_optuna.py
    assert {LAT, OptunaSampler, *map(type, ENDLESS)} == set(ENGINES.values())


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_the_description_is_json_and_names_the_registry_entry(name: str) -> None:
    described = ENGINES[name]().describe()
    assert json.loads(json.dumps(described)) == described
    assert described["engine"] == name


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
