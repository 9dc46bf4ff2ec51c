"""A finished run on a read-only file system: what is found is shown, and one line says that it cannot be kept."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.faults.malformed import PROGRESS, Said


@pytest.fixture
def read_only(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, with its supernet, in which every attempt to write fails as on such a file system."""
    shutil.copytree(finished, tmp_path / "archive")
    opened, unlink, flags = os.open, Path.unlink, os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def below(path: Any) -> bool:
        return Path(os.path.abspath(os.fspath(path))).is_relative_to(tmp_path / "archive")

    def refuse(path: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def guarded_open(path: Any, mode: int, *more: Any, **named: Any) -> int:
        if below(path) and mode & flags:
            refuse(path)
        return opened(path, mode, *more, **named)

    def guarded_unlink(path: Path, missing_ok: bool = False) -> None:
        if below(path):
            refuse(path)
        unlink(path, missing_ok)

    original = Path.open

    def guarded_path_open(path: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        if below(path) and set(mode) & set("wxa+"):
            refuse(path)
        return original(path, mode, *more, **named)

    monkeypatch.setattr(os, "open", guarded_open)
    monkeypatch.setattr(Path, "open", guarded_path_open)
    monkeypatch.setattr(Path, "unlink", guarded_unlink)
    return tmp_path / "archive/runs/small"


def lines(error: str) -> list[str]:
    """Without those of progress."""
    return [line for line in error.splitlines() if line.startswith("error: ") or not PROGRESS.search(line)]


def test_report_of_a_read_only_run_is_one_line(read_only: Path, said: Said) -> None:
    code, _, error = said.code("report", str(read_only))
    assert (code, lines(error)) == (2, [f"error: cannot write {read_only}/front.csv: Read-only file system"])


@pytest.mark.parametrize("as_json", [True, False])
def test_pick_of_a_read_only_run_shows_its_choice_and_says_that_it_is_not_kept(
    read_only: Path, said: Said, as_json: bool
) -> None:
    code, shown, error = said.code("pick", str(read_only), *(["--json"] if as_json else []))
    assert "candidate" in shown
    assert "written to" not in shown
    line = f"error: the choice is not kept: cannot write {read_only}/pick.json: Read-only file system"
    assert (code, lines(error)) == (2, [line])


def test_verify_of_a_read_only_run_passes(read_only: Path, said: Said) -> None:
    code, shown, error = said.code("verify", str(read_only), "--again", "2", "--threads", "1")
    assert code == 0, error
    assert "every one is the stored one" in shown
    assert "measured 2 trials again: the same values" in shown


def test_measure_and_run_refuse_a_read_only_run_before_they_begin(read_only: Path, said: Said) -> None:
    code, _, error = said.code("run", str(read_only.parent.parent / "small_study.py"), "--runs", str(read_only.parent))
    assert code == 2
    assert f"{read_only}: cannot write there: Read-only file system" in error
