"""Copy of a run to another storage, and back: its trials, its notes, and further files of its folder."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from searchkit._internal.code import digest
from searchkit._internal.files import replace_whole
from searchkit.errors import NothingStoredError, StoreError, StudyError
from searchkit.objective import Objective
from searchkit.runs.folder import Folder, changes, same_study
from searchkit.runs.study_file import Loaded
from searchkit.storage.address import StorageAddress, with_password
from searchkit.storage.store import Store

_NOTE: Final = "run"  # note of the search: the folder's record and its small files
_PREDICTIONS: Final = "predictions"  # the file's name in the note; base64
_MOST: Final = 4 << 20  # bytes of predictions that a note takes; larger ones are made again by the run's next start
_RECORD: Final = {"description": dict, "fingerprint": str, "parameters": dict, "evaluations": int}


def copy_run(folder: Folder, to: str) -> int:
    """Copy the run of a folder into a storage, with the files that `restore_run` needs; returns the trials added.

    Whole or not at all: StoreError, and nothing is written, where the storage holds other trials of the study. An
    interrupted copy is refused by all readers until the same command finishes it.
    """
    record = folder.read()
    source = with_password(record["storage"] or str(folder.journal))
    files = {name: path.read_text() for name, path in _files(folder).items() if path.exists()}
    files |= _predictions(folder)
    return _copy(source, to, record["description"]["name"], {"record": record, "files": files})


def restore_run(loaded: Loaded, source: str, runs: Path, to: str | None = None) -> tuple[Folder, int]:
    """Make the folder of a run from a storage, with its trials in the folder's journal or in the storage `to`.

    The study is the user's own file: what a storage says is data, and no path in it is opened. StudyError where it was
    run with other parameters, or is another study; StoreError as for `copy_run`, or if the storage holds no such run.
    """
    name = loaded.study.name
    folder, note = Folder(runs / name), _note(source, name)
    record, parameters = note["record"], dict(loaded.parameters)
    if record["parameters"] != parameters:
        required = " ".join(f"-p {key}={value}" for key, value in record["parameters"].items()) or "no -p"
        raise StudyError(f"{name} in {StorageAddress(source)} was run with {required}: give the same parameters")
    description = loaded.study.describe()
    if not same_study(record, description):
        raise StudyError(
            f"{loaded.file} describes another study than the {name!r} that {StorageAddress(source)} holds "
            f"(different: {changes(record, description)})"
        )
    target = to or str(folder.journal)
    _ = [pair.lacks for pair in _pairs(source, target, name)]  # before the folder is made
    mine: dict[str, Any] = {
        "description": description,
        "fingerprint": digest(description),
        "file": str(loaded.required_file("restore").resolve()),
        "cwd": str(Path.cwd()),
    }
    mine |= {"storage": StorageAddress(to).kept if to else None}
    with folder.claimed(record | mine):
        count = _copy(source, target, name, note)
        for label, path in _files(folder).items():
            if label in note["files"]:
                replace_whole(path, str(note["files"][label]).encode())
        if _PREDICTIONS in note["files"]:
            replace_whole(folder.predictions, _decoded(note["files"][_PREDICTIONS], source))
    return folder, count


def left_behind(folder: Folder, storage: str | None) -> tuple[StorageAddress, int] | None:
    """Storage of the folder's trials, and how many of them another storage lacks; None where that loses none."""
    record, own = folder.read(), str(folder.journal)
    source, target = with_password(record.get("storage") or own), storage or own
    if StorageAddress(source).kept == StorageAddress(target).kept:
        return None
    try:
        lacks = sum(pair.lacks for pair in _pairs(source, target, record["description"]["name"]))
    except NothingStoredError:
        return None
    except StoreError as error:
        raise StoreError(
            f"{error}; the trials of {folder.path} are there, says its study.json: if nothing was ever stored there, "
            "remove that file"
        ) from error
    return (StorageAddress(source), lacks) if lacks else None


