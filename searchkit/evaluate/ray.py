"""Evaluates asks on Ray actors that load supernet and split once; afterwards only candidates and records travel."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from searchkit.errors import QUOTED, StudyError, one_line
from searchkit.evaluate.base import Workbench
from searchkit.evaluate.inline import TOGETHER
from searchkit.evaluate.routing import Routes
from searchkit.evaluate.trial import add, measure_together, neighbours
from searchkit.records import Ask, Failed, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Objective

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3  # an ask whose worker died is tried this often; so is the start of a worker that dies meanwhile
DEADLINE_S: Final = 900.0
IN_FLIGHT: Final = 2  # groups per worker where asks are quick: one runs, one waits during a round trip
QUICK_S: Final = 0.02
PARTS: Final = 2  # for each worker, of the asks that are left, so that all end together
MOST: Final = 2 * TOGETHER  # asks in one group
IN_TURNS: Final = 4  # asks that are timed together; one that kills its worker takes no more along
SLOW: Final = 3.0  # times the longest ask so far: what each further ask of a group adds to its deadline
TOLD_EVERY_S: Final = 60.0  # while no worker can start
ON_LOOPBACK: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: no node but this one, so that nothing else may listen in
ANSWER_S: Final = 10.0  # for the head of a cluster
STUDY: Final = "searchkit_study_"  # how the modules of study files begin
OURS: Final = ("searchkit", "objectives", "studies")
STARTED_S: Final = 600.0  # by when one must have, on a cluster that may still grow


@dataclass(frozen=True)
class Resources:
    """What Ray sets aside for one worker: CPU cores, GPUs (fractions share one), and resources that nodes were given
    by name."""

    cpus: float = 1
    gpus: float = 0
    custom: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, amount in {"cpus": self.cpus, "gpus": self.gpus, **self.custom}.items():
            if not 0 <= amount < math.inf:
                raise StudyError(f"a worker's {name} must be a number of 0 or more, got {amount}")

    def __str__(self) -> str:
        named = {"CPU": self.cpus, "GPU": self.gpus, **self.custom}
        return ", ".join(f"{amount:g} {name}" for name, amount in named.items() if amount)


class _Worker:
    """The actor: a bench, and the objectives to measure on it."""

    def build(self, workbench: Workbench, objectives: Sequence[Objective]) -> None:
        """Not in the constructor: what goes wrong here comes back as itself, and a death as a death."""
        self._bench = workbench.build()
        self._objectives = {objective.name: objective for objective in objectives}

    def measure(self, job: _Job, race: RaceState | None) -> list[Trial]:
        bench = self._bench.smaller() if job.attempt > 1 else self._bench  # memory may be why its worker died
        objectives = [self._objectives[name] for name in job.names]
        if job.before:
            return add(job.before, bench, objectives)
        return list(measure_together(job.asks, bench, objectives, race))


@dataclass(frozen=True)
class _Job:
    """Asks to measure together, the objectives, what is known already of each, and how often it was tried."""

    asks: tuple[Ask, ...]
    names: tuple[str, ...]
    before: tuple[Trial, ...] = ()
    attempt: int = 1

    def cut(self, worker: _WorkerSlot, routes: Routes, count: int) -> tuple[_Job, _Job | None]:
        """So many of its asks for a worker, and the rest; what was begun stays together."""
        if self.before or self.attempt > 1:
            return self, None
        taken, left = routes.taken(worker, self.asks, count)
        return replace(self, asks=taken), replace(self, asks=left) if left else None

    def again(self) -> list[_Job]:
        """After its worker died: each ask by itself, so that one that kills workers takes no other along."""
        known = {trial.key: (trial,) for trial in self.before}
        return [
            replace(self, asks=(ask,), before=known.get(ask.key, ()), attempt=self.attempt + 1) for ask in self.asks
        ]


@dataclass(eq=False)
class _WorkerSlot:
    """A place for a worker: its actor, what that still has to do, in its order, and since when it does the first."""

    actor: Any
    starting: Any  # the reference that is ready when the worker is; None afterwards
    jobs: dict[Any, _Job] = field(default_factory=dict)
    since: float = 0.0
    deaths: int = 0  # in a row, while it started


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
        resources: Resources = Resources(),
        deadline_s: float = DEADLINE_S,
    ) -> None:
        if address is None:
            os.environ.setdefault(ON_LOOPBACK, "0")  # which Ray reads when it is imported
        import ray

        if workers < 1:
            raise StudyError(f"--workers must be at least 1, got {workers}")
        if not deadline_s > 0:
            raise StudyError(f"--deadline must be more than 0 seconds, got {deadline_s}")
        self._ray = ray
        self._connected = not ray.is_initialized()
        if self._connected:
            _connect(ray, address, workers * resources.cpus)
        _travel_by_value(ray)
        self._resources, self._may_grow = resources, address is not None
        self._deadline_s, self._longest_s = deadline_s, 0.0
        self._objectives = tuple(objectives)
        self._built_from = ray.put(workbench), ray.put(self._objectives)  # once per node, through the object store
        self._actor = ray.remote(_Worker).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, resources=dict(resources.custom)
        )
        self._seats: list[_WorkerSlot] = []
        self._routes = Routes()
        self._halted = False
        try:
            self._seats.extend(self._seated() for _ in range(workers))
            self._wait_for_one()
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
        parts = [tuple(first[start : start + IN_TURNS]) for start in range(0, len(first), IN_TURNS)]
        jobs = [_Job(tuple(trial.ask for trial in part), alone, part) for part in parts]
        yield from self._dispatch(jobs, one_at_a_time=True)

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
        for seat in self._seats:
            self._ray.kill(seat.actor)
        if self._connected:
            self._ray.shutdown()

    def _dispatch(
        self,
        jobs: Sequence[_Job],
        more: Callable[[], Sequence[_Job]] = tuple,
        race: RaceState | None = None,
        one_at_a_time: bool = False,
    ) -> Iterator[Trial]:
        """Trials in the order of completion; arrival order steers nothing, the engine is told in ask order."""
        waiting = deque((*jobs, *more()))
        shared = None if race is None else self._ray.put(race)  # so that it travels once
        while (waiting and not self._halted) or any(seat.jobs for seat in self._seats):
            if not self._halted:
                self._hand_out(waiting, shared, one_at_a_time)
            trials = [trial for seat in self._changed() for trial in self._settled(seat, waiting)]
            for trial in trials:
                yield trial
                waiting.extend(more())

    def _hand_out(self, waiting: deque[_Job], race: Any, one_at_a_time: bool) -> None:
        """Waiting jobs to workers that have started, those with the fewest first."""
        self._wait_for_one()
        here = [seat for seat in self._seats if seat.starting is None]
        while waiting:
            busy = sum(len(seat.jobs) for seat in self._seats)
            seat = min(here, key=lambda seat: len(seat.jobs))
            most = IN_FLIGHT if 0 < self._longest_s < QUICK_S else 1
            if len(seat.jobs) >= most or (one_at_a_time and busy):
                return
            whole = waiting.popleft()
            job, rest = whole.cut(seat, self._routes, _share(len(whole.asks), len(self._seats)))
            if rest:
                waiting.appendleft(rest)
            if not seat.jobs:
                seat.since = time.monotonic()
            seat.jobs[seat.actor.measure.remote(job, race)] = job

    def _changed(self) -> list[_WorkerSlot]:
        """Wait until something happened to a seat: it has started, finished its first job, died, or is too late."""
        watched = {
            next(iter(seat.jobs)) if seat.starting is None else seat.starting: seat
            for seat in self._seats
            if seat.jobs or seat.starting is not None
        }
        left = [self._due(seat) - time.monotonic() for seat in self._seats if seat.jobs]
        ready, _ = self._ray.wait(list(watched), num_returns=1, timeout=max(0.0, min(left)) if left else TOLD_EVERY_S)
        late = [seat for seat in self._seats if seat.jobs and self._due(seat) <= time.monotonic()]
        return [watched[reference] for reference in ready] or late

    def _due(self, seat: _WorkerSlot) -> float:
        """When the first job of the seat is late, by the monotonic clock."""
        job = next(iter(seat.jobs.values()))
        each = min(self._deadline_s, SLOW * self._longest_s) if self._longest_s else self._deadline_s
        return seat.since + self._deadline_s + (len(job.asks) - 1) * each

    def _settled(self, seat: _WorkerSlot, waiting: deque[_Job]) -> list[Trial]:
        """What the seat's news mean: trials, or jobs that wait again."""
        if seat.starting is not None:
            self._started(seat)
            return []
        reference = next(iter(seat.jobs))
        ready, _ = self._ray.wait([reference], timeout=0)
        if not ready:
            return self._lost(seat, waiting, Failed("timeout", f"took more than {self._deadline_s:g} s"))
        try:
            trials: list[Trial] = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from None  # `measure` lets through only what stops the whole study
        except self._ray.exceptions.RayError as error:
            kind = "out-of-memory" if _of_memory(self._ray, error) else "worker-died"
            message = "the worker died while it measured this candidate"
            return self._lost(seat, waiting, Failed(kind, message, str(error)))
        del seat.jobs[reference]
        seat.since = time.monotonic()
        self._longest_s = max([self._longest_s, *(trial.seconds for trial in trials)])
        return trials

    def _lost(self, seat: _WorkerSlot, waiting: deque[_Job], why: Failed) -> list[Trial]:
        """A new worker for the seat; the first job is suspect and tried alone, last of all, those behind it next."""
        log.warning("a worker is replaced: %s: %s %s", why.kind, why.message, one_line(why.trace, QUOTED))
        suspect, *queued = seat.jobs.values()
        self._ray.kill(seat.actor)
        self._routes.forget(seat)
        fresh = self._seated()
        seat.actor, seat.starting, seat.jobs = fresh.actor, fresh.starting, {}
        waiting.extendleft(reversed(queued))
        give_up = suspect.attempt >= ATTEMPTS or (why.kind == "timeout" and len(suspect.asks) == 1)
        if not give_up:
            waiting.extend(suspect.again())
            return []
        message = why.message if suspect.attempt == 1 else f"{why.message}, {suspect.attempt} times"
        final = replace(why, message=message, attempts=suspect.attempt)
        return [Trial(ask, final, time.monotonic() - seat.since) for ask in suspect.asks]

    def _seated(self) -> _WorkerSlot:
        actor = self._actor.remote()
        return _WorkerSlot(actor, actor.build.remote(*self._built_from))

    def _started(self, seat: _WorkerSlot) -> None:
        """The seat's worker can work, or is started once more; StudyError with its own error if it cannot be built."""
        try:
            self._ray.get(seat.starting)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise StudyError(f"a worker cannot start: {one_line(cause, QUOTED)}") from error
        except self._ray.exceptions.RayError as error:
            seat.deaths += 1
            if seat.deaths >= ATTEMPTS and all(one.starting is not None for one in self._seats):
                told = one_line(error, QUOTED)
                raise StudyError(f"a worker cannot start, it died {ATTEMPTS} times: {told}") from error
            self._ray.kill(seat.actor)
            fresh = self._seated()
            seat.actor, seat.starting = fresh.actor, fresh.starting
            return
        seat.starting, seat.deaths = None, 0

    def _wait_for_one(self) -> None:
        """Until a worker has started; the others may do so later."""
        begun = time.monotonic()
        while all(seat.starting is not None for seat in self._seats):
            for seat in self._changed():
                self._started(seat)
            waited = time.monotonic() - begun
            if waited > TOLD_EVERY_S / 2 and all(seat.starting is not None for seat in self._seats):
                self._tell_waiting(waited)

    def _tell_waiting(self, waited: float) -> None:
        has: dict[str, float] = self._ray.cluster_resources()
        needs = {"CPU": self._resources.cpus, "GPU": self._resources.gpus, **self._resources.custom}
        told = f"no worker has started in {waited:.0f} s: one takes {self._resources}, there are " + ", ".join(
            f"{has.get(name, 0):g} {name}" for name in needs
        )
        never = not self._may_grow and any(has.get(name, 0) < amount for name, amount in needs.items())
        if waited > STARTED_S or never:
            raise StudyError(f"{told}; ask for less, or give the cluster more")
        log.warning("%s; waiting", told)


