"""Studies that are run from Python: no study file, the same records, and frames to read them by."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import searchkit
from objectives import accuracy, macs
from searchkit import (
    NSGA2,
    Budget,
    Estimate,
    Lengths,
    Objective,
    Results,
    Run,
    Scratch,
    Space,
    StoreError,
    Study,
    StudyError,
    Supernet,
)
from searchkit.report.cells import results_html
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.python import run
from searchkit.runs.remeasure import measure
from searchkit.runs.study_file import Loaded, load
from searchkit.runs.verify import replayed
from searchkit.tasks import Generated
from searchkit.training import FineTune
from tests.figures import with_figures
from tests.studies import small_study
from tests.supernets import Supernets

STUDY = Study(
    name="here",
    task=Generated(train=64, search=40, report=40),
    supernet=Supernet(Scratch(layers=2, width=16, heads=2, feed_forward=32), recipe=FineTune(epochs=1)),
    space=Space(Lengths(levels=16)),
    objectives=[accuracy, macs],
    engine=NSGA2(population=4),
    budget=Budget(evaluations=8),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Path:
    folder = tmp_path_factory.mktemp("python")
    with_trained(folder, STUDY)
    threads = torch.get_num_threads()
    with with_figures():
        searchkit.run(STUDY, runs=folder, threads=1)
    assert torch.get_num_threads() == threads
    return folder


def test_a_run_needs_no_study_file_and_says_so_in_its_record(runs: Path) -> None:
    record = json.loads((runs / "here" / "study.json").read_text())
    assert (record["file"], record["parameters"]) == (None, {})
    assert record["description"] == STUDY.describe()


def test_a_run_that_came_from_a_file_keeps_it_when_python_goes_on(tmp_path: Path) -> None:
    loaded = load(small_study(tmp_path), {"evaluations": "8", "documents": "64"})
    execute(loaded, Conditions(runs=tmp_path, threads=1))
    record = (tmp_path / "small" / "study.json").read_text()
    searchkit.run(loaded.study, runs=tmp_path, threads=1)
    assert (tmp_path / "small" / "study.json").read_text() == record


def test_the_same_call_again_measures_nothing_and_a_larger_budget_goes_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = searchkit.open(runs / "here").results
    larger = replace(STUDY, budget=Budget(evaluations=10))
    longer = searchkit.run(larger, runs=runs, threads=1)
    assert isinstance(longer, Results)
    assert [trial.key for trial in longer.trials[:8]] == [trial.key for trial in first.trials]
    assert len(longer.trials) == 10

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing may be measured")

    monkeypatch.setattr("searchkit.runs.benches.workbench", refuse)
    assert searchkit.run(larger, runs=str(runs), threads=1).trials == longer.trials


def test_an_opened_run_has_the_tables_that_the_folder_has(runs: Path) -> None:
    opened = searchkit.open(str(runs / "here"))
    assert isinstance(opened, Run)
    for name, frame in (("front", opened.front), ("baselines", opened.baselines)):
        assert list(frame.columns) == list(pd.read_csv(runs / "here" / f"{name}.csv").columns)
        assert frame["key"].tolist() == pd.read_parquet(runs / "here" / f"{name}.parquet")["key"].tolist()
    assert opened.trials["number"].tolist() == list(range(len(opened.results.trials)))
    assert {"pareto", "hypervolume"} <= opened.figures.keys()
    assert str(opened.status).startswith(f"here: {len(opened.trials)} of {len(opened.trials)} evaluations, 0 failed, ")


def test_every_column_is_documented_and_of_the_type_that_the_page_says(runs: Path) -> None:
    """docs/results.md: a table for each frame; `_low` alone belongs to the name before it."""
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    opened = searchkit.open(runs / "here")
    for name in ("front", "trials", "baselines"):
        section = page.split(f"## `{name}`")[1].split("\n## ")[0]
        documented: dict[str, str] = {}
        for names, types in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", section, re.MULTILINE):
            stem = ""
            for column in re.findall(r"`([^`]+)`", names):
                column = stem + column if column.startswith("_") else column
                stem = column if not column.endswith(("_low", "_high", "_se", "_n")) else stem
                pattern = column.replace("OBJECTIVE", "(accuracy|macs)").replace("FIGURE", r"\w+")
                documented[pattern.replace("DIMENSION_N", r"(lengths_\d|share|baseline)")] = types
        for column, dtype in getattr(opened, name).dtypes.items():
            fitting = [types for pattern, types in documented.items() if re.fullmatch(pattern, str(column))]
            assert fitting, f"{name}: {column}"
            assert str(dtype) in fitting[0], f"{name}: {column} is {dtype}"
    assert opened.front.attrs["study"] == "here"


def test_a_run_is_a_table_in_a_notebook_before_and_after_its_end(runs: Path, tmp_path: Path) -> None:
    opened = searchkit.open(runs / "here")
    assert results_html(opened.results) in opened._repr_html_()
    study = replace(STUDY, name="begun")
    (tmp_path / "begun").mkdir()
    record = json.loads((runs / "here" / "study.json").read_text())
    record["description"]["name"] = study.name
    (tmp_path / "begun" / "study.json").write_text(json.dumps(record))
    html = searchkit.open(tmp_path / "begun")._repr_html_()
    assert "begun: 0 of " in html
    assert "the run is not finished" in html
    assert "study here" in STUDY._repr_html_()


def test_a_candidate_is_found_by_its_key(runs: Path) -> None:
    opened = searchkit.open(runs / "here")
    for key in (*opened.front["key"], *opened.baselines["key"]):
        assert opened.candidate(key).key == key
    with pytest.raises(StudyError, match="unknown key 'abc'"):
        opened.candidate("abc")


def test_a_member_is_picked_and_a_report_written_again(runs: Path) -> None:
    opened = searchkit.open(runs / "here")
    picked = opened.pick(best="macs")
    values = opened.front.set_index("key")["macs_report"]
    assert values[picked.trial.key] == values.min()
    report = runs / "here" / "report.md"
    before = report.read_text()
    report.unlink()
    assert opened.report() == report
    assert report.read_text() == before


def test_a_command_that_needs_a_study_file_says_so_in_one_line(runs: Path) -> None:
    folder = Folder(runs / "here")
    for needs_file in (
        lambda: replayed(folder),
        lambda: measure(folder, Conditions(runs=runs)),
        lambda: Loaded(STUDY).required_file("submit"),
    ):
        with pytest.raises(StudyError, match="made in Python") as error:
            needs_file()
        assert "\n" not in str(error.value)


def test_a_value_that_is_no_study_and_a_folder_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"run takes a searchkit.Study, got 'studies/quickstart.py'"):
        run("studies/quickstart.py")  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="from Python a run has a local folder"):
        searchkit.run(STUDY, runs="s3://bucket/runs")
    with pytest.raises(StudyError, match="not a run folder"):
        searchkit.open(tmp_path)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        searchkit.open(tmp_path)


def test_functions_of_the_caller_travel_to_workers(tmp_path: Path) -> None:
    """An objective that is defined in a function, as in a notebook."""

    def kept(subject: Any) -> Estimate:
        return Estimate(float(sum(subject.candidate["lengths"])), None, 1)

    study = replace(
        STUDY, objectives=[accuracy, Objective("kept", "share", "lower", kept)], budget=Budget(evaluations=4)
    )
    results = searchkit.run(study, runs=tmp_path, workers=1, device="cpu", threads=1)
    assert [trial.status for trial in results.trials] == ["measured"] * 4
