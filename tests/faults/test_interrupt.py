"""Ctrl-C keeps what is done, says so, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

STUDY = SMALL.replace("evaluations: int = 24", "evaluations: int = 56")


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "searchkit", "run", "small_study.py", "--threads", "1", *more]


def searching(folder: Path) -> bool:
    journal = folder / "runs" / "small" / "journal.log"
    return journal.exists() and journal.read_text(errors="replace").count('"searchkit"') > 4


@pytest.mark.parametrize(("workers", "presses"), [(0, 1), (2, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_ctrl_c_keeps_what_is_done(tmp_path: Path, with_trained: Supernets, workers: int, presses: int) -> None:
    with_trained(tmp_path / "runs", load(small_study(tmp_path, STUDY)).study)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    how = command("--workers", str(workers))
    # a group of its own, as a shell gives it: Ctrl-C reaches the workers' processes too
    process = subprocess.Popen(
        how, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while not searching(tmp_path) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    for _ in range(presses):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert said.count("finishing what is in flight; press Ctrl-C again to stop now") == 1
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    execute(load(tmp_path / "small_study.py"), Conditions(runs=tmp_path / "runs", threads=1))  # as the command does
    trials = pd.read_parquet(tmp_path / "runs" / "small" / "trials.parquet")
    assert len(trials) == trials["key"].nunique() == 56
