"""Benchmark of faults that searchkit survives: kills of every process, poisonous candidates, storages that fail.

A longer soak of what tests/faults shows. Every row counts how often a fault was tried and survived, and over all tries
the trials that were lost, there twice, or wrong: different from those of an undisturbed search. Real processes, real
raylets on this machine, a real PostgreSQL server where there is one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from benchmarks import fault_storage
from benchmarks.result import finish
from searchkit.evaluate.ray import Ray
from searchkit.records import Ask, Measured, Trial
from tests.analytic import OBJECTIVES, FormulaWorkbench, Point, asks
from tests.studies import small_study

Row = dict[str, Any]
KINDS = {"raise": "exception", "nan": "nan", "hang": "timeout", "allocate": "out-of-memory", "die": "worker-died"}
HEALTHY = {level / 6: "slow" for level in range(1, 7)}  # a moment each, so that faults land inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="of the driver; as many of workers, raylets and nodes")
    parser.add_argument("--poison", type=int, default=200, help="poisonous candidates")
    parser.add_argument("--only", nargs="+", choices=("driver", "cluster", "poison", "storage"))
    arguments = parser.parse_args()
    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "driver": lambda: [driver_killed(arguments.kills)],
        "cluster": lambda: cluster_faults(arguments.kills),
        "poison": lambda: [poisoned(arguments.poison)],
        "storage": fault_storage.rows,
    }
    rows = []
    for name in arguments.only or parts:
        for row in parts[name]():
            print(row, flush=True)
            rows.append(row)
    finish("faults", {"rows": rows})


def driver_killed(times: int) -> Row:
    """SIGKILL of `searchkit run` at random moments, then the same command, until it ends; then anew."""
    kills = wrong = duplicated = lost = survived = 0
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as calm:
        small_study(Path(calm))
        seconds = _finished(Path(calm))
        undisturbed = _outcome(Path(calm))
        while kills < times:
            with tempfile.TemporaryDirectory() as rough:
                small_study(Path(rough))
                before = kills
                while kills < times:
                    process = _started(Path(rough))
                    try:
                        process.wait(chance.uniform(0.3, 1.1) * seconds)
                        break
                    except subprocess.TimeoutExpired:
                        process.kill()
                        process.wait()
                        kills += 1
                _finished(Path(rough))
                trials, front = _outcome(Path(rough))
                same = trials.equals(undisturbed[0]) and front.equals(undisturbed[1])
                wrong += not same
                survived += (kills - before) if same else 0
                duplicated += len(trials) - trials["key"].nunique()
                lost += max(0, len(undisturbed[0]) - len(trials))
    return _row("SIGKILL of the driver, then the same command", kills, survived, lost, duplicated, wrong)


def _started(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "searchkit", "run", "small_study.py", "--threads", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _finished(folder: Path) -> float:
    begin = time.monotonic()
    assert _started(folder).wait(600) == 0, f"the run in {folder} does not finish"
    return time.monotonic() - begin


def _outcome(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and front, without what the clock decides."""
    frames = (pd.read_parquet(folder / "runs" / "small" / f"{name}.parquet") for name in ("trials", "front"))
    trials, front = (frame.drop(columns=[name for name in frame if "seconds" in str(name)]) for frame in frames)
    return trials, front


def cluster_faults(times: int) -> Iterator[Row]:
    """Kill workers, raylets and nodes in turn, while two workers measure the same candidates over and over."""
    chance = random.Random(0)
    with cluster() as nodes:

        def worker() -> None:
            raylets = [node.all_processes["raylet"][0].process.pid for node in nodes.list_all_nodes()]
            started = [process for pid in raylets for process in psutil.Process(pid).children(recursive=True)]
            processes = [process for process in started if "ray::_Worker" in " ".join(process.cmdline())]
            if processes:
                chance.choice(processes).send_signal(signal.SIGKILL)

        def raylet() -> None:
            nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
            nodes.add_node(num_cpus=1)

        def node() -> None:
            nodes.remove_node(nodes.list_all_nodes()[-1])
            nodes.add_node(num_cpus=1)

        yield _disturbed("SIGKILL of a worker process", times, worker)
        yield _disturbed("a node removed and one added", times, node)
        yield _disturbed("SIGKILL of a raylet, and a new node", times, raylet)


@contextmanager
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes with one each, on loopback."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


def _disturbed(fault: str, times: int, strike: Callable[[], None]) -> Row:
    """Rounds over all candidates, with one strike in each at a random moment."""
    chance, every = random.Random(1), asks()
    expected = {ask: Measured({one.name: one.measure(Point(ask.candidate)) for one in OBJECTIVES}) for ask in every}  # type: ignore[arg-type]
    survived = lost = duplicated = wrong = 0
    with Ray(FormulaWorkbench(HEALTHY), OBJECTIVES, workers=2) as evaluator:
        for _ in range(times):
            when, trials = chance.randrange(len(every)), []
            for number, trial in enumerate(evaluator.run(every)):
                trials.append(trial)
                if number == when:
                    strike()
            bad = _compared(trials, expected)
            lost, duplicated, wrong = lost + bad[0], duplicated + bad[1], wrong + bad[2]
            survived += not any(bad)
    return _row(fault, times, survived, lost, duplicated, wrong)


def _compared(trials: Sequence[Trial], expected: dict[Ask, Measured]) -> tuple[int, int, int]:
    """Number of trials that are lost, stored twice, wrong."""
    counts = Counter(trial.ask for trial in trials)
    return (
        len(expected.keys() - counts.keys()),
        sum(count - 1 for count in counts.values()),
        sum(trial.outcome != expected[trial.ask] for trial in trials),
    )


def poisoned(times: int) -> Row:
    """Candidates that raise, are not a number, hang, allocate a petabyte or kill their worker, among healthy ones."""
    poison = dict(zip((level / 6 for level in range(1, 6)), KINDS, strict=True))
    tried = survived = lost = duplicated = wrong = 0
    with cluster(), Ray(FormulaWorkbench(poison), OBJECTIVES, workers=2, deadline_s=1) as evaluator:
        while tried < times:
            trials = list(evaluator.run(asks()))
            counts = Counter(trial.ask for trial in trials)
            lost += len(set(asks()) - counts.keys())
            duplicated += sum(count - 1 for count in counts.values())
            for trial in trials:
                mishap = poison.get(Point(trial.ask.candidate).lengths[0])
                right = getattr(trial.outcome, "kind", "measured") == (KINDS[mishap] if mishap else "measured")
                wrong += not right
                tried += mishap is not None
                survived += mishap is not None and right
    return _row("poison among healthy candidates", tried, survived, lost, duplicated, wrong)


def _row(fault: str, tried: int, survived: int, lost: int, duplicated: int, wrong: int) -> Row:
    return {
        "fault": fault,
        "tried": tried,
        "survived": survived,
        "lost": lost,
        "duplicated": duplicated,
        "wrong": wrong,
    }


if __name__ == "__main__":
    main()
