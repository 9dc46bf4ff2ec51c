"""One run of a study: its folder, and its phases train, search, report. Each goes on where it was stopped."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.base import Evaluator, Workbench
from searchkit.evaluate.baselines import baselines
from searchkit.files import replace_whole
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.progress import Progress, Stopwatch, silent
from searchkit.records import Ask, Candidate, Measured, Trial
from searchkit.reduction.device import device_of, dtype_of
from searchkit.report.results import Results
from searchkit.search import check_replay, search
from searchkit.study import Loaded, Study, load
from searchkit.supernet import Trained, digest, train

if TYPE_CHECKING:
    from searchkit.store import Store
    from searchkit.tasks.base import Tables

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditions:
    """Where and with what a study runs; nothing here changes what is searched.

    workers: Ray actors, 0 for this process; threads per worker, 0 for the machine's cores over the workers;
    gpus_per_worker: None shares this machine's GPUs among the workers
    """

    runs: Path = Path("runs")
    device: str = "auto"
    dtype: str = "auto"
    workers: int = 0
    threads: int = 0
    ray_address: str | None = None
    gpus_per_worker: float | None = None
    storage: str | None = None


@dataclass(frozen=True)
class Folder:
    """`runs/<study>/`: which file is which."""

    path: Path

    @property
    def study(self) -> Path:
        return self.path / "study.json"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def journal(self) -> Path:
        return self.path / "journal.log"

    def read(self) -> dict[str, Any]:
        """The study that was run here; StudyError where there is none."""
        try:
            data = json.loads(self.study.read_text())
        except FileNotFoundError:
            raise StudyError(f"{self.path}: not a run folder: it has no study.json") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.study}: cannot be read: {error}") from error
        if not isinstance(data, dict) or not {"description", "fingerprint", "file", "parameters"} <= data.keys():
            raise StoreError(f"{self.study}: not written by searchkit")
        return data


def execute(loaded: Loaded, conditions: Conditions = Conditions(), progress: Progress = silent) -> Results:
    """Train, search and report; returns what was written to `runs/<study>/`."""
    run = Run(loaded.study, loaded, conditions, progress)
    with run.opened():
        run.trained()
        run.searched()
        results = run.reported()
        write(results, run.folder)
    return results


def train_only(loaded: Loaded, conditions: Conditions, progress: Progress = silent) -> Trained:
    """Train the study's supernet, or find it in the cache."""
    run = Run(loaded.study, loaded, conditions, progress)
    with run.opened():
        return run.trained()


def write(results: Results, folder: Folder) -> None:
    """Tables, summary and plots."""
    from searchkit.report import plots, table

    table.write(results, folder.path)
    plots.pareto(results, folder.path)
    plots.hypervolume(results, folder.path)


