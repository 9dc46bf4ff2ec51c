"""Remeasurement of a front on another device, in another number format, at another batch size; both are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.code import digest
from searchkit._internal.files import replace_whole
from searchkit._internal.progress import Progress, silent
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.resamples import with_resamples
from searchkit.evaluate.trial import add, measure_together
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Measured, Scalar, Trial
from searchkit.report.environment import fingerprint, former_fingerprint
from searchkit.report.table import csv_of
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.reopen import reopened
from searchkit.runs.session import Session
from searchkit.runs.stores import report_identities

if TYPE_CHECKING:
    import pandas as pd

TOGETHER: Final = 4  # candidates that take turns; what an interruption may cost


@dataclass(frozen=True)
class Remeasured:
    """Unreduced model and members of a front, measured in one setting.

    setting: what the numbers depend on beside the candidate: the environment, batch size and length
    """

    study: str
    setting: Mapping[str, Scalar]
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]  # the unreduced model first

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the setting, 8 hex digits. Numbers of different fingerprints are not compared."""
        return fingerprint(self.setting)

    def frame(self) -> pd.DataFrame:
        """Table of one row per candidate: key, candidate, and every estimate with its further columns."""
        import pandas as pd

        return pd.DataFrame([self._row(trial) for trial in self.trials])

    def _row(self, trial: Trial) -> dict[str, Any]:
        row: dict[str, Any] = {
            "fingerprint": self.fingerprint,
            "key": trial.key,
            "candidate": json.dumps(trial.ask.candidate.to_json()),
            "status": trial.status,
        }
        estimates = trial.outcome.estimates if isinstance(trial.outcome, Measured) else {}
        for name, estimate in estimates.items():
            ends = {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            row |= {name: estimate.value, **ends, f"{name}_n": estimate.n}
            row |= {f"{name}_{beside}": value for beside, value in estimate.beside.items()}
        return row

    def write(self, folder: Path) -> Path:
        """Write `measured/<fingerprint>.csv`, and .json with the setting and the date; return the table's path."""
        where = folder / "measured"
        try:
            where.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"{where}: cannot write there: {error.strerror}") from error
        about = {"study": self.study, "date": datetime.now(UTC).date().isoformat(), "setting": dict(self.setting)}
        replace_whole(where / f"{self.fingerprint}.json", (json.dumps(about, indent=2) + "\n").encode())
        table = where / f"{self.fingerprint}.csv"
        replace_whole(table, csv_of(self.frame()))
        return table


def measure(
    folder: Folder,
    conditions: Conditions,
    *,
    batch_size: int = 1,
    length: int | None = None,
    progress: Progress = silent,
) -> Remeasured:
    """Measure the front of a run and the unreduced model on the report split under these conditions.

    All objectives of the study, the timed ones at this batch size (and length, in tokens); what was measured in the
    same setting before is not measured again. Nothing else should run on the device.
    """
    session = reopened(folder, conditions, progress)
    with folder.held(), session.placement.in_force():
        return _measured(session, _objectives(session, batch_size, length), batch_size, length)


def _measured(session: Session, objectives: tuple[Objective, ...], batch_size: int, length: int | None) -> Remeasured:
    bench = workbench(session, "report").build()
    setting = {**bench.environment, "batch_size": batch_size, "length": length}
    codes = [identity["code"] for identity in report_identities(session.study) if "code" in identity]
    setting |= {"code": digest(codes)} if codes else {}  # values of edited objectives are others
    wanted = [Candidate.of(baseline="unreduced")]
    searched = session.stores.open("search", create=False).trials()
    wanted += [member.ask.candidate for member in Front.of(searched, session.study.objectives)]
    store = _store(session, objectives, setting)
    done = {trial.key: trial for trial in store.trials()}
    missing = [Ask(number, candidate) for number, candidate in enumerate(wanted) if candidate.key not in done]
    timed = [candidate for candidate in objectives if candidate.exclusive]
    plain = [with_resamples(candidate) for candidate in objectives if not candidate.exclusive]
    for start in range(0, len(missing), TOGETHER):
        session.progress("measure", start, len(missing))
        group = missing[start : start + TOGETHER]
        for trial in add(list(measure_together(group, bench, plain)), bench, timed):
            store.append(trial)
            done[trial.key] = trial
    session.progress("measure", len(missing), len(missing))
    trials = tuple(done[candidate.key] for candidate in wanted)
    return Remeasured(session.study.name, setting, objectives, trials)


def _objectives(session: Session, batch_size: int, length: int | None) -> tuple[Objective, ...]:
    every = (*session.study.objectives, *session.study.front_objectives)
    if not any(objective.with_batch for objective in every):
        raise StudyError(
            f"{session.folder.path}: the study times nothing; add latency() to its front_objectives, run it again, "
            "and then measure"
        )
    return tuple(
        objective.with_batch(batch_size=batch_size, length=length) if objective.with_batch else objective
        for objective in every
    )


def _store(session: Session, objectives: tuple[Objective, ...], setting: Mapping[str, Scalar]) -> Any:
    from searchkit.storage.store import Store

    former = f"{session.study.name}-measured-{former_fingerprint(setting)}"
    held = former in Store.held(session.storage)
    name = former if held else f"{session.study.name}-measured-{fingerprint(setting)}"
    return Store.open(session.storage, name, objectives, fingerprint=session.fingerprint)
