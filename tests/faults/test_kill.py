"""SIGKILL at random moments of training, search and report, then the same command: the same trials and front."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.studies import SMALL, small_study, stored, trials_and_front

EVALUATIONS = 50
# longer phases than the small study's, so that kills land in all of them
STUDY = (
    SMALL.replace("documents: int = 320", "documents: int = 640")
    .replace("LengthDrop(epochs=1", "LengthDrop(epochs=3")
    .replace("evaluations: int = 24", f"evaluations: int = {EVALUATIONS}")
)
BASELINES = shutil.ignore_patterns("*-baselines-*")  # kept beside the supernet; with them a report takes no time


@dataclass(frozen=True)
class Undisturbed:
    """A run of the study that nothing stopped, and how long it took."""

    folder: Path
    seconds: float


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("calm")
    small_study(folder, STUDY)
    return Undisturbed(folder, finish(folder))


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "searchkit", "run", "small_study.py", "--threads", "1", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(folder: Path) -> float:
    begin = time.monotonic()
    process = start(folder)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    return time.monotonic() - begin


def outcome(folder: Path) -> list[pd.DataFrame]:
    return trials_and_front(folder / "runs" / "small")


def phase(folder: Path) -> str:
    """How far a killed run had come."""
    if any((folder / "runs" / "supernets").glob("*.partial")) or not (folder / "runs" / "supernets").exists():
        return "training"
    return "report" if stored(folder / "runs" / "small") > EVALUATIONS else "search"


@pytest.mark.timeout(900)
def test_a_study_killed_in_each_phase_gives_what_an_undisturbed_one_gives(calm: Undisturbed, tmp_path: Path) -> None:
    small_study(tmp_path, STUDY)
    for cut in ("training", "search", "report"):
        kill(tmp_path, cut)
    finish(tmp_path)
    assert_same_outcome(tmp_path, calm.folder)


def test_a_study_killed_while_it_searches_on_workers_gives_what_an_undisturbed_one_gives(
    calm: Undisturbed, tmp_path: Path
) -> None:
    """What it started ends with it."""
    small_study(tmp_path, STUDY)
    shutil.copytree(calm.folder / "runs" / "supernets", tmp_path / "runs" / "supernets", ignore=BASELINES)
    kill(tmp_path, "search", "--workers", "2")
    finish(tmp_path)
    assert_same_outcome(tmp_path, calm.folder)


def kill(folder: Path, cut: str, *options: str) -> None:
    """Start the study and kill it in this phase."""
    process = start(folder, *options)
    deadline = time.monotonic() + 240
    while phase_begun(folder) != cut and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    started = [child for child in children if "Agent" not in child.name()]  # Ray's agents leave a minute later
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert bool(options) == bool(started)
    assert not psutil.wait_procs(started, timeout=60)[1]
    assert phase_begun(folder) == cut
    assert not (folder / "runs" / "small" / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_killed_at_random_gives_what_an_undisturbed_one_gives(calm: Undisturbed, tmp_path: Path) -> None:
    """Ten times, at other moments than those above."""
    small_study(tmp_path, STUDY)
    chance, met = random.Random(0), []
    for _ in range(10):
        process = start(tmp_path)
        # every start loads libraries and model again, so a kill is as likely to hit work already begun as not
        time.sleep(chance.uniform(0.25, 0.9) * calm.seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        met.append(phase(tmp_path))
    finish(tmp_path)
    assert_same_outcome(tmp_path, calm.folder)
    assert len(outcome(tmp_path)[0]) == EVALUATIONS
    assert (tmp_path / "runs" / "supernets").is_dir()
    print(f"killed ten times: {', '.join(met)}")


def assert_same_outcome(rough: Path, calm: Path) -> None:
    for mine, other in zip(outcome(rough), outcome(calm), strict=True):
        pd.testing.assert_frame_equal(mine, other)


def phase_begun(folder: Path) -> str:
    """The phase of which something is already on disk."""
    if trials := stored(folder / "runs" / "small"):
        begun = "search" if trials <= EVALUATIONS else "report"
        return begun if trials > 4 and trials not in (EVALUATIONS, EVALUATIONS + 1) else f"opening the {begun}"
    checkpoints = list((folder / "runs").glob("supernets/*.partial/lengthdrop/checkpoint-*"))
    return "training" if checkpoints else "nothing"
