"""A small finished run to damage."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from tests.faults.malformed import study_file
from tests.supernets import Supernets


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Path:
    """A folder with `small_study.py` and its finished run in `runs/small`; copy it before it is touched."""
    folder = tmp_path_factory.mktemp("finished")
    loaded = load(study_file(folder))
    with contextlib.chdir(folder):
        with_trained(Path("runs"), loaded.study)
        execute(loaded, Conditions(threads=1))
    return folder
