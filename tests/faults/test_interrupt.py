"""Ctrl-C keeps what is done, says so, and the same command goes on to the trials of a run that nothing stopped."""

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
from tests.studies import SMALL, small_study, stored, trials_and_front
from tests.supernets import Supernets

EVALUATIONS = 56
STUDY = SMALL.replace("evaluations: int = 24", f"evaluations: int = {EVALUATIONS}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> list[pd.DataFrame]:
    """Trials and front of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with_trained(folder / "runs", load(small_study(folder, STUDY)).study)
    finish(folder)
    return trials_and_front(folder / "runs" / "small")


def finish(folder: Path) -> None:
    """Run the study to its end as the command does, in this process, since two more workers take seconds to start."""
    execute(load(folder / "small_study.py"), Conditions(runs=folder / "runs", threads=1))


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "searchkit", "run", "small_study.py", "--threads", "1", *more]


def searching(folder: Path) -> bool:
    return stored(folder / "runs" / "small") > 4


@pytest.mark.parametrize(("workers", "presses"), [(0, 1), (2, 1), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_a_study_stopped_by_ctrl_c_gives_what_an_undisturbed_one_gives(
    undisturbed: list[pd.DataFrame], tmp_path: Path, with_trained: Supernets, workers: int, presses: int
) -> None:
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
    assert 4 < stored(tmp_path / "runs" / "small") < EVALUATIONS
    finish(tmp_path)
    trials, front = trials_and_front(tmp_path / "runs" / "small")
    assert len(trials) == trials["key"].nunique() == EVALUATIONS
    pd.testing.assert_frame_equal(trials, undisturbed[0])
    pd.testing.assert_frame_equal(front, undisturbed[1])
