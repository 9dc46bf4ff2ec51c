"""A search that begins with the front of an earlier run: what it asks first, what it keeps, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import searchkit
from searchkit import NSGA2, Budget, Lengths, Space
from searchkit._internal.code import digest
from searchkit.cli.options import local_runs
from searchkit.errors import StoreError, StudyError
from searchkit.records import Ask, Candidate, Failed, Trial
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.session import Session
from searchkit.runs.status import read_trials
from searchkit.runs.study_file import Loaded, load
from searchkit.runs.transfer import copy_run
from searchkit.runs.verify import replayed
from searchkit.runs.warm_start import WARM_START, WarmStart, chosen
from searchkit.search.budget import ENDED
from searchkit.space.mapping import SpaceMap
from searchkit.storage.store import Store
from tests.faults.malformed import Said, study_file
from tests.supernets import Supernets

KEPT = "Objective('kept', 'tokens', 'higher', lambda s: Estimate(float(s.trace.attention.sum()), None, 1), traced=True)"
TRADED = {"objectives": f"[{KEPT}, macs]"}  # the more tokens the better: nearly every candidate is on the front
LATER = TRADED | {
    "name": '"later"',
    "supernet": "Supernet(Scratch(layers=4, width=8, heads=2, feed_forward=8), recipe=FineTune(epochs=1))",
    "space": "Space(Lengths(levels=12))",
    "engine": "NSGA2(population=16)",
}


def made(folder: Path, **parts: str) -> Loaded:
    """The study with these parts, from a file of its own."""
    folder.mkdir(exist_ok=True)
    return load(study_file(folder, **parts))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Path]:
    """A folder with a run of three layers, and one of four layers that began with its front."""
    folder, threads = tmp_path_factory.mktemp("warm"), torch.get_num_threads()
    earlier, later = made(folder / "earlier", **TRADED, name='"earlier"'), made(folder / "later", **LATER)
    for loaded, start in ((earlier, None), (later, "earlier")):
        with_trained(folder / "runs", loaded.study)
        execute(loaded, Conditions(runs=folder / "runs", threads=1, warm_start=start))
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def copied(home: Path, tmp_path: Path) -> Path:
    """The folder of both runs again, for tests that change it."""
    return Path(shutil.copytree(home, tmp_path / "home"))


def session(home: Path, start: str | None, runs: Path | None = None, **parts: str) -> Session:
    loaded = made(home / "other", **LATER | parts)
    return Session(loaded, Conditions(runs=runs or home / "runs", threads=1, warm_start=start))


def front_of_earlier(home: Path) -> list[Candidate]:
    return [trial.ask.candidate for trial in searchkit.open(home / "runs" / "earlier").results.front]


def test_the_first_candidates_are_the_front_of_the_earlier_run_in_the_new_space(home: Path) -> None:
    run = searchkit.open(home / "runs" / "later")
    four = made(home / "other", **LATER).study.bound_space
    three = Space(Lengths(levels=8)).bound(3, last_idle=four.last_idle)
    wanted = list(dict.fromkeys(map(SpaceMap(three.describe(), 3, four, 4), front_of_earlier(home))))
    assert 3 <= len(wanted) <= 8
    assert [trial.ask.candidate for trial in run.results.trials[: len(wanted)]] == wanted
    assert len(run.results.trials) == 8


def test_the_report_and_the_summary_say_where_the_search_began(home: Path) -> None:
    summary = json.loads((home / "runs" / "later" / "summary.json").read_text())
    assert "candidates of run earlier" in summary["began_with"]
    assert f"\n\nThe search began with {summary['began_with']}.\n\n" in (home / "runs/later/report.md").read_text()
    assert f"the search began with {summary['began_with']}" in (home / "runs/later/run.log").read_text()
    assert searchkit.open(home / "runs" / "later").results.began_with == summary["began_with"]
    earlier = json.loads((home / "runs" / "earlier" / "summary.json").read_text())
    assert earlier["began_with"] is None
    assert "The search began" not in (home / "runs" / "earlier" / "report.md").read_text()


def test_a_warm_start_makes_no_other_study(home: Path) -> None:
    record = Folder(home / "runs" / "later").read()
    assert record["fingerprint"] == digest(made(home / "other", **LATER).study.describe())
    assert "--warm-start" not in record["options"]


def test_a_run_with_a_warm_start_replays(home: Path) -> None:
    assert replayed(Folder(home / "runs" / "later")) == 8


def test_a_steady_search_begins_so_too(copied: Path) -> None:
    loaded = made(copied / "other", **LATER | {"name": '"steady"', "engine": "NSGA2(population=16, steady=True)"})
    results = execute(loaded, Conditions(runs=copied / "runs", threads=1, warm_start="earlier"))
    first = stored_start(copied).candidates
    assert tuple(trial.ask.candidate for trial in results.trials[: len(first)]) == first
    assert replayed(Folder(copied / "runs" / "steady")) == 8


@pytest.mark.parametrize("start", [None, "earlier", "elsewhere/earlier"])
def test_a_run_goes_on_with_its_start_though_the_other_run_is_gone(copied: Path, start: str | None) -> None:
    shutil.rmtree(copied / "runs" / "earlier")
    before = searchkit.open(copied / "runs" / "later").results
    loaded = load(copied / "later" / "small_study.py", {"evaluations": "10"})
    after = execute(loaded, Conditions(runs=copied / "runs", threads=1, warm_start=start))
    assert [trial.key for trial in after.trials[:8]] == [trial.key for trial in before.trials]
    assert len(after.trials) == 10
    assert after.began_with == before.began_with
    assert replayed(Folder(copied / "runs" / "later")) == 10


def test_a_run_that_has_grown_or_moved_since_is_the_same(copied: Path) -> None:
    noted, store = stored_start(copied), stored(copied, "earlier")
    known = {trial.key for trial in store.trials()}
    new = next(candidate for candidate in Space(Lengths(levels=8)).bound(3).all() if candidate.key not in known)
    store.append(replace(store.trials()[0], ask=Ask(99, new)))
    shutil.move(copied / "runs" / "earlier", copied / "runs" / "moved")
    for start in ("moved", str(copied / "runs" / "moved")):
        assert chosen(session(copied, start), mended=False) == noted


def test_another_start_is_refused_once_a_run_has_begun(home: Path) -> None:
    with pytest.raises(StudyError, match=r"later began with .* of run earlier.* and --warm-start later is another run"):
        chosen(session(home, "later"), mended=False)
    with pytest.raises(StudyError, match="and --warm-start nowhere is another run: leave it out"):
        chosen(session(home, "nowhere"), mended=False)
    conditions = Conditions(runs=home / "runs", threads=1, warm_start="later")
    begun_without = Session(load(home / "earlier" / "small_study.py"), conditions)
    with pytest.raises(StudyError, match="earlier has begun without --warm-start"):
        chosen(begun_without, mended=False)


def test_runs_of_one_study_in_one_storage_have_one_start(home: Path, tmp_path: Path) -> None:
    other = session(home, str(home / "runs" / "later"), runs=tmp_path)
    journal = str(home / "runs" / "later" / "journal.log")
    other = Session(other.loaded, replace(other.conditions, storage=journal))
    with pytest.raises(StudyError, match=r"began with .* of run earlier"):
        chosen(other, mended=False)


def test_a_store_that_starts_anew_after_a_mended_objective_keeps_its_start(home: Path) -> None:
    without = session(home, None)
    assert chosen(without, mended=False) is None
    assert chosen(without, mended=True) == stored_start(home)


def test_a_copy_of_the_trials_has_the_start_too(home: Path, tmp_path: Path) -> None:
    to = str(tmp_path / "journal.log")
    copy_run(Folder(home / "runs" / "later"), to)
    assert Store.open(to, "later-search", objectives(home), create=False).note(WARM_START) == stored(home).note(
        WARM_START
    )


def test_a_front_larger_than_a_generation_is_spread_over_its_cost(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Here the layers are the same: candidates of the same levels stay what they are."""
    parts = {"supernet": LATER["supernet"].replace("layers=4", "layers=3"), "space": "Space(Lengths(levels=8))"}
    front = front_of_earlier(home)
    assert len(front) >= 3
    start = chosen(session(home, "earlier", name='"fresh"', engine="NSGA2(population=2)", **parts), mended=False)
    assert start is not None
    assert start.candidates == (front[0], front[-1])
    assert str(start) == f"2 candidates of run earlier (spread over the cost of its front of {len(front)})"
    assert f"the search begins with {start}" in caplog.text
    whole = chosen(session(home, "earlier", name='"fresh"', engine="NSGA2(population=64)", **parts), mended=False)
    assert whole is not None
    assert list(whole.candidates) == front
    assert str(whole) == f"{len(front)} candidates of run earlier"


