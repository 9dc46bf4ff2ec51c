"""`searchkit run --dry-run`: it says what a run would do and how long that takes, and does nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from objectives import latency
from searchkit.runs.config import Conditions
from searchkit.runs.forecast import forecast
from searchkit.runs.paces import expected_s, in_words, keep, training_work
from searchkit.runs.session import Session
from searchkit.runs.study_file import load
from tests.faults.malformed import Said, files
from tests.studies import small_study
from tests.supernets import Supernets


def session(folder: Path, **parameters: str) -> Session:
    return Session(load(folder / "small_study.py", parameters), Conditions(runs=folder / "runs", threads=1))


def test_a_dry_run_tells_what_a_run_does_and_leaves_no_file(
    said: Said, tmp_path: Path, with_trained: Supernets
) -> None:
    study = small_study(tmp_path)
    before = files(tmp_path)
    code, out, err = said.code("run", study.name, "--dry-run", "--threads", "1")
    assert code == 0, err
    assert files(tmp_path) == before
    assert "runs/small is new" in out
    assert "rows: 320 to train on, 120 to search on, 100 to report on" in out
    assert "train: LengthDrop on a new encoder, time unknown" in out
    assert "until 24 evaluations; 24 of them to make, time unknown" in out
    assert "report: the front and 16 baselines" in out
    with_trained(tmp_path / "runs", load(study).study)
    assert said.code("run", study.name, "-p", "evaluations=16", "--threads", "1")[0] == 0
    before = files(tmp_path)
    code, out, _ = said.code("run", study.name, "--dry-run", "--threads", "1")
    assert files(tmp_path) == before
    assert "runs/small goes on, 16 evaluations made" in out
    assert "train: nothing, the supernet is in the cache" in out
    assert "until 24 evaluations; 8 of them to make, about 0:00:0" in out
    assert "time unknown" not in out


def test_phases_of_a_like_study_begin_with_their_time(said: Said, tmp_path: Path, with_trained: Supernets) -> None:
    study, options = small_study(tmp_path), ("-p", "evaluations=8", "--threads", "1")
    for name in ("one", "two"):
        with_trained(tmp_path / name, load(study).study)
    assert said.code("run", study.name, "--runs", "one", *options)[0] == 0
    (tmp_path / "two" / "supernets" / "paces.json").write_bytes((tmp_path / "one/supernets/paces.json").read_bytes())
    code, _, err = said.code("run", study.name, "--runs", "two", *options)
    assert code == 0
    assert "search: 0 of 8, 0 measured; about 0:00:0" in err
    assert re.search(r"^report: 0 of \d+, about 0:00:0", err, re.MULTILINE)


def test_a_dry_run_refuses_what_a_run_refuses(said: Said, tmp_path: Path) -> None:
    study = small_study(tmp_path)
    assert said.error("run", study.name, "--dry-run", "-p", "documents=0") == said.error(
        "run", study.name, "-p", "documents=0"
    )
    assert "--dry-run: --runs s3://b/r" in said.error("run", study.name, "--dry-run", "--runs", "s3://b/r")
    assert not (tmp_path / "runs").exists()


def test_time_grows_with_the_work_and_is_unknown_for_other_work(tmp_path: Path) -> None:
    small_study(tmp_path)
    first, more, other = session(tmp_path), session(tmp_path, documents="640"), session(tmp_path, seed="1")
    assert training_work(first) == 640  # 320 rows, an epoch of FineTune and one of LengthDrop
    assert expected_s(first, "train", 640) is None
    keep(first, "train", 12.0, 640)
    assert expected_s(first, "train", 1280) == pytest.approx(24.0)
    assert expected_s(first, "search", 1) is None
    assert expected_s(other, "train", 640) == pytest.approx(12.0)  # the seed changes nothing of the time
    assert expected_s(more, "train", 640) is None  # of generated data the number is part of what they are
    keep(first, "train", 6.0, 640)
    assert expected_s(first, "train", 640) == pytest.approx(6.0)
    (tmp_path / "runs" / "supernets" / "paces.json").write_text(json.dumps({"a": 1}))
    assert expected_s(first, "train", 640) is None
    assert any("time unknown" in text for text in forecast(first))


def test_a_folder_that_cannot_be_written_keeps_no_pace_and_stops_nothing(tmp_path: Path) -> None:
    small_study(tmp_path)
    (tmp_path / "runs").write_text("no folder")
    keep(session(tmp_path), "train", 12.0, 640)
    assert expected_s(session(tmp_path), "train", 640) is None


def test_a_timed_objective_is_named_with_its_budget(tmp_path: Path) -> None:
    small_study(tmp_path)
    loaded = load(tmp_path / "small_study.py")
    timed = replace(loaded, study=replace(loaded.study, front_objectives=[latency(budget_s=0.75)]))
    lines = [*forecast(Session(timed, Conditions(runs=tmp_path / "runs", threads=1)))]
    assert any(
        "; latency for up to 0.75 s each, in turns with the unreduced model, time unknown" in line for line in lines
    )


def test_times_in_words() -> None:
    assert [in_words(None), in_words(0.2), in_words(130)] == ["time unknown", "about 0:00:01", "about 0:02:10"]
