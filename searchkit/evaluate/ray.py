"""Evaluates asks on Ray actors that load supernet and split once; afterwards only candidates and records travel."""

from __future__ import annotations

import logging
import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from searchkit.errors import StudyError
from searchkit.evaluate.base import Workbench
from searchkit.evaluate.trial import add, even, measure_together, neighbours
from searchkit.records import Ask, Failed, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import Race
    from searchkit.objective import Objective

log = logging.getLogger(__name__)

ATTEMPTS = 3  # an ask whose worker died is tried this often
IN_FLIGHT = 2  # groups per worker: one runs, one waits, so that no worker idles during a round trip
FIRST = 0.75  # of a worker's share of a generation, in one group; the rest goes to whoever is done first
IN_TURNS = 4  # asks that are timed together; one that kills its worker takes no more along


class _Worker:
    """The actor: a bench, and the objectives to measure on it."""

    def __init__(self, workbench: Workbench, objectives: Sequence[Objective]) -> None:
        self._bench = workbench.build()
        self._objectives = {objective.name: objective for objective in objectives}

    def ready(self) -> bool:
        return True

    def measure(self, asks: Sequence[Ask], names: Sequence[str], race: Race | None) -> list[Trial]:
        return list(measure_together(asks, self._bench, [self._objectives[name] for name in names], race))

    def add(self, before: Sequence[Trial], names: Sequence[str]) -> list[Trial]:
        return add(before, self._bench, [self._objectives[name] for name in names])


@dataclass(frozen=True)
class _Job:
    """Asks to measure together, the objectives, what is known already of each, and how often it was tried."""

    asks: tuple[Ask, ...]
    names: tuple[str, ...]
    before: tuple[Trial, ...] = ()
    race: Any = None  # a reference to it, so that it travels once
    attempt: int = 1

    def again(self) -> list[_Job]:
        """After its worker died: each ask by itself, so that one that kills workers takes no other along."""
        known = {trial.key: (trial,) for trial in self.before}
        return [
            replace(self, asks=(ask,), before=known.get(ask.key, ()), attempt=self.attempt + 1) for ask in self.asks
        ]


