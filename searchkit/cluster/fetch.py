"""Copy of a run from a URL or a shared folder to this machine: whole, or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from searchkit._internal.files import replace_whole
from searchkit.errors import StoreError, StudyError
from searchkit.storage.remote import Part, Remote, copied


def fetch(runs: str, study: str, into: Path, file: str) -> tuple[int, int]:
    """Copy the run folder of a study from a URL or a shared folder to `into`: whole, or not at all.

    Returns (files, bytes). What is only in `into` stays there. The study's file, which was elsewhere on the cluster,
    becomes `file`. StudyError if nothing is there yet or `into` holds another run; StoreError if it cannot be had.
    """
    into = into.resolve()
    new, old = (into.with_name(f".{into.name}.{what}") for what in ("fetching", "before"))
    if old.exists() and not into.exists():  # a fetch was cut off between its last two steps
        os.rename(old, into)
    with _unused(into):
        if "://" not in runs and Path(runs, study).resolve() == into:
            _at_home(into / "study.json", file)
            files = Part.run(study).local(into.parent)
            return len(files), sum(size for size, _ in files.values())
        shutil.rmtree(new, ignore_errors=True)
        names = _all(runs, study, new)
        if not names:
            raise StudyError(f"{runs}/{study}: nothing is there yet; `searchkit status` says how far the job is")
        _refuse_to_lose(into, new / study)
        _at_home(new / study / "study.json", file)
        size = sum((new / name).stat().st_size for name in names)
        for name in Part.run(into.name).local(into.parent):
            kept = new / study / PurePosixPath(name).relative_to(into.name)
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(into.parent / name, kept)
        shutil.rmtree(old, ignore_errors=True)
        os.rename(into, old)
        os.rename(new / study, into)
        shutil.rmtree(old)
        new.rmdir()
    return len(names), size


def _all(runs: str, study: str, into: Path) -> list[str]:
    """Copy the run's files to `into`, and return their names."""
    if "://" in runs:
        return copied(Remote(runs), Part.run(study), into)
    names = list(Part.run(study).local(Path(runs)))
    try:
        for name in names:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(Path(runs, name), into / name)
    except OSError as error:
        raise StoreError(f"{runs}/{study} cannot be copied: {error.strerror}: {error.filename}") from error
    return names


def _refuse_to_lose(into: Path, new: Path) -> None:
    """Raise StudyError unless the trials here are the first of the trials there."""
    own, fetched = into / "journal.log", new / "journal.log"
    if not own.exists():
        return
    known = own.read_bytes().rpartition(b"\n")[0]
    with fetched.open("rb") if fetched.exists() else open(os.devnull, "rb") as file:
        if file.read(len(known)) != known:
            raise StudyError(f"{into} holds trials that the submitted run does not have: move it away first")


def _at_home(record: Path, file: str) -> None:
    """Replace the path of the study's file in the run's record."""
    if record.exists():
        replace_whole(record, json.dumps({**json.loads(record.read_text()), "file": file}, indent=2).encode())


@contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Raise StoreError if a process runs a study in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreError(f"{folder}: another process is running this study") from None
        yield
