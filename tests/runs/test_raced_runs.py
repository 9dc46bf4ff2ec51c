"""Runs in which candidates are stopped early: what is stopped deserves it, and nothing else changes the verdicts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from searchkit import Front, Pruned
from searchkit.evaluate.inline import Inline
from searchkit.records import Trial
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.opening import opened
from searchkit.runs.phases import execute
from searchkit.runs.search_phase import search
from searchkit.runs.session import Session
from searchkit.runs.study_file import load
from searchkit.runs.verify import measured_again, replayed
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

CONFIDENCE = 0.7
# a supernet that has learned something, enough examples to tell candidates apart, and verdicts that come early
STUDY = (
    SMALL.replace("NSGA2, Budget", "NSGA2, Racing, Budget")
    .replace("documents: int = 320", "documents: int = 1500")
    .replace("search=120", "search=1200")
    .replace("evaluations: int = 24", "evaluations: int = 56")
    .replace("FineTune(epochs=1, learning_rate=1e-3)", "FineTune(epochs=2, learning_rate=5e-3)")
    .replace("seed=seed,\n", f"seed=seed,\n            racing=Racing(confidence={CONFIDENCE}),\n")
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("raced")
    threads = torch.get_num_threads()
    loaded = load(small_study(folder, STUDY))
    with_trained(folder / "runs", loaded.study)
    execute(loaded, Conditions(runs=folder / "runs", threads=1))
    yield folder
    torch.set_num_threads(threads)


def raced(folder: Path, runs: Path, **conditions: Any) -> Session:
    loaded = load(folder / "small_study.py")
    return Session(loaded, Conditions(runs=runs, threads=1, **conditions), lambda *_: None)


def stored(folder: Path) -> list[Trial]:
    return raced(folder, folder / "runs").stores.open("search", create=False).trials()


def beside(home: Path, tmp_path: Path) -> Path:
    """A folder of its own with the supernet of `home`."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "supernets").symlink_to(home / "runs" / "supernets")
    return small_study(tmp_path, STUDY)


def verdicts(trials: list[Trial]) -> list[Any]:
    return [(trial.ask, trial.outcome) for trial in sorted(trials, key=lambda trial: trial.ask.number)]


def test_a_candidate_that_was_stopped_is_beaten_on_the_whole_split(home: Path) -> None:
    run, trials = raced(home, home / "runs", device="cpu"), stored(home)
    pruned = [trial for trial in trials if isinstance(trial.outcome, Pruned)]
    assert len(pruned) >= 5
    assert all(0 < trial.outcome.examples < 1200 for trial in pruned)  # type: ignore[union-attr]
    with Inline(workbench(run, "search"), run.study.objectives) as evaluator:
        whole = list(evaluator.run([trial.ask for trial in pruned]))
    measured = [trial for trial in trials if trial.status == "measured"]
    front = {member.key for member in Front.of([*measured, *whole], run.study.objectives).members}
    lost = [trial for trial in whole if trial.key in front]
    assert len(lost) <= (1 - CONFIDENCE) * len(whole)


def test_an_interrupted_race_goes_on_to_the_same_verdicts_and_replays(home: Path, tmp_path: Path) -> None:
    """The rivals' outcomes are not stored; they are measured again."""
    file, conditions = beside(home, tmp_path), Conditions(runs=tmp_path / "runs", threads=1)
    for evaluations in ("21", "37", "56"):
        execute(load(file, {"evaluations": evaluations}), conditions)
    assert verdicts(stored(tmp_path)) == verdicts(stored(home))
    folder = raced(tmp_path, tmp_path / "runs").folder
    assert replayed(folder) == 56
    assert measured_again(folder, 3, conditions) == 3


def test_workers_reach_the_same_verdicts(home: Path, tmp_path: Path) -> None:
    beside(home, tmp_path)
    run = raced(tmp_path, tmp_path / "runs", workers=2, device="cpu")
    with opened(run):
        done = search(run)
    assert verdicts(stored(tmp_path)) == verdicts(stored(home))
    front = {member.key for member in Front.of(done.values(), run.study.objectives).members}
    assert {key for key, trial in done.items() if trial.examples} == front  # the others let go of theirs


def test_a_race_that_cannot_be_held_says_so(home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    beside(home, tmp_path)
    text = STUDY.replace("import accuracy, macs", "import accuracy, latency, macs")
    small_study(tmp_path, text.replace("[accuracy, macs]", "[accuracy, macs, latency(min_round_interval_s=0)]"))
    run = raced(tmp_path, tmp_path / "runs")
    budget = replace(run.study.budget, evaluations=2)
    run = Session(replace(run.loaded, study=replace(run.study, budget=budget)), run.conditions, run.progress)
    with caplog.at_level(logging.INFO), opened(run):
        search(run)
    assert "racing is off: it takes two objectives" in caplog.text
