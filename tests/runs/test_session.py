"""A whole run: what it leaves, that it repeats nothing, and that it can be verified."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from searchkit import Front
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.baselines import baselines
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.ray import Ray
from searchkit.records import Measured, Pruned, Trial
from searchkit.report.console import console_text
from searchkit.report.environment import common
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.opening import opened
from searchkit.runs.phases import execute
from searchkit.runs.reopen import reopened
from searchkit.runs.results import write
from searchkit.runs.search_phase import search
from searchkit.runs.session import Session
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from searchkit.runs.verify import measured_again, replayed
from searchkit.search.budget import ENDED
from searchkit.search.steady import IN_FLIGHT
from searchkit.stats import RESAMPLES
from searchkit.storage.store import Store
from tests.figures import with_figures
from tests.studies import SMALL, small_study
from tests.supernets import Supernets


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Path]:
    """A folder, with a space in its name, in which the small study has run."""
    folder = tmp_path_factory.mktemp("a run")
    threads = torch.get_num_threads()
    loaded = load(small_study(folder))
    with_trained(folder / "runs", loaded.study)
    with with_figures():
        execute(loaded, Conditions(runs=folder / "runs", threads=1))
    yield folder
    torch.set_num_threads(threads)


def folder_of(home: Path) -> Folder:
    return Folder(home / "runs" / "small")


def values(trials: list[Trial]) -> list[Any]:
    return [(trial.ask, trial.outcome) for trial in sorted(trials, key=lambda trial: trial.ask.number)]


def test_a_run_leaves_tables_a_summary_and_plots(home: Path) -> None:
    path = folder_of(home).path
    for name in ("pareto.png", "pareto.svg", "hypervolume.png", "hypervolume.svg", "front.csv", "run.log"):
        assert (path / name).stat().st_size > 0
    summary = json.loads((path / "summary.json").read_text())
    trials = pd.read_parquet(path / "trials.parquet")
    front = pd.read_parquet(path / "front.parquet")
    assert summary["evaluations"] == summary["distinct"] == len(trials) == 24
    assert summary["failed"] == 0
    assert set(summary["seconds"]) == {"train", "search", "report"}
    assert all(value > 0 for value in summary["seconds"].values())
    assert summary["environment"]["threads"] == 1
    assert [member["key"] for member in summary["front"]] == front["key"].tolist()
    for member in summary["front"]:
        assert member["search"]["accuracy"]["n"] == 120
        assert member["report"]["accuracy"]["n"] == 100
    assert {"value", "reference"} <= set(summary["hypervolume"])


def test_resamples_are_taken_on_the_report_split_alone_and_kept_in_the_store(home: Path) -> None:
    run = reopened(folder_of(home), Conditions(runs=home / "runs"))
    for split, count in (("search", 0), ("report", RESAMPLES)):
        for trial in run.stores.open(split, create=False).trials():
            estimates = trial.outcome.estimates  # type: ignore[union-attr]
            assert {name: len(estimate.resamples) for name, estimate in estimates.items()} == {
                "accuracy": count,
                "macs": count,
            }
            assert all(estimate.low is not None for estimate in estimates.values())
    assert "resamples" not in (folder_of(home).path / "summary.json").read_text()


def test_the_front_is_the_front_of_all_trials(home: Path) -> None:
    run = reopened(folder_of(home), Conditions(runs=home / "runs"))
    trials = run.stores.open("search", create=False).trials()
    expected = [member.key for member in Front.of(trials, run.study.objectives).members]
    assert pd.read_parquet(folder_of(home).path / "front.parquet")["key"].tolist() == expected


def test_the_same_command_again_measures_nothing_and_changes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder_of(home).path.glob("*.*") if path.suffix != ".log"}

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing may be measured")

    monkeypatch.setattr("searchkit.runs.benches.workbench", refuse)
    execute(load(home / "small_study.py"), Conditions(runs=home / "runs", threads=1))
    after = {path.name: path.read_bytes() for path in folder_of(home).path.glob("*.*") if path.suffix != ".log"}
    assert {name for name in before if before[name] != after[name]} <= {"hypervolume.png", "pareto.png"}


def test_a_report_can_be_written_again_from_the_store(home: Path) -> None:
    csv = folder_of(home).path / "front.csv"
    before = csv.read_text()
    csv.unlink()
    write(stored_results(folder_of(home)), folder_of(home))
    assert csv.read_text() == before


def test_texts_that_splits_share_are_counted_once_and_reported(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(json.loads((folder_of(home).path / "summary.json").read_text())["duplicates"].values()) == {0}
    assert "two splits" not in folder_of(home).log.read_text()
    file, conditions = borrowing(home, tmp_path), Conditions(runs=tmp_path / "runs", threads=1)
    found = {"search/report": 3, "train/report": 0, "train/search": 1}
    with monkeypatch.context() as patched:
        patched.setattr("searchkit.runs.phases.duplicates", lambda tables: found)
        execute(load(file), conditions)
    execute(load(file), conditions)  # counted already
    path = folder_of(tmp_path).path
    assert json.loads((path / "summary.json").read_text())["duplicates"] == found
    log = (path / "run.log").read_text()
    assert "WARNING searchkit.runs.phases: 3 texts are in two splits: search/report" in log
    assert "train/search" in log
    assert "train/report" not in log
    sentence = "The report split is not new to the search: 3 of its texts are in both."
    assert sentence in (path / "report.md").read_text()
    assert sentence in console_text(stored_results(folder_of(tmp_path)), 200)


def borrowing(home: Path, tmp_path: Path, text: str = SMALL) -> Path:
    """A study in a folder of its own, with the supernet of `home`."""
    (tmp_path / "runs").mkdir()
    os.symlink(home / "runs" / "supernets", tmp_path / "runs" / "supernets")
    return small_study(tmp_path, text)


def test_the_four_baselines_stand_in_every_report(home: Path) -> None:
    frame = pd.read_csv(folder_of(home).path / "baselines.csv")
    assert list(dict.fromkeys(frame["family"])) == ["unreduced", "truncation", "random tokens", "constant ratio"]
    assert frame["macs_report"][0] == 1.0
    assert (frame["macs_report"][1:] < 1.0).all()
    assert (frame["accuracy_report_n"] == 100).all()
    summary = json.loads((folder_of(home).path / "summary.json").read_text())
    assert {name: family["points"] for name, family in summary["baselines"].items()} == dict(
        frame["family"].value_counts()
    )
    told = re.findall(r"^The front (?:beats|does not beat) ", (folder_of(home).path / "report.md").read_text(), re.M)
    assert len(told) == 4


def test_a_space_without_lengths_is_held_against_the_same_baselines(home: Path, tmp_path: Path) -> None:
    text = (
        SMALL.replace("Lengths", "Thresholds")
        .replace("(levels=16)", "()")
        .replace("evaluations: int = 24", "evaluations: int = 8")
    )
    results = execute(load(borrowing(home, tmp_path, text)), Conditions(runs=tmp_path / "runs", threads=1))
    reference = stored_results(folder_of(home)).baselines
    found = {name: values(list(trials)) for name, trials in results.baselines.items()}
    assert {name: [outcome for _, outcome in trials] for name, trials in found.items()} == {
        name: [trial.outcome for trial in trials] for name, trials in reference.items()
    }
    assert [trial.key for trial in results.baselines["unreduced"]] == [trial.key for trial in reference["unreduced"]]


def test_a_run_from_before_measures_only_the_baselines_that_it_lacks(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, conditions = borrowing(home, tmp_path), Conditions(runs=tmp_path / "runs", threads=1)
    before = {"constant ratio": baselines(3, 3)["constant ratio"]}
    with monkeypatch.context() as patched:
        patched.setattr("searchkit.runs.report_phase.baselines", lambda layers, slots: before)
        execute(load(file), conditions)
    with pytest.raises(StudyError, match="the run is not finished"):
        stored_results(folder_of(tmp_path))
    for kept in (tmp_path / "runs" / "supernets").glob("*-baselines-*"):
        kept.unlink()  # or nothing would be left to measure
    asked: list[str] = []

    def watched(*arguments: Any) -> Any:
        asked.extend(ask.candidate["baseline"] for ask in arguments[1])
        return run(*arguments)

    run = Inline.run
    monkeypatch.setattr(Inline, "run", watched)
    execute(load(file), conditions)
    assert set(asked) == {"unreduced", "truncation", "random tokens"}
    assert stored_results(folder_of(tmp_path)).baselines.keys() == baselines(3, 3).keys()


def test_baselines_are_measured_once_for_all_studies_of_a_supernet(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = borrowing(home, tmp_path, SMALL.replace('name: str = "small"', 'name: str = "other"'))
    first = execute(load(file), Conditions(runs=tmp_path / "runs", threads=1)).baselines
    asked: list[str] = []

    def watched(evaluator: Any, asks: Any, *race: Any) -> Any:
        if evaluator._objectives:  # passes for predictions alone measure nothing
            asked.extend(ask.key for ask in asks)
        return run(evaluator, asks, *race)

    run = Inline.run
    monkeypatch.setattr(Inline, "run", watched)
    again = load(small_study(tmp_path, SMALL.replace('name: str = "small"', 'name: str = "third"')))
    results = execute(again, Conditions(runs=tmp_path / "runs", threads=1))
    known = {trial.key for group in results.baselines.values() for trial in group}
    assert not known & set(asked[24:])  # after the search
    for name, trials in results.baselines.items():
        assert [trial.outcome for trial in trials] == [trial.outcome for trial in first[name]]


QUESTIONS = (
    SMALL.replace("accuracy, macs", "exact_match, f1, macs")
    .replace("Generated(train=documents, search=120, report=100)", "GeneratedQuestions(documents, 60, 50)")
    .replace("import Generated", "import GeneratedQuestions")
    .replace("evaluations: int = 24", "evaluations: int = 8")
)


def test_a_study_of_questions_is_reported_by_its_own_objectives(tmp_path: Path) -> None:
    with with_figures():
        results = execute(load(small_study(tmp_path, QUESTIONS)), Conditions(runs=tmp_path / "runs", threads=1))
    path = folder_of(tmp_path).path
    assert all(trial.status == "measured" for family in results.baselines.values() for trial in family)
    assert {"exact_match_report", "f1_report", "macs_report"} <= set(pd.read_csv(path / "baselines.csv"))
    family = json.loads((path / "summary.json").read_text())["baselines"]["truncation"]
    assert family["points"] == len(family["trials"])
    for name in ("summary.json", "report.md", "front.csv", "pareto.svg"):
        assert "accuracy" not in (path / name).read_text()
    assert "lengths" in console_text(results, 100)


def test_a_run_replays_and_values_repeat_to_the_last_digit(home: Path) -> None:
    assert replayed(folder_of(home)) == 24
    assert measured_again(folder_of(home), 5, Conditions(runs=home / "runs", threads=1)) == 5


def test_a_changed_value_in_the_store_is_found_out(home: Path) -> None:
    """By its checksum; without one, by what stands beside the record; and where all agree, by replay or measurement."""
    folder = folder_of(home)
    run = reopened(folder, Conditions(runs=home / "runs"))
    trials = run.stores.open("search", create=False).trials()
    best = max(trials, key=lambda trial: trial.outcome.estimates["accuracy"].value)  # type: ignore[union-attr]
    was = best.outcome.estimates["accuracy"]  # type: ignore[union-attr]
    whole, record = folder.journal.read_text(), folder.study.read_text()
    changed = whole.replace(f'"value":{was.value}', '"value":0.001')
    assert changed != whole
    elsewhere = str(home / "changed.log")
    store = Store.open(elsewhere, "small-search", run.study.objectives)
    for trial in trials:
        estimates = {**trial.outcome.estimates, "accuracy": replace(was, value=0.001)}  # type: ignore[union-attr]
        store.append(replace(trial, outcome=Measured(estimates)) if trial is best else trial)

    def verify() -> None:
        replayed(folder)
        measured_again(folder, 24, Conditions(runs=home / "runs", threads=1))

    try:
        folder.journal.write_text(changed)
        with pytest.raises(StoreError, match="is damaged"):
            verify()
        folder.journal.write_text(re.sub(r'^\{"crc":"[0-9a-f]{8}",', "{", changed, flags=re.MULTILINE))
        with pytest.raises(StoreError, match="its record says something else than what stands beside it"):
            verify()
        folder.journal.write_text(whole)
        folder.study.write_text(json.dumps({**json.loads(record), "storage": elsewhere}))
        with pytest.raises(StoreError, match="and is now"):
            verify()
    finally:
        folder.journal.write_text(whole)
        folder.study.write_text(record)


def test_ray_workers_give_the_same_trials_as_this_process(home: Path, local_ray: None) -> None:
    """Same device, number format and threads per worker; whatever the number of workers."""
    loaded = load(home / "small_study.py")
    run = Session(loaded, Conditions(runs=home / "runs", threads=1, device="cpu"), progress=lambda *_: None)
    asks = [trial.ask for trial in run.stores.open("search", create=False).trials()][:12]
    bench, objectives = workbench(run, "search"), loaded.study.objectives
    with Inline(bench, objectives) as evaluator:
        inline = values(list(evaluator.run(asks)))
    for workers in (1, 2):
        with Ray(bench, objectives, workers=workers) as evaluator:
            trials = list(evaluator.run(asks))
        assert values(trials) == inline
        assert {trial.environment["threads"] for trial in trials} == {1}


def test_a_larger_budget_continues_the_run(tmp_path: Path, home: Path) -> None:
    file, conditions = borrowing(home, tmp_path), Conditions(runs=tmp_path / "runs", threads=1)
    first = execute(load(file, {"evaluations": "10"}), conditions)
    second = execute(load(file), conditions)
    reference = reopened(folder_of(home), Conditions(runs=home / "runs")).stores.open("search", create=False).trials()
    assert values(list(second.trials)) == values(reference)
    assert values(list(first.trials)) == values(reference)[:10]


def test_a_folder_of_another_study_is_refused_and_left_alone(home: Path, tmp_path: Path) -> None:
    other = small_study(tmp_path, SMALL.replace("levels=16", "levels=5"))
    before = {path: path.read_bytes() for path in folder_of(home).path.iterdir() if path.suffix != ".log"}
    with pytest.raises(StudyError, match=r"holds a run of another study \(different: space\)"):
        execute(load(other), Conditions(runs=home / "runs"))
    assert before == {path: path.read_bytes() for path in folder_of(home).path.iterdir() if path.suffix != ".log"}


def test_two_processes_on_one_run_are_refused(home: Path) -> None:
    import subprocess
    import sys

    held = (
        "import fcntl, sys, time\n"
        f"lock = open({str(folder_of(home).path / '.lock')!r}, 'a')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="another process is running this study"):
            execute(load(home / "small_study.py"), Conditions(runs=home / "runs"))
        other.kill()


def test_a_run_without_a_report_says_how_to_go_on(home: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "runs" / "small")
    folder.path.mkdir(parents=True)
    for name in ("study.json", "journal.log"):
        (folder.path / name).write_bytes((folder_of(home).path / name).read_bytes())
    kept = folder.journal.read_text().splitlines(keepends=True)
    # what a run leaves that was killed in its report phase: the study of the report split, without all of its trials
    folder.journal.write_text("".join(kept[:-3]))
    with pytest.raises(StudyError, match="the run is not finished; go on with `searchkit run"):
        stored_results(folder)


def test_a_folder_that_is_no_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="not a run folder"):
        Folder(tmp_path).read()
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(StoreError, match="not written by searchkit"):
        Folder(tmp_path).read()
    (tmp_path / "study.json").write_text("{torn")
    with pytest.raises(StoreError, match="cannot be read"):
        Folder(tmp_path).read()


def test_an_environment_that_changed_on_the_way_is_reported_as_mixed() -> None:
    same, other = {"device": "cpu", "threads": 1}, {"device": "cpu", "threads": 2}
    assert common([same, same]) == same
    assert common([same, other, same]) == {"device": "cpu", "threads": "mixed"}
    assert common([]) == {}
    assert common([same, {**same, "MKL_CBWR": "AVX2"}]) == {**same, "MKL_CBWR": "mixed"}


def test_conditions_do_not_change_the_identity_of_a_study(home: Path) -> None:
    loaded = load(home / "small_study.py")
    plain = Session(loaded, Conditions(), progress=lambda *_: None).description
    other = Session(loaded, replace(Conditions(), workers=2, dtype="fp32"), progress=lambda *_: None).description
    assert plain == other


def test_a_run_within_a_constraint_reports_what_was_turned_down_and_can_be_replayed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "supernets").symlink_to(home / "runs" / "supernets")
    limited = SMALL.replace("NSGA2, Budget", "Constraint, NSGA2, Budget").replace(
        "seed=seed,\n", "seed=seed,\n        constraints=[Constraint(macs, at_most=0.6)],\n"
    )
    told: list[str] = []
    results = execute(
        load(small_study(tmp_path, limited)),
        Conditions(runs=tmp_path / "runs", threads=1),
        lambda phase, done, total, note="": told.append(f"{phase} {done}/{total} {note}"),
    )
    assert len(results.evaluations) == 24 < len(results.trials)
    turned_down = len(results.trials) - 24
    assert any(f"{turned_down} turned down" in line for line in told)
    measured = [trial for trial in results.trials if trial.status == "measured"]
    assert max(trial.outcome.estimates["macs"].value for trial in measured) <= 0.6  # type: ignore[union-attr]
    assert all(member.key in results.report for member in results.front)
    summary = json.loads((folder_of(tmp_path).path / "summary.json").read_text())
    assert (summary["evaluations"], summary["turned_down"], summary["pruned"]) == (24, turned_down, 24 - len(measured))
    assert replayed(folder_of(tmp_path)) == len(results.trials)


KEPT = """
from searchkit import Constraint, Estimate, Objective

