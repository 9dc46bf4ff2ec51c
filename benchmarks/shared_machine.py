"""Training beside a busy process: what OpenMP's spinning costs, and what ending it costs on an idle machine.

Trains a small supernet once per setting and load (by default one of the quickstart's size), in rounds that take turns,
so that a slow minute of the machine meets all settings alike. The settings are in the environment before torch is
loaded. Run it on a machine that does nothing else: `python -m benchmarks.shared_machine --rounds 5`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.result import ROOT, finish

SETTINGS: Final[dict[str, dict[str, str]]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
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
from searchkit import Scratch, Supernet
from searchkit.tasks import Generated
from searchkit.training import FineTune, LengthDrop

documents, layers, width = map(int, sys.argv[1:])
scratch = Scratch(layers=layers, width=width, heads=width // 16, feed_forward=4 * width, dropout=0.0)
start = FineTune(epochs=1, batch_size=64, learning_rate=1e-3)
wanted = Supernet(scratch, LengthDrop(epochs=1, batch_size=64, learning_rate=5e-4, start=start))
task = Generated(train=documents)
tables = task.tables(0)
with tempfile.TemporaryDirectory() as folder:
    start = time.monotonic()
    train(wanted, task, tables, seed=0, cache=Path(folder), device=torch.device("cpu"))
    print(time.monotonic() - start, torch.get_num_threads())
"""
BUSY: Final = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=3_000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--name", default="shared_machine", help="of the file of results")
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
                    took, threads = _train(SETTINGS[name], (given.documents, given.layers, given.width), given.timeout)
                    of_load[name].append(took)
                    print(f"round {number + 1} of {given.rounds}, {load}, {name}: {took:.1f} s", file=sys.stderr)
    figures = {load: {name: _summary(took) for name, took in of_load.items()} for load, of_load in seconds.items()}
    about = {name: getattr(given, name) for name in ("rounds", "documents", "layers", "width", "busy")}
    finish(given.name, {**about, "threads_of_training": threads, **figures})


def _train(setting: Mapping[str, str], size: Sequence[int], timeout_s: float) -> tuple[float, int]:
    """Seconds of the training, without imports and data, and the threads that torch had."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = [sys.executable, "-c", TRAINING, *map(str, size)]
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
