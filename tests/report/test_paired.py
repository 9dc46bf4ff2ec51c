"""Paired differences and chances to be on the front, against closed forms and slow loops."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.records import Estimate, Failed, Measured, Trial
from searchkit.report import table
from searchkit.report.columns import short
from searchkit.report.paired import difference, front_probabilities
from searchkit.report.results import Results
from searchkit.report.text import markdown
from tests.report.searches import ACCURACY, LATENCY, MACS, drawn, paired, staircase, trial
from tests.report.test_table import printed

N = 900
rng = np.random.default_rng(5)
UNREDUCED = rng.random(N) < 0.88
MEMBER = np.where(rng.random(N) < 0.05, ~UNREDUCED, UNREDUCED)  # a twentieth of the answers changed


def one_member(right: Any = MEMBER, unreduced: Any = UNREDUCED) -> tuple[Results, Trial]:
    searched = trial(0, 0.9, 0.5, lengths=(1.0, 0.5))
    report = {searched.key: drawn(right, 0.5, lengths=(1.0, 0.5))}
    baselines = {"unreduced": (drawn(unreduced, 1.0, baseline="unreduced"),)}
    return staircase(trials=(searched,), report=report, baselines=baselines), searched


def test_the_interval_of_a_difference_is_that_of_the_answers_that_changed() -> None:
    found = difference(*one_member(), ACCURACY)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    better, worse = int((MEMBER & ~UNREDUCED).sum()), int((UNREDUCED & ~MEMBER).sum())
    expected = (better - worse) / N
    assert expected < 0
    error = math.sqrt(better + worse - (better - worse) ** 2 / N) / N  # of a paired difference of fractions (McNemar)
    assert found.value == pytest.approx(expected)
    assert (found.low, found.high) == pytest.approx((expected - 1.96 * error, expected + 1.96 * error), abs=0.003)
    # the two standard errors together would say more than twice as much
    apart = math.hypot(*(side.std() / math.sqrt(N) for side in (MEMBER, UNREDUCED)))
    assert found.high - found.low < 0.6 * 3.92 * apart


def test_the_same_answers_differ_by_nothing_for_sure() -> None:
    found = difference(*one_member(UNREDUCED), ACCURACY)
    assert found is not None
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_resamples_that_are_not_defined_on_either_side_are_left_out() -> None:
    results, member = one_member()

    def gaps(one: Trial, every: int) -> Trial:
        assert isinstance(one.outcome, Measured)
        found = one.outcome.estimates["accuracy"]
        holes = tuple(None if i % every == 0 else value for i, value in enumerate(found.resamples))
        return replace(one, outcome=Measured({**one.outcome.estimates, "accuracy": replace(found, resamples=holes)}))

    before = results.report[member.key].outcome.estimates["accuracy"].resamples  # type: ignore[union-attr]
    reference = results.baselines["unreduced"][0].outcome.estimates["accuracy"].resamples  # type: ignore[union-attr]
    left = [a - b for i, (a, b) in enumerate(zip(before, reference, strict=True)) if i % 3 and i % 4]
    holed = replace(
        results,
        report={member.key: gaps(results.report[member.key], 3)},
        baselines={"unreduced": (gaps(results.baselines["unreduced"][0], 4),)},
    )
    found = difference(holed, member, ACCURACY)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(left, [0.025, 0.975])))
    assert front_probabilities(holed) == {member.key: 1.0}


def test_records_without_resamples_give_differences_without_intervals_and_no_chances(tmp_path: Path) -> None:
    results = staircase()
    first, second, third = results.front.members
    found = difference(results, third, ACCURACY)
    assert found is not None
    assert (found.value, found.low, found.high) == (pytest.approx(0.85 - 0.9), None, None)
    assert difference(results, second, ACCURACY) is None  # it failed on the report split
    assert difference(replace(results, baselines={}), first, ACCURACY) is None
    assert front_probabilities(results) == {}
    frame = table.front_frame(results)
    assert frame["accuracy_difference"].tolist() == pytest.approx([-0.32, np.nan, -0.05], nan_ok=True)
    empty = ["accuracy_difference_low", "accuracy_difference_high", "front_probability"]
    assert frame[empty].isna().all(axis=None)
    assert frame["accuracy_report_low"].iloc[2] == pytest.approx(0.85 - 1.96 * 0.01, abs=1e-5)
    table.write(results, tmp_path)
    assert "-0.0500" in printed(results)


def member_of(number: int, accuracies: list[float | None], macs: list[float]) -> tuple[Trial, Trial]:
    """A member on the search split, and on the report split with these resamples."""
    searched = trial(number, number / 100, number / 100)
    estimates = {
        "accuracy": Estimate(0.5, None, 9, resamples=tuple(accuracies)),
        "macs": Estimate(0.5, None, 9, resamples=tuple(macs)),
    }
    return searched, replace(searched, outcome=Measured(estimates))


def of_members(*members: tuple[Trial, Trial], **changes: Any) -> Results:
    return staircase(
        trials=tuple(searched for searched, _ in members),
        report={searched.key: report for searched, report in members},
        **changes,
    )


few = st.integers(0, 3).map(float)


@given(st.integers(1, 4), st.integers(1, 5), st.data())
def test_the_chance_to_be_on_the_front_is_the_share_of_resamples_without_a_better_member(
    count: int, resamples: int, data: st.DataObject
) -> None:
    columns = st.lists(few, min_size=resamples, max_size=resamples)
    points = [(data.draw(columns), data.draw(columns)) for _ in range(count)]
    members = [member_of(number + 1, accuracies, macs) for number, (accuracies, macs) in enumerate(points)]
    found = front_probabilities(of_members(*members))
    for (searched, _), own in zip(members, points, strict=True):
        undominated = 0
        for draw in range(resamples):
            a, m = own[0][draw], own[1][draw]
            others = [(other[0][draw], other[1][draw]) for other in points]
            undominated += not any(x >= a and y <= m and (x, y) != (a, m) for x, y in others)
        assert found[searched.key] == pytest.approx(undominated / resamples)


def test_a_resample_in_which_anything_is_not_defined_does_not_count() -> None:
    cheap, dear = member_of(1, [0.6, None, 0.6, 0.6], [0.1] * 4), member_of(2, [0.5, 0.7, 0.7, None], [0.2] * 4)
    assert front_probabilities(of_members(cheap, dear)) == {cheap[0].key: 1.0, dear[0].key: 0.5}


def test_an_objective_that_is_timed_keeps_its_value_in_every_resample() -> None:
    members = []
    for number, milliseconds in ((1, 5.0), (2, 1.0)):  # the second is less accurate but faster
        searched, report = member_of(number, [0.9 - number / 10] * 4, [number / 10] * 4)
        assert isinstance(searched.outcome, Measured)
        assert isinstance(report.outcome, Measured)
        timed = {"latency": Estimate(milliseconds, 0.1, 30)}
        both = [replace(one, outcome=Measured({**one.outcome.estimates, **timed})) for one in (searched, report)]  # type: ignore[union-attr]
        members.append((both[0], both[1]))
    first, second = (searched.key for searched, _ in members)
    assert front_probabilities(of_members(*members, objectives=(ACCURACY, MACS))) == {first: 1.0, second: 0.0}
    timed_too = of_members(*members, objectives=(ACCURACY, MACS, LATENCY), front_objectives=())
    assert front_probabilities(timed_too) == {first: 1.0, second: 1.0}


def test_a_member_that_was_not_measured_keeps_nobody_off_the_front() -> None:
    cheap, dear = member_of(1, [0.6] * 4, [0.1] * 4), member_of(2, [0.7] * 4, [0.2] * 4)
    failed = replace(cheap[1], outcome=Failed("timeout", "after 60 s"))
    assert front_probabilities(of_members((cheap[0], failed), dear)) == {dear[0].key: 1.0}


def test_a_member_without_resamples_leaves_all_chances_unknown() -> None:
    cheap, dear = member_of(1, [], []), member_of(2, [0.7] * 4, [0.2] * 4)
    assert front_probabilities(of_members(cheap, dear)) == {}


def test_tables_summary_and_text_hold_differences_and_chances_but_no_resamples(tmp_path: Path) -> None:
    results = paired()
    table.write(results, tmp_path)
    row = pd.read_csv(tmp_path / "front.csv").iloc[2].to_dict()
    found = difference(results, results.front.members[2], ACCURACY)
    assert found is not None
    names = ["accuracy_difference", "accuracy_difference_low", "accuracy_difference_high"]
    assert [row[name] for name in names] == pytest.approx([found.value, found.low, found.high])
    assert row["accuracy_difference_low"] < row["accuracy_difference"] < row["accuracy_difference_high"]
    assert row["macs_difference"] == pytest.approx(row["macs_report"] - 1)
    assert row["accuracy_report_low"] < row["accuracy_report"] < row["accuracy_report_high"]
    chance = front_probabilities(results)[results.front.members[2].key]
    assert 0 < chance < 1
    assert row["front_probability"] == chance
    text = (tmp_path / "summary.json").read_text()
    member = json.loads(text)["front"][2]
    assert member["against_unreduced"]["accuracy"] == {"value": found.value, "low": found.low, "high": found.high}
    assert member["front_probability"] == chance
    assert "low" in member["report"]["accuracy"]
    assert "resamples" not in text
    assert f"| {100 * chance:.0f} % | front | lengths" in markdown(results)
    assert f"| {table.with_interval(found)} |" in markdown(results)


@pytest.mark.parametrize(("width", "shown"), [(80, False), (100, True), (120, True)])
def test_the_terminal_shows_the_difference_with_its_interval_where_there_is_room(width: int, shown: bool) -> None:
    plain = paired(count=3)

    def timed(one: Trial) -> Trial:
        assert isinstance(one.outcome, Measured)
        return replace(one, outcome=Measured({**one.outcome.estimates, "latency": Estimate(12.34, 0.08, 30)}))

    report = {key: timed(one) for key, one in plain.report.items()}
    results = replace(plain, front_objectives=(LATENCY,), report=report)
    lines = printed(results, width).splitlines()
    for member in results.front:
        (row,) = [line for line in lines if line.startswith(short(member.ask.candidate, "lengths") + " ")]
        assert "12.34 ± 0.08" in row
        assert (table.with_interval(difference(results, member, ACCURACY)) in row) == shown
    assert any("Against unreduced: paired difference" in line for line in lines) == shown
    assert not any("…" in line for line in lines)
    assert max(map(len, lines)) <= width
