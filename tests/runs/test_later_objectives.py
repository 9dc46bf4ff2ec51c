"""Objectives of the front that are added to a finished study, changed, mended or taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import searchkit
from searchkit.errors import StudyError
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.remeasure import measure
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

SHORT = SMALL.replace("evaluations: int = 24", "evaluations: int = 8").replace(
    "import accuracy", "import latency, accuracy"
)
TIMED = "front_objectives=[latency({}, batches=2, rounds=3, budget_s=0.01)],"


def with_front(more: str) -> str:
    return SHORT.replace("seed=seed,\n", f"seed=seed,\n            {more}\n")


@pytest.fixture
def home(tmp_path: Path, with_trained: Supernets) -> Path:
    """A folder in which the studies below find their supernet."""
    with_trained(tmp_path / "runs", load(small_study(tmp_path, SHORT)).study)
    return tmp_path


def rerun(home: Path, text: str) -> pd.DataFrame:
    execute(load(small_study(home, text)), Conditions(runs=home / "runs", threads=1))
    return pd.read_csv(home / "runs/small/front.csv")


@pytest.mark.usefixtures("hurried")
def test_latency_is_added_to_a_finished_study_as_measure_advises(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rerun(home, SHORT)
    folder, conditions = Folder(home / "runs/small"), Conditions(runs=home / "runs", threads=1)
    with pytest.raises(StudyError, match=r"add latency\(\) to its front_objectives, run it again, and then measure"):
        measure(folder, conditions)
    asked: list[set[str]] = []
    from searchkit.runs import report_phase

    evaluator = report_phase.evaluator

    def watched(session: Any, split: str, objectives: Any, count: int, *candidates: Any) -> Any:
        asked.append({objective.name for objective in objectives})
        return evaluator(session, split, objectives, count, *candidates)

    monkeypatch.setattr(report_phase, "evaluator", watched)
    for batch_size in (1, 4):
        after = rerun(home, with_front(TIMED.format(batch_size)))
        assert (after["latency_report"] > 0).all()
        assert after[list(first)].drop(columns="environment_report").equals(first.drop(columns="environment_report"))
        assert asked == [{"latency"}]  # the other values are kept
        asked.clear()
        assert stored_results(folder).front_objectives[0].unit == f"ms at batch {batch_size}"
        assert searchkit.open(folder.path).status.on_report == len(stored_results(folder).on_report)
        assert pd.read_csv(folder.path / "baselines.csv")["latency_report"].notna().all()
    again = rerun(home, with_front(TIMED.format(1)))
    assert asked == []  # that of batch 1 is in the storage
    assert (again["latency_report"] > 0).all()
    found = measure(folder, conditions, batch_size=2)
    assert {trial.status for trial in found.trials} == {"measured"}
    assert rerun(home, SHORT).equals(first)  # and without it as before


NAIVE = "front_objectives=[Objective('first', 'share', 'lower', first)],"
FIRST = "\nfrom searchkit import Estimate, Objective\n\ndef first(subject):\n    return Estimate({}, None, 10)\n"


def test_a_mended_objective_of_the_front_is_measured_where_it_failed_and_reported_right(home: Path) -> None:
    naive = 'float(subject.candidate["lengths"][0])'  # baselines have none
    before = rerun(home, FIRST.format(naive) + with_front(NAIVE))
    folder = Folder(home / "runs/small")
    report, status = (folder.path / "report.md").read_text(), searchkit.open(folder.path).status
    lines = [line for line in report.splitlines() if "Not measured on the report split" in line]
    assert any("baselines (unreduced): 1 x exception: objective 'first': KeyError" in line for line in lines), lines
    baselines = pd.read_csv(folder.path / "baselines.csv")
    failed = int(baselines["first_report"].isna().sum())
    assert failed
    assert status.on_report == len(before) + len(baselines) - failed
    mended = f'{naive} if "lengths" in subject.candidate else 1.0'
    after = rerun(home, FIRST.format(mended) + with_front(NAIVE))
    assert after["first_report"].equals(before["first_report"])
    assert "Not measured on the report split" not in (folder.path / "report.md").read_text()
    assert pd.read_csv(folder.path / "baselines.csv")["first_report"].notna().all()
    assert searchkit.open(folder.path).status.on_report == len(before) + len(baselines)


def test_a_failure_that_passes_is_tried_again_and_counts_once(home: Path) -> None:
    flag = home / "flag"
    text = FIRST.format(f"1.0 if Path({str(flag)!r}).exists() else 1 / 0").replace(
        "import Estimate", "import Estimate", 1
    )
    text = "from pathlib import Path\n" + text + with_front(NAIVE)
    assert rerun(home, text)["first_report"].isna().all()
    folder = Folder(home / "runs/small")
    assert searchkit.open(folder.path).status.on_report == 0
    flag.touch()
    assert (rerun(home, text)["first_report"] == 1.0).all()
    results = stored_results(folder)
    assert searchkit.open(folder.path).status.on_report == len(results.on_report)
    assert "Not measured" not in (folder.path / "report.md").read_text()
