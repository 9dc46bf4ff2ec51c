"""Trials in and out of an Optuna storage, the only state of a search. Optuna appears here and in `shown.py` only."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from searchkit.errors import NothingStoredError, SearchkitError, StoreError
from searchkit.objective import Objective
from searchkit.records import Scalar, Trial
from searchkit.storage import sql
from searchkit.storage.address import StorageAddress
from searchkit.storage.journal import Journal
from searchkit.storage.optuna_trials import RECORD, Shown

logger = logging.getLogger(__name__)

_OBJECTIVES: Final = "searchkit:objectives"
_COPYING: Final = "searchkit:copying"  # true while a copy is under way, or was interrupted
_METRIC_NAMES: Final = "study:metric_names"  # where Optuna's Study.set_metric_names puts them
_DIRECTIONS: Final = {"higher": StudyDirection.MAXIMIZE, "lower": StudyDirection.MINIMIZE}


class Store:
    """The trials of one study.

    * `append` returns when the trial is on disk (journal) or committed (SQL): a kill afterwards loses nothing, a kill
      during it loses at most that trial. Its cost does not grow with the number of trials on a journal.
    * `trials` gives back records equal to those appended, by ask number, also to processes that only look on.
    * No ask number and no candidate is stored twice: `StoreError`. Should two processes append to one study, the one
      that comes second stops with `StoreError` and has written nothing; should they manage to do it at the same
      moment, of two equal asks the first counts.
    * Notes are JSON beside the trials, under a name; a later one replaces an earlier one.
    * A database that goes away is waited for, up to a minute; what was committed just before is not written again.
    * Whatever keeps the storage from doing this is a `StoreError` in one line, without passwords.
    """

    def __init__(self, storage: BaseStorage, study: int, where: StorageAddress, shown: Shown) -> None:
        self._storage = storage
        self._study = study
        self._where = where
        self._shown = shown
        self._known: _Known | None = None
        weakref.finalize(self, _close, storage)

    @classmethod
    def open(
        cls,
        storage: str,
        name: str,
        objectives: Sequence[Objective],
        *,
        create: bool = True,
        choices: Mapping[str, Sequence[Scalar]] | None = None,
        copying: bool = False,
    ) -> Store:
        """The study `name` in `storage`: the path of a journal file, or a URL (sqlite:///run.db, postgresql://...).

        Without `create` nothing is made and nothing written. `choices` lists the legal values of dimensions that are
        not numbers, by dimension, so that Optuna shows them as categories. `copying` is for who fills it by `copy`.
        StoreError where the storage cannot be used, the study was made for other objectives or is an unfinished copy;
        NothingStoredError where it is missing and not to be created.
        """
        where = StorageAddress(storage)

        def opened(attempt: int) -> tuple[BaseStorage, int]:
            backend = _open(where, create)
            try:
                return backend, _open_study(backend, name, objectives, where, create, copying)
            except BaseException:
                _close(backend)
                raise

        with where.stop("cannot open"), _quiet(), _uncollected():
            backend, study = sql.patiently(opened, where)
        return cls(backend, study, where, Shown(tuple(item.name for item in objectives), dict(choices or {})))

    @classmethod
    def held(cls, storage: str) -> dict[str, tuple[Objective, ...]]:
        """The studies of searchkit in a storage, by name, with their objectives, which cannot measure."""
        where = StorageAddress(storage)
        with where.stop("cannot read"):
            backend = sql.patiently(lambda attempt: _open(where, create=False), where)
            try:
                studies = {one.study_name: one.user_attrs.get(_OBJECTIVES) for one in backend.get_all_studies()}
            finally:
                _close(backend)
            return {name: tuple(map(Objective.described, held)) for name, held in sorted(studies.items()) if held}

    def append(self, trial: Trial) -> None:
        """Store the trial for good."""
        known = self._known or self._read()[0]
        known.refuse(trial.ask.number, trial.key, self._where)
        self._add(self._shown.frozen(trial), known, f"cannot store ask {trial.ask.number} in")
        known.add(trial.ask.number, trial.key)

    def trials(self) -> list[Trial]:
        """Every trial, by ask number."""
        return sorted(self.appended(), key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        """Every trial, in the order in which they were appended."""
        return self._read()[1]

    def lacks(self, source: Store) -> int:
        """How many trials a copy of the source would add; StoreError unless those here are the first ones there."""
        here, there = self._rows(), source._rows()
        if [_text(row) for row in here] != [_text(row) for row in there[: len(here)]]:
            raise StoreError(
                f"{self._where} already holds this study with other trials ({len(here)}, {len(there)} in "
                f"{source._where}): choose another storage"
            )
        return len(there) - len(here)

    def copy(self, source: Store) -> None:
        """Add what the source holds and this store does not: trials as they are, and notes.

        Until `copied` is called nobody can open this study but to go on copying, also after a kill.
        """
        lacks, rows = self.lacks(source), source._rows()
        self._set(_COPYING, True)
        known = _Known(rows=len(rows) - lacks)
        for row in rows[known.rows :]:
            self._add(row, known, "cannot copy to")
        for name, value in source.notes().items():
            self.set_note(name, value)
        self._known = None

    def copied(self) -> None:
        """The copy is whole."""
        self._set(_COPYING, False)

    def set_note(self, name: str, value: Any) -> None:
        """Keep `value` (JSON) under the name, durably."""
        if name.startswith(RECORD):
            raise ValueError(f"names of notes that begin with {RECORD!r} are the store's own, got {name=}")
        self._set(name, value)

    def note(self, name: str) -> Any:
        """The note of that name as JSON gives it back (lists for tuples), None where there is none."""
        return self.notes().get(name)

    def notes(self) -> dict[str, Any]:
        """All notes, by name."""
        with self._where.stop("cannot read"):
            held = sql.patiently(lambda attempt: self._storage.get_study_user_attrs(self._study), self._where)
        return {name: value for name, value in held.items() if not name.startswith(RECORD)}

    def _set(self, name: str, value: Any) -> None:
        with self._where.stop(f"cannot store the note {name!r} in"):
            sql.patiently(lambda attempt: self._storage.set_study_user_attr(self._study, name, value), self._where)

    def _add(self, row: FrozenTrial, known: _Known, what: str) -> None:
        """Store the row as the next one, once, whatever happens to the connection."""

        def put(attempt: int) -> bool:
            there = self._row(known.rows)
            if there is not None:  # by an earlier try, whose answer never came, or by something else
                return attempt > 0 and _text(there) == _text(row)
            made = self._storage.create_new_trial(self._study, row)
            return self._storage.get_trial_id_from_study_id_trial_number(self._study, known.rows) == made

        with self._where.stop(what):
            mine = sql.patiently(put, self._where)
        if not mine:
            raise StoreError(
                f"something else is appending to this study in {self._where}, perhaps a second run of it: stop one of "
                "them, then try again"
            )
        known.rows += 1

    def _row(self, number: int) -> FrozenTrial | None:
        try:
            row = self._storage.get_trial_id_from_study_id_trial_number(self._study, number)
        except KeyError:
            return None
        return self._storage.get_trial(row)

    def _rows(self) -> list[FrozenTrial]:
        """Every row, in order; they are the storage's own, not to be changed."""
        with self._where.stop("cannot read"):
            return sql.patiently(lambda attempt: self._storage.get_all_trials(self._study, deepcopy=False), self._where)

    def _read(self) -> tuple[_Known, list[Trial]]:
        with _uncollected():
            return self._read_rows()

    def _read_rows(self) -> tuple[_Known, list[Trial]]:
        rows = self._rows()
        known, trials = _Known(rows=len(rows)), []
        for row in rows:
            trial = self._trial(row)
            number, key = trial.ask.number, row.user_attrs["key"]
            if known.keys.get(number) == key:
                logger.warning("%s holds ask %d twice: the first counts", self._where, number)
                continue
            known.refuse(number, key, self._where)
            known.add(number, key)
            trials.append(trial)
            self._shown.learn(row.distributions)
        self._known = known
        return known, trials

    def _trial(self, row: FrozenTrial) -> Trial:
        try:
            trial = Trial.from_json(row.user_attrs[RECORD])
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"trial {row.number} in {self._where} is no record of searchkit: {error!r}") from None
        if row.user_attrs.get("key") != trial.key or row.values != self._shown.outcome(trial)[1]:
            raise StoreError(
                f"trial {row.number} in {self._where} is damaged: its record says something else than what stands "
                "beside it. Restore the storage from a copy"
            )
        return trial


