"""Fetching a run: whole or not at all, and nothing of this machine is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from searchkit.cluster.fetch import fetch
from searchkit.errors import StoreError, StudyError
from searchkit.runs.folder import Folder
from searchkit.storage.remote import Mirror, Part, Remote

RECORD = {
    "description": {"name": "small"},
    "fingerprint": "",
    "file": "/cluster/s.py",
    "parameters": {},
    "objectives": [],
    "front_objectives": [],
    "storage": None,
    "evaluations": 2,
}


def made(folder: Path, journal: str = "1\n2\n") -> Path:
    """A folder of runs with one in it."""
    run = folder / "small"
    (run / "parts").mkdir(parents=True)
    (run / "journal.log").write_text(journal)
    (run / "study.json").write_text(json.dumps(RECORD))
    (run / "parts" / "pareto.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(params=["folder", "url"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    there = made(tmp_path / "cluster")
    if request.param == "folder":
        return str(there)
    Mirror(Remote(f"file://{tmp_path}/bucket"), there, (Part.run("small"),)).push()
    shutil.rmtree(there)
    return f"file://{tmp_path}/bucket"


def test_a_run_comes_whole_and_what_was_only_here_stays(runs: str, tmp_path: Path) -> None:
    into = tmp_path / "runs" / "small"
    into.mkdir(parents=True)
    (into / "submitted.json").write_text("{}")
    (into / "journal.log").write_text("1\n")  # fetched before
    files, size = fetch(runs, "small", into, "/home/s.py")
    assert files == 3
    assert size > 4
    assert (into / "journal.log").read_text() == "1\n2\n"
    assert (into / "parts" / "pareto.png").read_bytes() == b"\x89PNG"
    assert (into / "submitted.json").read_text() == "{}"
    assert Folder(into).read()["file"] == "/home/s.py"  # where this machine has it
    assert sorted(path.name for path in into.parent.iterdir()) == ["small"]


def test_trials_that_are_only_here_are_never_replaced(runs: str, tmp_path: Path) -> None:
    into = tmp_path / "runs" / "small"
    into.mkdir(parents=True)
    (into / "journal.log").write_text("1\nother\n")
    with pytest.raises(StudyError, match="holds trials that the submitted run does not have"):
        fetch(runs, "small", into, "s.py")
    assert (into / "journal.log").read_text() == "1\nother\n"


def test_a_fetch_that_fails_half_way_leaves_what_was_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    there, into, remote = made(tmp_path / "cluster"), tmp_path / "runs" / "small", Remote(f"file://{tmp_path}/bucket")
    mirror = Mirror(remote, there, (Part.run("small"),))
    mirror.push()
    fetch(remote.url, "small", into, "s.py")
    before = {path: path.read_bytes() for path in into.rglob("*.*") if path.name != ".lock"}
    (there / "small" / "journal.log").write_text("1\n2\n3\n")
    mirror.push()
    remote.remove("small/parts/pareto.png")
    with pytest.raises(StoreError, match="not there"):
        fetch(remote.url, "small", into, "s.py")
    assert {path: path.read_bytes() for path in into.rglob("*.*") if path.name != ".lock"} == before


@pytest.mark.parametrize("step", [1, 2])
def test_a_fetch_that_is_killed_between_its_renames_is_put_right(
    runs: str, tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = tmp_path / "runs" / "small"
    fetch(runs, "small", into, "s.py")
    real, calls = os.rename, []

    def killed(old: object, new: object) -> None:
        calls.append(old)
        if len(calls) == step:
            raise KeyboardInterrupt
        real(old, new)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(runs, "small", into, "s.py")
    monkeypatch.undo()
    fetch(runs, "small", into, "s.py")
    assert (into / "journal.log").read_text() == "1\n2\n"
    assert sorted(path.name for path in into.parent.iterdir()) == ["small"]


def test_a_run_that_has_not_begun_is_named(tmp_path: Path) -> None:
    for runs in (str(tmp_path / "nowhere"), f"file://{tmp_path}/nowhere"):
        with pytest.raises(StudyError, match="nothing is there yet"):
            fetch(runs, "small", tmp_path / "runs" / "small", "s.py")


def test_a_run_that_is_shared_stays_where_it_is(tmp_path: Path) -> None:
    made(tmp_path)
    files, _ = fetch(str(tmp_path), "small", tmp_path / "small", "/home/s.py")
    assert files == 3
    assert Folder(tmp_path / "small").read()["file"] == "/home/s.py"


def test_a_folder_where_a_study_runs_is_left_alone(runs: str, tmp_path: Path) -> None:
    into = tmp_path / "runs" / "small"
    with (
        Folder(into).claimed(RECORD),
        pytest.raises(StoreError, match="another process is running this study"),
    ):
        fetch(runs, "small", into, "s.py")
