"""Neighbours of a pick: against brute force, on stairs whose steps are known, and within a terminal's width."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.records import Estimate, Measured, Trial
from searchkit.report.neighbours import Neighbour, lines, neighbours
from tests.report.searches import ACCURACY, LATENCY, MACS, trial
from tests.runs.test_pick import STAIRS, front_of, picked, point


def at(found: Neighbour | None) -> tuple[float, float] | None:
    return found and (found.quality.value.value, found.cost.value.value)


@pytest.mark.parametrize(
    ("limit", "cheaper", "better"),
    [
        ("accuracy >= 0.7", (0.5, 0.1), (0.85, 0.4)),
        ("macs <= 0.1", None, (0.7, 0.3)),
        ("accuracy >= 0.86", (0.85, 0.4), None),
    ],
)
def test_neighbours_on_a_staircase_are_the_steps_beside_the_picked_member(
    limit: str, cheaper: Any, better: Any
) -> None:
    found = picked(front_of(STAIRS), limit)
    assert (at(found.cheaper), at(found.better)) == (cheaper, better)
    told = json.loads(found.text)
    assert (told["cheaper"] is None, told["better"] is None) == (cheaper is None, better is None)
    if found.better is not None:
        assert told["better"]["key"] == found.better.key == found.better.trial.key
        accuracy, macs = point(found)
        assert told["better"]["quality"]["change"]["value"] == pytest.approx(better[0] - accuracy)
        assert told["better"]["cost"]["change"]["value"] == pytest.approx(better[1] - macs)


tenths = st.integers(0, 10).map(lambda tenth: tenth / 10)


@settings(deadline=None, derandomize=True)
@given(points=st.lists(st.tuples(tenths, tenths), min_size=1, max_size=7))
def test_the_cheaper_neighbour_is_the_best_of_the_cheaper_and_the_better_one_the_cheapest_of_the_better(
    points: list[tuple[float, float]],
) -> None:
    members = [trial(i, *values, 400, lengths=(1.0, i / 100)) for i, values in enumerate(points)]
    for chosen, (accuracy, macs) in zip(members, points, strict=True):
        cheaper, better = neighbours(chosen, members, MACS, ACCURACY)
        less = [(-a, m) for a, m in points if m < macs]
        more = [(m, -a) for a, m in points if a > accuracy]
        assert at(cheaper) == (None if not less else (-min(less)[0], min(less)[1]))
        assert at(better) == (None if not more else (-min(more)[1], min(more)[0]))


def test_the_objective_that_decides_is_the_direction() -> None:
    found = picked(front_of(STAIRS), best="macs")
    assert found.better is not None
    assert (found.better.cost.objective, found.better.quality.objective) == (MACS, ACCURACY)
    results = front_of(STAIRS, front_objectives=(LATENCY,))
    timed = {key: with_latency(member, 9.0 - 2 * number) for number, (key, member) in enumerate(results.report.items())}
    found = picked(replace(results, report=timed), "macs <= 0.3", best="latency")
    assert found.cheaper is not None
    assert found.cheaper.cost.objective == LATENCY
    assert found.cheaper.cost.value.value == 3.0


def with_latency(member: Trial, ms: float) -> Trial:
    assert isinstance(member.outcome, Measured)
    return replace(member, outcome=Measured({**member.outcome.estimates, "latency": Estimate(ms, 0.1, 10)}))


def test_lines_are_aligned_and_fit_a_terminal() -> None:
    found = picked(front_of(STAIRS), "accuracy >= 0.7")
    shown = lines(found.cheaper, found.better, 100)
    assert found.cheaper is not None
    assert found.better is not None
    assert shown == [
        f"next cheaper: 0.1 of the MACs (-0.2), accuracy 0.500 (-20.0 points), key {found.cheaper.key}",
        f"next better:  0.4 of the MACs (+0.1), accuracy 0.850 (+15.0 points), key {found.better.key}",
    ]
    narrow = lines(found.cheaper, found.better)
    assert narrow == [
        "next cheaper: 0.1 of the MACs (-0.2), accuracy 0.500 (-20.0 points),",
        f"              key {found.cheaper.key}",
        "next better:  0.4 of the MACs (+0.1), accuracy 0.850 (+15.0 points),",
        f"              key {found.better.key}",
    ]
    for width in (50, 60, 80):
        assert all(len(line) <= width for line in lines(found.cheaper, found.better, width))
    assert lines(None, None) == []
    assert len(lines(found.cheaper, None)) == 2
