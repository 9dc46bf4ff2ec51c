"""One run of a study: its phases train, search, report. Each goes on where it was stopped."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit._files import replace_whole
from searchkit._progress import Progress, Stopwatch, silent
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.base import Evaluator, Workbench
from searchkit.evaluate.baselines import baselines
from searchkit.evaluate.ray import Ray, Resources, check_reachable
from searchkit.evaluate.resamples import with_resamples
from searchkit.front import Front
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Pruned, Trial, digest
from searchkit.reduction.device import device_of, dtype_of, environment
from searchkit.report.environment import common
from searchkit.report.results import Results
from searchkit.runs.cache import SupernetCache, T
from searchkit.runs.config import HERE, Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.published import family
from searchkit.runs.study_file import Loaded
from searchkit.search.budget import ENDED, Account
from searchkit.search.generational import search
from searchkit.search.interrupt import Interrupt
from searchkit.search.steady import IN_FLIGHT, in_flight, search_steadily
from searchkit.stats import RESAMPLES
from searchkit.storage.address import StorageAddress
from searchkit.storage.one_environment import OneSetting
from searchkit.study import Study
from searchkit.tasks.splits import duplicates
from searchkit.training.cache import Trained, train
from searchkit.training.supernet import load_tokenizer

if TYPE_CHECKING:
    from searchkit.space import Space
    from searchkit.storage.store import Store
    from searchkit.tasks.base import Tables

log = logging.getLogger(__name__)


PHASES = ("train", "search", "report")
CALIBRATED: Final = 24  # candidates that are timed for a modelled objective; a third of them tests the model
READS: Final = {"published": "search"}  # whose baseline is searched on that split, without races and constraints
DUPLICATES = "duplicates"  # the note in the store of a search
KINDS = ("measured", "stopped early", "turned down", "failed")  # of trials, as progress calls them


def execute(
    loaded: Loaded,
    conditions: Conditions = HERE,
    progress: Progress = silent,
    interrupt: Interrupt | None = None,
) -> Results:
    """Train, search and report; returns what was written to `runs/<study>/`.

    With `interrupt` one Ctrl-C lets the search finish what is in flight; KeyboardInterrupt in any case.
    """
    run = Run(loaded.study, loaded, conditions, progress, interrupt)
    with run.opened():
        run.trained()
        run.compared()
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
    """Tables, summary, text and plots."""
    from searchkit.report import plots, table, text

    table.write(results, folder.path)
    text.write(results, folder.path)
    plots.pareto(results, folder.path)
    for objective in results.measured_apart:
        plots.quality_over(results, objective, folder.path)
    plots.hypervolume(results, folder.path)


@dataclass
class Run:
    """The phases of one study under the given conditions; what one phase makes, later ones find here."""

    study: Study
    loaded: Loaded
    conditions: Conditions
    progress: Progress
    interrupt: Interrupt | None = None
    _supernet: Trained | None = field(default=None, init=False)

    @cached_property
    def folder(self) -> Folder:
        return Folder(self.conditions.runs / self.study.name)

    @cached_property
    def slots(self) -> int:
        return self.study.supernet.slots

    @cached_property
    def baselines(self) -> dict[str, tuple[Candidate, ...]]:
        """By family; where the study asks for the published search, it is made now unless it is known."""
        return baselines(self.study.supernet.layers, self.slots) | family(self)

    @cached_property
    def space(self) -> Space:
        """The study's space, for this encoder, starting from what training found."""
        return self.study.bound_space.started(self.trained().found)

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
        if self.conditions.ray_address:
            check_reachable(self.conditions.ray_address)  # said now, not after the training
        description = self.description  # reads model and data: what is wrong with them is said before anything is made
        record = {
            "description": description,
            "fingerprint": digest(description),
            "file": str(self.loaded.file.resolve()),
            "parameters": dict(self.loaded.parameters),
            "objectives": [objective.describe() for objective in self.study.objectives],
            "front_objectives": [objective.describe() for objective in self.study.front_objectives],
            "published": self.study.published and self.study.published.describe(),
            "storage": self.conditions.storage and StorageAddress(self.conditions.storage).kept,
            "layers": self.study.supernet.layers,
            "places": self.slots,
            "evaluations": self.study.budget.evaluations,
            "budget": str(self.study.budget),
            "cache_mib": self.conditions.cache_mib,
        }
        self._keep_storage()
        with self.folder.claimed(record):
            log.info("study %s, fingerprint %s", self.study.name, record["fingerprint"])
            try:
                yield
            except Exception:
                log.exception("the run stopped")
                raise

    def _keep_storage(self) -> None:
        """StudyError if the folder's trials are in another storage: the search would begin anew."""
        from searchkit.runs.transfer import left_behind

        behind = left_behind(self.folder, self.conditions.storage) if self.folder.study.exists() else None
        if behind:
            to = StorageAddress(self.conditions.storage or str(self.folder.journal))
            raise StudyError(
                f"{self.folder.path} has {behind[1]} trials in {behind[0]} that are not in {to}: go on there with "
                f"--storage, or first copy them with `searchkit export {self.folder.path} --to {to}`"
            )

    def compared(self) -> Mapping[str, int]:
        """How many texts the splits share, pair by pair; counted once for each run, and kept in its store."""
        store = self.store("search")
        found = counts(store.note(DUPLICATES))
        if found is None:
            found = duplicates(self.tables)
            store.set_note(DUPLICATES, found)
        for pair, count in found.items():
            if count:
                log.warning("%d texts are in two splits: %s", count, pair)
        return found

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
            replace_whole(self.folder.seconds("train"), str(self._supernet.train_s).encode())
        return self._supernet

    def _tables(self, bench: Callable[[], Any]) -> dict[str, Any]:
        """What modelled objectives know of this device, found once per run, before anything else runs on it."""
        asked = (*self.study.objectives, *(one.objective for one in self.study.constraints))
        modelled = list({one.name: one for one in asked if one.modelled}.values())
        if not modelled:
            return {}
        if self.conditions.ray_address:
            raise StudyError(
                f"{modelled[0].name} is modelled from times on this machine, and the workers of --ray-address may be "
                "others: measure it during the search (during_search='measured')"
            )
        if self.folder.calibration.exists():
            try:
                stored: dict[str, Any] = json.loads(self.folder.calibration.read_text())
                return {one.name: dict(stored[one.name]) for one in modelled}
            except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
                raise StoreError(
                    f"{self.folder.calibration}: not a table of {', '.join(one.name for one in modelled)} ({error}): "
                    "start a new run, since the values so far came from another one"
                ) from error
        rng = np.random.default_rng(self.study.seed)
        candidates = [self.space.decode(genome) for genome in self.space.sample(CALIBRATED, rng)]
        built = bench()
        tables = {}
        for number, one in enumerate(modelled):
            self.progress("calibrate", number, len(modelled))
            assert one.timing is not None
            assert one.timing.calibrate is not None
            table = one.timing.calibrate(built.subject, candidates)
            tables[one.name] = {**table, "environment": dict(built.environment)}
        self.progress("calibrate", len(modelled), len(modelled))
        replace_whole(self.folder.calibration, (json.dumps(tables, indent=2) + "\n").encode())
        return tables

    def workbench(self, split: str) -> Workbench:
        """The trained supernet with one split, under the conditions of this run: see `READS` for others."""
        from searchkit.evaluate.subject import SupernetWorkbench

        folder = str(self.trained().folder)
        tokenizer = load_tokenizer(folder)
        workbench = SupernetWorkbench.of_folder(
            folder,
            self.study.supernet.recipe,
            self.study.task.encode(self.tables[READS.get(split, split)], tokenizer),
            padded_to=self.study.task.max_length,
            device=self.conditions.worker_device,
            dtype=self.conditions.dtype,
            threads=self.conditions.worker_threads,
            cache_bytes=self.conditions.cache_mib << 20,
            shards=self.study.racing.shards if self.study.racing and self.study.race and split == "search" else 1,
            constraints=tuple(self.study.constraints) if split == "search" else (),
        )
        return replace(workbench, tables=self._tables(workbench.build)) if split == "search" else workbench

    def evaluator(self, split: str, objectives: Sequence[Objective], asks: int) -> Evaluator:
        """Inline, or on Ray where workers were asked for; never more workers than asks."""
        if not self.conditions.workers:
            from searchkit.evaluate.inline import Inline

            return Inline(self.workbench(split), objectives)
        return Ray(
            self.workbench(split),
            objectives,
            workers=max(1, min(self.conditions.workers, asks)),
            address=self.conditions.ray_address,
            resources=Resources(self.conditions.cpus_per_worker, self.conditions.gpus, self.conditions.custom),
            deadline_s=self.conditions.deadline_s,
        )

    def store(self, split: str, create: bool = True) -> Store:
        """Trials of one split; the splits are two studies of one storage. Without `create` nothing is written."""
        from searchkit.storage.store import Store

        objectives = self.study.objectives if split == "search" else self._report_objectives
        storage = self.conditions.storage or str(self.folder.journal)
        return Store.open(storage, f"{self.study.name}-{split}", objectives, create=create)

    @property
    def _report_objectives(self) -> tuple[Objective, ...]:
        return (*(one.final for one in self.study.objectives), *self.study.front_objectives)

    def searched(self) -> dict[str, Trial]:
        """Search until the budget is spent; key -> trial on the search split.

        KeyboardInterrupt after a Ctrl-C, once what was in flight is stored.
        """
        study, store = self.study, self.store("search")
        self.trained()  # before the search's seconds begin
        watch, kept = Stopwatch(self.folder.seconds("search")), OneSetting(store, study.objectives)
        tell, wanted = watch.watching(self.progress), study.budget.evaluations
        account = Account(
            study.budget,
            study.objectives,
            kept.appended() if study.engine.steady else kept.trials(),
            generation=1 if study.engine.steady else study.engine.population,
            max_failures=study.max_failures,
            seconds=watch.seconds,
        )
        counts = Counter(map(_kind, kept.appended()))

        def note() -> str:
            return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind] or kind == "measured")

        def told(new: Trial) -> None:
            counts[_kind(new)] += 1
            tell("search", account.evaluations, wanted, note())

        done = {trial.key: trial for trial in kept.trials()}
        if account.ended is None:
            tell("search", account.evaluations, wanted, note())
            if store.note(ENDED) is not None:
                store.set_note(ENDED, None)  # a smaller budget did
            done = self._search(kept, account, told)
            watch.write()
        tell("search", account.evaluations, account.evaluations, f"{note()}; {account.ended}")
        log.info("the search has ended: %s", account.ended)
        if not done:
            raise StudyError(f"{account.ended} before any candidate was measured: the budget needs more")
        if store.note(ENDED) != account.ended:
            store.set_note(ENDED, account.ended)
        return done

    def _search(self, kept: OneSetting, account: Account, told: Callable[[Trial], None]) -> dict[str, Trial]:
        study, interrupt = self.study, self.interrupt
        population, steady = study.engine.population, study.engine.steady
        in_flight = self._in_flight(kept) if steady else population
        if study.racing and study.race is None:
            needs = "it takes two objectives, a quality and a cost, both known for each example"
            why = "a steady engine has no generations to race against" if steady else needs
            log.info("racing is off: %s", why)
        engine = study.engine.start(self.space, study.objectives, study.seed)
        with ExitStack() as stack:
            evaluator = stack.enter_context(self.evaluator("search", study.objectives, in_flight))
            if interrupt:
                stack.enter_context(interrupt.listening())

            def halted() -> bool:
                return interrupt is not None and interrupt.asked

            if steady:
                return search_steadily(
                    engine,
                    evaluator,
                    kept,
                    account,
                    population=population,
                    in_flight=in_flight,
                    seen=told,
                    halted=halted,
                )
            return search(
                engine,
                evaluator,
                kept,
                account,
                population=population,
                race=study.race,
                seen=told,
                halted=halted,
            )

    def _in_flight(self, kept: OneSetting) -> int:
        """How many asks of a steady engine are open: two per worker, fixed for good when the search begins."""
        workers = self.conditions.workers
        if not kept.trials() and kept.store.note(IN_FLIGHT) is None:
            kept.store.set_note(IN_FLIGHT, 2 * workers or 1)
        found = in_flight(kept.store)
        if workers > found:
            log.warning("the search began with %d asks in flight: no more than %d workers have work", found, found)
        return found

    def reported(self) -> Results:
        """Measure the front and the baselines on the report split, and gather everything a report is made from."""
        trials = self.store("search").trials()
        wanted = [candidate for group in self.baselines.values() for candidate in group]
        wanted += [member.ask.candidate for member in Front.of(trials, self.study.objectives).members]
        return self.results(trials, self._measure_on_report(wanted))

    def results(self, trials: Sequence[Trial], measured: Mapping[str, Trial]) -> Results:
        """Everything a report is made from: the search's trials, and front and baselines on the report split."""
        study, duplicates = self.study, counts(self.store("search", create=False).note(DUPLICATES))
        return gathered(
            self.folder,
            self.description,
            (tuple(study.objectives), tuple(study.front_objectives)),
            self.baselines,
            trials,
            measured,
            duplicates or {},
        )

    @cached_property
    def _baseline_cache(self) -> SupernetCache[dict[str, Trial]]:
        """The baselines on the report split that some study of this supernet has measured in this setting, by key."""
        objectives = [objective.describe() for objective in self._report_objectives]
        return self.cache("baselines", {"objectives": objectives, "resamples": RESAMPLES}, _by_key)

    def cache(self, what: str, depends: Mapping[str, Any], parsed: Callable[[Any], T]) -> SupernetCache[T]:
        """Where the supernet keeps for all its studies what depends on this, and on the setting of this process."""
        device = device_of(self.conditions.worker_device)
        setting = {
            **environment(device, dtype_of(self.conditions.dtype, device)),
            "threads": self.conditions.worker_threads,
        }
        return SupernetCache.beside(self.trained(), what, {**depends, "environment": setting}, parsed)

    @property
    def _keeps_baselines(self) -> bool:
        """Not for workers, whose setting is their own, and not where something is timed: times age."""
        timed = any(objective.exclusive for objective in self._report_objectives)
        return not self.conditions.workers and not timed

    def _known_baselines(self) -> dict[str, Trial]:
        return (self._keeps_baselines and self._baseline_cache.read()) or {}

    def _keep_baselines(self, trials: Sequence[Trial]) -> None:
        """For other studies of this supernet, those among the trials, which are of this setting."""
        keys = {one.key for group in self.baselines.values() for one in group}
        measured = {trial.key: trial for trial in trials if trial.key in keys and trial.status == "measured"}
        known = self._known_baselines()
        if self._keeps_baselines and measured.keys() - known.keys():
            self._baseline_cache.write([trial.to_json() for trial in {**measured, **known}.values()])

    def _measure_on_report(self, candidates: Sequence[Candidate]) -> dict[str, Trial]:
        store = self.store("report")
        done = {trial.key: trial for trial in store.trials()}
        # trials are stored in the order of completion, so numbers that an interrupted report left out stay unused
        numbers = itertools.count(1 + max((trial.ask.number for trial in done.values()), default=-1))
        known = self._known_baselines() if any(one.key not in done for one in candidates) else {}
        for one in candidates:
            if one.key in known and one.key not in done:
                done[one.key] = replace(known[one.key], ask=Ask(next(numbers), one))
                store.append(done[one.key])
        missing = list({one.key: one for one in candidates if one.key not in done}.values())
        watch = Stopwatch(self.folder.seconds("report"))
        tell = watch.watching(self.progress)
        if not missing:
            return done
        asks = [Ask(next(numbers), candidate) for candidate in missing]
        tell("report", 0, len(asks))
        kept = OneSetting(store, self._report_objectives)
        objectives = [with_resamples(objective) for objective in self._report_objectives]  # for paired differences
        with self.evaluator("report", objectives, len(asks)) as evaluator:
            for count, trial in enumerate(evaluator.run(asks), start=1):
                kept.append(trial)
                done[trial.key] = trial
                tell("report", count, len(asks))
        watch.write()
        self._keep_baselines([done[ask.key] for ask in asks])  # what was stored before may be of another setting
        return done