@dataclass
class Run:
    """The phases of one study under the given conditions; what one phase makes, later ones find here."""

    study: Study
    loaded: Loaded
    conditions: Conditions
    progress: Progress
    _supernet: Trained | None = field(default=None, init=False)

    @cached_property
    def folder(self) -> Folder:
        return Folder(self.conditions.runs / self.study.name)

    @cached_property
    def layers(self) -> int:
        return self.study.supernet.layers

    @cached_property
    def description(self) -> dict[str, Any]:
        return self.study.describe()

    @cached_property
    def tables(self) -> Tables:
        return self.study.task.tables(self.study.seed)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Claim the folder for this study and this process, and log to it."""
        dtype_of(self.conditions.dtype, device_of(self.conditions.device))
        description = self.description  # reads model and data: what is wrong with them is said before anything is made
        try:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            lock = (self.folder.path / ".lock").open("a")
        except OSError as error:
            raise StoreError(f"{self.folder.path}: cannot write there: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(f"{self.folder.path}: another process is running this study") from None
            self._claim(description)
            with _logging_to(self.folder.log):
                log.info("study %s, fingerprint %s", self.study.name, digest(description))
                try:
                    yield
                except Exception:
                    log.exception("the run stopped")
                    raise

    def _claim(self, description: Mapping[str, Any]) -> None:
        if self.folder.study.exists():
            before = self.folder.read()["description"]
            if before != description:
                changed = ", ".join(sorted(name for name in description if before.get(name) != description[name]))
                raise StudyError(
                    f"{self.folder.path} holds a run of another study (different: {changed}); "
                    "rename the study or choose another folder with --runs"
                )
        record = {
            "description": description,
            "fingerprint": digest(description),
            "file": str(self.loaded.file.resolve()),
            "parameters": dict(self.loaded.parameters),
            "objectives": [objective.describe() for objective in self.study.objectives],
            "front_objectives": [objective.describe() for objective in self.study.front_objectives],
            "storage": self.conditions.storage,
            "evaluations": self.study.budget.evaluations,
        }
        replace_whole(self.folder.study, json.dumps(record, indent=2).encode())

    def trained(self) -> Trained:
        if self._supernet is None:
            self._supernet = train(
                self.study.supernet,
                self.study.task,
                self.tables,
                seed=self.study.seed,
                cache=self.conditions.runs / "supernets",
                device=device_of(self.conditions.device),
                progress=self.progress,
            )
        return self._supernet

    def workbench(self, split: str) -> Workbench:
        """The trained supernet with one split, under the conditions of this run."""
        from transformers import AutoTokenizer

        from searchkit.evaluate.subject import SupernetWorkbench

        folder = str(self.trained().folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return SupernetWorkbench.of_folder(
            folder,
            self.study.supernet.recipe,
            self.study.task.encode(self.tables[split], tokenizer),
            padded_to=self.study.task.max_length,
            device=self._worker_device,
            dtype=self.conditions.dtype,
            threads=self._threads,
        )

    def evaluator(self, split: str, objectives: Sequence[Objective], asks: int) -> Evaluator:
        """Inline, or on Ray where workers were asked for; never more workers than asks."""
        if not self.conditions.workers:
            from searchkit.evaluate.inline import Inline

            return Inline(self.workbench(split), objectives)
        from searchkit.evaluate.ray import Ray

        return Ray(
            self.workbench(split),
            objectives,
            workers=max(1, min(self.conditions.workers, asks)),
            address=self.conditions.ray_address,
            gpus_per_worker=self._gpus_per_worker,
        )

    @property
    def _gpus_per_worker(self) -> float:
        import torch

        given = self.conditions.gpus_per_worker
        if given is not None:
            return given
        wanted = self.conditions.device != "cpu" and torch.cuda.is_available()
        return min(1.0, torch.cuda.device_count() / self.conditions.workers) if wanted else 0.0

    @property
    def _worker_device(self) -> str:
        """Under Ray the GPUs a worker gets decide: Ray shows it only those, and hides none if it gets 0."""
        if not self.conditions.workers:
            return self.conditions.device
        return "cuda" if self._gpus_per_worker else "cpu"

    @property
    def _threads(self) -> int:
        if self.conditions.threads or not self.conditions.workers or self.conditions.ray_address:
            return self.conditions.threads
        return max(1, (os.cpu_count() or 1) // self.conditions.workers)

    def store(self, split: str, create: bool = True) -> Store:
        """Trials of one split; the splits are two studies of one storage. Without `create` nothing is written."""
        from searchkit.store import Store

        objectives = self.study.objectives if split == "search" else self._report_objectives
        storage = self.conditions.storage or str(self.folder.journal)
        return Store.open(storage, f"{self.study.name}-{split}", objectives, create=create)

    @property
    def _report_objectives(self) -> tuple[Objective, ...]:
        return (*self.study.objectives, *self.study.front_objectives)

    def searched(self) -> dict[str, Trial]:
        """Search until the budget is spent; key -> trial on the search split."""
        study, store = self.study, self.store("search")
        done, wanted = {trial.key: trial for trial in store.trials()}, study.budget.evaluations
        watch = Stopwatch(self.folder.path / ".search_seconds")
        tell = watch.watching(self.progress)
        tell("search", len(done), wanted)
        if len(done) >= wanted:
            return done
        engine = study.engine.start(study.space.bound(self.layers), study.objectives, study.seed)
        with self.evaluator("search", study.objectives, study.engine.population) as evaluator:
            done = search(
                engine,
                evaluator,
                store,
                evaluations=wanted,
                population=study.engine.population,
                seen=lambda done: tell("search", len(done), wanted, _note(done, study.objectives)),
            )
        watch.write()
        return done

    def reported(self) -> Results:
        """Measure the front and the baselines on the report split, and gather everything a report is made from."""
        trials = self.store("search").trials()
        wanted = [candidate for group in baselines(self.layers).values() for candidate in group]
        wanted += [member.ask.candidate for member in Front.of(trials, self.study.objectives).members]
        return self.results(trials, self._measure_on_report(wanted))

    def results(self, trials: Sequence[Trial], measured: Mapping[str, Trial]) -> Results:
        """Everything a report is made from: the search's trials, and front and baselines on the report split."""
        named = baselines(self.layers)
        front = Front.of(trials, self.study.objectives)
        return Results(
            study={"name": self.study.name, "fingerprint": digest(self.description), **self.description},
            objectives=tuple(self.study.objectives),
            front_objectives=tuple(self.study.front_objectives),
            trials=tuple(trials),
            report={member.key: measured[member.key] for member in front.members},
            baselines={name: tuple(measured[one.key] for one in group) for name, group in named.items()},
            environment=dict(trials[0].environment) if trials else {},
            seconds={
                "train": self.trained().train_s,
                "search": Stopwatch(self.folder.path / ".search_seconds").before,
                "report": Stopwatch(self.folder.path / ".report_seconds").before,
            },
        )

    def _measure_on_report(self, candidates: Sequence[Candidate]) -> dict[str, Trial]:
        store = self.store("report")
        done = {trial.key: trial for trial in store.trials()}
        missing = list({one.key: one for one in candidates if one.key not in done}.values())
        watch = Stopwatch(self.folder.path / ".report_seconds")
        tell = watch.watching(self.progress)
        if not missing:
            return done
        asks = [Ask(number, candidate) for number, candidate in enumerate(missing, start=len(done))]
        tell("report", 0, len(asks))
        with self.evaluator("report", self._report_objectives, len(asks)) as evaluator:
            for count, trial in enumerate(evaluator.run(asks), start=1):
                store.append(trial)
                done[trial.key] = trial
                tell("report", count, len(asks))
        watch.write()
        return done


