"""Runs whose study was edited, or meets another one of its name: refused, or measured anew; never mixed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from searchkit.errors import StoreError, StudyError
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute, train_only
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from searchkit.runs.transfer import copy_run, restore_run
from searchkit.runs.verify import replayed
from searchkit.training.cache import Trained
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

HELPER = "def scaled(value):\n    return 2.0 * value\n"
OBJECTIVES = """
from dataclasses import dataclass

from searchkit import Constraint, Estimate, Objective

FACTOR = 1.0


def tokens(subject):
    return float(subject.trace.attention.double().mean())


def by_constant(subject):
    return Estimate(FACTOR * tokens(subject), None, 10)


def by_module(subject):
    import helper

    return Estimate(helper.scaled(tokens(subject)), None, 10)


def by_closure(power):
    return lambda subject: Estimate(tokens(subject) ** power, None, 10)


@dataclass(frozen=True)
class ByClass:
    def __call__(self, subject):
        return Estimate(tokens(subject) + 3.0, None, 10)


def objective(name, measure):
    return Objective(name, "tokens", "lower", measure)


def limit(subject):
    return Estimate(0.5 * tokens(subject), None, 10)


"""
OWN = OBJECTIVES + SMALL.replace(
    "seed=seed,\n",
    """seed=seed,
            front_objectives=[objective("later", lambda subject: Estimate(5.0 * tokens(subject), None, 10))],
            constraints=[Constraint(objective("limit", limit), at_most=1e9)],
        """,
).replace(
    "[accuracy, macs]",
    """[accuracy, macs, objective("constant", by_constant), objective("module", by_module),
            objective("closure", by_closure(1.0)), objective("class", ByClass())]""",
).replace("evaluations: int = 24", "evaluations: int = 8")


def study(folder: Path, text: str = OWN, helper: str = HELPER) -> Path:
    sys.modules.pop("helper", None)
    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(helper)
    return small_study(folder, text)


def under(folder: Path) -> Conditions:
    return Conditions(runs=folder / "runs", threads=1)


@pytest.fixture(autouse=True)
def no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules beside one study are no longer found by the next one."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Path:
    """A folder with a finished run of the user's own objectives, not to be changed."""
    before = list(sys.path)
    folder = tmp_path_factory.mktemp("made")
    loaded = load(study(folder))
    with_trained(folder / "runs", loaded.study)
    execute(loaded, under(folder))
    sys.path[:] = before
    return folder


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    shutil.copytree(made, tmp_path / "home")
    record = json.loads((tmp_path / "home/runs/small/study.json").read_text())
    record["file"] = str(tmp_path / "home/small_study.py")
    (tmp_path / "home/runs/small/study.json").write_text(json.dumps(record))
    return tmp_path / "home"


