"""The published search as a fifth baseline: made once, resumed, kept, told; and LAT as a study's own engine."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from searchkit.errors import SearchkitError, StoreError, StudyError
from searchkit.records import Candidate, Measured
from searchkit.reduction.cost import Shape, published_macs
from searchkit.runs import published
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from searchkit.runs.transfer import copy_run
from searchkit.runs.verify import replayed
from searchkit.storage.store import Store
from tests.figures import with_figures
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

LAT = "LAT(iterations=2, initial=4, mutations=4, crossovers=4, drop=0.5)"
FAMILY = "published search"
ASKING = (
    SMALL.replace("from searchkit.tasks", "from searchkit.engines import LAT\nfrom searchkit.tasks")
    .replace("seed=seed", f"published={LAT}, seed=seed")
    .replace("evaluations: int = 24", "evaluations: int = 8")
    .replace("documents: int = 320", "documents: int = 640")
    .replace("start=FineTune(epochs=1, learning_rate=1e-3)", "start=FineTune(epochs=4, learning_rate=3e-3)")
)
LAYERS, TOKENS = 3, 28


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Path]:
    """A folder in which a study that asks for the published search has run."""
    folder = tmp_path_factory.mktemp("published")
    threads = torch.get_num_threads()
    loaded = load(small_study(folder, ASKING))
    with_trained(folder / "runs", loaded.study)
    with with_figures():
        execute(loaded, Conditions(runs=folder / "runs", threads=1))
    yield folder
    torch.set_num_threads(threads)


def borrowing(home: Path, tmp_path: Path, text: str) -> Path:
    """A study file beside a cache that holds the trained supernet, and what was kept of it."""
    (tmp_path / "runs").mkdir()
    os.symlink(home / "runs" / "supernets", tmp_path / "runs" / "supernets")
    return small_study(tmp_path, text)


def found(folder: Path) -> list[Candidate]:
    return [trial.ask.candidate for trial in stored_results(Folder(folder)).baselines[FAMILY]]


def conditions(home: Path) -> Conditions:
    return Conditions(runs=home / "runs", threads=1)


def test_the_published_front_is_reported_in_both_accountings(home: Path) -> None:
    folder = home / "runs" / "small"
    frame = pd.read_csv(folder / "baselines.csv")
    own = frame[frame["family"] == FAMILY]
    assert len(own) == len(found(folder)) > 1
    assert (own["accuracy_report_n"] == 100).all()
    assert own["macs_ratio_as_published"].is_monotonic_increasing
    assert (own["macs_report"] >= own["macs_ratio_as_published"] - 1e-9).all()  # pads are what it drops first
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["baselines"][FAMILY]["points"] == len(own)
    assert "beaten" in summary["baselines"][FAMILY]
    assert "published search" in (folder / "report.md").read_text()
    assert "published search" in (folder / "pareto.svg").read_text()


def test_the_published_front_is_that_of_a_whole_search_by_quality_and_published_cost(home: Path) -> None:
    """The store of the search, by brute force; its costs by the closed formula."""
    journal = str(home / "runs" / "small" / "journal.log")
    (name,) = [held for held in Store.held(journal) if held.startswith("small-published-")]
    trials = Store.open(journal, name, Store.held(journal)[name], create=False).trials()
    assert 6 < len(trials) <= 6 + 2 * 8
    points = []
    shape = Shape(layers=LAYERS, width=16, feed_forward=32, heads=2, labels=2)
    head = 16 * 16 + 16 * 2

    def macs(lengths: Any) -> int:
        return published_macs(list(zip((TOKENS, *lengths[:-1]), lengths, strict=True)), shape, head=head)

    for trial in trials:
        assert isinstance(trial.outcome, Measured)
        estimates, lengths = trial.outcome.estimates, trial.ask.candidate["lengths"]
        cost = macs(lengths) / macs((TOKENS,) * LAYERS)
        assert estimates["ratio_as_published"].value == pytest.approx(cost, rel=1e-12)
        points.append((cost, -estimates["accuracy"].value, lengths))
    front = [
        lengths
        for cost, loss, lengths in points
        if not any((c <= cost and q <= loss) and (c < cost or q < loss) for c, q, _ in points)
    ]
    assert {one["lengths"] for one in found(home / "runs" / "small")} <= set(front)
    assert {macs(one["lengths"]) for one in found(home / "runs" / "small")} == set(map(macs, front))
    assert min(cost for cost, _, _ in points) == points[0][0]  # the lower bound, asked first
    assert all(one >= other for _, _, lengths in points for one, other in pairwise(lengths))  # type: ignore[arg-type]


def test_a_published_search_may_be_added_or_left_out_later_and_changes_no_trial(home: Path, tmp_path: Path) -> None:
    plain = ASKING.replace(f"published={LAT}, ", "")
    assert load(small_study(tmp_path, plain)).study.describe() == load(home / "small_study.py").study.describe()
    file = borrowing(home, tmp_path, plain)
    first = execute(load(file), conditions(tmp_path))
    assert FAMILY not in first.baselines
    assert stored_results(Folder(tmp_path / "runs" / "small")).baselines.keys() == first.baselines.keys()
    small_study(tmp_path, ASKING)
    later = execute(load(file), conditions(tmp_path))
    assert later.trials == first.trials
    assert [one.key for one in later.baselines[FAMILY]] == [one.key for one in found(home / "runs" / "small")]
    small_study(tmp_path, plain)
    assert execute(load(file), conditions(tmp_path)).baselines.keys() == first.baselines.keys()


def test_another_study_of_the_supernet_does_not_search_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("it was found before")

    monkeypatch.setattr(published, "search", never)
    text = ASKING.replace('name: str = "small"', 'name: str = "other"').replace("[accuracy, macs]", "[macs, accuracy]")
    results = execute(load(borrowing(home, tmp_path, text)), conditions(tmp_path))
    assert [one.ask.candidate for one in results.baselines[FAMILY]] == found(home / "runs" / "small")
    with pytest.raises(AssertionError, match="it was found before"):  # with other settings it is another search
        execute(load(small_study(tmp_path, text.replace("iterations=2", "iterations=3"))), conditions(tmp_path))
    with pytest.raises(StudyError, match="the run is not finished"):
        stored_results(Folder(tmp_path / "runs" / "other"))


def test_an_interrupted_published_search_goes_on_and_ends_where_an_undisturbed_one_does(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = home / "runs" / "supernets"
    hidden = {file: file.read_bytes() for file in kept.glob("*-published-*.json")}
    assert len(hidden) == 1
    for file in hidden:
        file.unlink()
    search, made = published.search, list[int]()

    def interrupted(*arguments: Any, **named: Any) -> Any:
        def on_trial(trial: Any) -> None:
            made.append(trial.ask.number)
            if len(made) == 9:
                raise KeyboardInterrupt

        return search(*arguments, **named | {"on_trial": on_trial})

    monkeypatch.setattr(published, "search", interrupted)
    file = borrowing(home, tmp_path, ASKING)
    with pytest.raises(KeyboardInterrupt):
        execute(load(file), conditions(tmp_path))
    execute(load(file), conditions(tmp_path))
    assert sorted(made) == list(range(len(made)))  # nothing twice, nothing left out
    assert found(tmp_path / "runs" / "small") == found(home / "runs" / "small")
    assert {path: path.read_bytes() for path in kept.glob("*-published-*.json")} == hidden


@pytest.mark.parametrize("text", ["[{", "{}", "[3]", '[{"lengths": [1.0, 0.5, 0.5]}]', "[" * 10000])
def test_a_damaged_cache_of_the_published_search_is_searched_for_again(
    home: Path, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Made(Exception):  # noqa: N818
        pass

    def search(*arguments: Any, **named: Any) -> Any:
        raise Made

    (kept,) = (home / "runs" / "supernets").glob("*-published-*.json")
    before = kept.read_text()
    monkeypatch.setattr(published, "search", search)
    file = borrowing(home, tmp_path, ASKING)
    kept.write_text(text)
    try:
        with pytest.raises(Made):
            execute(load(file), conditions(tmp_path))
    finally:
        kept.write_text(before)


def test_a_damaged_note_is_said_in_one_line(home: Path, tmp_path: Path) -> None:
    file = borrowing(home, tmp_path, ASKING)
    execute(load(file), conditions(tmp_path))
    study, folder = load(file).study, Folder(tmp_path / "runs" / "small")
    assert study.published is not None
    store = Store.open(str(folder.journal), "small-report", tuple(study.objectives))
    for note in (3, [3], [{"lengths": {}}]):
        store.set_note(published._name(study.published.describe()), note)
        with pytest.raises(StoreError, match="the front of the published search, kept beside the report, is damaged"):
            stored_results(folder)


def test_the_published_search_is_copied_with_its_run(home: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "copy.log")
    folder = Folder(home / "runs" / "small")
    copy_run(folder, target)
    assert Store.held(target).keys() == Store.held(str(folder.journal)).keys()
    assert any(name.startswith("small-published-") for name in Store.held(target))


def test_constraints_and_races_of_the_study_do_not_reach_the_published_search(home: Path, tmp_path: Path) -> None:
    text = ASKING.replace("NSGA2, Budget", "NSGA2, Budget, Constraint").replace(
        "seed=seed", "constraints=[Constraint(macs, at_most=0.7)], seed=seed"
    )
    for kept in (home / "runs" / "supernets").glob("*-published-*.json"):
        kept.unlink()
    results = execute(load(borrowing(home, tmp_path, text)), conditions(tmp_path))
    assert [one.ask.candidate for one in results.baselines[FAMILY]] == found(home / "runs" / "small")


def test_a_study_of_questions_has_a_published_search_too(tmp_path: Path) -> None:
    text = (
        ASKING.replace("accuracy, macs", "exact_match, f1, macs")
        .replace("Generated(train=documents, search=120, report=100)", "GeneratedQuestions(documents, 60, 50)")
        .replace("import Generated", "import GeneratedQuestions")
        .replace("iterations=2", "iterations=1")
        .replace("epochs=4", "epochs=1")
        .replace("documents: int = 640", "documents: int = 160")
    )
    results = execute(load(small_study(tmp_path, text)), conditions(tmp_path))
    assert all(one.status == "measured" for one in results.baselines[FAMILY])
    assert all(isinstance(one.ask.candidate["lengths"][0], int) for one in results.baselines[FAMILY])  # type: ignore[index]
    journal = str(tmp_path / "runs" / "small" / "journal.log")
    (axes,) = [axes for name, axes in Store.held(journal).items() if name.startswith("small-published-")]
    assert [one.name for one in axes] == ["exact_match", "ratio_as_published"]


def test_as_the_engine_of_a_study_it_runs_and_replays_and_ends_after_its_iterations(home: Path, tmp_path: Path) -> None:
    text = (
        ASKING.replace(f"published={LAT}, ", "")
        .replace("NSGA2(population=8)", LAT)
        .replace("evaluations: int = 8", "evaluations: int = 100")
    )
    file = borrowing(home, tmp_path, text)
    first = execute(load(file, {"evaluations": "10"}), conditions(tmp_path))
    results = execute(load(file), conditions(tmp_path))
    assert len(first.trials) == 10
    assert 10 < len(results.trials) <= 6 + 2 * 8
    assert results.trials[:10] == first.trials
    assert replayed(Folder(tmp_path / "runs" / "small")) == len(results.trials)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({LAT: "3"}, "a study's published has the methods start_at, describe, got 3"),
        ({LAT: "LAT"}, "a study's published has the methods start_at, describe"),
        ({LAT: "LAT(iterations=0)"}, "LAT: iterations must be at least 1, got 0"),
        (
            {
                "epochs=1, learning_rate=1e-3, start": "epochs=1, input=InputReducer(), start",
                "import FineTune": "import InputReducer, FineTune",
            },
            "LengthDrop(input=...) has one before the first layer as well",
        ),
        ({"[accuracy, macs]": "[macs]"}, "needs an objective that is better when higher and is not timed, got macs"),
        ({"NSGA2(population=8)": LAT, "Lengths(levels=16)": "Thresholds()"}, "LAT searches a space of Lengths alone"),
        ({"NSGA2(population=8)": LAT, "[accuracy, macs]": "[accuracy]"}, "LAT trades a quality for a cost"),
        (
            {"NSGA2(population=8)": LAT, "evaluations=evaluations": "evaluations=evaluations, plateau=Plateau()"},
            "a plateau is judged after generations of one size",
        ),
    ],
)  # fmt: skip
def test_a_published_search_that_cannot_be_run_is_refused_in_one_line(
    tmp_path: Path, replaced: dict[str, str], message: str
) -> None:
    text = ASKING.replace("import NSGA2", "import NSGA2, Plateau, Thresholds")
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(SearchkitError) as caught:
        load(small_study(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_block_skim_whose_cost_the_text_decides_has_no_published_search(tmp_path: Path) -> None:
    text = (
        ASKING.replace("Generated(train=documents, search=120, report=100)", "GeneratedQuestions(documents, 60, 50)")
        .replace("import Generated", "import GeneratedQuestions")
        .replace("[accuracy, macs]", "[f1, macs]")
        .replace("import accuracy", "import f1")
        .replace(
            "LengthDrop(epochs=1, learning_rate=1e-3, start=FineTune(epochs=4, learning_rate=3e-3))", "BlockSkim()"
        )
        .replace("import FineTune, LengthDrop", "import BlockSkim")
    )
    with pytest.raises(StudyError, match="with BlockSkim the text decides"):
        load(small_study(tmp_path, text))
