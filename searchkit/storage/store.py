"""Store of trials in an Optuna storage, the only state of a search. Optuna appears in this package only."""

from __future__ import annotations

import gc
import json
import logging
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from searchkit.errors import StoreError
from searchkit.objective import Objective
from searchkit.records import Scalar, Trial
from searchkit.storage import sql
from searchkit.storage.address import StorageAddress
from searchkit.storage.backend import COPYING, FINGERPRINT, OBJECTIVES, StudyInStorage, close, open_storage
from searchkit.storage.optuna_trials import RECORD, Shown

logger = logging.getLogger(__name__)


class Store:
    """Trials and notes of one study.

    * `append` returns when the trial is on disk (journal) or committed (SQL): a kill afterwards loses nothing, a kill
      during it loses at most that trial. Its cost does not grow with the number of trials on a journal.
    * `trials` gives back records equal to those appended, by ask number, also to processes that only look on.
    * No ask number and no candidate is stored twice: `StoreError`; a candidate that failed, or lacks a value, may come
      again under another number. Should two processes append to one study, the one
      that comes second stops with `StoreError` and has written nothing; should they manage to do it at the same
      moment, of two equal asks the first counts.
    * Notes are JSON beside the trials, under a name; a later one replaces an earlier one.
    * A database that goes away is waited for, up to a minute; what was committed just before is not written again.
    * Whatever keeps the storage from doing this is a `StoreError` in one line, without passwords.
    """

    def __init__(self, storage: BaseStorage, study: int, address: StorageAddress, shown: Shown) -> None:
        self._storage = storage
        self._study = study
        self._address = address
        self._shown = shown
        self._known: _Known | None = None
        weakref.finalize(self, close, storage)

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
        fingerprint: str | None = None,
        mended: bool = False,
    ) -> Store:
        """Open the study `name` in `storage`: a path of a journal file, or a URL (sqlite:///run.db, postgresql://...).

        Without `create` nothing is made and nothing written. `choices` lists the legal values of dimensions that are
        not numbers, by dimension, so that Optuna shows them as categories. `copying` is for who fills it by `copy`.
        `fingerprint` is that of the searchkit study the trials belong to, kept with them: another one of the same name
        is refused, a store without one takes it. `mended`: a store of another fingerprint starts anew if all its trials
        have failed. StoreError where the storage cannot be used, the study was made for other objectives or belongs to
        another fingerprint, or is an unfinished copy; NothingStoredError where it is missing and not to be created.
        """
        address = StorageAddress(storage)
        wanted = StudyInStorage(name, objectives, fingerprint, create, copying, mended)

        def opened(attempt: int) -> tuple[BaseStorage, int]:
            backend = open_storage(address, create)
            try:
                return backend, wanted.open(backend, address)
            except BaseException:
                close(backend)
                raise

        with address.one_line_errors("cannot open"), _quiet(), _uncollected():
            backend, study = sql.with_retries(opened, address)
        return cls(backend, study, address, Shown(tuple(item.name for item in objectives), dict(choices or {})))

    @classmethod
    def held(cls, storage: str) -> dict[str, tuple[Objective, ...]]:
        """Studies of searchkit in a storage, by name, with their objectives, which cannot measure."""
        address = StorageAddress(storage)
        with address.one_line_errors("cannot read"):
            with address.one_line_errors("cannot open"):
                backend = sql.with_retries(lambda attempt: open_storage(address, create=False), address)
            try:
                studies = {study.study_name: study.user_attrs.get(OBJECTIVES) for study in backend.get_all_studies()}
            finally:
                close(backend)
            return {name: tuple(map(Objective.described, held)) for name, held in sorted(studies.items()) if held}

    def append(self, trial: Trial) -> None:
        """Append the trial durably."""
        known = self._known or self._read()[0]
        known.refuse(trial.ask.number, trial.key, self._address)
        row = self._shown.frozen(trial)
        self._add(row, known, f"cannot store ask {trial.ask.number} in")
        known.add(trial.ask.number, trial.key, row.state)

    def trials(self) -> list[Trial]:
        """Trials by ask number."""
        return sorted(self.appended(), key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        """Trials in the order in which they were appended."""
        return self._read()[1]

    def lacks(self, source: Store) -> int:
        """Number of trials that a copy of the source would add; StoreError unless those here are its first ones."""
        own, theirs = self._rows(), source._rows()
        if self.fingerprint and source.fingerprint and self.fingerprint != source.fingerprint:
            raise StoreError(
                f"{self._address} holds another study of this name (fingerprint {self.fingerprint}, "
                f"{source.fingerprint} in {source._address}): choose another storage"
            )
        if [_text(row) for row in own] != [_text(row) for row in theirs[: len(own)]]:
            raise StoreError(
                f"{self._address} already holds this study with other trials ({len(own)}, {len(theirs)} in "
                f"{source._address}): choose another storage"
            )
        return len(theirs) - len(own)

    def copy(self, source: Store) -> None:
        """Copy the trials and notes that the source has and this store lacks.

        Until `copied` is called nobody can open this study but to go on copying, also after a kill.
        """
        lacks, rows = self.lacks(source), source._rows()
        self._set(COPYING, True)
        known = _Known(rows=len(rows) - lacks)
        for row in rows[known.rows :]:
            self._add(row, known, "cannot copy to")
        for name, value in source.notes().items():
            self.set_note(name, value)
        if source.fingerprint:
            self._set(FINGERPRINT, source.fingerprint)
        self._known = None

    def copied(self) -> None:
        """Mark the copy as complete."""
        self._set(COPYING, False)

    def set_note(self, name: str, value: Any) -> None:
        """Keep `value` (JSON) under the name, durably."""
        if name.startswith(RECORD):
            raise ValueError(f"names of notes that begin with {RECORD!r} are the store's own, got {name=}")
        self._set(name, value)

    def note(self, name: str) -> Any:
        """Read the note of that name from JSON (lists for tuples); None where there is none."""
        return self.notes().get(name)

    def notes(self) -> dict[str, Any]:
        """Notes by name."""
        return {name: value for name, value in self._attributes().items() if not name.startswith(RECORD)}

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the searchkit study that the trials belong to; None in older stores."""
        return self._attributes().get(FINGERPRINT)

    def _attributes(self) -> dict[str, Any]:
        with self._address.one_line_errors("cannot read"):
            return sql.with_retries(lambda attempt: self._storage.get_study_user_attrs(self._study), self._address)

    def _set(self, name: str, value: Any) -> None:
        with self._address.one_line_errors(f"cannot store the note {name!r} in"):
            sql.with_retries(lambda attempt: self._storage.set_study_user_attr(self._study, name, value), self._address)

    def _add(self, row: FrozenTrial, known: _Known, what: str) -> None:
        """Add the row as the next one, exactly once, whatever happens to the connection."""

        def put(attempt: int) -> bool:
            existing = self._row(known.rows)
            if existing is not None:  # written by an earlier try whose answer was lost, or by another process
                return attempt > 0 and _text(existing) == _text(row)
            made = self._storage.create_new_trial(self._study, row)
            return self._storage.get_trial_id_from_study_id_trial_number(self._study, known.rows) == made

        with self._address.one_line_errors(what):
            mine = sql.with_retries(put, self._address)
        if not mine:
            raise StoreError(
                f"something else is appending to this study in {self._address}, perhaps a second run of it: stop one "
                "of them, then try again"
            )
        known.rows += 1

    def _row(self, number: int) -> FrozenTrial | None:
        try:
            row = self._storage.get_trial_id_from_study_id_trial_number(self._study, number)
        except KeyError:
            return None
        return self._storage.get_trial(row)

    def _rows(self) -> list[FrozenTrial]:
        """Rows in order; they are the storage's own, not to be changed."""
        with self._address.one_line_errors("cannot read"):
            return sql.with_retries(
                lambda attempt: self._storage.get_all_trials(self._study, deepcopy=False), self._address
            )

    def _read(self) -> tuple[_Known, list[Trial]]:
        with _uncollected():
            return self._read_rows()

    def _read_rows(self) -> tuple[_Known, list[Trial]]:
        rows = self._rows()
        known, trials = _Known(rows=len(rows)), []
        for row in rows:
            trial = self._trial(row)
            number, key = trial.ask.number, trial.key
            if known.keys.get(number) == key:
                logger.warning("%s holds ask %d twice: the first counts", self._address, number)
                continue
            known.refuse(number, key, self._address)
            known.add(number, key, row.state)
            trials.append(trial)
            self._shown.learn(row.distributions)
        self._known = known
        return known, trials

    def _trial(self, row: FrozenTrial) -> Trial:
        try:
            trial = Trial.from_json(row.user_attrs[RECORD])
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"trial {row.number} in {self._address} is no record of searchkit: {error!r}") from None
        key = row.user_attrs.get("key")
        same = key == trial.key or key == trial.ask.candidate.former_key
        if not same or row.values != self._shown.outcome(trial)[1]:
            raise StoreError(
                f"trial {row.number} in {self._address} is damaged: its record says something else than what stands "
                "beside it. Restore the storage from a copy"
            )
        return trial