def _share(left: int, workers: int) -> int:
    """How many of the asks that are left a worker gets next."""
    return min(math.ceil(left / (PARTS * workers)), MOST)


def _of_memory(ray: Any, error: Exception) -> bool:
    """Whether Ray stopped the worker because the node ran out of memory."""
    return isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in str(error)


def check_reachable(address: str) -> None:
    """StudyError where nothing listens at HOST:PORT; Ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or something that Ray says more about
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise StudyError(f"cannot reach the Ray cluster at {address}: {error}") from error


def _connect(ray: Any, address: str | None, cpus: float) -> None:
    if address:
        check_reachable(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=max(1, round(cpus)), include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        place = f"the Ray cluster at {address}" if address else "a local Ray cluster"
        raise StudyError(f"cannot reach {place}: {one_line(error, QUOTED)}") from error


def _travel_by_value(ray: Any) -> None:
    """Study files, and the modules and packages beside them, travel with the study: workers cannot import them."""
    files = {name: file for name, one in list(sys.modules.items()) if (file := getattr(one, "__file__", None))}
    folders = {Path(file).resolve().parent for name, file in files.items() if name.startswith(STUDY)}
    for name, file in files.items():
        beside = Path(file).resolve().parents[Path(file).name == "__init__.py"]
        if "." not in name and name not in OURS and beside in folders:
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])
