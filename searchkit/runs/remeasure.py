"""Remeasurement of a front on another device, in another number format, at another batch size; both are kept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.code import digest
from searchkit._internal.files import replace_whole
from searchkit._internal.progress import Progress, silent
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.resamples import with_resamples
from searchkit.evaluate.trial import add, at_once, measure_together
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Measured, Scalar, Trial
from searchkit.report.environment import fingerprint, former_fingerprint
from searchkit.report.results import UNREDUCED
from searchkit.report.table import csv_of
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.reopen import reopened
from searchkit.runs.report_store import estimates_of, merged
from searchkit.runs.rivals import check_rivals, on_texts, rivals_of
from searchkit.runs.runners import runner_of_split
from searchkit.runs.runtimes import PYTORCH, Runtime
from searchkit.runs.session import Session
from searchkit.runs.stored import stored_results
from searchkit.runs.stores import report_identities
from searchkit.runs.texts import Texts

if TYPE_CHECKING:
    import pandas as pd

    from searchkit.evaluate.bench import SupernetBench

WHOLE: Final = Candidate.of(baseline=UNREDUCED)
TOGETHER: Final = 4  # candidates that take turns where passes are long; what an interruption may cost


@dataclass(frozen=True)
class Remeasured:
    """Unreduced model and members of a front, measured in one setting.

    setting: what the numbers depend on beside the candidate: the environment, batch size and length, and the texts
    where they are the user's own. texts: those; costs are of them, quality is of the report split. families: the names
    of rivals, by key
    """

    study: str
    setting: Mapping[str, Scalar]
    objectives: tuple[Objective, ...]
    trials: tuple[Trial, ...]  # the unreduced model first, rivals last
    texts: Texts | None = None
    families: Mapping[str, str] = field(default_factory=dict)

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
            **({"texts": self.texts.identity} if self.texts else {}),
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
        about |= {"tokens": dict(self.texts.lengths)} if self.texts else {}
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
    texts: Path | None = None,
    runtime: str | None = None,
    int8: bool = False,
    progress: Progress = silent,
) -> Remeasured:
    """Measure the front of a run, the unreduced model and rivals on the report split under these conditions.

    All objectives of the study, the timed ones at this batch size (and length, in tokens); what was measured in the
    same setting before is not measured again. Nothing else should run on the device. texts: a file of unlabelled texts,
    on which what a pass alone tells (times, and costs that follow from lengths) is measured instead. DataError where
    that cannot be read, lacks a column or has an empty text. runtime: "pytorch" or "onnxruntime" (on the CPU, in
    float32, or with int8 products), whose predictions quality is then measured on; by default that of the study, as
    are the threads of timed passes where conditions name none.
    """
    asked = None if runtime is None and not int8 else Runtime(runtime or PYTORCH, int8)
    if asked:
        asked.check(conditions)
    if texts is not None and length is not None:
        raise StudyError(
            "--length says how long every example is, --texts takes the lengths of a file: give one of them"
        )
    session = reopened(folder, conditions, progress, asked)
    objectives = _objectives(session, batch_size, length)
    session.runtime = replace(session.runtime, threads=Runtime.of(objectives).threads)
    session.runtime.check(conditions, objectives)
    with folder.held(), session.placement.in_force():
        read = None if texts is None else Texts.read(texts, session)
        if read:
            read.refuse_fewer_than(batch_size)
            objectives = tuple(read.objective(each) if _of_texts(each) else each for each in objectives)
        check_rivals(session)
        families = rivals_of(session)
        runner, rivals = runner_of_split(session, "report"), list(itertools.chain(*families.values()))
        bench = replace(workbench(session, "report", rivals, runner).build(), keeps_outputs=False)
        own = bench if read is None else on_texts(session, bench, read, rivals)
        batches: dict[str, Scalar] = {"batch_size": batch_size, "length": length}
        if session.runtime.threads:
            batches["timed_threads"] = session.runtime.threads
        measured = _measured(session, bench, own, objectives, batches, rivals, read)
        named = {UNREDUCED: (WHOLE,), **families}
        return replace(measured, families={each.key: name for name, group in named.items() for each in group})


def _of_texts(objective: Objective) -> bool:
    """Return whether it can be measured on texts without labels."""
    return objective.exclusive or objective.traced or objective.with_batch is not None


def _measured(
    session: Session,
    bench: SupernetBench,
    own: SupernetBench,
    objectives: tuple[Objective, ...],
    batches: Mapping[str, Scalar],
    rivals: Sequence[Candidate],
    texts: Texts | None,
) -> Remeasured:
    """Measure what the setting lacks. own: the bench of the texts on which costs are measured"""
    setting = {**bench.environment, **batches, **({"texts": texts.identity} if texts else {})}
    codes = [identity["code"] for identity in report_identities(session.study) if "code" in identity]
    setting |= {"code": digest(codes)} if codes else {}  # values of edited objectives are others
    wanted = [WHOLE]
    wanted += [member.ask.candidate for member in stored_results(session.folder).members]
    wanted += rivals
    store = _store(session, objectives, setting)
    done = {trial.key: trial for trial in store.trials()}
    missing = [Ask(number, candidate) for number, candidate in enumerate(wanted) if candidate.key not in done]
    timed = [objective for objective in objectives if objective.exclusive]
    costs = [with_resamples(each) for each in objectives if texts and _of_texts(each) and not each.exclusive]
    names = {objective.name for objective in (*timed, *costs)}
    plain = [with_resamples(objective) for objective in objectives if objective.name not in names]
    size = at_once(missing, own, timed, TOGETHER)
    for start in range(0, len(missing), size):
        session.progress("measure", start, len(missing))
        group = missing[start : start + size]
        trials = list(measure_together(group, bench, plain))
        if costs:
            of_texts = {trial.key: trial for trial in measure_together(group, own, costs)}
            trials = [_joined(trial, of_texts[trial.key]) for trial in trials]
        for trial in add(trials, own, timed):
            store.append(trial)
            done[trial.key] = trial
    session.progress("measure", len(missing), len(missing))
    return Remeasured(session.study.name, setting, objectives, tuple(done[item.key] for item in wanted), texts)


def _joined(trial: Trial, other: Trial) -> Trial:
    """Trial with the values of both, or the failure of one of them."""
    failed = other if isinstance(trial.outcome, Measured) else trial
    joined = merged(failed, estimates_of(other if failed is trial else trial))
    return replace(joined, seconds=trial.seconds + other.seconds, outputs=None)


def _objectives(session: Session, batch_size: int, length: int | None) -> tuple[Objective, ...]:
    def anew(objective: Objective) -> Objective:
        if objective.with_batch is None:
            return objective
        own: dict[str, Any] = {}
        if objective.timing is not None and objective.timing.runtime is not None:
            own = {"runtime": session.runtime.name, "int8": session.runtime.int8}
            if objective.timing.threads and session.conditions.threads:
                own["threads"] = 0  # those of the option
        return objective.with_batch(batch_size=batch_size, length=length, **own)

    every = (*session.study.objectives, *session.study.front_objectives)
    if not any(objective.with_batch for objective in every):
        raise StudyError(
            f"{session.folder.path}: the study times nothing; add latency() to its front_objectives, run it again, "
            "and then measure"
        )
    return tuple(map(anew, every))


def _store(session: Session, objectives: tuple[Objective, ...], setting: Mapping[str, Scalar]) -> Any:
    from searchkit.storage.store import Store

    former = f"{session.study.name}-measured-{former_fingerprint(setting)}"
    held = former in Store.held(session.storage)
    name = former if held else f"{session.study.name}-measured-{fingerprint(setting)}"
    return Store.open(session.storage, name, objectives, fingerprint=session.fingerprint)