def test_members_that_are_the_same_in_the_new_space_count_once(home: Path) -> None:
    start = chosen(session(home, "earlier", name='"fresh"', space="Space(Lengths(levels=[1.0]))"), mended=False)
    assert start is not None
    assert len(start.candidates) == start.distinct == 1
    assert str(start).startswith("1 candidate of run earlier (its front has ")


def test_a_study_made_in_python_begins_with_a_run_by_its_folder(copied: Path) -> None:
    """Its own first candidates come before those of the run."""
    own, made_here = Candidate.of(lengths=(0.25,) * 4), made(copied / "other", **LATER).study
    engine = NSGA2(population=16, first=(own,))
    study = replace(made_here, name="here", engine=engine, budget=Budget(evaluations=4))
    results = searchkit.run(study, runs=copied / "runs", threads=1, warm_start=copied / "runs" / "earlier")
    asked = [trial.ask.candidate for trial in results.trials]
    assert asked == list(dict.fromkeys([own, *stored_start(copied).candidates]))[:4]


def unfinished(folder: Path) -> None:
    stored(folder, "earlier").set_note(ENDED, None)


def without_front(folder: Path) -> None:
    """A run of the name `empty`, whose only trial failed."""
    record = json.loads((folder / "runs" / "earlier" / "study.json").read_text())
    record["description"]["name"] = "empty"
    (folder / "runs" / "empty").mkdir()
    (folder / "runs" / "empty" / "study.json").write_text(json.dumps(record))
    store = Store.open(str(folder / "runs" / "empty" / "journal.log"), "empty-search", objectives(folder))
    store.append(Trial(Ask(0, Candidate.of(lengths=(1.0,) * 3)), Failed("nan", "loss is NaN"), 0.1))
    store.set_note(ENDED, "1 evaluations are made")