def gathered(
    folder: Folder,
    description: Mapping[str, Any],
    objectives: tuple[tuple[Objective, ...], tuple[Objective, ...]],
    baselines: Mapping[str, Sequence[Candidate]],
    trials: Sequence[Trial],
    measured: Mapping[str, Trial],
    duplicates: Mapping[str, int],
) -> Results:
    """The results of a run; objectives: those searched, those of the front only; measured: by key, on the report."""
    front = Front.of(trials, objectives[0])
    return Results(
        study={"fingerprint": digest(description), **description},
        objectives=objectives[0],
        front_objectives=objectives[1],
        trials=tuple(trials),
        report={member.key: measured[member.key] for member in front.members},
        baselines={name: tuple(measured[one.key] for one in group) for name, group in baselines.items()},
        environment=common([trial.environment for trial in trials if trial.environment]),
        seconds={phase: Stopwatch(folder.seconds(phase)).before for phase in PHASES},
        duplicates=duplicates,
    )


def counts(note: Any) -> dict[str, int] | None:
    """The note on shared texts as it was written; None for anything else."""
    written = isinstance(note, dict) and all(type(count) is int for count in note.values())
    return note if written else None


def _by_key(trials: Any) -> dict[str, Trial]:
    return {one.key: one for one in map(Trial.from_json, trials)}


def _kind(trial: Trial) -> str:
    """What progress calls it."""
    if not trial.is_evaluation:
        return "turned down"
    return "stopped early" if isinstance(trial.outcome, Pruned) else trial.status
