"""The summary against figures worked out by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.records import Estimate, Measured, Trial
from searchkit.report.summary import against_constant_ratio, summary
from tests.report.searches import staircase, trial


def test_the_summary_counts_what_happened() -> None:
    data = summary(staircase())
    assert (data["study"], data["fingerprint"], data["seed"]) == ("demo", "f00", 7)
    assert (data["evaluations"], data["distinct"], data["failed"], data["pruned"]) == (6, 6, 1, 1)
    assert data["seconds"] == {"train": 10.0, "search": 3.5, "report": 1.0}
    assert data["environment"] == {"device": "cpu", "threads": 2}


def test_the_hypervolume_is_that_of_the_staircase() -> None:
    # worst: accuracy 0.55, macs 0.9; plus 1 % of the ranges 0.35 and 0.7
    accuracy, macs = 0.55 - 0.0035, 0.9 + 0.007
    steps = (0.6 - accuracy) * (0.4 - 0.2) + (0.8 - accuracy) * (0.8 - 0.4) + (0.9 - accuracy) * (macs - 0.8)
    found = summary(staircase())["hypervolume"]
    assert found["reference"] == pytest.approx({"accuracy": accuracy, "macs": macs})
    assert found["value"] == pytest.approx(steps)


def test_members_carry_both_splits_or_why_not() -> None:
    first, second, _ = summary(staircase())["front"]
    assert first["candidate"] == {"lengths": [1.0, 0.01]}
    ends = {"low": pytest.approx(0.5804, abs=1e-6), "high": pytest.approx(0.6196, abs=1e-6)}
    assert first["search"]["accuracy"] == {"value": 0.6, "standard_error": 0.01, "n": 100, **ends}
    assert first["report"]["latency"]["value"] == 2.0
    assert second["report"] == {"status": "failed", "kind": "timeout", "message": "after 60 s", "trace": ""}


def test_the_unreduced_model_stands_in_the_summary() -> None:
    (unreduced,) = summary(staircase())["unreduced"]
    assert unreduced["accuracy"]["value"] == 0.9
    assert unreduced["macs"]["value"] == 1.0


def test_the_constant_ratios_that_the_front_dominates_are_counted() -> None:
    # members on the report split: (.58, .21), (.85, .81); they dominate (.5, .3) and (.84, .9), not (.7, .5)
    found = against_constant_ratio(staircase())
    assert (found["points"], found["dominated"], found["beaten"]) == (3, 2, False)
    assert (found["members"], found["members_dominated"]) == (2, 0)


def test_a_front_that_dominates_every_constant_ratio_beats_them() -> None:
    ratios = (trial(1, 0.5, 0.3), trial(2, 0.84, 0.9))
    found = against_constant_ratio(staircase(baselines={"constant ratio": ratios}))
    assert found["beaten"]
    assert found["hypervolume_of_front"] > found["hypervolume"]


def test_an_equal_point_is_not_dominated() -> None:
    found = against_constant_ratio(staircase(baselines={"constant ratio": (trial(1, 0.58, 0.21),)}))
    assert (found["dominated"], found["members_dominated"], found["beaten"]) == (0, 0, False)


@pytest.mark.parametrize("ratios", [(), (staircase().trials[4],)])
def test_without_measured_baselines_nothing_is_beaten(ratios: tuple[Trial, ...]) -> None:
    found = against_constant_ratio(staircase(baselines={"constant ratio": ratios}))
    assert found == {"points": 0, "dominated": 0, "beaten": False, "members": 2, "members_dominated": 0}


points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6)


@given(own=points, others=points)
def test_domination_counts_agree_with_the_definition(own: list[Any], others: list[Any]) -> None:
    trials = tuple(trial(i, a, m) for i, (a, m) in enumerate(own))
    results = staircase(
        trials=trials,
        report={one.key: one for one in trials},
        baselines={"constant ratio": tuple(trial(i, a, m) for i, (a, m) in enumerate(others))},
    )
    members = [(one.estimates["accuracy"].value, one.estimates["macs"].value) for one in results.front]

    def dominates(x: Any, y: Any) -> bool:
        return x[0] >= y[0] and x[1] <= y[1] and x != y

    found = against_constant_ratio(results)
    assert found["dominated"] == sum(any(dominates(member, other) for member in members) for other in others)
    assert found["members_dominated"] == sum(any(dominates(other, member) for other in others) for member in members)


def test_the_summary_is_strict_json_whatever_was_measured() -> None:
    first = staircase().trials[1]
    odd = Measured({"accuracy": Estimate(0.6, math.inf, 1, {"spread": math.nan}), "macs": Estimate(0.2, None, 1)})
    data = summary(staircase(trials=(Trial(first.ask, odd, 0.1),)))
    assert data["front"][0]["search"]["accuracy"]["standard_error"] is None
    assert data["front"][0]["search"]["accuracy"]["beside"] == {"spread": None}
    json.dumps(data, allow_nan=False)
