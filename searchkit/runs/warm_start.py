"""Warm start: a search begins with the front of an earlier run, mapped to its own space, and keeps it.

The candidates are a note beside the trials, so that the search goes on with them whatever becomes of the earlier run.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit._internal.checks import check_count, json_count, json_of
from searchkit.errors import NothingStoredError, StoreError, StudyError
from searchkit.front import Front
from searchkit.records import Candidate
from searchkit.runs.folder import Folder
from searchkit.runs.status import read_trials
from searchkit.space.levels import MOST_LAYERS
from searchkit.space.mapping import SpaceMap

if TYPE_CHECKING:
    from searchkit.engines.base import EngineConfig
    from searchkit.runs.session import Session
    from searchkit.storage.store import Store

log = logging.getLogger("searchkit.runs.folder")  # the logger whose warnings are shown

WARM_START: Final = "warm_start"  # the note in the store of a search


@dataclass(frozen=True)
class WarmStart:
    """First candidates of a search, from the front of an earlier run.

    run: as it was named; fingerprint: of its study; front: members of its front; distinct: of these, once they are
    mapped; candidates: those of them that the search begins with
    """

    run: str
    fingerprint: str
    front: int
    distinct: int
    candidates: tuple[Candidate, ...]

    def __str__(self) -> str:
        count = len(self.candidates)
        text = f"{count} candidate{'' if count == 1 else 's'} of run {self.run}"
        if count < self.distinct:
            return f"{text} (spread over the cost of its front of {self.front})"
        return f"{text} (its front has {self.front}, some the same in this space)" if count < self.front else text

    def keep(self, store: Store) -> None:
        """Keep it beside the trials of the search."""
        if store.note(WARM_START) is None:
            fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
            candidates = [candidate.to_json() for candidate in self.candidates]
            store.set_note(WARM_START, fields | {"candidates": candidates})

    @classmethod
    def from_note(cls, note: Any) -> WarmStart | None:
        """Read the note; None where there is none, StoreError where it is damaged."""
        if note is None:
            return None
        try:
            run, fingerprint = json_of(note["run"], str), json_of(note["fingerprint"], str)
            candidates = tuple(map(Candidate.from_json, json_of(note["candidates"], list)))
            return cls(run, fingerprint, json_count(note["front"]), json_count(note["distinct"]), candidates)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the note {WARM_START!r} beside the trials is damaged: {error!r}") from error


def chosen(session: Session, *, mended: bool) -> WarmStart | None:
    """Choose the first candidates of the session's search; None: its store says, or those of its engine alone.

    Nothing is written. StudyError where `--warm-start` names no finished search that this one can begin with, or
    another one than this search has begun with. mended: its store starts anew, and what is chosen goes there
    """
    given = session.conditions.warm_start
    if given is None and not mended:
        return None
    store = _begun(session, mended)
    noted = None if store is None else WarmStart.from_note(store.note(WARM_START))
    if given is None:
        return noted
    folder = _folder(given, session.conditions.runs)
    if noted is not None:
        _check_same(noted, given, folder, session.folder)
        return noted
    if store is not None and store.appended():
        raise StudyError(
            f"{session.folder.path} has begun without --warm-start: leave it out to go on, or begin a run of its own "
            "under another name or --runs folder"
        )
    if folder is None:
        raise StudyError(f"--warm-start {given}: no run folder, and none of that name in {session.conditions.runs}")
    start = _read(given, folder, session)
    if len(start.candidates) < start.front:
        log.warning("the search begins with %s", start)
    return start


def begun_with(engine: EngineConfig, store: Store) -> EngineConfig:
    """The study's engine, with the first candidates that the search of the store began with."""
    noted = WarmStart.from_note(store.note(WARM_START))
    if noted is None:
        return engine
    log.info("the search began with %s", noted)
    return _beginning_with(engine, noted.candidates)


def _beginning_with(engine: EngineConfig, candidates: Sequence[Candidate]) -> EngineConfig:
    """A copy of the engine that asks for its own first candidates, and then for these."""
    config: Any = engine
    if "first" not in getattr(engine, "__dataclass_fields__", ()):
        raise StudyError(f"--warm-start: the engine {type(engine).__name__} takes no first candidates, NSGA2() does")
    changed: EngineConfig = dataclasses.replace(config, first=(*config.first, *candidates))
    return changed


def _begun(session: Session, mended: bool) -> Store | None:
    """The store of the search, `mended` also that of its code from before; None where there is none yet."""
    from searchkit.storage.store import Store

    study, fingerprint = session.study, None if mended else session.fingerprint
    with suppress(NothingStoredError):
        name = f"{study.name}-search"
        return Store.open(session.storage, name, study.objectives, create=False, fingerprint=fingerprint)
    return None


def _folder(given: str, runs: Path) -> Folder | None:
    """Folder of the run: the path itself, or the run of that name; None where neither is one."""
    folders = (Folder(Path(given)), Folder(runs / given))
    return next((folder for folder in folders if folder.study.exists()), None)


def _check_same(noted: WarmStart, given: str, folder: Folder | None, own: Folder) -> None:
    """Raise StudyError where the run is another one than was noted; one that is gone is known by its name."""
    same = Path(noted.run).name == Path(given).name
    if folder is not None:
        same = folder.read()["fingerprint"] == noted.fingerprint
    if not same:
        raise StudyError(
            f"{own.path} began with {noted}, and --warm-start {given} is another run: leave it out to go on, or begin "
            "a run of its own under another name or --runs folder"
        )


def _read(given: str, folder: Folder, session: Session) -> WarmStart:
    """The front of the run, mapped to the session's space; at most a first generation, spread over the cost."""
    study, stored = session.study, read_trials(folder)
    if stored.ended is None:
        raise StudyError(f"--warm-start {given}: its search is not finished; go on with it first")
    front = Front.of(stored.search, stored.objectives).members
    if not front:
        raise StudyError(f"--warm-start {given}: it has no front, none of its candidates was measured")
    described, layers = _space(folder, stored.record)
    to_space = SpaceMap(described, layers, study.bound_space, study.supernet.layers)
    try:
        mapped = list(dict.fromkeys(to_space(member.ask.candidate) for member in front))
    except ValueError as error:
        raise StudyError(f"--warm-start {given}: {error}") from None
    generation = max(study.engine.population, getattr(study.engine, "initial", 0))
    most = min(len(mapped), generation)
    spread = np.linspace(0, len(mapped) - 1, most).round().astype(int)  # cheapest first
    candidates = tuple(mapped[index] for index in spread)
    _beginning_with(study.engine, candidates)  # refused now, not after the training
    return WarmStart(given, stored.record["fingerprint"], len(front), len(mapped), candidates)


def _space(folder: Folder, record: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """The space of a run's candidates as JSON, and the layers of its encoder; StoreError where they are not there."""
    try:
        described = json_of(record["description"]["space"], dict)
        for own in json_of(described["dimensions"], list):
            json_of(own["dimension"], str)
        check_count("layers", record.get("layers"), MOST_LAYERS)
    except (KeyError, TypeError, StudyError) as error:
        raise StoreError(f"{folder.study}: not written by searchkit: its space: {error!r}") from error
    return described, record["layers"]
