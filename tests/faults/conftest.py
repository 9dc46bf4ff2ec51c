"""The command line in this process, and a small finished run to damage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.malformed import Said, study_file


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Said:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return Said(capsys, monkeypatch)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `small_study.py` and its finished run in `runs/small`; copy it before it is touched."""
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "searchkit", "run", str(study_file(folder)), "--threads", "1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder
