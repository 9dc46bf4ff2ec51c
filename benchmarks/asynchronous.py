"""Both engine modes on simulated workers whose evaluations take times with a heavy tail: utilisation, hypervolume."""

from __future__ import annotations

import argparse
import heapq
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overhead import OBJECTIVES, Free
from benchmarks.result import finish
from searchkit import NSGA2, Ask, Budget, Lengths, Space, Trial
from searchkit.evaluate.trial import measure
from searchkit.front import Array, hypervolume_curve, losses
from searchkit.records import Measured
from searchkit.search.budget import Account
from searchkit.search.generational import search
from searchkit.search.steady import search_steadily

SPACE = Space(Lengths(levels=16)).bound(12)
REFERENCE = (0.0, 1.01)  # quality 0, all of the cost
GENERATION = 24  # the least; a generation has a candidate for every worker
TIMES: dict[str, Callable[[np.random.Generator], float]] = {  # seconds, 1 on average
    "lognormal": lambda rng: float(rng.lognormal(-0.5, 1.0)),
    "pareto": lambda rng: float(1 / 3 * (1 + rng.pareto(1.5))),
}
CONFIGURATIONS = ("generational", "steady", f"steady, population {GENERATION}")


class Simulated:
    """An evaluator of so many workers, under a clock of its own. A candidate takes the same time whoever asks."""

    def __init__(self, workers: int, times: str, seed: int) -> None:
        self._workers, self._times, self._seed = workers, TIMES[times], seed
        self.clock = 0.0
        self._spans: list[tuple[float, float]] = []  # when each evaluation began and ended

    def utilisation(self, until: float) -> float:
        """The share of the workers' time that was used until then."""
        return sum(max(0.0, min(end, until) - begin) for begin, end in self._spans) / (self._workers * until)

    @property
    def last_begun(self) -> float:
        return max(begin for begin, _ in self._spans)

    def run(self, asks: Sequence[Ask], race: object = None) -> Iterator[Trial]:
        """A generation: each next ask to the worker that is free first; the slowest ends it."""
        return self._until_idle(deque(asks), list)

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        return self._until_idle(deque(more()), more)

    def halt(self) -> None:
        raise AssertionError("nothing halts here")

    def _until_idle(self, waiting: deque[Ask], more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        running: list[tuple[float, int, Ask]] = []
        while waiting or running:
            while waiting and len(running) < self._workers:
                ask = waiting.popleft()
                seconds = self._times(np.random.default_rng([self._seed, int(ask.key, 16)]))
                self._spans.append((self.clock, self.clock + seconds))
                heapq.heappush(running, (self.clock + seconds, ask.number, ask))
            self.clock, _, ask = heapq.heappop(running)
            yield measure(ask, Free().build(), OBJECTIVES)
            waiting.extend(more())


class Memory:
    """A store without a disk, and the curve of what it was given."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._trials: list[Trial] = []
        self._seconds: list[float] = []

    def append(self, trial: Trial) -> None:
        self._trials.append(trial)
        self._seconds.append(self._clock())

    def trials(self) -> list[Trial]:
        return sorted(self._trials, key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        return list(self._trials)

    def curve(self) -> tuple[Array, Array]:
        estimates = [one.outcome.estimates for one in self._trials if isinstance(one.outcome, Measured)]
        return np.array(self._seconds), hypervolume_curve(losses(estimates, OBJECTIVES), REFERENCE)


@dataclass(frozen=True)
class Search:
    """Result of one simulated search: utilisation until its end and until its last start, and its curve."""

    whole: float
    fed: float
    seconds: Array
    volumes: Array

    def at(self, seconds: float) -> float:
        return float(self.volumes[np.searchsorted(self.seconds, seconds, side="right") - 1])

    def reaches(self, volume: float) -> float:
        return float(self.seconds[np.argmax(self.volumes >= volume)]) if self.volumes[-1] >= volume else np.inf


def simulated(configuration: str, workers: int, times: str, evaluations: int, seed: int) -> Search:
    steady = configuration.startswith("steady")
    population = max(GENERATION, 0 if configuration == CONFIGURATIONS[2] else workers)
    evaluator = Simulated(workers, times, seed)
    store, account = Memory(lambda: evaluator.clock), Account(Budget(evaluations), OBJECTIVES)
    engine = NSGA2(population=population, steady=steady).start(SPACE, OBJECTIVES, seed)
    if steady:
        search_steadily(engine, evaluator, store, account, population=population, in_flight=2 * workers)  # type: ignore[arg-type]
    else:
        search(engine, evaluator, store, account, population=population)  # type: ignore[arg-type]
    fed = evaluator.utilisation(evaluator.last_begun)
    return Search(evaluator.utilisation(evaluator.clock), fed, *store.curve())


def figures_of(workers: int, times: str, evaluations: int, seeds: int) -> tuple[dict[str, Any], dict[str, Search]]:
    """Medians over the seeds, and the curves of the first seed."""
    runs = {
        name: [simulated(name, workers, times, evaluations, seed) for seed in range(seeds)] for name in CONFIGURATIONS
    }
    figures = {}
    ends = [min(float(searches[seed].seconds[-1]) for searches in runs.values()) for seed in range(seeds)]
    goals = [float(search.volumes[-1]) for search in runs["generational"]]
    for name, searches in runs.items():
        figures[name] = {
            "utilisation": round(statistics.median(search.whole for search in searches), 3),
            "utilisation_until_the_last_starts": round(statistics.median(search.fed for search in searches), 3),
            "seconds": round(statistics.median(float(search.seconds[-1]) for search in searches), 1),
            "hypervolume": round(statistics.median(float(search.volumes[-1]) for search in searches), 5),
            "hypervolume_when_the_first_ends": round(statistics.median(map(Search.at, searches, ends)), 5),
            "seconds_to_generational_end": _finite(statistics.median(map(Search.reaches, searches, goals))),
        }
    return figures, {name: searches[0] for name, searches in runs.items()}


def _finite(seconds: float) -> float | None:
    return round(seconds, 1) if np.isfinite(seconds) else None


def draw(curves: dict[tuple[str, int], dict[str, Search]], file: Path) -> None:
    """Hypervolume against simulated seconds, a panel for each distribution and number of workers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows, columns = list(dict.fromkeys(times for times, _ in curves)), sorted({workers for _, workers in curves})
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(3.6 * len(columns), 3.0 * len(rows)), squeeze=False, layout="constrained"
    )
    for (times, workers), panel in curves.items():
        axis = axes[rows.index(times)][columns.index(workers)]
        for style, (name, one) in zip(("-", "-", "--"), panel.items(), strict=True):
            axis.step(one.seconds, one.volumes, style, where="post", label=name)
        best = max(one.volumes[-1] for one in panel.values())
        axis.set_ylim(0.9 * best, 1.005 * best)
        axis.set_xscale("log")
        axis.set_title(f"{workers} workers, {times}", fontsize=10)
        axis.set_xlabel("simulated seconds")
    axes[0][0].set_ylabel("hypervolume")
    axes[0][0].legend(fontsize=8, loc="lower right")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 32, 128, 512])
    parser.add_argument("--evaluations", type=int, default=3072)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    figures, curves = dict[str, Any](), dict[tuple[str, int], dict[str, Search]]()
    for times in TIMES:
        figures[times] = {}
        for workers in arguments.workers:
            row, curves[times, workers] = figures_of(workers, times, arguments.evaluations, arguments.seeds)
            figures[times][str(workers)] = row
            print(times, workers, row, flush=True)
    draw(curves, Path(__file__).parent / "results" / "asynchronous.png")
    finish("asynchronous", {"evaluations": arguments.evaluations, "seeds": arguments.seeds, **figures})


if __name__ == "__main__":
    main()
