"""Optuna storages of an address, and the named studies in them: made, checked, or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from searchkit.errors import NothingStoredError, SearchkitError, StoreError
from searchkit.objective import Objective
from searchkit.storage import sql
from searchkit.storage.address import StorageAddress
from searchkit.storage.journal import Journal

logger = logging.getLogger(__name__)

OBJECTIVES: Final = "searchkit:objectives"
FINGERPRINT: Final = "searchkit:fingerprint"  # fingerprint of the trials' study; absent in older stores
COPYING: Final = "searchkit:copying"  # true while a copy is under way, or was interrupted
_METRIC_NAMES: Final = "study:metric_names"  # key of Optuna's Study.set_metric_names
_DIRECTIONS: Final = {"higher": StudyDirection.MAXIMIZE, "lower": StudyDirection.MINIMIZE}


class _Lines(BaseJournalBackend):
    """Adapter of a `Journal` to Optuna's journal backend."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._journal.read(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._journal.append(logs)


def open_storage(address: StorageAddress, create: bool) -> BaseStorage:
    return _open_sql(address, create) if address.is_url else _open_journal(address, create)


def close(storage: BaseStorage) -> None:
    if isinstance(storage, RDBStorage):
        storage.engine.dispose()


def _open_journal(address: StorageAddress, create: bool) -> BaseStorage:
    path = Path(address.storage)
    if not create and not path.exists():
        raise NothingStoredError(f"there is no store at {address}")
    journal = Journal.create(path) if create else Journal(path)
    try:
        return JournalStorage(_Lines(journal))
    except (OSError, SearchkitError):
        raise
    except Exception as error:
        raise StoreError(f"{address}, line {journal.line} is damaged: no record of an Optuna journal") from error


def _open_sql(address: StorageAddress, create: bool) -> BaseStorage:
    url, options = sql.connection(address, create)
    if not create and not sql.has_tables(url, options):
        raise NothingStoredError(f"there is no store at {address}: the database is empty")
    with sql.table_lock(address, create):
        storage = RDBStorage(
            url.replace("{", "{{").replace("}", "}}"),  # Optuna takes it as a template
            {"connect_args": options},
            skip_compatibility_check=sql.has_answered(address),  # it takes long, and was made then
            skip_table_creation=not create,
        )
    sql.classify_errors(storage.engine)
    return storage


@dataclass(frozen=True)
class StudyInStorage:
    """Study in a storage: its name, its objectives, and the fingerprint of the searchkit study that it belongs to.

    fingerprint: None compares none. create: make it where it is missing. copying: also an unfinished copy.
    mended: start it anew where it belongs to another fingerprint, or to none, and no trial in it was measured
    """

    name: str
    objectives: Sequence[Objective]
    fingerprint: str | None = None
    create: bool = True
    copying: bool = False
    mended: bool = False

    def open(self, storage: BaseStorage, address: StorageAddress) -> int:
        """Open or create the study, and return its number in the storage; StoreError where it is another one."""
        study = self._number(storage, address)
        held = storage.get_study_user_attrs(study)
        if held.get(COPYING) and not self.copying:
            raise StoreError(f"study {self.name!r} in {address} is an unfinished copy: copy or restore it again")
        if self.mended and held.get(FINGERPRINT) != self.fingerprint and _all_failed(storage, study):
            if storage.get_n_trials(study):
                text = "%s: every trial of %s failed, by code that was changed since: it starts anew"
                logger.warning(text, address, self.name)
            storage.delete_study(study)
            study = self._number(storage, address)
            held = storage.get_study_user_attrs(study)
        self._check_fingerprint(held, address)
        wanted = [item.describe() for item in self.objectives]
        if held.get(OBJECTIVES) is None and self.create and storage.get_n_trials(study) == 0:
            storage.set_study_system_attr(study, _METRIC_NAMES, [item.name for item in self.objectives])
            storage.set_study_user_attr(study, OBJECTIVES, wanted)  # new, or its maker was killed right here
        elif held.get(OBJECTIVES) != wanted:
            raise StoreError(
                f"study {self.name!r} in {address} was made for {_listed(held.get(OBJECTIVES))}, not for "
                f"{_listed(wanted)}: keep its objectives, or start anew under another name"
            )
        if self.create and self.fingerprint and FINGERPRINT not in held:
            storage.set_study_user_attr(study, FINGERPRINT, self.fingerprint)
        return study

    def _number(self, storage: BaseStorage, address: StorageAddress) -> int:
        try:
            return storage.get_study_id_from_name(self.name)
        except KeyError:
            if self.create:
                return storage.create_new_study([_DIRECTIONS[item.better] for item in self.objectives], self.name)
        others = ", ".join(sorted(item.study_name for item in storage.get_all_studies())) or "none"
        raise NothingStoredError(f"{address} holds no study {self.name!r} (it holds: {others})")

    def _check_fingerprint(self, held: Mapping[str, Any], address: StorageAddress) -> None:
        if self.fingerprint and held.get(FINGERPRINT, self.fingerprint) != self.fingerprint:
            raise StoreError(
                f"{address} holds another study of the name {self.name!r} (fingerprint "
                f"{held[FINGERPRINT]}, this one has {self.fingerprint}): rename the study, or choose another storage"
            )


def _all_failed(storage: BaseStorage, study: int) -> bool:
    return all(trial.state == TrialState.FAIL for trial in storage.get_all_trials(study, deepcopy=False))


def _listed(objectives: Sequence[Mapping[str, str]] | None) -> str:
    if objectives is None:
        return "no objectives of searchkit"
    return ", ".join(f"{item['name']} ({item['unit']}, {item['better']} is better)" for item in objectives)