class Ray:
    """`workers` long-lived actors on the cluster at `address`, or on a local one that ends with the evaluator.

    Asks are measured in groups of neighbours, which share prefixes: a large one for each worker, and small ones for
    those that are done while others take long. Objectives that are timed are measured in a second phase, some asks in
    turns on one worker, while the others idle. An ask whose worker dies is tried again on a new worker, alone,
    `ATTEMPTS` times in all, and then is `Failed`.
    """

    def __init__(
        self,
        workbench: Workbench,
        objectives: Sequence[Objective],
        *,
        workers: int,
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0,
    ) -> None:
        import ray

        if workers < 1:
            raise StudyError(f"--workers must be at least 1, got {workers}")
        self._ray = ray
        self._owns_cluster = not ray.is_initialized()
        if self._owns_cluster:
            _connect(ray, address, workers * cpus_per_worker)
        _travel_by_value(ray)
        self._objectives = tuple(objectives)
        self._workbench = ray.put(workbench)  # once per node, through the object store
        actor = ray.remote(_Worker)
        self._actor = actor.options(num_cpus=cpus_per_worker, num_gpus=gpus_per_worker)
        self._workers = [self._start() for _ in range(workers)]
        self._wait_until_ready()

    def run(self, asks: Sequence[Ask], race: Race | None = None) -> Iterator[Trial]:
        together = tuple(objective.name for objective in self._objectives if not objective.exclusive)
        alone = tuple(objective.name for objective in self._objectives if objective.exclusive)
        shared = None if race is None else self._ray.put(race)
        sizes = _sizes(len(asks), len(self._workers))
        groups = [_Job(group, together, race=shared) for group in neighbours(asks, sizes)]
        measured = self._dispatch(groups, len(self._workers), IN_FLIGHT)
        if not alone:
            yield from measured
            return
        first = sorted(measured, key=lambda trial: trial.ask.number)
        parts = [tuple(first[start : start + IN_TURNS]) for start in range(0, len(first), IN_TURNS)]
        jobs = [_Job(tuple(trial.ask for trial in part), alone, part) for part in parts]
        yield from self._dispatch(jobs, workers=1, in_flight=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        if self._owns_cluster:
            self._ray.shutdown()

    def _start(self) -> Any:
        return self._actor.remote(self._workbench, self._objectives)

    def _wait_until_ready(self) -> None:
        """A worker that cannot start stops the study with its own error: every other one would fail the same way."""
        try:
            self._ray.get([worker.ready.remote() for worker in self._workers])
        except self._ray.exceptions.RayError as error:
            self.__exit__(None, None, None)
            cause = getattr(error, "cause", None) or error
            raise StudyError(f"a worker cannot start: {' '.join(str(cause).split())[-500:]}") from error

    def _dispatch(self, jobs: Sequence[_Job], workers: int, in_flight: int) -> Iterator[Trial]:
        """Trials in the order of completion; arrival order steers nothing, the engine is told in ask order."""
        waiting = deque(jobs)
        running: dict[Any, tuple[_Job, int]] = {}
        load = [0] * workers
        while waiting or running:
            while waiting and min(load) < in_flight:
                slot, job = load.index(min(load)), waiting.popleft()
                worker = self._workers[slot]
                add, new = worker.add.remote, worker.measure.remote
                reference = add(job.before, job.names) if job.before else new(job.asks, job.names, job.race)
                running[reference] = (job, slot)
                load[slot] += 1
            (reference,), _ = self._ray.wait(list(running), num_returns=1)
            try:
                trials = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, Exception) else error
                raise cause from None  # `measure` lets through only what stops the whole study
            except self._ray.exceptions.RayError as error:
                slot = running[reference][1]
                suspect, *bystanders = self._replace(slot, error, running)
                load[slot] = 0
                waiting.extendleft(reversed(bystanders))
                if suspect.attempt < ATTEMPTS:
                    waiting.extend(suspect.again())
                else:
                    yield from (_died(ask, error) for ask in suspect.asks)
            else:
                load[running.pop(reference)[1]] -= 1
                yield from trials

    def _replace(self, slot: int, error: Exception, running: dict[Any, tuple[_Job, int]]) -> list[_Job]:
        """Start a new worker in `slot`; the jobs the dead one had, in the order it took them: the first was running."""
        log.warning("a worker died and is replaced: %s", " ".join(str(error).split())[:300])
        self._ray.kill(self._workers[slot])
        self._workers[slot] = self._start()
        lost = [reference for reference, (_, where) in running.items() if where == slot]
        return [running.pop(reference)[0] for reference in lost]


def _sizes(count: int, workers: int) -> list[int]:
    """Of the groups of so many asks, in the order in which they are handed out."""
    large = min(math.ceil(FIRST * count / workers), count // workers)
    return [large] * workers + even(count - large * workers, workers) if large else even(count, workers)


def _died(ask: Ask, error: Exception) -> Trial:
    message = f"the worker died {ATTEMPTS} times while it measured this candidate"
    return Trial(ask, Failed("worker-died", message, str(error)), seconds=0.0)


def _connect(ray: Any, address: str | None, cpus: float) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(num_cpus=max(1, round(cpus)), include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        place = f"the Ray cluster at {address}" if address else "a local Ray cluster"
        raise StudyError(f"cannot reach {place}: {' '.join(str(error).split())[:300]}") from error


def _travel_by_value(ray: Any) -> None:
    """Functions that a study file defines travel with the study: workers cannot import that file."""
    for name, module in list(sys.modules.items()):
        if name.startswith("searchkit_study_"):
            ray.cloudpickle.register_pickle_by_value(module)
