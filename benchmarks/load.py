"""Held load: time and memory per evaluation of a search of 100,000 free ones, and its resume."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.overhead import OBJECTIVES, POPULATION, Free
from benchmarks.result import finish
from searchkit import NSGA2, Budget, Lengths, Space, Trial
from searchkit.evaluate.inline import Inline
from searchkit.search.budget import Account
from searchkit.search.generational import search
from searchkit.search.steady import search_steadily
from searchkit.storage.one_environment import OneSetting
from searchkit.storage.store import Store

SPACE = Space(Lengths(levels=16)).bound(12)  # 17 million candidates
IN_FLIGHT = 4  # asks, in steady state
PARTS = 10
MODES = ("generational", "steady")


class Meter:
    """Milliseconds, of them on the processor, and KiB of this process per evaluation, for every part of the search."""

    def __init__(self, part: int) -> None:
        self._part, self._count = part, 0
        self._before = self.begun = _now()
        self.first: list[float] = []
        self.parts: list[list[float]] = []

    def __call__(self, trial: Trial) -> None:
        self._count += 1
        if not self.first:
            self.first = [round(now - before, 2) for now, before in zip(_now(), self.begun, strict=True)]
        if self._count % self._part == 0:
            now = _now()
            spent = [after - before for after, before in zip(now, self._before, strict=True)]
            self.parts.append([round(one / self._part, digits) for one, digits in zip(spent, (6, 6, 2), strict=True)])
            self._before = now


def _now() -> tuple[float, float, float]:
    """Seconds by the clock, seconds on the processor, KiB that are resident."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return time.perf_counter(), time.process_time(), pages * os.sysconf("SC_PAGE_SIZE") / 1024


def searched(journal: Path, mode: str, evaluations: int) -> Meter:
    """A search, or what is left of it, from the opening of its store."""
    meter = Meter(max(1, evaluations // PARTS))
    kept = OneSetting(Store.open(str(journal), "load", OBJECTIVES), OBJECTIVES)
    steady = mode == "steady"
    engine = NSGA2(population=POPULATION, steady=steady).start(SPACE, OBJECTIVES, seed=0)
    stored = kept.appended() if steady else kept.trials()
    account = Account(Budget(evaluations), OBJECTIVES, stored, generation=1 if steady else POPULATION)
    with Inline(Free(), OBJECTIVES) as evaluator:
        if steady:
            search_steadily(
                engine, evaluator, kept, account, population=POPULATION, in_flight=IN_FLIGHT, on_trial=meter
            )
        else:
            search(engine, evaluator, kept, account, population=POPULATION, on_trial=meter)
    assert len(kept.trials()) == evaluations
    return meter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    arguments = parser.parse_args()
    evaluations, figures = arguments.evaluations, dict[str, Any]()
    processes = get_context("spawn")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for mode in arguments.modes:
            journal = Path(folder) / f"{mode}.log"
            with ProcessPoolExecutor(1, processes, max_tasks_per_child=1) as fresh:  # so memory is each one's own
                whole = fresh.submit(searched, journal, mode, evaluations).result()
                resumed = fresh.submit(searched, journal, mode, evaluations + 1).result()
            seconds, on_processor, kib = zip(*whole.parts, strict=True)
            figures[mode] = {
                "ms_per_evaluation": [round(1e3 * one, 3) for one in seconds],
                "cpu_ms_per_evaluation": [round(1e3 * one, 3) for one in on_processor],
                "kib_per_evaluation": kib,
                "resume_s": resumed.first[0],
                "resume_cpu_s": resumed.first[1],
                "journal_mib": round(journal.stat().st_size / 2**20, 1),
            }
            print(mode, figures[mode], flush=True)
    finish("load", {"evaluations": arguments.evaluations, **figures})


if __name__ == "__main__":
    main()
