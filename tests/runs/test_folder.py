"""The folder of a run: what is left of one that was refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchkit.errors import StudyError
from searchkit.runs.folder import Folder


def refused(folder: Folder, journal: bytes) -> None:
    def prepare() -> None:
        folder.journal.write_bytes(journal)  # a storage opens its file before it is asked anything
        raise StudyError("another study of that name")

    with pytest.raises(StudyError, match="another study"), folder.claimed({"description": {}}, prepare):
        raise AssertionError("it was not refused")


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    refused(Folder(tmp_path / "runs/small"), b"")
    assert not (tmp_path / "runs/small").exists()


def test_a_refused_run_leaves_a_journal_that_holds_something(tmp_path: Path) -> None:
    refused(Folder(tmp_path / "small"), b"trials\n")
    assert (tmp_path / "small/journal.log").read_bytes() == b"trials\n"
    assert not (tmp_path / "small/study.json").exists()
