"""Status of a run, from its record, trials and notes alone, also while it is running."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from searchkit.errors import NothingStoredError
from searchkit.objective import Objective
from searchkit.records import Trial
from searchkit.runs.folder import Folder, stored_objectives
from searchkit.search.failures import grouped


@dataclass(frozen=True)
class StoredTrials:
    """Records of a run at one moment, which may have no trials yet.

    record: of its folder; objectives: of the search; front_objectives: of the report split alone; search: trials on the
    search split, by ask number; report: the last trial of each candidate on the report split; ended, in_flight: notes
    of the search
    """

    record: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    front_objectives: tuple[Objective, ...]
    search: Sequence[Trial] = ()
    report: Sequence[Trial] = ()
    ended: str | None = None
    in_flight: int | None = None

    @property
    def study(self) -> str:
        return str(self.record["description"]["name"])


@dataclass(frozen=True)
class Status:
    """Status of a run: evaluations made and planned, trials that failed, candidates measured on the report split.

    ended: the clause that says what ended the search, None while it goes on
    """

    study: str
    evaluations: int
    planned: int | None
    failed: int
    on_report: int
    ended: str | None

    @classmethod
    def of(cls, stored: StoredTrials) -> Status:
        """Status that these records show."""
        trials = stored.search
        return cls(
            study=stored.study,
            evaluations=sum(trial.is_evaluation for trial in trials),
            planned=stored.record["evaluations"],
            failed=sum(trial.status == "failed" for trial in trials),
            on_report=sum(trial.status == "measured" for trial in stored.report),
            ended=stored.ended,
        )

    def __str__(self) -> str:
        counts = f"{self.evaluations} of {self.planned} evaluations, {self.failed} failed"
        end = f"; ended: {self.ended}" if self.ended else ""
        return f"{self.study}: {counts}, {self.on_report} measured on the report split{end}"


def read_trials(folder: Folder) -> StoredTrials:
    """Read what is stored of a run now; StudyError where the folder holds none, StoreError for damaged records."""
    from searchkit.search.budget import ENDED
    from searchkit.search.steady import IN_FLIGHT
    from searchkit.storage.address import with_password
    from searchkit.storage.store import Store

    record = folder.read()
    stored = StoredTrials(record, *stored_objectives(record))
    storage = with_password(record["storage"] or str(folder.journal))
    with suppress(NothingStoredError):  # not begun yet
        store = Store.open(storage, f"{stored.study}-search", stored.objectives, create=False)
        stored = replace(stored, search=store.trials(), ended=store.note(ENDED), in_flight=store.note(IN_FLIGHT))
    with suppress(NothingStoredError):
        study = str(record.get("report", f"{stored.study}-report"))  # absent in runs from before
        store = Store.open(storage, study, (*stored.objectives, *stored.front_objectives), create=False)
        stored = replace(stored, report=latest(store.trials()))
    return stored


def latest(trials: Iterable[Trial]) -> list[Trial]:
    """Last trial of each candidate: one that failed and was tried again counts by its later outcome."""
    return list({trial.key: trial for trial in trials}.values())


def status_lines(
    record: Mapping[str, Any], trials: Sequence[Trial], *, ended: str | None, in_flight: int | None, seconds: float
) -> Iterator[str]:
    """Lines on the search: its state, its progress, the limit that ended it, and the outcomes of its trials.

    record: of the run's folder; ended, in_flight: notes of its store; seconds: of the search so far
    """
    engine = record["description"].get("engine", {})
    if engine.get("steady"):
        yield f"steady state, {in_flight or 'no'} candidates in flight: {len(trials)} are done"
    elif population := engine.get("population"):
        numbers = {trial.ask.number for trial in trials}
        whole = next(number for number in range(len(numbers) + 1) if number not in numbers) // population
        yield f"generation by generation: {whole} done, of {population} candidates each"
    if "budget" in record:
        yield f"until {record['budget']}"
    worker_s = sum(trial.seconds for trial in trials)
    yield f"{seconds / 3600:.2f} hours, {worker_s / 3600:.2f} worker-hours so far"
    if ended:
        yield f"ended: {ended}"
    for state, count in Counter(trial.status for trial in trials).items():
        yield f"{state}: {count}"
    for group in grouped(trials):
        example = json.dumps(group.example.candidate.to_json())
        yield f"  {group}; the first was ask {group.example.number}, {example}"