@dataclass(frozen=True)
class _Pair:
    """Study in both storages; `target` is None where the target does not have it yet."""

    name: str
    objectives: tuple[Objective, ...]
    source: Store
    target: Store | None

    @property
    def lacks(self) -> int:
        """Number of trials that a copy would add; StoreError where the target holds others."""
        return self.target.lacks(self.source) if self.target else len(self.source.appended())


def _pairs(source: str, target: str, name: str) -> list[_Pair]:
    """Studies of a run in both storages, its search last; nothing is written."""
    pairs = []
    for study, objectives in _studies(source, name).items():
        held, copied = Store.open(source, study, objectives, create=False), None
        with contextlib.suppress(NothingStoredError):
            copied = Store.open(target, study, objectives, create=False, copying=True)
        pairs.append(_Pair(study, objectives, held, copied))
    return pairs


def _copy(source: str, target: str, name: str, note: Mapping[str, Any]) -> int:
    """Copy all studies of a run, and return the number of new trials; onto itself only the note is written."""
    if StorageAddress(source).kept == StorageAddress(target).kept:
        search = f"{name}-search"
        Store.open(source, search, _studies(source, name)[search], create=False).set_note(_NOTE, dict(note))
        return 0
    pairs = _pairs(source, target, name)
    count = sum(pair.lacks for pair in pairs)
    stores = []
    for pair in pairs:
        stores.append(pair.target or Store.open(target, pair.name, pair.objectives, copying=True))
        stores[-1].copy(pair.source)
    stores[-1].set_note(_NOTE, dict(note))
    for store in stores:  # the search last: without it there is no run
        store.copied()
    return count


def _studies(storage: str, name: str) -> dict[str, tuple[Objective, ...]]:
    """Studies of a run in a storage, by name, with their objectives; its search comes last."""
    own = re.compile(re.escape(name) + r"-(search|report(-[0-9a-f]{8})?|(measured|published)-[0-9a-f]{8})")
    held = {study: objectives for study, objectives in Store.held(storage).items() if own.fullmatch(study)}
    if f"{name}-search" not in held:
        raise NothingStoredError(f"{StorageAddress(storage)} holds no run of {name!r}")
    return {study: held[study] for study in sorted(held, key=lambda study: study.endswith("-search"))}


def _note(source: str, name: str) -> dict[str, Any]:
    """Read and check the note that `copy_run` wrote beside the trials."""
    search = f"{name}-search"
    note = Store.open(source, search, _studies(source, name)[search], create=False).note(_NOTE)
    if note is None:
        raise StoreError(
            f"{StorageAddress(source)} holds trials of {name!r} and not the record of its run: "
            f"`searchkit copy` of its folder to this storage adds it"
        )
    try:
        record, files = note["record"], note["files"]
        right = all(isinstance(record[key], kind) for key, kind in _RECORD.items()) and isinstance(files, dict)
        for kind in ("objectives", "front_objectives"):
            list(map(Objective.described, record[kind]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{StorageAddress(source)}: the record of {name!r} is damaged: {error!r}") from None
    if not right or record["description"].get("name") != name:
        raise StoreError(f"{StorageAddress(source)}: the record of {name!r} is damaged or that of another run")
    return dict(note)


def _predictions(folder: Folder) -> dict[str, str]:
    """The predictions as a text, if there are any, and not too many for a note."""
    path = folder.predictions
    fits = path.exists() and path.stat().st_size <= _MOST
    return {_PREDICTIONS: base64.b64encode(path.read_bytes()).decode()} if fits else {}


def _decoded(text: Any, source: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{StorageAddress(source)}: the predictions of the run are damaged: {error}") from None


def _files(folder: Folder) -> dict[str, Path]:
    """Files of a run that it needs to be resumed, trials aside."""
    return {"calibration": folder.calibration} | {
        phase: folder.seconds(phase) for phase in ("train", "search", "report")
    }
