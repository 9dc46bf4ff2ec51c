"""Results of a finished run, from its records alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from searchkit._internal.checks import check_count
from searchkit.errors import NothingStoredError, StudyError
from searchkit.evaluate.baselines import baselines
from searchkit.front import Front
from searchkit.report.results import PUBLISHED, Results
from searchkit.runs.folder import IDENTIFIED, Folder, stored_objectives, stored_rivals
from searchkit.runs.offered import OFFERED
from searchkit.runs.offered import read as read_offered
from searchkit.runs.published import noted
from searchkit.runs.results import gathered
from searchkit.space.levels import MOST_LAYERS
from searchkit.storage.address import with_password
from searchkit.storage.store import Store


def stored_results(folder: Folder) -> Results:
    """Results of a finished run from its storage, without measuring; StudyError if the report phase is missing.

    Made of records alone: the study's file, whatever it is by now, is not run, and its model and data are not read.
    """
    record = folder.read()
    objectives = stored_objectives(record)
    for size in ("layers", "places"):
        check_count(f"{folder.study}: {size}", record.get(size), MOST_LAYERS)
    compared = baselines(record["layers"], record["places"])
    storage, name = with_password(record["storage"] or str(folder.journal)), record["description"]["name"]
    try:
        fingerprint = record["fingerprint"] if record.get(IDENTIFIED) else None
        store = Store.open(storage, f"{name}-search", objectives[0], create=False, fingerprint=fingerprint)
        trials, notes = store.trials(), store.notes()
        reported = str(record.get("report", f"{name}-report"))  # absent in runs from before
        store = Store.open(storage, reported, (*objectives[0], *objectives[1]), create=False, fingerprint=fingerprint)
        report, with_published = store.trials(), record.get("published")  # absent in runs from before
        published = noted(store, with_published) if with_published else ()
    except NothingStoredError:
        trials, report, notes, published = [], [], {}, None
    compared |= {PUBLISHED: published} if published else {}
    compared |= stored_rivals(record)
    measured = {trial.key: trial for trial in report}
    wanted = {member.key for group in compared.values() for member in group}
    wanted |= {member.key for member in Front.of(trials, objectives[0]).members}
    wanted |= (read_offered(notes.get(OFFERED), len(trials)) or {}).keys()
    if published is None or not wanted <= measured.keys():
        raise StudyError(f"{folder.path}: the run is not finished; go on with `{_command(folder, record)}`")
    return gathered(folder, record["description"], objectives, compared, trials, measured, notes)


def _command(folder: Folder, record: Mapping[str, Any]) -> str:
    """Command line that resumes a run."""
    if record["file"] is None:
        return "searchkit.run(study)"
    words, runs = ["searchkit", "run", record["file"]], folder.path.parent
    home = record.get("cwd", str(Path.cwd()))  # absent in runs from before
    elsewhere = home != str(Path.cwd())
    for name, value in record["parameters"].items():
        words += ["-p", f"{name}={value}"]
    if elsewhere or runs != Path("runs"):
        words += ["--runs", str(runs.absolute() if elsewhere else runs)]
    words += ["--storage", record["storage"]] if record["storage"] else []
    words += ["--workers", str(record["workers"])] if record.get("workers") else []  # absent in runs from before
    words += record.get("options", [])
    return (f"cd {shlex.quote(home)} && " if elsewhere else "") + shlex.join(words)
