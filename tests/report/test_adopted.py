"""Constant ratios that become members of a report, and those that must not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from searchkit.objective import Constraint, Objective
from searchkit.report.adopted import with_ratios
from searchkit.report.results import Results
from tests.report.pages import LATENCY, LAYERS, measured, run
from tests.report.searches import ACCURACY, MACS, unmeasurable

RATIO = measured(9, 0.96, 0.4, 4.0, lengths=(0.7,) * LAYERS)  # better than what costs as much
WORSE = measured(8, 0.5, 0.6, 6.0, lengths=(0.8,) * LAYERS)


def limited(*constraints: Constraint) -> Results:
    plain = run()
    study: dict[str, Any] = {**plain.study, "constraints": [constraint.describe() for constraint in constraints]}
    return replace(plain, study=study, baselines={**plain.baselines, "constant ratio": (RATIO, WORSE)})


def adopted(results: Results) -> list[str]:
    return [trial.key for trial in with_ratios(results).members if not trial.estimates]


def test_a_ratio_that_nothing_dominates_becomes_a_member_and_another_does_not() -> None:
    assert adopted(limited()) == [RATIO.key]
    assert with_ratios(limited()).chosen_as(RATIO.key) == "constant ratio"


@pytest.mark.parametrize(
    ("constraint", "kept"),
    [
        (Constraint(MACS, at_most=0.39), False),
        (Constraint(MACS, at_most=0.41), True),
        (Constraint(LATENCY, at_most=3.9), False),
        (Constraint(LATENCY, at_most=4.1), True),
        (Constraint(ACCURACY, within=0.01), True),
        (Constraint(ACCURACY, at_least=0.97), False),
        (Constraint(Objective("energy", "mJ", "lower", unmeasurable), at_most=1e9), False),  # not told on that split
    ],
)
def test_a_ratio_beyond_a_constraint_is_no_member(constraint: Constraint, kept: bool) -> None:
    assert adopted(limited(constraint)) == ([RATIO.key] if kept else [])


def test_without_members_there_is_nothing_to_join() -> None:
    assert adopted(replace(limited(), trials=(), report={})) == []
