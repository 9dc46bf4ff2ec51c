"""Forecast of a run: what it would train, measure and write, and how long that takes, without doing it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from searchkit._internal.progress import counted
from searchkit.errors import NothingStoredError, one_line
from searchkit.evaluate.baselines import baselines
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.reduction.device import device_of
from searchkit.runs.offered import OFFERED, read
from searchkit.runs.opening import checked
from searchkit.runs.paces import expected_s, in_words, measuring_work, training_work
from searchkit.runs.rivals import rivals_of
from searchkit.runs.session import Session
from searchkit.storage.store import Store
from searchkit.training.cache import Trained, cached

OFFERED_USUALLY: Final = 24  # members that a search may find


def forecast(session: Session) -> Iterator[str]:
    """Lines on what a run of the session would do; nothing is trained, measured or written.

    Raises the errors that the run would raise before it begins.
    """
    checked(session)
    study, conditions = session.study, session.conditions
    search, report = _store(session, "search"), _store(session, "report")
    done = sum(trial.is_evaluation for trial in search.trials()) if search else 0
    begun = f"goes on, {counted(done, 'evaluation')} made" if search else "is new"
    yield f"{study.name}, fingerprint {session.fingerprint}: {session.folder.path} {begun}"
    yield one_line(f"task: {type(study.task).__name__}, {len(session.tables.labels)} outputs")
    rows = {split: len(session.tables[split]) for split in ("train", "search", "report")}
    yield f"rows: {rows['train']} to train on, {rows['search']} to search on, {rows['report']} to report on"
    placement = session.placement
    where = f"{device_of(placement.worker_device)}, {placement.dtype_name}, {counted(placement.threads, 'thread')}"
    yield f"on {where}" + (f" each, {counted(conditions.workers, 'worker')}" if conditions.workers else "")
    seconds = [
        _training(session),
        _searching(session, done),
        _reporting(session, search, report, done < study.budget.evaluations),
    ]
    for text, _ in seconds:
        yield text
    known = [each for _, each in seconds]
    whole = None if None in known else sum(each or 0.0 for each in known)
    hint = "; a run with fewer evaluations tells, and is the beginning of the whole one" if whole is None else ""
    yield f"in all: {in_words(whole)}{hint}"


Part = tuple[str, float | None]  # what a phase would do, and its seconds where they are known


def known_supernet(session: Session) -> Trained | None:
    """Supernet in the cache that a run takes instead of training one."""
    study, conditions = session.study, session.conditions
    return cached(
        study.supernet,
        study.task,
        study.seed,
        conditions.runs / "supernets",
        session.placement.driver_device,
        conditions.dtype,
        session.stores.began_with,
    )


def _training(session: Session) -> Part:
    study = session.study
    if found := known_supernet(session):
        return f"train: nothing, the supernet is in the cache ({found.folder})", 0.0
    seconds = expected_s(session, "train", training_work(session))
    model = study.supernet.model if isinstance(study.supernet.model, str) else "a new encoder"
    return f"train: {type(study.supernet.recipe).__name__} on {model}, {in_words(seconds)}", seconds


def _searching(session: Session, done: int) -> Part:
    study = session.study
    left = max(0, study.budget.evaluations - done)
    names = ", ".join(objective.name for objective in study.objectives)
    seconds = expected_s(session, "search", measuring_work(session, "search", left)) if left else 0.0
    engine = type(study.engine).__name__
    length = in_words(seconds) if left else "nothing is left"
    return f"search: {engine} for {names}, until {study.budget}; {left} of them to make, {length}", seconds


def _reporting(session: Session, search: Store | None, report: Store | None, is_searching: bool) -> Part:
    study = session.study
    families = {**baselines(study.supernet.layers, session.slots), **rivals_of(session)}
    compared = {candidate.key for family in families.values() for candidate in family}
    trials = search.trials() if search else []
    front = {trial.key for trial in Front.of(trials, study.objectives)}
    front |= (read(search.note(OFFERED), len(trials)) or {}).keys() if search else set()
    measured = {trial.key for trial in report.trials() if trial.status == "measured"} if report else set()
    members = f"{len(front)} members so far" if front else "the front"
    left = len((compared | front) - measured) + (OFFERED_USUALLY if is_searching else 0)
    timed = [objective for objective in (*study.objectives, *study.front_objectives) if objective.exclusive]
    turns = f"; {', '.join(map(_timed, timed))}, in turns with the unreduced model" if timed else ""
    seconds = expected_s(session, "report", measuring_work(session, "report", left)) if left else 0.0
    return f"report: {members} and {len(compared)} baselines and rivals{turns}, {in_words(seconds)}", seconds


def _timed(objective: Objective) -> str:
    """Name of a timed objective, and how long each candidate is timed."""
    budget_s = objective.timing.budget_s if objective.timing else None
    return f"{objective.name} for up to {budget_s:g} s each" if budget_s else objective.name


def _store(session: Session, split: str) -> Store | None:
    try:
        return session.stores.open(split, create=False)
    except NothingStoredError:
        return None
