"""Members of a run that are not of the search's own front: what luck may have hidden, and constant ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import searchkit
from searchkit import Front
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.offered import OFFERED, read
from searchkit.runs.opening import opened
from searchkit.runs.phases import execute
from searchkit.runs.session import Session
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

STUDY = SMALL.replace("evaluations: int = 24", "evaluations: int = 16")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Path:
    folder = tmp_path_factory.mktemp("offered")
    loaded = load(small_study(folder, STUDY))
    with_trained(folder / "runs", loaded.study)
    execute(loaded, Conditions(runs=folder / "runs", threads=1))
    return folder


def test_members_are_the_front_what_luck_may_hide_and_ratios_that_nothing_dominates(home: Path) -> None:
    results = stored_results(Folder(home / "runs/small"))
    front = {trial.key for trial in results.front}
    how = {member.key: results.chosen_as(member.key) for member in results.members}
    assert {key for key, word in how.items() if word == "front"} == front
    assert {key for key, word in how.items() if word == "maybe"} == set(results.chances) - front
    assert set(how) <= set(results.report)
    reported = [results.report[key] for key, word in how.items() if word != "constant ratio"]
    for ratio in results.baselines["constant ratio"]:
        best = {trial.key for trial in Front.of([*reported, *results.baselines["constant ratio"]], results.objectives)}
        assert (ratio.key in how) == (ratio.key in best or ratio.key in results.chances or ratio.key in front)
    frame = pd.read_csv(home / "runs/small/front.csv")
    assert dict(zip(frame["key"], frame["chosen_as"], strict=True)) == how
    assert frame.loc[frame["chosen_as"] == "constant ratio", "accuracy_search"].isna().all()
    assert set(frame.loc[frame["on_front"], "key"]) == {member.key for member in results.reported_front}


def test_every_member_has_predictions_and_can_be_chosen(home: Path) -> None:
    run = searchkit.open(home / "runs/small")
    for member in run.results.members:
        assert len(run.predictions(member.key)) == 100
        reported = run.results.report[member.key].estimates
        limits = [f"{name} {sign} {reported[name].value!r}" for name, sign in (("accuracy", ">="), ("macs", "<="))]
        chosen = run.pick(*limits)
        assert chosen.trial.estimates["macs"].value <= reported["macs"].value


def test_candidates_are_compared_once_and_again_when_there_are_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from searchkit.runs import offered

    asked: list[int] = []
    evaluator = offered.evaluator

    def watched(session: Session, split: str, objectives: Any, count: int) -> Any:
        assert split == "search"
        asked.append(count)
        return evaluator(session, split, objectives, count)

    monkeypatch.setattr(offered, "evaluator", watched)
    loaded = load(home / "small_study.py")
    execute(loaded, Conditions(runs=home / "runs", threads=1))
    assert asked == []
    more = load(home / "small_study.py", {"evaluations": "20"})
    execute(more, Conditions(runs=home / "runs", threads=1))
    assert len(asked) == 1
    assert asked[0] <= 20
    session = Session(more, Conditions(runs=home / "runs", threads=1))
    with opened(session):
        store, seconds = session.stores.open("search"), session.folder.seconds("report")
        before, known = float(seconds.read_text()), store.note(OFFERED)
        store.set_note(OFFERED, None)
        offered.offered(session, store.trials())
        assert float(seconds.read_text()) > before  # comparing is a part of the report
        assert store.note(OFFERED) == known


@pytest.mark.parametrize(
    "note", [None, [], {"trials": 3}, {"trials": 4, "chances": {}}, {"trials": 3, "chances": {"a": "0.5"}}]
)
def test_a_note_that_is_damaged_or_of_fewer_trials_is_made_again(note: Any) -> None:
    assert read(note, 3) is None
    assert read({"trials": 3, "chances": {"a": 0.5}}, 3) == {"a": 0.5}


def test_a_run_from_before_has_the_members_of_its_front(home: Path) -> None:
    results = replace(stored_results(Folder(home / "runs/small")), chances={}, baselines={})
    assert results.members == results.front.members
    assert OFFERED == "offered"  # the name in stores
