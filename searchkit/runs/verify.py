"""Verification of a run: its stored results, its replay, and values measured again."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from searchkit._checks import check_count
from searchkit._progress import Progress, silent
from searchkit.errors import NothingStoredError, StoreError, StudyError
from searchkit.evaluate.baselines import baselines
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.records import Measured, Trial
from searchkit.report.results import PUBLISHED, Results
from searchkit.runs.benches import evaluator
from searchkit.runs.config import Conditions
from searchkit.runs.folder import IDENTIFIED, Folder, changes, code_unknown, same_study, stored_objectives
from searchkit.runs.published import noted
from searchkit.runs.results import DUPLICATES, counts, gathered
from searchkit.runs.search_phase import FOUND
from searchkit.runs.session import Session
from searchkit.runs.study_file import load
from searchkit.search import steady
from searchkit.search.generational import check_replay
from searchkit.space import Space
from searchkit.space.levels import MOST_LAYERS
from searchkit.storage.address import with_password
from searchkit.storage.store import Store
from searchkit.training.cache import RECORD, fingerprint

log = logging.getLogger("searchkit.runs.folder")  # whose warnings are shown


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
        trials, duplicates = store.trials(), counts(store.note(DUPLICATES)) or {}
        reported = str(record.get("report", f"{name}-report"))  # absent in runs from before
        store = Store.open(storage, reported, (*objectives[0], *objectives[1]), create=False, fingerprint=fingerprint)
        report, asked = store.trials(), record.get("published")  # absent in runs from before
        published = noted(store, asked) if asked else ()
    except NothingStoredError:
        trials, report, duplicates, published = [], [], {}, None
    compared |= {PUBLISHED: published} if published else {}
    measured = {trial.key: trial for trial in report}
    wanted = {one.key for group in compared.values() for one in group}
    wanted |= {one.key for one in Front.of(trials, objectives[0]).members}
    if published is None or not wanted <= measured.keys():
        raise StudyError(f"{folder.path}: the run is not finished; go on with `{_command(folder, record)}`")
    return gathered(folder, record["description"], objectives, compared, trials, measured, duplicates)


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
    return (f"cd {shlex.quote(home)} && " if elsewhere else "") + shlex.join(words)


def replayed(folder: Folder) -> int:
    """Replay the stored outcomes, and return the number of asks, all equal to the stored ones; else StoreError."""
    session = reopened(folder, Conditions(runs=folder.path.parent))
    study, store = session.study, session.stores.open("search", create=False)
    trials = store.appended()
    engine = study.engine.start(_space(session, store), study.objectives, study.seed)
    if study.engine.steady:
        steady.replayed(engine, steady.in_flight(store) if trials else 1, trials)
        return len(trials)
    done, stored, met = {trial.key: trial for trial in trials}, {one.ask.number: one for one in trials}, set[str]()
    while len(met) < len(done):
        asks = engine.ask(study.engine.population)
        check_replay(asks, stored)
        met |= {ask.key for ask in asks} & done.keys()
        if not asks or any(ask.key not in done for ask in asks):
            break
        engine.tell([done[ask.key] for ask in asks])
    if len(met) < len(done):
        raise StoreError(
            f"{folder.path}: the storage holds {len(done) - len(met)} trials that the engine never asks for"
        )
    return len(met)


def _space(session: Session, store: Store) -> Space:
    """Space of the search, with the start that its store keeps; nothing is trained.

    In runs from before, the start of a cached supernet; where there is none, that of recipes which give none.
    """
    start = store.note(FOUND)
    name = fingerprint(session.study.supernet, session.study.task, session.study.seed)
    if start is None and any((session.conditions.runs / "supernets").glob(f"{name}*/{RECORD}")):
        return session.space
    starts = start if isinstance(start, dict) else {}
    values = {key: tuple(value) for key, value in starts.items() if isinstance(value, list)}
    return session.study.bound_space.started(values)


def measured_again(folder: Folder, count: int, conditions: Conditions, progress: Progress = silent) -> int:
    """Measure stored trials, spread over the search, again; StoreError for the first value that differs.

    Timed objectives are left out: they never repeat exactly. The conditions have to be those of the run.
    """
    session = reopened(folder, conditions, progress)
    exact = [objective for objective in session.study.objectives if not objective.exclusive]
    trials = [
        trial for trial in session.stores.open("search", create=False).trials() if isinstance(trial.outcome, Measured)
    ]
    chosen = trials[:: max(1, len(trials) // count)][:count]
    before = {trial.key: trial for trial in chosen}
    with session.placement.in_force(), evaluator(session, "search", exact, len(chosen)) as workers:
        for number, now in enumerate(workers.run([trial.ask for trial in chosen]), start=1):
            progress("verify", number, len(chosen))
            _same(before[now.key], now, exact)
    return len(chosen)


def _same(before: Trial, now: Trial, objectives: Sequence[Objective]) -> None:
    changed = {name for name in now.environment if now.environment[name] != before.environment.get(name)}
    where = f" (the environment differs in {', '.join(sorted(changed))})" if changed else ""
    for objective in objectives:
        assert isinstance(before.outcome, Measured)
        was = before.outcome.estimates[objective.name].value
        value = now.outcome.estimates[objective.name].value if isinstance(now.outcome, Measured) else now.outcome
        if value != was:
            raise StoreError(f"ask {now.ask.number}: {objective.name} was {was} and is now {value}{where}")


def reopened(folder: Folder, conditions: Conditions, progress: Progress = silent) -> Session:
    """Reopen the run of a folder, its study loaded from its file; StudyError if that describes another study now."""
    record = folder.read()
    storage = record["storage"] and with_password(record["storage"])
    if record["file"] is None:
        raise StudyError(
            f"{folder.path}: the study of this run was made in Python, and `searchkit verify` and `searchkit measure` "
            "load it from a file: write one that defines study(), and `searchkit run` it once"
        )
    ran_in = [Path(record["cwd"])] if "cwd" in record else []  # absent in runs from before
    loaded = load(record["file"], record["parameters"], ran_in, [folder.path.absolute().parent.parent])
    # the folder itself, also where it was renamed or copied since
    session = Session(loaded, replace(conditions, storage=storage), progress, folder)
    if not same_study(record, session.description):
        changed = changes(record, session.description)
        raise StudyError(
            f"{record['file']} describes another study than the one that ran in {folder.path} (different: {changed})"
        )
    if unknown := code_unknown(folder, session.description):
        log.warning("%s", unknown)
    return session
