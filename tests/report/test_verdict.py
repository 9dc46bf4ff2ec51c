"""Verdicts on the baselines against points placed by hand."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchkit.records import Failed, Trial
from searchkit.report.figures.progress import hypervolume_curve
from searchkit.report.paired import between
from searchkit.report.results import Results
from searchkit.report.summary import summary
from searchkit.report.table import baselines_frame
from searchkit.report.text import markdown, write
from searchkit.report.verdict import Verdict, sentences, verdicts
from tests.report.searches import ACCURACY, LATENCY, MACS, cut, drawn, noisy, questions, staircase, trial

# The members of the staircase on the report split are (accuracy, macs) = (.58, .21) and (.85, .81); every accuracy has
# a standard error of .01, so that differences of more than .01414 count.


def meeting(*points: tuple[float, float], **changes: Any) -> Results:
    """The staircase with truncations at these (accuracy, macs)."""
    truncations = tuple(cut("truncation", 0.5, accuracy, macs) for accuracy, macs in points)
    return staircase(baselines={"truncation": truncations}, **changes)


def unpaired(points: int, better: int, worse: int) -> Verdict:
    """The verdict of records without resamples, every point of which was met."""
    return Verdict(points, better, worse, points)


def front_of(*members: tuple[float, float, float]) -> dict[str, Any]:
    """Trials and report of members with these (accuracy on search, accuracy on report, macs)."""
    trials = tuple(trial(number, search, macs) for number, (search, _, macs) in enumerate(members))
    report = {own.key: trial(own.ask.number, at, macs, 400) for own, (_, at, macs) in zip(trials, members, strict=True)}
    return {"trials": trials, "report": report}


def test_the_families_of_the_staircase_are_judged_as_by_hand() -> None:
    assert verdicts(staircase()) == {
        "unreduced": unpaired(1, 0, 1),  # (.9, 1.0): what is cheaper has .85
        "truncation": unpaired(2, 1, 0),  # (.86, .9) is met by .85, within the error; (.45, .25) by .58
        "random tokens": unpaired(2, 2, 0),  # .5 by .85; .4 by .58
        "constant ratio": unpaired(3, 1, 1),  # (.5, .3) by .58; (.84, .9) by .85; (.7, .5) by .58
    }
    beaten = [name for name, verdict in verdicts(staircase()).items() if verdict.beaten]
    assert beaten == ["truncation", "random tokens"]


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.835, (1, 1, 0)), (0.837, (1, 0, 0)), (0.85, (1, 0, 0)), (0.863, (1, 0, 0)), (0.865, (1, 0, 1))],
)
def test_only_differences_beyond_the_combined_standard_error_count(
    accuracy: float, expected: tuple[int, int, int]
) -> None:
    assert verdicts(meeting((accuracy, 0.9)))["truncation"] == unpaired(*expected)


def test_members_that_cost_more_than_the_baseline_do_not_stand_for_the_front() -> None:
    assert verdicts(meeting((0.7, 0.81)))["truncation"] == unpaired(1, 1, 0)  # exactly as costly
    assert verdicts(meeting((0.7, 0.80)))["truncation"] == unpaired(1, 0, 1)


def test_the_member_is_chosen_by_the_search_split_not_by_its_luck_on_the_report_split() -> None:
    lucky, chosen = (0.70, 0.80, 0.3), (0.75, 0.60, 0.5)  # of these two, the search prefers the second
    assert verdicts(meeting((0.7, 0.6), **front_of(lucky, chosen)))["truncation"] == unpaired(1, 0, 1)


def test_a_baseline_cheaper_than_the_whole_front_cannot_be_beaten_but_can_win() -> None:
    found = verdicts(meeting((0.3, 0.1), (0.58, 0.1), (0.6, 0.1)))["truncation"]
    assert found == unpaired(3, 0, 1)


@pytest.mark.parametrize(
    ("members", "expected", "why"),
    [
        ([(0.6, 0.58, 0.2), (0.9, 0.89, 0.8)], unpaired(1, 1, 0), "beats the unreduced model: a cheaper"),
        ([(0.6, 0.58, 0.2), (0.9, 0.88, 0.8)], unpaired(1, 0, 1), "does not beat the unreduced model: what is cheaper"),
        ([(0.9, 0.95, 1.0)], Verdict(1, 0, 0), "does not beat the unreduced model: nothing is cheaper"),
    ],
)
def test_the_unreduced_model_is_beaten_by_what_is_as_good_and_cheaper(
    members: list[tuple[float, float, float]], expected: Verdict, why: str
) -> None:
    unreduced = {"unreduced": staircase().baselines["unreduced"]}  # .9 at 1.0
    results = staircase(baselines=unreduced, **front_of(*members))
    assert verdicts(results) == {"unreduced": expected}
    assert why in sentences(results)[0]


def spoilt(results: Results) -> Results:
    """The same with a front that guesses, however much it costs, on the report split."""
    report = {key: trial(one.ask.number, 0.2, 0.2, 400) for key, one in results.report.items()}
    return replace(results, report=report)


def test_a_front_made_worse_says_of_every_family_that_it_does_not_beat_it(tmp_path: Path) -> None:
    from tests.report.test_table import printed

    assert "does not beat truncation" not in printed(staircase())
    results = spoilt(staircase())
    console = " ".join(printed(results).split())
    write(results, tmp_path)
    for text in (console, markdown(results), (tmp_path / "report.md").read_text()):
        assert "The front does not beat the unreduced model: what is cheaper is worse." in text
        assert "The front does not beat truncation: better at none of 2 points, worse at 2." in text
        assert "The front does not beat random tokens: better at none of 2 points, worse at 2." in text
        assert "The front does not beat constant ratio: better at none of 3 points, worse at 3." in text
    assert not any(family["beaten"] for family in summary(results)["baselines"].values())
    assert not summary(results)["constant_ratio"]["beaten"]


def test_the_summary_holds_every_family_with_its_points_and_verdict() -> None:
    found = summary(staircase())["baselines"]
    assert list(found) == ["unreduced", "truncation", "random tokens", "constant ratio"]
    counts = {name: found["truncation"][name] for name in ("points", "better", "worse", "beaten")}
    assert counts == {"points": 2, "better": 1, "worse": 0, "beaten": True}
    first, _ = found["truncation"]["trials"]
    assert first["candidate"] == {"baseline": "truncation", "share": 0.8}
    assert first["report"]["accuracy"]["value"] == 0.86


def test_the_first_quality_and_the_first_cost_decide_wherever_they_stand() -> None:
    plain = verdicts(staircase())
    assert verdicts(staircase(objectives=(MACS, ACCURACY))) == plain
    assert verdicts(questions()) == plain


@pytest.mark.parametrize("objectives", [(MACS, LATENCY), (ACCURACY, replace(MACS, better="higher"))])
def test_without_a_quality_or_a_cost_there_is_no_verdict(objectives: Any) -> None:
    measured = tuple(trial(number, 0.5, 0.5, 400, 2.0) for number in range(2))
    results = staircase(objectives=objectives, trials=measured, report={one.key: one for one in measured})
    assert verdicts(results) == {}
    assert set(summary(results)["baselines"]["truncation"]) == {"trials"}
    assert "beat" not in markdown(results)


def test_baselines_that_failed_are_no_points() -> None:
    failed: Trial = staircase().trials[4]
    truncations = (failed, cut("truncation", 0.2, 0.45, 0.25))
    assert verdicts(staircase(baselines={"truncation": truncations, "random tokens": (failed,)})) == {
        "truncation": unpaired(1, 1, 0)
    }


def test_a_baseline_without_another_objective_is_still_compared_and_shown() -> None:
    def partly(measured: Trial) -> Trial:
        why = {"latency": "KeyError: 'lengths'"}
        return replace(measured, outcome=Failed("exception", "x", reasons=why, estimates=measured.estimates))

    baselines = {name: tuple(map(partly, trials)) for name, trials in staircase().baselines.items()}
    results = staircase(baselines=baselines)
    assert verdicts(results) == verdicts(staircase())
    whole, cells = (baselines_frame(one) for one in (staircase(), results))
    assert cells["accuracy_report"].notna().all()
    assert cells.equals(whole)
    known = summary(results)["baselines"]["unreduced"]["trials"][0]["report"]
    assert known["status"] == "failed"
    assert known["estimates"]["accuracy"] == summary(staircase())["unreduced"][0]["accuracy"]
    assert "0.900 ± 0.010" in markdown(results)


def test_a_candidate_whose_constraint_failed_is_no_point_of_the_search() -> None:
    plain = staircase()
    best = trial(9, 0.99, 0.01)
    failed = replace(best, outcome=Failed("exception", "x", estimates=best.estimates))
    with_it = staircase(trials=(*plain.trials, failed))
    assert summary(with_it)["hypervolume"] == summary(plain)["hypervolume"]
    assert hypervolume_curve(with_it)[-1] == hypervolume_curve(plain)[-1]


def test_a_front_without_members_beats_nothing() -> None:
    found = verdicts(staircase(report={}))
    assert {name: verdict.points for name, verdict in found.items()} == {
        "unreduced": 1,
        "truncation": 2,
        "random tokens": 2,
        "constant ratio": 3,
    }
    assert not any(verdict.better or verdict.worse or verdict.beaten for verdict in found.values())


def test_the_text_has_a_line_for_every_member_and_every_baseline() -> None:
    lines = markdown(staircase()).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2 + 2 + 2 + 8  # two heads of two lines; one member of three failed on the report split
    assert "| 0.850 ± 0.010 | 0.81 | 8.00 ± 0.20 | -0.0500 | front | lengths 1 .03 |" in rows
    assert "| 0.450 ± 0.010 | 0.25 | - | truncation .2 |" in rows
    front, baselines = rows[: 2 + 2], rows[2 + 2 :]
    assert [len({row.count("|") for row in one}) for one in (front, baselines)] == [1, 1]


@pytest.mark.parametrize("name", ["<b>x</b>", "a|b", "[a](b)", "# a\n# b"])
def test_names_are_shown_as_they_are_in_the_text(name: str) -> None:
    first, *_ = markdown(noisy(12, name=name)).splitlines()
    assert re.sub(r"\\(.)", r"\1", first) == f"# {' '.join(name.split())}"
    assert not re.search(r"(?<!\\)[<\[|]", first)


# With resamples: 900 examples, of which the baseline gets 700 right, so that one standard error of either is .014.

N = 900
BASELINE = np.arange(N) < 700


def changed(gained: int, lost: int) -> Any:
    """The answers of the baseline, with so many more right and so many more wrong."""
    right = BASELINE.copy()
    right[700 : 700 + gained] = True
    right[:lost] = False
    return right


def meeting_paired(right: Any, baseline: str = "truncation") -> Results:
    """One member at half the cost of the only baseline."""
    own = trial(0, 0.9, 0.5, lengths=(1.0, 0.5))
    met = drawn(BASELINE, 1.0, baseline=baseline)
    report = {own.key: drawn(right, 0.5, lengths=(1.0, 0.5))}
    return staircase(trials=(own,), report=report, baselines={baseline: (met,)})


@pytest.mark.parametrize(
    ("gained", "lost", "sign"),
    [
        (15, 0, 1),  # McNemar: 15 of 15 changes; 1.7 points, within the combined standard error of 2 points
        (0, 15, -1),
        (0, 0, 0),
        (80, 60, 0),  # 2.2 points, beyond the combined standard error, with an interval of +- 2.6 points around it
        (90, 40, 1),
    ],
)
def test_with_resamples_the_paired_interval_decides_and_never_contradicts_what_is_shown(
    gained: int, lost: int, sign: int
) -> None:
    results = meeting_paired(changed(gained, lost))
    assert verdicts(results) == {"truncation": Verdict(1, int(sign > 0), int(sign < 0), unpaired=0)}
    (own,) = results.report.values()
    found = between(*(one.outcome.estimates["accuracy"] for one in (own, results.baselines["truncation"][0])))  # type: ignore[union-attr]
    assert found.low is not None
    assert found.high is not None
    assert (found.low > 0) - (found.high < 0) == sign
    error = math.sqrt(gained + lost - (gained - lost) ** 2 / N) / N  # McNemar
    assert found.low == pytest.approx((gained - lost) / N - 1.96 * error, abs=0.004)
    assert sentences(results)[-1] == "Better and worse: the 95 % interval of the paired difference is above or below 0."


@pytest.mark.parametrize(("gained", "lost", "beaten"), [(80, 60, True), (0, 0, True), (0, 15, False)])
def test_the_unreduced_model_is_beaten_where_the_paired_interval_does_not_say_worse(
    gained: int, lost: int, beaten: bool
) -> None:
    found = verdicts(meeting_paired(changed(gained, lost), "unreduced"))["unreduced"]
    assert (found.beaten, found.unpaired) == (beaten, 0)


def test_points_without_resamples_are_compared_as_before_and_the_report_says_so() -> None:
    assert sentences(staircase())[-1] == (
        "Better and worse: the difference exceeds the combined standard error, since the resamples for paired "
        "intervals are missing."
    )
    both = meeting_paired(changed(15, 0))
    mixed = replace(both, baselines={"truncation": (*both.baselines["truncation"], cut("truncation", 0.9, 0.7, 0.9))})
    assert verdicts(mixed) == {"truncation": Verdict(2, 2, 0, unpaired=1)}
    assert "; at 1 of 2 points, which lack resamples, the difference exceeds" in sentences(mixed)[-1]
    assert summary(mixed)["baselines"]["truncation"]["unpaired"] == 1
    assert sentences(replace(both, baselines={})) == []
