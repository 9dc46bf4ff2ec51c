"""Evaluation on Ray actors that load supernet and split once; afterwards only candidates and records travel."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from searchkit._internal.progress import step
from searchkit.errors import QUOTED, StudyError, one_line
from searchkit.evaluate.base import Workbench
from searchkit.evaluate.inline import TOGETHER
from searchkit.evaluate.ray_cluster import ONE_CORE, Resources, connect, imported, runtime_env, travel_by_value
from searchkit.evaluate.routing import Routes
from searchkit.evaluate.trial import add, at_once, measure_together, neighbours
from searchkit.records import Ask, Failed, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Objective

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # an ask whose worker died is tried this often; so is the start of a worker that dies meanwhile
DEADLINE_S: Final = 900.0
IN_FLIGHT: Final = 2  # groups per worker where asks are quick: one runs, one waits during a round trip
QUICK_S: Final = 0.02
PARTS: Final = 2  # groups for each worker in what is left of the asks, so that all end together
MOST: Final = 2 * TOGETHER  # asks in one group
IN_TURNS: Final = 4  # asks timed together where passes are long; one that kills its worker takes no more along
SLOW: Final = 3.0  # times the longest ask so far: what each further ask of a group adds to its deadline
REPORT_EVERY_S: Final = 2.0  # while workers measure
WARN_EVERY_S: Final = 60.0  # while no worker can start
STARTED_S: Final = 600.0  # time limit of a worker's start, on a cluster that may still grow


class _Worker:
    """The actor: a bench, and the objectives to measure on it."""

    def __init__(self, current_folder: str) -> None:
        """Move the driver's current folder, which Ray puts first, to the end of the path, so that it hides no package.

        current_folder: of the driver
        """
        sys.path.sort(key=lambda entry: entry == current_folder)

    def build(self, workbench: Workbench, objectives: Sequence[Objective]) -> None:
        """Build the bench; not in the constructor, so that errors come back as themselves, and a death as a death."""
        self._bench = workbench.build()
        self._objectives = {objective.name: objective for objective in objectives}

    def measure(self, job: _Job, race: RaceState | None) -> list[Trial]:
        bench = self._bench.smaller() if job.attempt > 1 else self._bench  # memory may be why its worker died
        objectives = [self._objectives[name] for name in job.names]
        if job.before:
            return add(job.before, bench, objectives)
        return list(measure_together(job.asks, bench, objectives, race))

    def at_once(self, asks: Sequence[Ask], names: Sequence[str]) -> int:
        return at_once(asks, self._bench, [self._objectives[name] for name in names], IN_TURNS)


@dataclass(frozen=True)
class _Job:
    """Job of a worker: asks to measure together, objectives, earlier trials of the asks, and the attempt."""

    asks: tuple[Ask, ...]
    names: tuple[str, ...]
    before: tuple[Trial, ...] = ()
    attempt: int = 1

    def cut(self, worker: _WorkerSlot, routes: Routes, count: int) -> tuple[_Job, _Job | None]:
        """Split off `count` asks for a worker; a job that was begun stays whole."""
        if self.before or self.attempt > 1:
            return self, None
        taken, left = routes.split(worker, self.asks, count)
        return replace(self, asks=taken), replace(self, asks=left) if left else None

    def again(self) -> list[_Job]:
        """Split into jobs of one ask each after the worker died, so that an ask that kills workers costs no other."""
        known = {trial.key: (trial,) for trial in self.before}
        return [
            replace(self, asks=(ask,), before=known.get(ask.key, ()), attempt=self.attempt + 1) for ask in self.asks
        ]


@dataclass(eq=False)
class _WorkerSlot:
    """Worker of the evaluator: its actor, its jobs in order, and the start time of the first.

    The slot stays when its worker dies and another actor takes over.
    """

    actor: Any
    starting: Any  # the reference that is ready when the worker is; None afterwards
    jobs: dict[Any, _Job] = field(default_factory=dict)
    since: float = 0.0
    deaths: int = 0  # consecutive deaths while it started


class Ray:
    """`workers` long-lived actors on the cluster at `address`, or on a local one that ends with the evaluator.

    Asks are measured in groups that share prefixes with each other and with what their worker remembers: large groups
    first, and ever smaller ones for workers that are done while others take long. Objectives that are timed are
    measured in a second phase, some asks in turns on one worker, while the others idle.

    Workers start when the cluster has `resources` for them, at any time, and work from then on; a worker that dies, or
    whose node leaves, is replaced. An ask whose worker dies is tried again on another one, alone and in smaller
    batches, `ATTEMPTS` times in all, and then is `Failed`; so is one that alone takes more than `deadline_s` seconds.
    A worker that cannot be built stops the study with its own error: every other one would fail the same way. One
    whose process dies while it starts is started again; the third time it stops the study, if no other has started.
    """

    def __init__(
        self,
        workbench: Workbench,
        objectives: Sequence[Objective],
        *,
        workers: int,
        address: str | None = None,
        resources: Resources = ONE_CORE,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        if workers < 1:
            raise StudyError(f"--workers must be at least 1, got {workers}")
        if not deadline_s > 0:
            raise StudyError(f"--deadline must be more than 0 seconds, got {deadline_s}")
        self._ray = ray = imported(address)
        self._connected = not ray.is_initialized()
        if self._connected:
            connect(address, workers * resources.cpus)
        travel_by_value(ray)
        self._resources, self._may_grow = resources, address is not None
        self._deadline_s, self._longest_s = deadline_s, 0.0
        self._objectives = tuple(objectives)
        self._built_from = ray.put(workbench), ray.put(self._objectives)  # once per node, through the object store
        self._actor = ray.remote(_Worker).options(
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            resources=dict(resources.custom),
            runtime_env=runtime_env(address) or None,
        )
        self._slots: list[_WorkerSlot] = []
        self._routes = Routes()
        self._halted = False
        try:
            self._slots.extend(self._new_slot() for _ in range(workers))
            self._wait_for_first()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def run(self, asks: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        together = tuple(objective.name for objective in self._objectives if not objective.exclusive)
        alone = tuple(objective.name for objective in self._objectives if objective.exclusive)
        generation = [_Job(group, together) for group in neighbours(asks, [len(asks)])]
        measured = self._dispatch(generation, race=race)
        if not alone:
            yield from measured
            return
        first = sorted(measured, key=lambda trial: trial.ask.number)
        size = self._timed_at_once([trial.ask for trial in first], alone)
        parts = [tuple(first[start : start + size]) for start in range(0, len(first), size)]
        jobs = [_Job(tuple(trial.ask for trial in part), alone, part) for part in parts]
        yield from self._dispatch(jobs, one_at_a_time=True)

    def _timed_at_once(self, asks: Sequence[Ask], names: Sequence[str]) -> int:
        self._wait_for_first()
        worker = next(slot for slot in self._slots if slot.starting is None).actor
        try:
            return int(self._ray.get(worker.at_once.remote(asks, names), timeout=self._deadline_s))
        except self._ray.exceptions.RayError:  # it is met again, and dealt with, where they are measured
            return IN_TURNS

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        names = tuple(objective.name for objective in self._objectives)
        yield from self._dispatch([], lambda: [_Job((ask,), names) for ask in more()])

    def halt(self) -> None:
        self._halted = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots:
            self._ray.kill(slot.actor)
        if self._connected:
            self._ray.shutdown()

    def _dispatch(
        self,
        jobs: Sequence[_Job],
        more: Callable[[], Sequence[_Job]] = tuple,
        race: RaceState | None = None,
        one_at_a_time: bool = False,
    ) -> Iterator[Trial]:
        """Yield trials in the order of completion; the engine gets them in ask order."""
        waiting = deque((*jobs, *more()))
        shared = None if race is None else self._ray.put(race)  # so that it travels once
        while (waiting and not self._halted) or any(slot.jobs for slot in self._slots):
            if not self._halted:
                self._hand_out(waiting, shared, one_at_a_time)
            trials = [trial for slot in self._ready_slots() for trial in self._collected(slot, waiting)]
            for trial in trials:
                yield trial
                waiting.extend(more())

    def _hand_out(self, waiting: deque[_Job], race: Any, one_at_a_time: bool) -> None:
        """Assign waiting jobs to workers that have started, those with the fewest first."""
        self._wait_for_first()
        started = [slot for slot in self._slots if slot.starting is None]
        while waiting:
            busy = sum(len(slot.jobs) for slot in self._slots)
            slot = min(started, key=lambda slot: len(slot.jobs))
            most = IN_FLIGHT if 0 < self._longest_s < QUICK_S else 1
            if len(slot.jobs) >= most or (one_at_a_time and busy):
                return
            whole = waiting.popleft()
            job, rest = whole.cut(slot, self._routes, _share(len(whole.asks), len(self._slots)))
            if rest:
                waiting.appendleft(rest)
            if not slot.jobs:
                slot.since = time.monotonic()
            slot.jobs[slot.actor.measure.remote(job, race)] = job

    def _ready_slots(self) -> list[_WorkerSlot]:
        """Wait for workers that have started, finished their first job, died, or run late; return their slots."""
        watched = {
            next(iter(slot.jobs)) if slot.starting is None else slot.starting: slot
            for slot in self._slots
            if slot.jobs or slot.starting is not None
        }
        left = [self._due(slot) - time.monotonic() for slot in self._slots if slot.jobs]
        if left:
            asks = sum(len(job.asks) for slot in self._slots for job in slot.jobs.values())
            step(f"{asks} candidates are on {len(left)} workers")
        soon = min(REPORT_EVERY_S, max(0.0, min(left))) if left else WARN_EVERY_S
        ready, _ = self._ray.wait(list(watched), num_returns=1, timeout=soon)
        late = [slot for slot in self._slots if slot.jobs and self._due(slot) <= time.monotonic()]
        return [watched[reference] for reference in ready] or late

    def _due(self, slot: _WorkerSlot) -> float:
        """Deadline of the slot's first job, by the monotonic clock."""
        job = next(iter(slot.jobs.values()))
        per_ask_s = min(self._deadline_s, SLOW * self._longest_s) if self._longest_s else self._deadline_s
        return slot.since + self._deadline_s + (len(job.asks) - 1) * per_ask_s

    def _collected(self, slot: _WorkerSlot, waiting: deque[_Job]) -> list[Trial]:
        """Collect a worker's trials, or requeue its jobs."""
        if slot.starting is not None:
            self._started(slot)
            return []
        reference = next(iter(slot.jobs))
        ready, _ = self._ray.wait([reference], timeout=0)
        if not ready:
            return self._replaced(slot, waiting, Failed("timeout", f"took more than {self._deadline_s:g} s"))
        try:
            trials: list[Trial] = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from None  # `measure` lets through only what stops the whole study
        except self._ray.exceptions.RayError as error:
            kind = "out-of-memory" if _of_memory(self._ray, error) else "worker-died"
            message = "the worker died while it measured this candidate"
            return self._replaced(slot, waiting, Failed(kind, message, str(error)))
        del slot.jobs[reference]
        slot.since = time.monotonic()
        self._longest_s = max([self._longest_s, *(trial.seconds for trial in trials)])
        return trials

    def _replaced(self, slot: _WorkerSlot, waiting: deque[_Job], why: Failed) -> list[Trial]:
        """Start a new worker in the slot and requeue its jobs: the suspect first one last and alone, others next."""
        log.warning("a worker is replaced: %s: %s %s", why.kind, why.message, one_line(why.trace, QUOTED))
        suspect, *queued = slot.jobs.values()
        self._ray.kill(slot.actor)
        self._routes.forget(slot)
        fresh = self._new_slot()
        slot.actor, slot.starting, slot.jobs = fresh.actor, fresh.starting, {}
        waiting.extendleft(reversed(queued))
        give_up = suspect.attempt >= ATTEMPTS or (why.kind == "timeout" and len(suspect.asks) == 1)
        if not give_up:
            waiting.extend(suspect.again())
            return []
        message = why.message if suspect.attempt == 1 else f"{why.message}, {suspect.attempt} times"
        final = replace(why, message=message, attempts=suspect.attempt)
        return [Trial(ask, final, time.monotonic() - slot.since) for ask in suspect.asks]

    def _new_slot(self) -> _WorkerSlot:
        actor = self._actor.remote(os.getcwd())
        return _WorkerSlot(actor, actor.build.remote(*self._built_from))

    def _started(self, slot: _WorkerSlot) -> None:
        """Mark the slot's worker as started, or start another; StudyError with its own error if it cannot be built."""
        try:
            self._ray.get(slot.starting)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise StudyError(f"a worker cannot start: {one_line(cause, QUOTED)}") from error
        except self._ray.exceptions.RayError as error:
            slot.deaths += 1
            if slot.deaths >= ATTEMPTS and all(other_slot.starting is not None for other_slot in self._slots):
                reason = one_line(error, QUOTED)
                raise StudyError(f"a worker cannot start, it died {ATTEMPTS} times: {reason}") from error
            self._ray.kill(slot.actor)
            fresh = self._new_slot()
            slot.actor, slot.starting = fresh.actor, fresh.starting
            return
        slot.starting, slot.deaths = None, 0

    def _wait_for_first(self) -> None:
        """Wait until a worker has started; the others may do so later."""
        begun = time.monotonic()
        while all(slot.starting is not None for slot in self._slots):
            for slot in self._ready_slots():
                self._started(slot)
            waited = time.monotonic() - begun
            if waited > WARN_EVERY_S / 2 and all(slot.starting is not None for slot in self._slots):
                self._warn_of_waiting(waited)

    def _warn_of_waiting(self, waited: float) -> None:
        has: dict[str, float] = self._ray.cluster_resources()
        needs = self._resources.named
        message = f"no worker has started in {waited:.0f} s: one takes {self._resources}, there are " + ", ".join(
            f"{has.get(name, 0):g} {name}" for name in needs
        )
        never = not self._may_grow and any(has.get(name, 0) < amount for name, amount in needs.items())
        if waited > STARTED_S or never:
            raise StudyError(f"{message}; ask for less, or give the cluster more")
        log.warning("%s; waiting", message)


def _share(left: int, workers: int) -> int:
    """Number of asks that a worker gets next, of those that are left."""
    return min(math.ceil(left / (PARTS * workers)), MOST)


def _of_memory(ray: Any, error: Exception) -> bool:
    """Return whether Ray stopped the worker because the node ran out of memory."""
    return isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in str(error)