EDITS = {
    "constant": (("FACTOR = 1.0", "FACTOR = 1000.0"), HELPER),
    "module": (("", ""), HELPER.replace("2.0", "3.0")),
    "closure": (("by_closure(1.0)", "by_closure(2.0)"), HELPER),
    "class": (("+ 3.0", "- 3.0"), HELPER),
    "limit": (("0.5 * tokens", "0.25 * tokens"), HELPER),
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_code_of_a_search_is_refused_and_its_records_stay_readable(home: Path, name: str) -> None:
    edit, helper = EDITS[name]
    folder = Folder(home / "runs/small")
    before = {path: path.read_bytes() for path in folder.path.iterdir() if path.suffix != ".log"}
    part = "constraints" if name == "limit" else "objectives"
    edited = study(home, OWN.replace(*edit), helper)
    reason = rf"\(different: {part}: the code of {name}\)"
    with pytest.raises(StudyError, match=f"holds a run of another study {reason}; values of both would be mixed"):
        execute(load(edited, {"evaluations": "10"}), under(home))
    with pytest.raises(StudyError, match=f"describes another study than the one that ran in .* {reason}"):
        replayed(folder)
    assert before == {path: path.read_bytes() for path in folder.path.iterdir() if path.suffix != ".log"}
    assert len(stored_results(folder).trials) == 8
    study(home)
    assert replayed(folder) == 8


def test_an_edited_objective_of_the_front_is_measured_anew_and_the_others_are_kept(home: Path) -> None:
    folder = Folder(home / "runs/small")
    before = pd.read_csv(folder.path / "front.csv")
    execute(load(study(home, OWN.replace("5.0 * tokens", "5000.0 * tokens"))), under(home))
    after = pd.read_csv(folder.path / "front.csv")
    assert list(after["later_report"]) == pytest.approx([1000 * value for value in before["later_report"]])
    assert after["accuracy_report"].equals(before["accuracy_report"])
    baselines = pd.read_csv(folder.path / "baselines.csv")
    assert baselines["later_report"][0] == pytest.approx(1000 * baselines["closure_report"][0] * 5)


def test_another_study_of_the_same_supernet_does_not_take_baselines_of_edited_code(home: Path) -> None:
    before = pd.read_csv(home / "runs/small/baselines.csv")
    edited = study(home, OWN.replace("FACTOR = 1.0", "FACTOR = 1000.0"))
    execute(load(edited, {"name": "second"}), under(home))
    after = pd.read_csv(home / "runs/second/baselines.csv")
    assert list(after["constant_report"]) == pytest.approx([1000 * value for value in before["constant_report"]])


def test_an_objective_whose_code_failed_everywhere_is_mended_and_the_same_command_measures_anew(tmp_path: Path) -> None:
    wrong = study(tmp_path, OWN.replace("+ 3.0", "+ subject.offset"))
    with pytest.raises(StudyError, match=r"the first one: exception: objective 'class': AttributeError.*'offset'"):
        execute(load(wrong), under(tmp_path))
    execute(load(study(tmp_path)), under(tmp_path))
    assert [trial.status for trial in stored_results(Folder(tmp_path / "runs/small")).trials] == ["measured"] * 8


RECIPE = SMALL.replace(
    "def study(",
    """from dataclasses import dataclass

SCALE = 1.0


@dataclass(frozen=True)
class Scaled(FineTune):
    def train(self, model, data, context):
        super().train(model, data, context)
        for weight in model.parameters():
            weight.data.mul_(SCALE)


def study(""",
    1,
).replace("start=FineTune(epochs=1", "start=Scaled(epochs=1")


def test_an_edited_recipe_trains_another_supernet_and_another_study_does_not_take_the_old_one(tmp_path: Path) -> None:
    def supernet(text: str, name: str) -> Trained:
        return train_only(load(small_study(tmp_path, text), {"name": name}), under(tmp_path))

    execute(load(small_study(tmp_path, RECIPE), {"name": "first", "evaluations": "8"}), under(tmp_path))
    first, same = supernet(RECIPE, "first"), supernet(RECIPE, "same")
    second = supernet(RECIPE.replace("SCALE = 1.0", "SCALE = -1.0"), "second")
    assert first.folder == same.folder != second.folder
    with pytest.raises(StudyError, match=r"different: supernet: the code of the recipe"):
        supernet(RECIPE.replace("SCALE = 1.0", "SCALE = -1.0"), "first")


@pytest.mark.parametrize(
    ("old", "new"),
    [("width=16", "width=32"), ("search=120", "search=110"), ("LengthDrop(epochs=1", "LengthDrop(epochs=2")],
)
def test_two_studies_of_one_name_in_one_database_are_told_apart(
    tmp_path: Path, with_trained: Supernets, old: str, new: str
) -> None:
    storage = f"sqlite:///{tmp_path}/all.db"
    conditions = Conditions(runs=tmp_path / "a", threads=1, storage=storage)
    first = load(small_study(tmp_path), {"evaluations": "8"})
    with_trained(conditions.runs, first.study)
    execute(first, conditions)
    other = load(small_study(tmp_path, SMALL.replace(old, new)), {"evaluations": "8"})
    with pytest.raises(StoreError, match=r"all\.db holds another study of the name 'small-search' \(fingerprint"):
        execute(other, Conditions(runs=tmp_path / "b", threads=1, storage=storage))
    assert not (tmp_path / "b/small").exists()
    assert len(stored_results(Folder(tmp_path / "a/small")).trials) == 8


def test_a_typo_in_the_storage_is_said_before_anything_is_made_and_binds_nothing(tmp_path: Path) -> None:
    file = small_study(tmp_path)
    wrong = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/none"):
        execute(load(file), Conditions(runs=tmp_path / "runs", threads=1, storage=wrong))
    assert not (tmp_path / "runs").exists()
    train_only(load(file), under(tmp_path))  # the folder may still have any storage
    assert Folder(tmp_path / "runs/small").read()["storage"] is None


TOGETHER = """
import sys, time
from pathlib import Path

from searchkit.objective import Objective
from searchkit.storage.store import Store

objective = Objective.described({"name": "cost", "unit": "tokens", "better": "lower"})
folder, name = Path(sys.argv[1]), sys.argv[2]
(folder / f"{name}.ready").touch()
while len(list(folder.glob("*.ready"))) < 2:
    time.sleep(0.001)
start = max(path.stat().st_mtime for path in folder.glob("*.ready")) + 0.2
for number in range(6):
    while time.time() < start + 0.7 * number:
        pass
    Store.open(f"sqlite:///{folder}/{number}.db", f"{name}-search", [objective])
"""


def test_two_processes_that_begin_one_sqlite_file_at_once_both_go_on(tmp_path: Path) -> None:
    (tmp_path / "together.py").write_text(TOGETHER)
    command = [sys.executable, str(tmp_path / "together.py"), str(tmp_path)]
    processes = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in ("a", "b")]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, 0], ended


