"""Tables against values worked out by hand from the staircase."""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from searchkit.errors import StoreError
from searchkit.records import Ask, Candidate, Estimate, Failed, Trial
from searchkit.report import table
from searchkit.report.console import console_text
from searchkit.report.results import Results
from searchkit.report.text import write as write_text
from tests.report.searches import ACCURACY, MACS, cut, noisy, questions, staircase, trial


def test_the_front_has_a_row_per_member_cheapest_first() -> None:
    frame = table.front_frame(staircase())
    assert list(frame["macs_search"]) == [0.2, 0.4, 0.8]
    assert list(frame["lengths_2"]) == [0.01, 0.02, 0.03]
    assert frame["key"][0] == trial(1, 0, 0).key


def test_a_row_of_the_front_holds_both_splits_their_errors_and_counts() -> None:
    row = table.front_frame(staircase()).iloc[2].to_dict()
    assert row["accuracy_search"] == 0.9
    assert row["accuracy_report"] == 0.85
    assert row["accuracy_report_se"] == 0.01
    assert (row["accuracy_search_n"], row["accuracy_report_n"]) == (100, 400)
    assert row["accuracy_optimism"] == pytest.approx(0.05)
    assert pd.isna(row["macs_report_se"])
    assert (row["latency_report"], row["latency_report_n"], row["latency_p95_ms"]) == (8.0, 30, 9.0)
    assert (row["macs_per_example"], row["macs_ratio_of_padded"]) == (0.81e9, 0.81 / 4)
    assert "macs_optimism" not in row


def test_a_member_that_failed_on_the_report_split_has_gaps() -> None:
    row = table.front_frame(staircase()).iloc[1]
    assert row["accuracy_search"] == 0.8
    assert row[["accuracy_report", "accuracy_optimism", "latency_report", "macs_per_example"]].isna().all()


def test_failed_and_pruned_trials_are_rows_with_their_reason() -> None:
    frame = table.trials_frame(staircase()).set_index("number")
    assert list(frame["status"]) == ["measured"] * 4 + ["failed", "pruned"]
    assert list(frame["on_front"]) == [False, True, True, True, False, False]
    assert (frame["failure_kind"][4], frame["failure_message"][4]) == ("nan", "loss is NaN")
    assert (frame["pruned_why"][5], frame["pruned_after_examples"][5]) == ("dominated", 64)
    assert frame.loc[[4, 5], ["accuracy", "macs_n"]].isna().all(axis=None)
    assert frame["accuracy_n"][0] == 100


def test_files_hold_the_frames_and_nothing_else_is_left(tmp_path: Path) -> None:
    results = staircase()
    table.write(results, tmp_path / "run")
    names = {"front.csv", "front.parquet", "baselines.csv", "baselines.parquet", "trials.parquet", "summary.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run" / "front.parquet"), table.front_frame(results))
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run" / "trials.parquet"), table.trials_frame(results))
    for name, frame in (("front", table.front_frame(results)), ("baselines", table.baselines_frame(results))):
        csv = pd.read_csv(tmp_path / "run" / f"{name}.csv")
        pd.testing.assert_frame_equal(csv, frame, check_dtype=False)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == table.summary(results)


