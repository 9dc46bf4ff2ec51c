"""A run moved between storages: whole or not at all, and the same afterwards."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from searchkit._internal.code import digest
from searchkit.errors import NothingStoredError, StoreError, StudyError
from searchkit.runs.folder import Folder
from searchkit.runs.study_file import Loaded, load
from searchkit.runs.transfer import copy_run, restore_run
from searchkit.storage.address import StorageAddress
from searchkit.storage.store import Store
from tests.storage.conftest import new_storage
from tests.storage.samples import ACCURACY, OBJECTIVES, failed, measured, pruned, unmeasurable
from tests.studies import SMALL, small_study

LATENCY = type(ACCURACY)("latency", "ms at batch 4", "lower", unmeasurable)
STUDIES = {
    "small-search": (OBJECTIVES, [measured(2), failed(0), measured(1), pruned(9)]),
    "small-report": (OBJECTIVES, [measured(0)]),
    "small-measured-0a1b2c3d": ((*OBJECTIVES, LATENCY), [failed(0)]),
}


def loaded(folder: Path, **parameters: str) -> Loaded:
    return load(small_study(folder), parameters)


def a_run(folder: Path, storage: str | None = None) -> Folder:
    """The folder of a run of the small study, as far as storages know it."""
    run = Folder(folder / "runs" / "small")
    for name, (objectives, trials) in STUDIES.items():
        store = Store.open(storage or str(run.journal), name, objectives)
        for trial in trials:
            store.append(trial)
    Store.open(storage or str(run.journal), "small-search", OBJECTIVES).set_note("duplicates", {"train, search": 2})
    description = loaded(folder).study.describe()
    record: Mapping[str, Any] = {
        "description": description,
        "fingerprint": digest(description),
        "file": "/nowhere/evil.py",
        "parameters": {},
        "objectives": [one.describe() for one in OBJECTIVES],
        "front_objectives": [],
        "storage": storage and StorageAddress(storage).kept,
        "evaluations": 24,
    }
    run.path.mkdir(parents=True, exist_ok=True)
    run.study.write_text(json.dumps(record))
    run.seconds("search").write_text("12.5")
    run.calibration.write_text('{"latency": {"a": 1.5}}')
    return run


def content(storage: str) -> dict[str, Any]:
    """Trials in their order and notes, by study."""
    stores = {name: Store.open(storage, name, held, create=False) for name, held in Store.held(storage).items()}
    return {
        name: (store.appended(), {key: value for key, value in store.notes().items() if key != "run"})
        for name, store in stores.items()
    }


@pytest.mark.parametrize(
    ("first", "second"), [("journal", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "journal")]
)
def test_a_run_copied_to_a_storage_and_restored_is_the_same(
    request: pytest.FixtureRequest, tmp_path: Path, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, back = (
        new_storage(request, kind, tmp_path / kind / str(i)) for i, kind in enumerate((first, second, first))
    )
    monkeypatch.setenv("SEARCHKIT_STORAGE", here)  # with its password
    run = a_run(tmp_path, here)
    assert copy_run(run, there) == 6
    assert content(there) == content(here)
    assert copy_run(run, there) == 0
    folder, count = restore_run(loaded(tmp_path), there, tmp_path / "elsewhere", back)
    assert count == 6
    assert content(back) == content(here)
    assert restore_run(loaded(tmp_path), there, tmp_path / "elsewhere", back)[1] == 0
    record = folder.read()
    assert record["storage"] == StorageAddress(back).kept
    assert record["file"] == str(tmp_path / "small_study.py")  # never a path that a storage names
    assert folder.seconds("search").read_text() == "12.5"
    assert folder.calibration.read_bytes() == run.calibration.read_bytes()


def test_without_a_storage_the_trials_come_to_the_journal(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    there = f"sqlite:///{tmp_path}/run.db"
    copy_run(run, there)
    folder, _ = restore_run(loaded(tmp_path), there, tmp_path / "elsewhere")
    assert folder.read()["storage"] is None
    assert content(str(folder.journal)) == content(str(run.journal))


def test_a_second_copy_adds_later_trials(tmp_path: Path) -> None:
    run, there = a_run(tmp_path), f"sqlite:///{tmp_path}/run.db"
    copy_run(run, there)
    Store.open(str(run.journal), "small-search", OBJECTIVES).append(measured(20))
    assert copy_run(run, there) == 1
    assert content(there) == content(str(run.journal))


def test_other_trials_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    run, there = a_run(tmp_path), tmp_path / "there.log"
    Store.open(str(there), "small-report", OBJECTIVES).append(measured(5))
    before = there.read_bytes()
    with pytest.raises(StoreError, match=r"already holds this study with other trials \(1, 1 in "):
        copy_run(run, str(there))
    assert there.read_bytes() == before
    other = tmp_path / "other.log"
    Store.open(str(other), "small-search", (ACCURACY,))
    with pytest.raises(StoreError, match="was made for accuracy"):
        copy_run(run, str(other))


@pytest.mark.parametrize("after", [0, 3, 5])
def test_an_interrupted_copy_is_no_run_until_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run, there = a_run(tmp_path), f"sqlite:///{tmp_path}/run.db"
    really, calls = Store._add, itertools.count()

    def killed(*arguments: Any) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt
        really(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "_add", killed)
        with pytest.raises(KeyboardInterrupt):
            copy_run(run, there)
    for name, held in Store.held(there).items():
        with pytest.raises(StoreError, match="unfinished copy: copy or restore it again"):
            Store.open(there, name, held)
    assert copy_run(run, there) == 6 - after
    assert content(there) == content(str(run.journal))


def test_a_run_that_a_storage_lacks_is_one_clear_line(tmp_path: Path) -> None:
    run, there = a_run(tmp_path), tmp_path / "there.log"
    with pytest.raises(NothingStoredError, match="there is no store at"):
        restore_run(loaded(tmp_path), str(there), tmp_path / "elsewhere")
    Store.open(str(there), "other-search", OBJECTIVES)
    with pytest.raises(NothingStoredError, match="holds no run of 'small'"):
        restore_run(loaded(tmp_path), str(there), tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="not the record of its run"):
        restore_run(loaded(tmp_path), str(run.journal), tmp_path / "elsewhere")
    assert copy_run(run, str(run.journal)) == 0  # adds it
    with pytest.raises(StudyError, match="was run with no -p: give the same parameters"):
        restore_run(loaded(tmp_path, evaluations="9"), str(run.journal), tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "note",
    [
        7,
        {},
        {"record": {}, "files": {}},
        {"record": {"description": {"name": "../../x"}, "fingerprint": "", "parameters": {}, "evaluations": 1}},
    ],
)
def test_a_hostile_record_is_refused(tmp_path: Path, note: Any) -> None:
    run = a_run(tmp_path)
    Store.open(str(run.journal), "small-search", OBJECTIVES).set_note("run", note)
    with pytest.raises(StoreError, match="the record of 'small' is damaged"):
        restore_run(loaded(tmp_path), str(run.journal), tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


def test_another_study_of_the_same_name_does_not_get_a_run_from_a_storage(tmp_path: Path) -> None:
    there = str(tmp_path / "there.log")
    copy_run(a_run(tmp_path), there)
    (tmp_path / "other").mkdir()
    other = load(small_study(tmp_path / "other", SMALL.replace("levels=16", "levels=8")))
    with pytest.raises(StudyError, match=r"describes another study than the 'small' that .*there\.log holds"):
        restore_run(other, there, tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
