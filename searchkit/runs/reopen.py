"""The run of a folder opened again, its study loaded from its file."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from searchkit._internal.progress import Progress, silent
from searchkit.errors import StudyError
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder, changes, code_unknown, same_study
from searchkit.runs.runtimes import Runtime
from searchkit.runs.session import Session
from searchkit.runs.study_file import load
from searchkit.storage.address import with_password
from searchkit.training.cache import RECORD, fingerprint

log = logging.getLogger("searchkit.runs.folder")  # the logger whose warnings are shown


def reopened(
    folder: Folder, conditions: Conditions, progress: Progress = silent, runtime: Runtime | None = None
) -> Session:
    """Reopen the run of a folder, its study loaded from its file; StudyError if that describes another study now.

    runtime: of timed passes, where it is not the study's
    """
    record = folder.read()
    storage = record["storage"] and with_password(record["storage"])
    if record["file"] is None:
        raise StudyError(
            f"{folder.path}: the study of this run was made in Python, and `searchkit verify`, `measure`, `ship` "
            "and `words` load it from a file: write one that defines study(), and `searchkit run` it once"
        )
    ran_in = [Path(record["cwd"])] if "cwd" in record else []  # absent in runs from before
    loaded = load(record["file"], record["parameters"], ran_in, [folder.path.absolute().parent.parent])
    # the folder itself, also where it was renamed or copied since
    session = Session(loaded, replace(conditions, storage=storage), progress, folder, runtime)
    if not same_study(record, session.description):
        changed = changes(record, session.description)
        raise StudyError(
            f"{record['file']} describes another study than the one that ran in {folder.path} (different: {changed})"
        )
    if unknown := code_unknown(folder, session.description):
        log.warning("%s", unknown)
    return session


def check_trained(session: Session) -> None:
    """Raise StudyError where the run's supernet is not in the cache, and would be trained anew."""
    name = fingerprint(session.study.supernet, session.study.task, session.study.seed)
    if not any((session.conditions.runs / "supernets").glob(f"{name}*/{RECORD}")):
        raise StudyError(
            f"{session.conditions.runs / 'supernets' / name}: the trained supernet of this run is not there; copy it "
            "back, or train it again with `searchkit train`"
        )