def stored_objectives(record: Mapping[str, Any]) -> tuple[tuple[Objective, ...], tuple[Objective, ...]]:
    """The objectives of a run folder's record, to read trials by: searched ones, and those of the front only."""

    def unmeasurable(subject: object) -> Any:
        raise StudyError("objectives of a stored run cannot measure; load the study file")

    searched, front_only = (
        tuple(Objective(**one, measure=unmeasurable) for one in record[kind])
        for kind in ("objectives", "front_objectives")
    )
    return searched, front_only


def stored_results(folder: Folder) -> Results:
    """What a finished run left in its storage, measured nothing anew; StudyError if the report phase is missing."""
    run = reopened(folder, Conditions(runs=folder.path.parent))
    trials = run.store("search", create=False).trials()
    measured = {trial.key: trial for trial in run.store("report", create=False).trials()}
    front = Front.of(trials, run.study.objectives)
    wanted = {one.key for group in baselines(run.layers).values() for one in group} | {one.key for one in front.members}
    if not wanted <= measured.keys():
        command = f"searchkit run {shlex.quote(str(run.loaded.file))}"
        raise StudyError(f"{folder.path}: the run is not finished; go on with `{command}`")
    return run.results(trials, measured)


def replayed(folder: Folder) -> int:
    """Feed the engine the stored outcomes; the number of asks, all equal to the stored ones, or StoreError."""
    run = reopened(folder, Conditions(runs=folder.path.parent))
    study, trials = run.study, run.store("search", create=False).trials()
    done, stored = {trial.key: trial for trial in trials}, {trial.ask.number: trial for trial in trials}
    engine, met = study.engine.start(study.space.bound(run.layers), study.objectives, study.seed), set[str]()
    while len(met) < len(done):
        asked = engine.ask(study.engine.population)
        check_replay(asked, stored)
        met |= {ask.key for ask in asked} & done.keys()
        if not asked or any(ask.key not in done for ask in asked):
            break
        engine.tell([done[ask.key] for ask in asked])
    if len(met) < len(done):
        raise StoreError(
            f"{folder.path}: the storage holds {len(done) - len(met)} trials that the engine never asks for"
        )
    return len(met)


def measured_again(folder: Folder, count: int, conditions: Conditions, progress: Progress = silent) -> int:
    """Measure stored trials, spread over the search, again; StoreError for the first value that differs.

    Timed objectives are left out: they never repeat exactly. The conditions have to be those of the run.
    """
    run = reopened(folder, conditions, progress)
    exact = [objective for objective in run.study.objectives if not objective.exclusive]
    trials = [trial for trial in run.store("search", create=False).trials() if isinstance(trial.outcome, Measured)]
    chosen = trials[:: max(1, len(trials) // count)][:count]
    before = {trial.key: trial for trial in chosen}
    with run.evaluator("search", exact, len(chosen)) as evaluator:
        for number, now in enumerate(evaluator.run([trial.ask for trial in chosen]), start=1):
            progress("verify", number, len(chosen))
            _same(before[now.key], now, exact)
    return len(chosen)


def _same(before: Trial, now: Trial, objectives: Sequence[Objective]) -> None:
    changed = {name for name in now.environment if now.environment[name] != before.environment.get(name)}
    where = f" (the environment differs in {', '.join(sorted(changed))})" if changed else ""
    for objective in objectives:
        assert isinstance(before.outcome, Measured)
        was = before.outcome.estimates[objective.name].value
        value = now.outcome.estimates[objective.name].value if isinstance(now.outcome, Measured) else now.outcome
        if value != was:
            raise StoreError(f"ask {now.ask.number}: {objective.name} was {was} and is now {value}{where}")


def reopened(folder: Folder, conditions: Conditions, progress: Progress = silent) -> Run:
    """The run of a folder, its study loaded from its file; StudyError if that describes another study now."""
    record = folder.read()
    loaded = load(record["file"], record["parameters"])
    run = Run(loaded.study, loaded, replace(conditions, storage=record["storage"]), progress)
    if digest(run.description) != record["fingerprint"]:
        raise StudyError(f"{record['file']} describes another study than the one that ran in {folder.path}")
    return run


def _note(done: Mapping[str, Trial], objectives: Sequence[Objective]) -> str:
    measured = [trial.outcome.estimates for trial in done.values() if isinstance(trial.outcome, Measured)]
    failed = len(done) - len(measured)
    return f"{len(measured)} measured" + (f", {failed} failed" if failed else "")


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("searchkit")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