@dataclass
class _Known:
    """Index of the rows of a study: their number, their asks and their candidates."""

    rows: int
    keys: dict[int, str] = field(default_factory=dict)  # by ask number
    numbers: dict[str, int] = field(default_factory=dict)  # by key of the candidate, of those that did not fail

    def add(self, number: int, key: str, state: TrialState) -> None:
        self.keys[number] = key
        if state != TrialState.FAIL:
            self.numbers[key] = number

    def refuse(self, number: int, key: str, address: StorageAddress) -> None:
        """Raise StoreError if the ask or its candidate is there already."""
        if number in self.keys:
            raise StoreError(f"{address} already holds ask {number}, candidate {self.keys[number]}; now came {key}")
        if key in self.numbers:
            raise StoreError(f"{address} already holds candidate {key}, ask {self.numbers[key]}; now came ask {number}")


def _text(row: FrozenTrial) -> str:
    """Text of a row's record, to compare."""
    return json.dumps(row.user_attrs.get(RECORD), sort_keys=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna, which announces every new study on the terminal."""
    optuna = logging.getLogger("optuna")
    level = optuna.level
    optuna.setLevel(logging.WARNING)
    try:
        yield
    finally:
        optuna.setLevel(level)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the garbage collector: reading a large store makes millions of objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
