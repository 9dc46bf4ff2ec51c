"""Trials in and out of an Optuna storage, the only state of a search. Optuna appears in this file only.

Every trial is stored whole, as the JSON of `Trial.to_json`, in the user attribute `searchkit`; that record alone is
read back. Parameters, values, state and the other attributes mirror it for optuna-dashboard and Optuna's own plots.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from searchkit.errors import NothingStoredError, SearchkitError, StoreError
from searchkit.journal import Journal
from searchkit.objective import Objective
from searchkit.place import Place
from searchkit.records import Failed, Measured, Pruned, Scalar, Trial

logger = logging.getLogger(__name__)

_RECORD: Final = "searchkit"
_OBJECTIVES: Final = "searchkit:objectives"
_METRIC_NAMES: Final = "study:metric_names"  # where Optuna's Study.set_metric_names puts them
_DIRECTIONS: Final = {"higher": StudyDirection.MAXIMIZE, "lower": StudyDirection.MINIMIZE}


class Store:
    """The trials of one study.

    * `append` returns when the trial is on disk (journal) or committed (SQL): a kill afterwards loses nothing, a kill
      during it loses at most that trial. Its cost does not grow with the number of trials on a journal.
    * `trials` gives back records equal to those appended, by ask number, also to processes that only look on.
    * No ask number and no candidate is stored twice: `StoreError`. Should two processes append to one SQL study at
      once, the one that finds out stops with `StoreError`, and of two equal asks the first counts.
    * Notes are JSON beside the trials, under a name; a later one replaces an earlier one.
    * Whatever keeps the storage from doing this is a `StoreError` in one line, without passwords.
    """

    def __init__(self, storage: BaseStorage, study: int, where: Place, mirror: _Mirror) -> None:
        self._storage = storage
        self._study = study
        self._where = where
        self._mirror = mirror
        self._known: _Known | None = None

    @classmethod
    def open(
        cls,
        storage: str,
        name: str,
        objectives: Sequence[Objective],
        *,
        create: bool = True,
        choices: Mapping[str, Sequence[Scalar]] | None = None,
    ) -> Store:
        """The study `name` in `storage`: the path of a journal file, or a URL that Optuna knows (sqlite:///run.db).

        Without `create` nothing is made and nothing written. `choices` lists the legal values of dimensions that are
        not numbers, by dimension, so that Optuna shows them as categories. StoreError where the storage cannot be used,
        the study is missing and not to be created, or it was made for other objectives.
        """
        where = Place(storage)
        with where.stop("cannot open"), _quiet():
            backend = _open_sql(where, create) if where.is_url else _open_journal(where, create)
            study = _open_study(backend, name, objectives, where, create)
        return cls(backend, study, where, _Mirror(tuple(item.name for item in objectives), dict(choices or {})))

    def append(self, trial: Trial) -> None:
        """Store the trial for good."""
        known = self._known or self._read()[0]
        known.refuse(trial, self._where)
        with self._where.stop(f"cannot store ask {trial.ask.number} in"):
            row = self._storage.create_new_trial(self._study, self._mirror.frozen(trial))
            place = self._storage.get_trial_number_from_id(row)
        if place != known.rows:
            raise StoreError(f"something else is appending to this study in {self._where}: stop it, then try again")
        known.add(trial)
        known.rows += 1

    def trials(self) -> list[Trial]:
        """Every trial, by ask number."""
        return sorted(self.appended(), key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        """Every trial, in the order in which they were appended."""
        return self._read()[1]

    def set_note(self, name: str, value: Any) -> None:
        """Keep `value` (JSON) under the name, durably."""
        if name.startswith(_RECORD):
            raise ValueError(f"names of notes that begin with {_RECORD!r} are the store's own, got {name=}")
        with self._where.stop(f"cannot store the note {name!r} in"):
            self._storage.set_study_user_attr(self._study, name, value)

    def note(self, name: str) -> Any:
        """The note of that name as JSON gives it back (lists for tuples), None where there is none."""
        with self._where.stop("cannot read"):
            return self._storage.get_study_user_attrs(self._study).get(name)

    def _read(self) -> tuple[_Known, list[Trial]]:
        with self._where.stop("cannot read"):
            rows = self._storage.get_all_trials(self._study, deepcopy=False)
        known, trials = _Known(rows=len(rows)), []
        for row in rows:
            trial = self._trial(row)
            if known.keys.get(trial.ask.number) == trial.key:
                logger.warning("%s holds ask %d twice: the first counts", self._where, trial.ask.number)
                continue
            known.refuse(trial, self._where)
            known.add(trial)
            trials.append(trial)
            self._mirror.learn(row.distributions)
        self._known = known
        return known, trials

    def _trial(self, row: FrozenTrial) -> Trial:
        try:
            return Trial.from_json(row.user_attrs[_RECORD])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"trial {row.number} in {self._where} is no record of searchkit: {error!r}") from None


@dataclass
class _Known:
    """What a store knows to be in its study: the number of rows, and which asks and candidates they hold."""

    rows: int
    keys: dict[int, str] = field(default_factory=dict)  # by ask number
    numbers: dict[str, int] = field(default_factory=dict)  # by key of the candidate

    def add(self, trial: Trial) -> None:
        self.keys[trial.ask.number] = trial.key
        self.numbers[trial.key] = trial.ask.number

    def refuse(self, trial: Trial, where: Place) -> None:
        """StoreError if the ask or its candidate is there already."""
        number, key = trial.ask.number, trial.key
        if number in self.keys:
            raise StoreError(f"{where} already holds ask {number}, candidate {self.keys[number]}; now came {key}")
        if key in self.numbers:
            raise StoreError(f"{where} already holds candidate {key}, ask {self.numbers[key]}; now came ask {number}")


@dataclass
class _Mirror:
    """Trials as Optuna shows them. It may leave a parameter out (as an attribute), never refuse a trial.

    Optuna's SQL storage insists that a parameter keeps its kind, and a category its choices: the first one counts.
    """

    objectives: tuple[str, ...]
    choices: Mapping[str, Sequence[Scalar]]
    kinds: dict[str, Hashable] = field(default_factory=dict)  # by parameter

    def learn(self, distributions: Mapping[str, BaseDistribution]) -> None:
        for name, distribution in distributions.items():
            self.kinds.setdefault(name, _kind(distribution))

    def frozen(self, trial: Trial) -> FrozenTrial:
        state, values, attributes = self._outcome(trial)
        params: dict[str, Scalar] = {}
        distributions: dict[str, BaseDistribution] = {}
        for name, value, distribution in self._parameters(trial):
            if distribution and self.kinds.setdefault(name, _kind(distribution)) == _kind(distribution):
                params[name], distributions[name] = value, distribution
            else:
                attributes[name] = value
        now = datetime.now()
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=now - timedelta(seconds=trial.seconds),
            datetime_complete=now,
            params=params,
            distributions=distributions,
            user_attrs={_RECORD: trial.to_json(), "key": trial.key, **attributes},
            system_attrs={},
            intermediate_values={},
        )

    def _outcome(self, trial: Trial) -> tuple[TrialState, list[float] | None, dict[str, Any]]:
        """State, values in the order of the objectives, and what explains a state without values."""
        match trial.outcome:
            case Failed(kind, message):
                return TrialState.FAIL, None, {"failure_kind": kind, "failure_message": message}
            case Pruned(why, examples):
                return TrialState.PRUNED, None, {"pruned_why": why, "pruned_after_examples": examples}
            case Measured(estimates):
                missing = [name for name in self.objectives if name not in estimates]
                if missing:
                    message = f"no value for {', '.join(missing)}"
                    return TrialState.FAIL, None, {"failure_kind": "incomplete", "failure_message": message}
                return TrialState.COMPLETE, [float(estimates[name].value) for name in self.objectives], {}

    def _parameters(self, trial: Trial) -> Iterator[tuple[str, Scalar, BaseDistribution | None]]:
        """One parameter per scalar of the candidate; those of a tuple are numbered from 1: lengths_1, lengths_2, ..."""
        for dimension, value in trial.ask.candidate.items:
            choices = self.choices.get(dimension, ())
            if not isinstance(value, tuple):
                yield dimension, value, _distribution(value, choices)
                continue
            for place, scalar in enumerate(value, start=1):
                yield f"{dimension}_{place}", scalar, _distribution(scalar, choices)


def _distribution(value: Scalar, choices: Sequence[Scalar]) -> BaseDistribution | None:
    """A distribution that contains the value; None for one of unknown choices."""
    if value in choices:
        return CategoricalDistribution(tuple(choices))
    if isinstance(value, bool):
        return CategoricalDistribution((False, True))
    if isinstance(value, int):
        return IntDistribution(min(0, value), max(1, value))
    if isinstance(value, float):
        return FloatDistribution(min(0.0, value), max(1.0, value))
    return None


def _kind(distribution: BaseDistribution) -> Hashable:
    return type(distribution), getattr(distribution, "choices", None)


class _Lines(BaseJournalBackend):
    """A `Journal` in the words of Optuna."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        return self._journal.read(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._journal.append(logs)


def _open_journal(where: Place, create: bool) -> BaseStorage:
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


def _open_sql(where: Place, create: bool) -> BaseStorage:
    from sqlalchemy import make_url

    url = make_url(where.storage)
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise StoreError(f"{where} is in memory and would be lost with the process: name a file, sqlite:///run.db")
        if not create and not Path(url.database).exists():
            raise NothingStoredError(f"there is no store at {where}")
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    return RDBStorage(where.storage, skip_table_creation=not create)


def _open_study(storage: BaseStorage, name: str, objectives: Sequence[Objective], where: Place, create: bool) -> int:
    """The number of the study in its storage, made or checked."""
    try:
        study = storage.get_study_id_from_name(name)
    except KeyError:
        if not create:
            others = ", ".join(sorted(item.study_name for item in storage.get_all_studies())) or "none"
            raise NothingStoredError(f"{where} holds no study {name!r} (it holds: {others})") from None
        study = storage.create_new_study([_DIRECTIONS[item.better] for item in objectives], name)
    asked = [item.describe() for item in objectives]
    held = storage.get_study_user_attrs(study).get(_OBJECTIVES)
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
