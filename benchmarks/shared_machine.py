"""Training beside a busy process: what OpenMP's spinning costs, and what ending it costs on an idle machine.

Trains the quickstart's supernet (3,000 documents) once per setting and load, in rounds that take turns, so that a slow
minute of the machine meets all settings alike. The settings are in the environment before torch is loaded. Run it on a
machine that does nothing else: `python -m benchmarks.shared_machine --rounds 5`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.result import ROOT, finish

SETTINGS: Final[dict[str, dict[str, str]]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 0": {"GOMP_SPINCOUNT": "0"},
    "spin 100": {"GOMP_SPINCOUNT": "100"},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
}
OURS: Final = ("OMP_", "GOMP_", "KMP_")  # of the caller's environment, they are left out

TRAINING: Final = """
import json, sys, tempfile, time
from pathlib import Path
import torch
from searchkit.training.cache import train
from studies.quickstart import study

wanted = study(documents=int(sys.argv[1]))
tables = wanted.task.tables(0)
with tempfile.TemporaryDirectory() as folder:
    start = time.monotonic()
    train(wanted.supernet, wanted.task, tables, seed=0, cache=Path(folder), device=torch.device("cpu"))
    print(time.monotonic() - start, torch.get_num_threads())
"""
BUSY: Final = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--busy", type=int, default=1, help="processes that are busy beside the training")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one training")
    given = parser.parse_args()
    order = random.Random(0)
    seconds: dict[str, dict[str, list[float]]] = {load: {name: [] for name in SETTINGS} for load in ("idle", "busy")}
    threads = 0
    for number in range(given.rounds):
        for load, of_load in seconds.items():
            with _busy(given.busy if load == "busy" else 0):
                for name in order.sample(list(SETTINGS), len(SETTINGS)):
                    took, threads = _train(SETTINGS[name], given.documents, given.timeout)
                    of_load[name].append(took)
                    print(f"round {number + 1} of {given.rounds}, {load}, {name}: {took:.1f} s", file=sys.stderr)
    figures = {load: {name: _summary(took) for name, took in of_load.items()} for load, of_load in seconds.items()}
    about = {name: getattr(given, name) for name in ("rounds", "documents", "busy")}
    finish("shared_machine", {**about, "threads_of_training": threads, **figures})


def _train(setting: Mapping[str, str], documents: int, timeout_s: float) -> tuple[float, int]:
    """Seconds of the training, without imports and data, and the threads that torch had."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = [sys.executable, "-c", TRAINING, str(documents)]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**environment, **setting},
        capture_output=True,
        text=True,
        check=True,
        timeout=timeout_s,
    )
    took, threads = ended.stdout.split()[-2:]
    return float(took), int(threads)


@contextmanager
def _busy(processes: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _summary(seconds: list[float]) -> dict[str, Any]:
    return {
        "median_s": round(statistics.median(seconds), 2),
        "least_s": round(min(seconds), 2),
        "most_s": round(max(seconds), 2),
    }


if __name__ == "__main__":
    main()