KEPT = Objective(
    "kept", "tokens", "higher", lambda subject: Estimate(float(subject.trace.feed_forward.double().mean()), None, 1)
)
"""


def test_a_run_may_lose_so_much_against_the_unreduced_model_and_no_more(home: Path, tmp_path: Path) -> None:
    text = KEPT + SMALL.replace(
        "seed=seed,\n", "seed=seed,\n        constraints=[Constraint(KEPT, within=4.0)],\n"
    ).replace("[accuracy, macs]", "[accuracy, macs, KEPT]")
    results = execute(load(borrowing(home, tmp_path, text)), Conditions(runs=tmp_path / "runs", threads=1))
    run = reopened(folder_of(tmp_path), Conditions(runs=tmp_path / "runs", threads=1))
    kept = run.study.objectives[2]
    least = kept.measure(workbench(run, "search").build().unreduced).value - 4.0  # type: ignore[attr-defined]
    measured = [
        trial.outcome.estimates["kept"].value for trial in results.trials if isinstance(trial.outcome, Measured)
    ]
    left_out = [trial.outcome.why for trial in results.trials if isinstance(trial.outcome, Pruned)]
    assert min(measured) >= least
    assert any(why.endswith(f"at least {least:g} is required") for why in left_out)
    assert replayed(folder_of(tmp_path)) == len(results.trials)


def test_a_steady_run_goes_on_replays_and_says_what_it_is(home: Path, tmp_path: Path) -> None:
    file = borrowing(home, tmp_path, SMALL.replace("population=8", "population=8, steady=True"))
    conditions = Conditions(runs=tmp_path / "runs", threads=1)
    first = execute(load(file, {"evaluations": "13"}), conditions)
    second = execute(load(file), conditions)
    assert values(list(second.trials))[:13] == values(list(first.trials))
    assert len(second.trials) == 24
    store = reopened(folder_of(tmp_path), conditions).stores.open("search", create=False)
    assert (store.note(IN_FLIGHT), store.note(ENDED)) == (1, "24 evaluations are made")
    assert replayed(folder_of(tmp_path)) == 24
    log = folder_of(tmp_path).log.read_text()
    assert "racing is off: a steady engine has no generations to race against" in log
    assert "the search has ended: 13 evaluations are made" in log
    generational = (
        reopened(folder_of(home), Conditions(runs=home / "runs")).stores.open("search", create=False).trials()
    )
    assert values(generational)[:8] == values(list(second.trials))[:8]  # the first samples are the same


def test_a_steady_run_on_workers_replays_whatever_the_order_and_the_workers_of_its_parts(
    home: Path, tmp_path: Path, local_ray: None
) -> None:
    file = borrowing(home, tmp_path, SMALL.replace("population=8", "population=8, steady=True"))
    for evaluations, workers in (("12", 2), ("24", 0)):
        loaded = load(file, {"evaluations": evaluations})
        conditions = Conditions(runs=tmp_path / "runs", threads=1, workers=workers, device="cpu")
        run = Session(loaded, conditions, progress=lambda *_: None)
        with opened(run):
            search(run)
        assert run.stores.open("search").note(IN_FLIGHT) == 4
        assert replayed(folder_of(tmp_path)) == int(evaluations)


def test_a_budget_of_time_ends_the_search_and_the_report_is_made(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = SMALL.replace("Budget(evaluations=evaluations)", "Budget(evaluations=evaluations, worker_hours=1e-9)")
    file, conditions = borrowing(home, tmp_path, limited), Conditions(runs=tmp_path / "runs", threads=1)
    told: list[str] = []
    results = execute(load(file), conditions, lambda *said: told.append(" ".join(map(str, said))))
    assert len(results.trials) == 8  # the group that was begun
    assert results.report
    assert "search 8 8 8 measured; 1e-09 worker-hours are spent" in told

    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing may be measured")

    with monkeypatch.context() as patched:
        patched.setattr("searchkit.runs.benches.workbench", refuse)
        execute(load(file), conditions)
    small_study(tmp_path)  # without that limit it goes on, in the same folder
    assert len(execute(load(file, {"evaluations": "16"}), conditions).trials) == 16


def test_a_budget_that_ends_before_anything_is_measured_is_refused(home: Path, tmp_path: Path) -> None:
    limited = SMALL.replace("Budget(evaluations=evaluations)", "Budget(evaluations=evaluations, hours=1e-9)")
    with pytest.raises(StudyError, match="1e-09 hours are spent before any candidate was measured"):
        execute(load(borrowing(home, tmp_path, limited)), Conditions(runs=tmp_path / "runs", threads=1))