def test_the_command_that_goes_on_with_a_run_is_the_whole_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from searchkit.cli import app as cli

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    file, storage = study(home), f"sqlite:///{tmp_path}/trials of mine.db"
    conditions = Conditions(runs=home / "runs", device="cpu", dtype="fp32", threads=1, storage=storage)
    loaded = load(file, {"name": "second", "evaluations": "9"})
    with monkeypatch.context() as patched:
        patched.setattr("searchkit.runs.phases.report", stopped)
        with pytest.raises(KeyboardInterrupt):
            execute(loaded, conditions)
    folder = Folder(home / "runs/second")
    folder.study.write_text(folder.study.read_text().replace('"workers": 0', '"workers": 3'))
    with pytest.raises(StudyError, match="the run is not finished; go on with `") as refused:
        stored_results(folder)
    command = shlex.split(str(refused.value).rpartition("go on with `")[2].removesuffix("`"))
    given = ["-p", "name=second", "-p", "evaluations=9", "--runs", str(home / "runs"), "--storage", storage]
    same = ["--device", "cpu", "--dtype", "fp32", "--threads", "1"]
    assert command == ["searchkit", "run", str(file), *given, "--workers", "3", *same]
    monkeypatch.setattr(sys, "argv", [*command[: -len(same) - 2], *same])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert len(stored_results(folder).trials) == 9


def test_verify_of_a_run_that_was_copied_without_its_supernet_trains_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be trained")

    shutil.copytree(home / "runs/small", tmp_path / "copied/small")
    study(home)
    monkeypatch.setattr("searchkit.runs.session.train", refuse)
    assert replayed(Folder(tmp_path / "copied/small")) == 8
    assert not (tmp_path / "copied/supernets").exists()


def test_restore_refuses_the_file_of_another_study_and_edited_code(home: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/kept.db"
    study(home)
    copy_run(Folder(home / "runs/small"), storage)
    for old, new, reason in (("levels=16", "levels=8", "space"), ("+ 3.0", "- 3.0", "objectives: the code of class")):
        loaded = load(study(tmp_path / "other", OWN.replace(old, new)))
        with pytest.raises(StudyError, match=rf"describes another study than the 'small' .*\(different: {reason}"):
            restore_run(loaded, storage, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()
    folder, _ = restore_run(load(study(home)), storage, tmp_path / "restored")
    assert replayed(folder) == 8


def test_a_run_from_before_code_was_kept_says_that_its_code_is_not_known(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, file = Folder(home / "runs/small"), study(home)
    record = json.loads(folder.study.read_text())
    for part in (*record["description"]["objectives"], *record["description"]["constraints"]):
        part.pop("code", None)
    del record["code_identified"]
    folder.study.write_text(json.dumps(record))
    journal = folder.journal.read_text()
    folder.journal.write_text("".join(line for line in journal.splitlines(True) if ":fingerprint" not in line))
    sentence = "whether that of class, closure, constant, limit, module is still the same is not known"
    assert replayed(folder) == 8
    assert sentence in caplog.text
    caplog.clear()
    execute(load(file), under(home))
    assert sentence in caplog.text
    assert sentence in folder.log.read_text()
    caplog.clear()
    execute(load(file), under(home))  # it is known from now on
    assert sentence not in caplog.text
