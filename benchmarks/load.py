"""Held load: time and memory per evaluation of a search of 100,000 free ones, and its resume."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.overhead import OBJECTIVES, POPULATION, Free
from benchmarks.result import finish
from searchkit import NSGA2, Budget, Lengths, Space, Trial
from searchkit.budget import Account
from searchkit.evaluate.inline import Inline
from searchkit.run import OneSetting
from searchkit.search import search
from searchkit.steady import search_steadily
from searchkit.store import Store

SPACE = Space(Lengths(levels=16)).bound(12)  # 17 million candidates
IN_FLIGHT = 4  # asks, in steady state
MODES = ("generational", "steady")


class Meter:
    """Milliseconds and KiB of this process per evaluation, for every part of the search."""

    def __init__(self, part: int) -> None:
        self._part, self._count = part, 0
        self._start, self._kib = time.perf_counter(), _resident_kib()
        self.begun = self._start
        self.first: float | None = None
        self.ms: list[float] = []
        self.kib: list[float] = []

    def __call__(self, trial: Trial) -> None:
        self._count += 1
        self.first = self.first or time.perf_counter() - self.begun
        if self._count % self._part == 0:
            now, kib = time.perf_counter(), _resident_kib()
            self.ms.append(round((now - self._start) * 1e3 / self._part, 3))
            self.kib.append(round((kib - self._kib) / self._part, 2))
            self._start, self._kib = now, kib


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def searched(journal: Path, mode: str, evaluations: int, part: int) -> Meter:
    """A search, or what is left of it, from the opening of its store."""
    meter = Meter(part)
    kept = OneSetting(Store.open(str(journal), "load", OBJECTIVES), OBJECTIVES)
    steady = mode == "steady"
    engine = NSGA2(population=POPULATION, steady=steady).start(SPACE, OBJECTIVES, seed=0)
    stored = kept.appended() if steady else kept.trials()
    account = Account(Budget(evaluations), OBJECTIVES, stored, generation=1 if steady else POPULATION)
    with Inline(Free(), OBJECTIVES) as evaluator:
        if steady:
            search_steadily(engine, evaluator, kept, account, population=POPULATION, in_flight=IN_FLIGHT, seen=meter)
        else:
            search(engine, evaluator, kept, account, population=POPULATION, seen=meter)
    assert len(kept.trials()) == evaluations
    return meter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evaluations", type=int, default=100_000)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    arguments = parser.parse_args()
    part, figures = arguments.evaluations // 10, dict[str, Any]()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for mode in arguments.modes:
            journal = Path(folder) / f"{mode}.log"
            whole = searched(journal, mode, arguments.evaluations, part)
            resumed = searched(journal, mode, arguments.evaluations + 1, part)
            assert resumed.first is not None
            figures[mode] = {
                "ms_per_evaluation": whole.ms,
                "kib_per_evaluation": whole.kib,
                "resume_s": round(resumed.first, 1),
                "journal_mib": round(journal.stat().st_size / 2**20, 1),
            }
    finish("load", {"evaluations": arguments.evaluations, **figures})


if __name__ == "__main__":
    main()