@dataclass
class _Known:
    """What a store knows to be in its study: the number of rows, and which asks and candidates they hold."""

    rows: int
    keys: dict[int, str] = field(default_factory=dict)  # by ask number
    numbers: dict[str, int] = field(default_factory=dict)  # by key of the candidate

    def add(self, number: int, key: str) -> None:
        self.keys[number] = key
        self.numbers[key] = number

    def refuse(self, number: int, key: str, where: StorageAddress) -> None:
        """StoreError if the ask or its candidate is there already."""
        if number in self.keys:
            raise StoreError(f"{where} already holds ask {number}, candidate {self.keys[number]}; now came {key}")
        if key in self.numbers:
            raise StoreError(f"{where} already holds candidate {key}, ask {self.numbers[key]}; now came ask {number}")


def _text(row: FrozenTrial) -> str:
    """The record of a row, to compare."""
    return json.dumps(row.user_attrs.get(RECORD), sort_keys=True)


class _Lines(BaseJournalBackend):
    """A `Journal` in the words of Optuna."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._journal.read(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._journal.append(logs)


def _open(where: StorageAddress, create: bool) -> BaseStorage:
    return _open_sql(where, create) if where.is_url else _open_journal(where, create)


def _close(storage: BaseStorage) -> None:
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()


def _open_journal(where: StorageAddress, create: bool) -> BaseStorage:
    path = Path(where.storage)
    if not create and not path.exists():
        raise NothingStoredError(f"there is no store at {where}")
    journal = Journal.create(path) if create else Journal(path)
    try:
        return JournalStorage(_Lines(journal))
    except (OSError, SearchkitError):
        raise
    except Exception as error:
        raise StoreError(f"{where}, line {journal.line} is damaged: no record of an Optuna journal") from error


def _open_sql(where: StorageAddress, create: bool) -> BaseStorage:
    url, options = sql.address(where, create)
    if not create and not sql.has_tables(url, options):
        raise NothingStoredError(f"there is no store at {where}: the database is empty")
    storage = RDBStorage(
        url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it as a template
        {"connect_args": options},
        skip_compatibility_check=sql.answered(where),  # it takes long, and was made then
        skip_table_creation=not create,
    )
    sql.tell_apart(storage.engine)
    return storage


def _open_study(
    storage: BaseStorage, name: str, objectives: Sequence[Objective], where: StorageAddress, create: bool, copying: bool
) -> int:
    """The number of the study in its storage, made or checked."""
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        if not create:
            others = ", ".join(sorted(item.study_name for item in storage.get_all_studies())) or "none"
            raise NothingStoredError(f"{where} holds no study {name!r} (it holds: {others})") from None
        study = storage.create_new_study([_DIRECTIONS[item.better] for item in objectives], name)
    asked = [item.describe() for item in objectives]
    attributes = storage.get_study_user_attrs(study)
    held = attributes.get(_OBJECTIVES)
    if attributes.get(_COPYING) and not copying:
        raise StoreError(f"study {name!r} in {where} is an unfinished copy: run the same export or import again")
    if held is None and create and storage.get_n_trials(study) == 0:  # new, or its maker was killed right here
        storage.set_study_system_attr(study, _METRIC_NAMES, [item.name for item in objectives])
        storage.set_study_user_attr(study, _OBJECTIVES, asked)
    elif held != asked:
        raise StoreError(
            f"study {name!r} in {where} was made for {_spoken(held)}, not for {_spoken(asked)}: "
            "keep its objectives, or start anew under another name"
        )
    return study


def _spoken(objectives: Sequence[Mapping[str, str]] | None) -> str:
    if objectives is None:
        return "no objectives of searchkit"
    return ", ".join(f"{item['name']} ({item['unit']}, {item['better']} is better)" for item in objectives)


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna announces every new study on the terminal; not while we make ours."""
    optuna = logging.getLogger("optuna")
    level = optuna.level
    optuna.setLevel(logging.WARNING)
    try:
        yield
    finally:
        optuna.setLevel(level)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Reading a store makes millions of objects and no cycles: the collector would look at them over and over."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
