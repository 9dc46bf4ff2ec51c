"""Relative paths of data and models: a run can be looked at, and gone on with, from any folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from searchkit.errors import DataError, StudyError
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from searchkit.runs.verify import measured_again, replayed
from tests.studies import SMALL, small_study

OWN = (
    SMALL.replace('name: str = "small"', 'data: str = "reviews"')
    .replace("name=name", 'name="small"')
    .replace("Generated(train=documents, search=120, report=100)", "TextClassification(data, max_length=16)")
    .replace("import Generated", "import TextClassification")
    .replace("evaluations: int = 24", "evaluations: int = 8")
)


def reviews(folder: Path, odd: str = "fine") -> None:
    folder.mkdir(parents=True)
    texts = [f"a {word} film number {number}" for number in range(60) for word in ("good", "bad", odd)]
    rows = pd.DataFrame({"text": texts, "label": ["yes", "no", "yes"] * 60})
    rows.to_csv(folder / "train.csv", index=False)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("beside_the_study", [True, False])
def test_a_run_on_a_relative_path_is_verified_and_measured_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside_the_study: bool
) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    reviews(home / "reviews")
    other.mkdir()
    monkeypatch.chdir(home)
    file = small_study(home if beside_the_study else other, OWN)
    conditions = Conditions(runs=home / "runs", threads=1)
    execute(load(file, {"data": "./reviews"}), conditions)
    monkeypatch.chdir(other)
    reviews(other / "reviews", odd="odd")  # another one of the same name: the run's own folder comes first
    folder = Folder(home / "runs" / "small")
    assert replayed(folder) == 8
    assert measured_again(folder, 2, conditions) == 2
    assert len(stored_results(folder).trials) == 8


def test_paths_that_the_current_folder_lacks_are_looked_for_beside_the_study(tmp_path: Path, elsewhere: Path) -> None:
    home = tmp_path / "home"
    reviews(home / "reviews")
    file = small_study(home, OWN)
    found = load(file).study
    assert found.task.describe() == load(file, {"data": str(home / "reviews")}).study.task.describe()
    reviews(elsewhere / "reviews", odd="odd")  # the current folder comes first
    assert load(file).study.task.describe() != found.task.describe()


def test_models_too_are_looked_for_beside_the_study(tmp_path: Path, elsewhere: Path) -> None:
    home = tmp_path / "home"
    (home / "model").mkdir(parents=True)
    text = SMALL.replace("Scratch(layers=3, width=16, heads=2, feed_forward=32)", '"./model"')
    assert load(small_study(home, text)).study.supernet.model == str(home / "model")


def test_a_study_that_is_made_in_python_reads_the_current_folder_alone(tmp_path: Path, elsewhere: Path) -> None:
    from searchkit.tasks import TextClassification

    home = tmp_path / "home"
    reviews(home / "reviews")
    load(small_study(home, OWN))
    assert TextClassification("reviews").data == "reviews"


@pytest.mark.parametrize("place", ["data", "model"])
def test_a_relative_path_that_is_nowhere_is_named_as_relative(tmp_path: Path, elsewhere: Path, place: str) -> None:
    reviews(elsewhere / "reviews")
    text = OWN.replace("Scratch(layers=3, width=16, heads=2, feed_forward=32)", '"./nowhere"')
    file = small_study(tmp_path, OWN if place == "data" else text)
    with pytest.raises(DataError, match=rf"a relative path, looked for in {elsewhere} and beside the study file"):
        _ = load(file, {"data": "./nowhere"} if place == "data" else {}).study.describe()


def test_a_refusal_says_where_relative_paths_were_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    reviews(home / "reviews")
    file, conditions = small_study(home, OWN), Conditions(runs=home / "runs", threads=1)
    monkeypatch.chdir(home)
    execute(load(file), conditions)
    reviews(other / "reviews", odd="odd")
    monkeypatch.chdir(other)
    with pytest.raises(StudyError, match=rf"\(different: task: its data; relative paths were those of {home}\)"):
        execute(load(file), conditions)
