"""Paces: seconds that phases of runs took on this machine, for estimates before a phase begins."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from searchkit._internal.code import digest
from searchkit._internal.files import held_lock, replace_whole
from searchkit.errors import NothingStoredError, StoreError
from searchkit.runs.session import Session

KEPT: Final = 200  # newest paces in the file


def expected_s(session: Session, phase: str, work: float) -> float | None:
    """Seconds that this work is expected to take; None where nothing like it was measured here before.

    phase: "train", "search" or "report"; work: as `training_work` or `measuring_work` say. What is alike has the same
    model, data (any number of its rows), environment and number of workers, and the same recipe but for its epochs, or
    the same objectives.
    """
    known = _read(session).get(_key(session, phase))
    return None if known is None else known[0] * work / known[1]


def in_words(seconds: float | None) -> str:
    """Text such as `about 0:02:10`."""
    return "time unknown" if seconds is None else f"about {timedelta(seconds=max(1, round(seconds)))}"


@contextmanager
def paced(session: Session, phase: str) -> Iterator[None]:
    """Keep the pace of what is measured within it, of "search" or "report"; nothing where nothing was measured."""
    before, begun = _measured(session, phase), time.monotonic()
    yield
    if made := _measured(session, phase) - before:
        keep(session, phase, time.monotonic() - begun, measuring_work(session, phase, made))


def keep(session: Session, phase: str, seconds: float, work: float) -> None:
    """Keep a pace, in place of an earlier one of its kind; where nothing can be written, none."""
    file = _file(session)
    with suppress(OSError, StoreError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with held_lock(file.with_name(f".{file.name}.lock"), lambda: None, every_s=0.05):
            known = _read(session)
            known.pop(_key(session, phase), None)
            newest = [*known.items(), (_key(session, phase), (seconds, work))][-KEPT:]
            replace_whole(file, (json.dumps(dict(newest)) + "\n").encode())


def training_work(session: Session) -> float:
    """Rows of the train split times the epochs of all stages."""
    return len(session.tables.train) * _epochs(session.description["supernet"]["recipe"])


def measuring_work(session: Session, phase: str, candidates: int) -> float:
    """Rows of the split times candidates; candidates alone where some are timed, which takes the time then."""
    study = session.study
    objectives = (*study.objectives, *(study.front_objectives if phase == "report" else ()))
    return candidates * (1 if any(each.exclusive for each in objectives) else len(session.tables[phase]))


def _epochs(settings: Any) -> float:
    """Sum of all epochs of a recipe and of those that it starts with; at least 1."""
    counts = [value for name, value in _flat(settings) if name.endswith("epochs")]
    return max(1.0, float(sum(counts)))


def _flat(settings: Any) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        yield from _flat(value) if isinstance(value, Mapping) else [(name, value)]


def _without(settings: Any, ending: str) -> Any:
    """JSON without the fields of this ending, at any depth."""
    if isinstance(settings, Mapping):
        return {name: _without(value, ending) for name, value in settings.items() if not name.endswith(ending)}
    return settings


def _key(session: Session, phase: str) -> str:
    about, placement = session.description, session.placement
    work = about["supernet"] if phase == "train" else about["objectives"]
    fronts = [objective.describe() for objective in session.study.front_objectives] if phase == "report" else []
    return digest(
        {
            "phase": phase,
            "work": [_without(work, "epochs"), fronts],
            "model": about["supernet"]["model"],
            "task": _without(about["task"], "limit"),
            "environment": placement.environment,
            "workers": session.conditions.workers,
        }
    )


def _measured(session: Session, phase: str) -> int:
    """Evaluations in the store of a split."""
    try:
        trials = session.stores.open(phase, create=False).trials()
    except NothingStoredError:
        return 0
    return sum(trial.is_evaluation for trial in trials)


def _file(session: Session) -> Any:
    return session.conditions.runs / "supernets" / "paces.json"


def _read(session: Session) -> dict[str, tuple[float, float]]:
    """Kept paces; none where the file is missing or damaged, since they decide nothing."""
    try:
        known = json.loads(_file(session).read_text())
        return {str(key): (float(seconds), float(work)) for key, (seconds, work) in known.items() if work > 0}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
