"""Picks against brute force over random fronts, limits one by one, and a whole run through the command line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.errors import SearchkitError, StoreError, StudyError
from searchkit.objective import Constraint
from searchkit.records import Estimate, Failed, Measured, Trial
from searchkit.report.limits import Limit, of_study
from searchkit.report.pick import KNEE, Picked, pick
from searchkit.report.results import Results
from tests.faults.malformed import Said
from tests.report.searches import ACCURACY, LATENCY, MACS, drawn, paired, staircase, trial
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

Point = tuple[float, float]  # accuracy, macs


def front_of(points: Sequence[Point], unreduced: Point = (0.9, 1.0), **changes: Any) -> Results:
    """All of the points are members of the front; on the report split they are where they are said to be."""
    searched = [trial(i, (i + 1) / 100, (i + 1) / 100, lengths=(1.0, i / 100)) for i in range(len(points))]
    report = {one.key: trial(i, *points[i], 400, lengths=(1.0, i / 100)) for i, one in enumerate(searched)}
    baselines = {"unreduced": (trial(0, *unreduced, 400, baseline="unreduced"),)}
    return staircase(trials=tuple(searched), report=report, baselines=baselines, **{"front_objectives": ()} | changes)


def point(found: Picked) -> Point:
    assert isinstance(found.trial.outcome, Measured)
    return found.trial.outcome.estimates["accuracy"].value, found.trial.outcome.estimates["macs"].value


def picked(results: Results, *where: str, **options: Any) -> Picked:
    return pick(results, [Limit.parsed(text) for text in where], **options)


tenths = st.integers(0, 10).map(lambda tenth: tenth / 10)
limits = st.tuples(st.sampled_from(["accuracy", "macs"]), st.sampled_from(["<=", ">="]), tenths, st.booleans())


@settings(deadline=None, derandomize=True)
@given(
    points=st.lists(st.tuples(tenths, tenths), min_size=1, max_size=7),
    unreduced=st.tuples(tenths, tenths),
    asked=st.lists(limits, max_size=3),
    best=st.sampled_from(["accuracy", "macs"]),
    confident=st.booleans(),
)
def test_a_pick_keeps_the_limits_and_no_other_that_does_is_better(
    points: list[Point], unreduced: Point, asked: list[tuple[str, str, float, bool]], best: str, confident: bool
) -> None:
    """In tenths, so that every comparison is met exactly; accuracies have a standard error of 0.01, macs none."""

    def keeps(one: Point) -> bool:
        for name, sense, tenth, relative in asked:
            place = ("accuracy", "macs").index(name)
            value = round(10 * (one[place] - (unreduced[place] if relative else 0)))
            bound = round(10 * (tenth - 0.5 if relative else tenth))
            if not (value >= bound if sense == ">=" else value <= bound):
                return False
            if confident and (name == "macs" or value == bound):  # no interval is known, or half of it is beyond
                return False
        return True

    where = [
        f"{name} {sense} unreduced {'-' if tenth < 0.5 else '+'} {abs(tenth - 0.5):.1f}"
        if relative
        else f"{name}{sense}{tenth}"
        for name, sense, tenth, relative in asked
    ]
    within = [one for one in points if keeps(one)]
    results = front_of(points, unreduced)
    if not within:
        with pytest.raises(StudyError, match=rf"excludes \d of {len(points)}; the nearest"):
            picked(results, *where, best=best, confident=confident)
        return
    found = picked(results, *where, best=best, confident=confident)
    own = point(found)
    assert own in within
    ranks = {"accuracy": (-own[0], own[1]), "macs": (own[1], -own[0])}
    others = [{"accuracy": (-a, m), "macs": (m, -a)}[best] for a, m in within]
    assert ranks[best] == min(others)
    assert (found.members, found.meeting) == (len(points), len(within))
    assert not any(a >= own[0] and m <= own[1] and (a, m) != own for a, m in within)


STAIRS = [(0.5, 0.1), (0.7, 0.3), (0.85, 0.4), (0.88, 0.8)]


def test_a_member_that_lacks_an_objective_of_the_front_is_picked_by_the_others() -> None:
    whole = front_of(STAIRS, front_objectives=(LATENCY,))
    report = dict(whole.report)
    for key, member in report.items():
        failed = Failed("exception", "x", reasons={"latency": "KeyError"}, estimates=member.estimates)
        report[key] = replace(member, outcome=failed)
    found = picked(replace(whole, report=report), "accuracy >= 0.7")
    expected = picked(whole, "accuracy >= 0.7")
    assert (found.trial.key, found.to_json()) == (expected.trial.key, expected.to_json())


@pytest.mark.parametrize(
    ("where", "best", "expected", "why"),
    [
        ([], None, (0.85, 0.4), "the knee of the 4 members of the front"),
        (["accuracy >= 0.7"], None, (0.7, 0.3), "the lowest macs of the 3 of 4 members of the front that keep"),
        (["macs <= 0.3"], None, (0.7, 0.3), "the highest accuracy of the 2 of 4"),
        (["macs_ratio_of_padded <= 0.1"], None, (0.85, 0.4), "the highest accuracy of the 3 of 4"),
        (["accuracy >= 0.6", "macs <= 0.5"], None, (0.7, 0.3), "the lowest macs of the 2 of 4"),
        (["accuracy >= 0.6", "macs <= 0.5"], "accuracy", (0.85, 0.4), "the highest accuracy of the 2 of 4"),
        (["macs <= 0.3"], KNEE, (0.5, 0.1), "the knee of the 2 of 4"),
    ],
)
def test_the_limits_decide_what_is_best_unless_it_is_given(
    where: list[str], best: str | None, expected: Point, why: str
) -> None:
    found = picked(front_of(STAIRS), *where, best=best)
    assert point(found) == expected
    assert found.why.startswith(why)


def test_an_objective_of_the_front_alone_may_limit_and_decide() -> None:
    results = staircase()  # latencies 2 and 8 at accuracies .58 and .85; the second member failed
    assert point(picked(results, "accuracy >= 0.5", best="latency")) == (0.58, 0.21)
    assert point(picked(results, "latency >= 3")) == (0.85, 0.81)
    assert point(picked(results, "latency_p95_ms <= 3")) == (0.58, 0.21)
    assert picked(results).members == 2


def test_the_report_split_decides_not_the_search_split() -> None:
    results = front_of([(0.6, 0.9), (0.9, 0.1)])  # the second is dearer where the search looked
    assert point(picked(results, "accuracy >= 0.5")) == (0.9, 0.1)


def test_a_limit_relative_to_the_unreduced_model_is_judged_by_the_paired_difference() -> None:
    right = np.arange(1000) < 880
    member = right.copy()
    member[870:] = False  # 10 of 1000 lost: 0.01 +- 0.006, where either accuracy has an interval of +- 0.02
    searched = trial(0, 0.9, 0.5, lengths=(1.0, 0.5))
    results = staircase(
        trials=(searched,),
        report={searched.key: drawn(member, 0.5, lengths=(1.0, 0.5))},
        baselines={"unreduced": (drawn(right, 1.0, baseline="unreduced"),)},
        front_objectives=(),
    )
    (held,) = picked(results, "accuracy >= unreduced - 0.02", confident=True).held
    assert (held.value, held.low) == (pytest.approx(-0.01), pytest.approx(-0.0162, abs=0.002))
    assert held.verdict == "holds on the whole interval"
    (held,) = picked(results, "accuracy >= unreduced - 0.01").held
    assert held.verdict == "holds on the value, not on its whole interval"
    assert str(held).startswith("accuracy -0.01 against unreduced, 95 % interval -0.01")
    (held,) = picked(results, "accuracy >= 0.86").held  # as a number it is the accuracy's own interval that counts
    assert held.verdict == "holds on the value, not on its whole interval"
    with pytest.raises(StudyError, match=r"on its whole interval: accuracy >= unreduced - 0.01 excludes 1 of 1"):
        picked(results, "accuracy >= unreduced - 0.01", confident=True)


def test_without_resamples_the_interval_of_a_difference_is_the_wider_one() -> None:
    (held,) = picked(front_of([(0.88, 0.5)]), "accuracy >= unreduced - 0.03").held
    assert (held.low, held.high) == pytest.approx(
        (-0.02 - 1.96 * 0.01 * 2**0.5, -0.02 + 1.96 * 0.01 * 2**0.5), abs=1e-6
    )
    (held,) = picked(front_of([(0.88, 0.5)]), "macs <= unreduced").held
    assert (held.confident, held.verdict) == (None, "holds on the value; its interval is not known")


def test_where_nothing_keeps_the_limits_the_worst_one_and_the_nearest_member_are_named() -> None:
    results = front_of(STAIRS)
    with pytest.raises(StudyError) as error:
        picked(results, "accuracy >= 0.87", "macs <= 0.45")
    nearest = results.report[results.front.members[2].key]
    assert str(error.value) == (
        "no member of the front keeps every limit: accuracy >= 0.87 excludes 3 of 4; the nearest, "
        f"{nearest.key}, has accuracy 0.85, 95 % interval 0.8304 to 0.8696, macs 0.4"
    )


def test_constraints_of_the_study_count_and_those_that_nothing_tells_are_named() -> None:
    constraints = [Constraint(ACCURACY, within=0.3), Constraint(MACS, at_most=0.35), Constraint(LATENCY, at_most=5)]
    description = json.loads(json.dumps({"constraints": [one.describe() for one in constraints]}))
    found, untold = of_study(description, (ACCURACY, MACS))
    assert [str(one) for one in found] == ["accuracy >= unreduced - 0.3", "macs <= 0.35"]
    assert untold == ["latency <= 5 (ms)"]
    told = pick(front_of(STAIRS), found, untold=untold)
    assert point(told) == (0.7, 0.3)
    assert [one["by_study"] for one in told.to_json()["limits"]] == [True, True]
    with pytest.raises(StudyError, match=r"macs <= 0.35 of the study excludes 2 of 4"):
        pick(front_of(STAIRS), [*found, Limit.parsed("accuracy >= 0.8")])
    assert of_study({}, (ACCURACY,)) == ([], [])
    better = replace(MACS, unit="G")  # the same name for something else
    assert of_study(description, (ACCURACY, better))[1] == ["macs <= 0.35 (of unreduced)", "latency <= 5 (ms)"]


@pytest.mark.parametrize(
    "constraints",
    [3, [3], [{}], [{"objective": ACCURACY.describe()}], [Constraint(MACS, at_most=1).describe() | {"at_most": "1"}]],
)
def test_constraints_that_are_no_constraints_are_one_line(constraints: Any) -> None:
    with pytest.raises(StoreError, match=r"study.json was not written by searchkit: its constraints"):
        of_study({"constraints": constraints}, (ACCURACY, MACS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs <= 0.4", Limit("macs", "<=", 0.4)),
        ("macs<=.4", Limit("macs", "<=", 0.4)),
        ("  loss >= -2e-3 ", Limit("loss", ">=", -0.002)),
        ("accuracy >= unreduced", Limit("accuracy", ">=", 0.0, relative=True)),
        ("accuracy>=unreduced-0.01", Limit("accuracy", ">=", -0.01, relative=True)),
        ("latency <= unreduced + 1", Limit("latency", "<=", 1.0, relative=True)),
        ("größe <= 1.", Limit("größe", "<=", 1.0)),
    ],
)
def test_a_limit_is_read_and_written(text: str, expected: Limit) -> None:
    assert Limit.parsed(text) == expected
    assert Limit.parsed(str(expected)) == expected


MALFORMED = [
    "", " ", "macs", "<= 0.4", "macs <=", "macs < 0.4", "macs > 1", "macs = 1", "macs == 1", "macs <== 1", "macs => 1",
    "macs <= 0,4", "macs <= 1%", "macs <= 1 ms", "macs <= nan", "macs <= inf", "macs <= 1e999", "macs <= 0x10",
    "macs <= 1_000", "macs <= ٣", "macs <= --1", "macs <= 1 - 2", "macs <= 1 - unreduced", "macs <= unreduced * 2",
    "macs <= unreduced -", "macs <= unreduced 0.1", "macs <= unreduced - -0.1", "macs <= unreduced - 1e999",
    "macs <= accuracy", "macs <= 0.4, accuracy >= 0.9", "macs <= 0.4 and accuracy >= 0.9", "0.2 <= macs <= 0.4",
    "a b <= 1", "macs-2 <= 1", "__import__('os') <= 1", "macs <= __import__('os')", "macs <= 0.4\n\x1b[2J", "m" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_limit_is_one_line_that_shows_it(text: str) -> None:
    with pytest.raises(StudyError) as error:
        Limit.parsed(text)
    assert str(error.value).startswith("--where ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1100


@settings(deadline=None, derandomize=True)
@given(st.text(alphabet="macs<=>unreduced+-.0123456789eE ", max_size=24) | st.text(max_size=12))
def test_any_text_is_a_limit_or_an_error_of_ours(text: str) -> None:
    try:
        found = Limit.parsed(text)
    except SearchkitError:
        return
    assert Limit.parsed(str(found)).name == found.name


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(
        StudyError, match=r"--where 'acuracy >= 0.9': unknown figure 'acuracy'; did you mean 'accuracy'"
    ):
        picked(front_of(STAIRS), "acuracy >= 0.9")
    with pytest.raises(StudyError, match=r"--best: unknown objective 'mac'; did you mean 'macs'"):
        picked(front_of(STAIRS), best="mac")
    with pytest.raises(StudyError, match="no member of the front was measured"):
        picked(replace(front_of(STAIRS), report={}))
    with pytest.raises(StudyError, match="--best latency: no member that keeps the limits was measured in it"):
        picked(front_of(STAIRS, front_objectives=(LATENCY,)), best="latency")
    failed = Trial(staircase().trials[0].ask, Failed("nan", "loss is NaN"), 0.1)
    with pytest.raises(StudyError, match="accuracy >= unreduced: the unreduced model has no accuracy"):
        picked(replace(front_of(STAIRS), baselines={"unreduced": (failed,)}), "accuracy >= unreduced")


def test_pick_json_is_strict_and_holds_no_resamples() -> None:
    found = picked(paired(), "accuracy >= unreduced - 0.2").to_json()
    json.dumps(found, allow_nan=False)
    assert set(found["values"]) == {"accuracy", "macs"}
    told = found["values"]["accuracy"]
    assert told["low"] < told["value"] < told["high"]
    assert told["against_unreduced"]["value"] == pytest.approx(told["value"] - told["unreduced"])
    assert "resamples" not in told
    odd = front_of([(0.5, 0.5)])
    (own,) = odd.report.values()
    assert isinstance(own.outcome, Measured)
    wild = {**own.outcome.estimates, "macs": Estimate(0.5, float("inf"), 1, {"spread": float("nan")})}
    odd = replace(odd, report={own.key: replace(own, outcome=Measured(wild))})
    json.dumps(picked(odd, "macs <= unreduced").to_json(), allow_nan=False)
    with pytest.raises(StudyError, match="unknown figure 'macs_spread'"):
        picked(odd, "macs_spread <= 1")


# A run, through the command line.


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Path]:
    """A finished run of the small study with a latency and a constraint, its study file gone."""
    from searchkit.runs.config import Conditions
    from searchkit.runs.folder import Folder
    from searchkit.runs.phases import execute
    from searchkit.runs.remeasure import measure
    from searchkit.runs.study_file import load

    home = tmp_path_factory.mktemp("pick")
    text = SMALL.replace("import accuracy, macs", "import accuracy, latency, macs").replace(
        "[accuracy, macs],",
        "[accuracy, macs], constraints=[Constraint(macs, at_most=0.9)],\n"
        "        front_objectives=[latency(batches=2, rounds=3, width=0.5, min_round_interval_s=0, budget_s=0.1)],",
    )
    study = small_study(home, text.replace("Budget, Lengths", "Budget, Constraint, Lengths"))
    conditions, threads = Conditions(runs=home / "runs", threads=1), torch.get_num_threads()
    loaded = load(study, {"evaluations": "24"})
    with_trained(conditions.runs, loaded.study)
    execute(loaded, conditions)
    measure(Folder(home / "runs" / "small"), conditions, batch_size=4).write(home / "runs" / "small")
    study.unlink()
    yield home / "runs" / "small"
    torch.set_num_threads(threads)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "small"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(capsys, monkeypatch)


def test_a_run_is_picked_from_its_records_alone(run: Path, said: Said) -> None:
    front = pd.read_csv(run / "front.csv").dropna(subset="accuracy_report")
    limit = front["accuracy_report"].median()
    best = front[(front["accuracy_report"] >= limit) & (front["macs_report"] <= 0.9)].sort_values("macs_report").iloc[0]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, shown, err = said.code("pick", run, "--where", f"accuracy >= {limit}")
    assert code == 0, err
    told = json.loads((run / "pick.json").read_text())
    assert told["key"] == best["key"]
    assert told["values"]["macs"]["value"] == best["macs_report"]
    assert told["values"]["latency"]["high"] == best["latency_report_high"]
    assert best["environment_report"].endswith(f"environment {told['environment']['fingerprint']}")
    assert [one["limit"] for one in told["limits"]] == ["macs <= 0.9", f"accuracy >= {limit:.12g}"]
    for text in (best["key"], "the lowest macs of the", "macs <= 0.9 of the study holds", best["environment_report"]):
        assert text in shown
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "pick.json"} == before
    code, printed, err = said.code("pick", run, "--where", f"accuracy >= {limit}", "--json")
    assert (code, json.loads(printed)) == (0, told), err


def test_a_pick_by_another_setting_takes_its_values(run: Path, said: Said) -> None:
    (table,) = (run / "measured").glob("*.csv")
    measured = pd.read_csv(table)
    members = measured[measured["candidate"].str.contains("lengths") & (measured["macs"] <= 0.9)]
    code, shown, err = said.code("pick", run, "--measured", table.stem, "--best", "latency")
    assert code == 0, err
    told = json.loads((run / "pick.json").read_text())
    assert told["values"]["latency"]["value"] == members["latency"].min()
    assert told["values"]["latency"]["unit"] == "ms at batch 4"
    assert told["values"]["accuracy"]["against_unreduced"]["low"] is not None
    assert "ms at batch 4" in shown
    code, _, err = said.code("pick", run, "--measured", "00000000")
    assert code == 2
    assert f"unknown setting '00000000' (known: {table.stem})" in err


def test_a_pick_that_fails_is_one_line_and_leaves_no_file(run: Path, said: Said) -> None:
    for arguments, expected in {
        ("--where", "accuracy >= 1.5"): "accuracy >= 1.5 excludes",
        ("--where", "macs < 1"): "expected NAME <= NUMBER",
        ("--best", "speed"): "unknown objective 'speed'",
        ("--where",): "--where",
    }.items():
        code, shown, err = said.code("pick", run, *arguments)
        assert (code, shown) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert expected in err
    assert not (run / "pick.json").exists()
    os.unlink(run / "journal.log")
    code, _, err = said.code("pick", run)
    assert code == 2
    assert "not finished" in err
