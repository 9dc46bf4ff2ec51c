"""SIGKILL at random moments of training, search and report, then the same command: the same trials and front."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.studies import SMALL, small_study

KILLS = 10
# longer phases than the small study's, so that kills land in all of them
STUDY = SMALL.replace("documents: int = 320", "documents: int = 960").replace(
    "evaluations: int = 24", "evaluations: int = 50"
)


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


def outcome(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and front, without what the clock decides."""
    frames = (pd.read_parquet(folder / "runs" / "small" / f"{name}.parquet") for name in ("trials", "front"))
    trials, front = (frame.drop(columns=[name for name in frame if "seconds" in name]) for frame in frames)
    return trials, front


def phase(folder: Path) -> str:
    """How far a killed run had come."""
    run = folder / "runs" / "small"
    if any((folder / "runs" / "supernets").glob("*.partial")) or not (folder / "runs" / "supernets").exists():
        return "training"
    journal = (run / "journal.log").read_text() if (run / "journal.log").exists() else ""
    return "report" if "small-report" in journal else "search"


@pytest.mark.timeout(900)
def test_a_study_killed_ten_times_gives_what_an_undisturbed_one_gives(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
        small_study(folder, STUDY)
    seconds = finish(calm)
    chance, met = random.Random(0), []
    for _ in range(KILLS):
        process = start(rough)
        # every start loads libraries and model again, so a kill is as likely to hit work already begun as not
        time.sleep(chance.uniform(0.25, 0.9) * seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        met.append(phase(rough))
    finish(rough)
    for mine, other in zip(outcome(rough), outcome(calm), strict=True):
        pd.testing.assert_frame_equal(mine, other)
    assert len(outcome(rough)[0]) == 50
    assert (rough / "runs" / "supernets").is_dir()
    print(f"killed {KILLS} times: {', '.join(met)}")


@pytest.mark.parametrize(
    ("cut", "options"),
    [("training", ()), ("search", ()), ("report", ()), ("search", ("--workers", "2"))],
    ids=("training", "search", "report", "search on workers"),
)
def test_a_study_killed_in_each_phase_gives_what_an_undisturbed_one_gives(
    tmp_path: Path, cut: str, options: tuple[str, ...]
) -> None:
    """The random moments above may miss a phase; these do not. What it started ends with it."""
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
        small_study(folder, SMALL.replace("documents: int = 320", "documents: int = 640"))
    finish(calm)
    process = start(rough, *options)
    deadline = time.monotonic() + 120
    while phase_begun(rough) != cut and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    started = [one for one in children if "Agent" not in one.name()]  # Ray's agents leave a minute later
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert bool(options) == bool(started)
    assert not psutil.wait_procs(started, timeout=60)[1]
    assert phase_begun(rough) == cut
    assert not (rough / "runs" / "small" / "summary.json").exists()
    finish(rough)
    for mine, other in zip(outcome(rough), outcome(calm), strict=True):
        pd.testing.assert_frame_equal(mine, other)


def phase_begun(folder: Path) -> str:
    """The phase of which something is already on disk."""
    run = folder / "runs" / "small"
    journal = (run / "journal.log").read_text(errors="replace") if (run / "journal.log").exists() else ""
    if "small-report" in journal:
        return "report" if journal.count('"searchkit"') > 26 else "opening the report"
    if journal:
        return "search" if journal.count('"searchkit"') > 5 else "opening the search"
    checkpoints = list((folder / "runs").glob("supernets/*.partial/lengthdrop/checkpoint-*"))
    return "training" if checkpoints else "nothing"