def test_every_baseline_has_a_row_with_its_family_and_share() -> None:
    frame = table.baselines_frame(staircase())
    families = ["unreduced", *["truncation"] * 2, *["random tokens"] * 2, *["constant ratio"] * 3]
    assert list(frame["family"]) == families
    assert list(frame["share"][1:5]) == [0.8, 0.2, 0.8, 0.2]
    assert frame["share"][[0, 5, 6, 7]].isna().all()
    row = frame.iloc[1].to_dict()
    assert (row["accuracy_report"], row["accuracy_report_se"], row["macs_report"]) == (0.86, 0.01, 0.9)
    assert row["macs_ratio_of_padded"] == 0.9 / 4
    assert frame["latency_report"][0] == 10.0
    assert list(frame["lengths_2"][5:]) == [0.01, 0.02, 0.03]
    assert list(frame)[:5] == ["family", "key", "share", "lengths_1", "lengths_2"]
    assert "baseline" not in frame


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "front.csv").write_text("old")

    def killed(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(StoreError, match=r"cannot write .*front\.csv: No space left"):
        table.write(staircase(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["front.csv"]
    assert (tmp_path / "front.csv").read_text() == "old"


def test_columns_of_mixed_kinds_become_json_text(tmp_path: Path) -> None:
    rows = [trial(0, 0.5, 0.5, x=None, y=1), trial(1, 0.6, 0.6, x="all", y=0.5), trial(2, 0.7, 0.7, x=3, y=2)]
    results = staircase(trials=tuple(rows), report={})
    frame = table.trials_frame(results)
    assert pd.isna(frame["x"][0])
    assert list(frame["x"][1:]) == ['"all"', "3"]
    assert list(frame["y"]) == [1.0, 0.5, 2.0]
    table.write(results, tmp_path)


def test_a_search_without_measured_trials_still_makes_tables(tmp_path: Path) -> None:
    failed = Trial(Ask(0, Candidate.of(lengths=(1.0,))), Failed("nan", "loss"), 0.1)
    for trials in ((), (failed,)):
        results = staircase(trials=trials, report={}, baselines={})
        table.write(results, tmp_path)
        assert len(pd.read_csv(tmp_path / "front.csv")) == len(pd.read_csv(tmp_path / "baselines.csv")) == 0
        assert len(pd.read_parquet(tmp_path / "trials.parquet")) == len(trials)
        assert "0 candidates" in printed(results)


def printed(results: Results, width: int = 120) -> str:
    return console_text(results, width)


def test_the_terminal_shows_values_with_their_errors() -> None:
    text = printed(staircase())
    assert "0.850 ± 0.010" in text
    assert "8.00 ± 0.20" in text
    assert "+0.050" in text
    assert "1 .03" in text


def test_the_terminal_shows_the_baselines_below_the_front_and_what_beats_them() -> None:
    text = printed(staircase())
    rows = [line.strip() for line in text.splitlines()]
    assert any(re.fullmatch(r"truncation \.8 +0\.860 ± 0\.010 +0\.9 +-", row) for row in rows)
    assert any(re.fullmatch(r"unreduced +0\.900 ± 0\.010 +1 +10\.00 ± 0\.20", row) for row in rows)
    assert any(row.startswith("constant ratio 1 .03") for row in rows)
    assert "The front beats random tokens: better at 2 of 2 points, worse at none." in text
    assert "The front does not beat constant ratio: better at 1 of 3 points, worse at 1." in text


def test_the_terminal_shows_three_points_of_a_family_with_both_ends() -> None:
    shares = [0.8, 0.6, 0.45, 0.3, 0.2]
    text = printed(staircase(baselines={"truncation": tuple(cut("truncation", share, 0.5, 0.5) for share in shares)}))
    assert re.findall(r"truncation (\.\d+)", text) == [".8", ".45", ".2"]


def test_the_tables_of_a_question_answering_search_have_its_own_objectives(tmp_path: Path) -> None:
    results = questions()
    table.write(results, tmp_path)
    write_text(results, tmp_path)
    front, baselines = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("front", "baselines"))
    assert {"exact_match_report", "f1_report", "exact_match_optimism", "f1_optimism"} <= set(front)
    assert {"exact_match_report", "f1_report", "macs_report"} <= set(baselines)
    assert "exact match" in printed(results)
    for written in tmp_path.glob("*.[jmc]*"):
        assert "accuracy" not in written.read_text()


def test_the_terminal_shows_at_most_twelve_members_with_both_ends() -> None:
    results = staircase(trials=tuple(trial(i, i / 100, i / 100) for i in range(1, 41)), report={}, baselines={})
    text = printed(results)
    picked = [round(100 * float(length)) for length in re.findall(r"^1 (\.\d+) ", text, re.MULTILINE)]
    assert "12 of 40 candidates" in text
    assert len(picked) == 12
    assert (picked[0], picked[-1]) == (1, 40)
    steps = [after - before for before, after in itertools.pairwise(picked)]
    assert max(steps) - min(steps) <= 1


def test_markup_in_names_is_shown_as_it_is() -> None:
    text = printed(noisy(name="[red]a[/] <b>"))
    assert "[red]a[/] <b>" in text


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.87412, 0.0109, 900), "0.874 ± 0.011"),
        (Estimate(0.87412, 0.0079, 900), "0.874 ± 0.008"),
        (Estimate(123.4, 40.0, 9), "123 ± 40"),
        (Estimate(0.47112, None, 9), "0.4711"),
        (Estimate(1.0, 0.0, 9), "1"),
        (None, "-"),
    ],
)
def test_values_are_shown_as_far_as_their_error_reaches(estimate: Estimate | None, text: str) -> None:
    assert table.plus_minus(estimate) == text


def test_axes_of_a_plot_follow_the_directions() -> None:
    swapped = staircase(objectives=(MACS, ACCURACY))
    assert (swapped.cost, swapped.quality) == (MACS, ACCURACY)
    costs = staircase(objectives=(MACS, staircase().front_objectives[0]))
    assert (costs.cost.name, costs.quality.name) == ("macs", "latency")