def without_space(folder: Path) -> None:
    file = folder / "runs" / "earlier" / "study.json"
    record = json.loads(file.read_text())
    del record["description"]["space"]["dimensions"]
    file.write_text(json.dumps(record))


def nothing(folder: Path) -> None: ...


@pytest.mark.parametrize(
    ("change", "start", "parts", "rule"),
    [
        (nothing, "nowhere", {}, "--warm-start nowhere: no run folder, and none of that name in runs"),
        (nothing, "other", {}, "--warm-start other: no run folder, and none of that name in runs"),  # a study file's
        (nothing, "", {}, "--warm-start is empty"),
        (unfinished, "earlier", {}, "--warm-start earlier: its search is not finished"),
        (without_front, "empty", {}, "--warm-start empty: it has no front"),
        (without_space, "earlier", {}, "runs/earlier/study.json: not written by searchkit: its space"),
        (nothing, "earlier", {"engine": "Random(population=4)"}, "the engine Random takes no first candidates"),
        (
            nothing,
            "earlier",
            {"space": "Space(Lengths(levels=(4, 8), basis='tokens'))"},
            "--warm-start earlier: lengths have basis='fraction' there and basis='tokens' here",
        ),
    ],
)
def test_a_start_that_cannot_be_taken_is_one_line_and_leaves_nothing(
    copied: Path,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], Any],
    start: str,
    parts: dict[str, str],
    rule: str,
) -> None:
    shutil.rmtree(copied / "runs" / "later")
    change(copied)
    monkeypatch.chdir(copied)
    made(copied / "other", **LATER | parts)
    assert rule in said.error("run", "other/small_study.py", "--threads", "1", "--warm-start", start)
    assert not (copied / "runs" / "later").exists()


@pytest.mark.parametrize(
    "note", [5, {}, {"run": "x", "fingerprint": "y", "front": -1, "distinct": 1, "candidates": []}]
)
def test_a_damaged_note_is_one_line(copied: Path, note: Any) -> None:
    stored(copied).set_note(WARM_START, note)
    with pytest.raises(StoreError, match="the note 'warm_start' beside the trials is damaged"):
        replayed(Folder(copied / "runs" / "later"))


def test_a_run_at_a_url_is_found_by_its_name(home: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "earlier").mkdir(parents=True)
    names = ["earlier/study.json", "earlier/journal.log"]
    for name in names:
        shutil.copy2(home / "runs" / name, there / name)
    (there / "earlier" / "mirror.json").write_text(json.dumps({"files": names}))
    loaded = made(home / "other", **LATER)
    with local_runs(f"file://{there}", loaded, "earlier") as local:
        assert (local / "earlier" / "study.json").read_text() == (home / "runs" / "earlier" / "study.json").read_text()
    with local_runs(f"file://{there}", loaded, "nowhere") as local:
        assert not (local / "nowhere").exists()


def objectives(folder: Path) -> Any:
    return read_trials(Folder(folder / "runs" / "earlier")).objectives


def stored(folder: Path, name: str = "later") -> Store:
    run = Folder(folder / "runs" / name)
    return Store.open(str(run.journal), f"{name}-search", read_trials(run).objectives, create=False)


def stored_start(folder: Path) -> WarmStart:
    start = WarmStart.from_note(stored(folder).note(WARM_START))
    assert start is not None
    return start
