"""Runs in other storages by the command line; and no password in anything one writes, says or shows to other users."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from searchkit.cli import app as cli
from searchkit.runs.study_file import load
from tests.postgresql import Server
from tests.studies import small_study
from tests.supernets import Supernets


@dataclass(frozen=True)
class Said:
    code: int
    stdout: str
    stderr: str


class Called(Protocol):
    def __call__(self, *arguments: str, **environment: str) -> Said: ...


@pytest.fixture
def searchkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """The command line in this process, since a new one takes seconds; its text on one line."""

    def called(*arguments: str, **environment: str) -> Said:
        with monkeypatch.context() as patched:
            patched.chdir(tmp_path)
            patched.setattr(sys, "argv", ["searchkit", *arguments])
            for name, value in environment.items():
                patched.setenv(name, value)
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                cli.main()
            said = capsys.readouterr()
        return Said(int(ended.value.code or 0), " ".join(said.out.split()), " ".join(said.err.split()))

    return called


def test_a_run_outlives_a_killed_database_and_never_shows_its_password(
    postgresql: Server, tmp_path: Path, searchkit: Called, with_trained: Supernets
) -> None:
    with_trained(tmp_path / "runs", load(small_study(tmp_path)).study)
    url, password = postgresql.new_database(), postgresql.password
    command = [sys.executable, "-m", "searchkit", "run", "small_study.py", "--threads", "1", "-p", "evaluations=16"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SEARCHKIT_STORAGE": url, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    log, deadline = tmp_path / "runs" / "small" / "run.log", time.monotonic() + 120
    while not (tmp_path / "runs" / "small" / ".search_seconds").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        assert password not in " ".join(psutil.Process(process.pid).cmdline())
        time.sleep(0.02)
    postgresql.stop(signal.SIGKILL)
    postgresql.start()
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 0, said
    status = searchkit("status", "runs/small", SEARCHKIT_STORAGE=url)
    assert "16 of 16 evaluations" in status.stdout, status.stderr
    by_other_means = searchkit("report", "runs/small", PGPASSWORD=password)
    assert by_other_means.code == 0, by_other_means.stderr
    without = searchkit("run", "small_study.py", "-p", "evaluations=16")
    refused = searchkit("run", "small_study.py", "--storage", url)
    wrong = searchkit("status", "runs/small", PGPASSWORD=f"not-{password}")
    for result, reason in ((without, "password"), (refused, "list of processes"), (wrong, "password auth")):
        assert result.code == 2, result.stderr
        assert reason in result.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert log in files
    for path in files:
        assert password.encode() not in path.read_bytes(), path
    for text in (said, *(one.stdout + one.stderr for one in (status, by_other_means, without, refused, wrong))):
        assert password not in text


def test_a_run_goes_on_in_another_storage_once_it_was_copied(
    tmp_path: Path, searchkit: Called, with_trained: Supernets
) -> None:
    with_trained(tmp_path / "runs", load(small_study(tmp_path)).study)
    run = ("run", "small_study.py", "--threads", "1")
    assert searchkit(*run, "-p", "evaluations=8").code == 0
    there = f"sqlite:///{tmp_path}/trials.db"
    refused = searchkit(*run, "-p", "evaluations=12", "--storage", there)
    assert refused.code == 2
    assert "searchkit copy runs/small --to" in refused.stderr
    assert "trials copied to" in searchkit("copy", "runs/small", "--to", there).stdout
    on = searchkit(*run, "-p", "evaluations=12", "--storage", there)
    assert on.code == 0, on.stderr
    assert "12 of 12 evaluations" in searchkit("status", "runs/small").stdout
    assert searchkit("copy", "runs/small", "--to", there).code == 0
    moved = searchkit("restore", "small_study.py", "-p", "evaluations=12", "--from", there, "--runs", "elsewhere")
    assert moved.code == 0, moved.stderr
    assert "12 of 12 evaluations" in searchkit("status", "elsewhere/small").stdout
    assert searchkit("report", "elsewhere/small").code == 0
    verified = searchkit("verify", "elsewhere/small", "--threads", "1")
    assert "every one is the stored one" in verified.stdout, verified.stderr


def test_a_damaged_store_is_not_taken_for_an_empty_one(
    tmp_path: Path, searchkit: Called, with_trained: Supernets
) -> None:
    with_trained(tmp_path / "runs", load(small_study(tmp_path)).study)
    assert searchkit("run", "small_study.py", "-p", "evaluations=8").code == 0
    journal = tmp_path / "runs" / "small" / "journal.log"
    whole = journal.read_bytes()
    place = whole.index(b'"standard_error":0.') + 19
    journal.write_bytes(whole[:place] + (b"1" if whole[place : place + 1] != b"1" else b"2") + whole[place + 1 :])
    for command in ("status", "report"):
        result = searchkit(command, "runs/small")
        assert result.code == 2
        assert "is damaged" in result.stderr
