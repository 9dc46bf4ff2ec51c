"""Workers that die, hang, leave and join, on real raylets: no trial is lost or duplicated, and the search goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from searchkit.errors import StudyError
from searchkit.evaluate import ray as module
from searchkit.evaluate.ray import Ray
from searchkit.evaluate.ray_cluster import Resources
from searchkit.records import Failed, Measured, Trial
from tests.analytic import OBJECTIVES, FormulaWorkbench, Point, asks

SMALL = {"object_store_memory": 80 << 20}  # a node's
SLOW = {level / 6: "slow" for level in range(1, 7)}  # every candidate takes a moment, so that faults land inside


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes with one each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **SMALL})
    for _ in range(2):
        cluster.add_node(num_cpus=1, **SMALL)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def workers() -> list[psutil.Process]:
    """The processes of the actors."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "ray::_Worker" in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def complete(found: list[Trial]) -> None:
    assert Counter(trial.ask for trial in found) == Counter(asks())
    assert all(isinstance(trial.outcome, Measured) for trial in found)


def test_workers_killed_at_random_cost_no_trial(cluster: Any) -> None:
    chance, killed = random.Random(0), []
    with Ray(FormulaWorkbench(SLOW), OBJECTIVES, workers=2) as evaluator:
        found = []
        for trial in evaluator.run(asks()):
            found.append(trial)
            if len(killed) < 3 and len(found) % 15 == 5:
                victim = chance.choice(workers())
                victim.send_signal(signal.SIGKILL)
                killed.append(victim.pid)
    complete(found)
    assert len(killed) == 3


def test_a_node_that_leaves_is_forgotten_and_one_that_joins_is_used(cluster: Any) -> None:
    leaving = cluster.list_all_nodes()[-1]
    with Ray(FormulaWorkbench(SLOW), OBJECTIVES, workers=2) as evaluator:
        run, found = evaluator.run(asks()), []
        for trial in run:
            found.append(trial)
            if len(found) == 12:
                cluster.remove_node(leaving, allow_graceful=False)
            if len(found) == 30:
                cluster.add_node(num_cpus=1, **SMALL)
        complete(found)
        begun = time.monotonic()
        while time.monotonic() - begun < 60 and any(slot.starting is not None for slot in evaluator._slots):
            complete(list(evaluator.run(asks())))
        assert all(slot.starting is None for slot in evaluator._slots), "the worker of the new node was never used"


def test_a_search_waits_for_its_first_worker_and_not_for_the_second(cluster: Any) -> None:
    wanted = Resources(1, custom={"late": 1})
    with ThreadPoolExecutor(1) as waiting:  # the node starts in this thread: a node ends with the thread that made it
        made = waiting.submit(
            Ray, FormulaWorkbench({}), OBJECTIVES, workers=2, address="the given one", resources=wanted
        )
        time.sleep(0.5)
        assert not made.done()
        node = cluster.add_node(num_cpus=1, resources={"late": 1}, **SMALL)
        with made.result() as evaluator:
            complete(list(evaluator.run(asks())))
            assert [slot.starting is None for slot in evaluator._slots].count(True) == 1
    cluster.remove_node(node)


def test_poison_among_healthy_candidates(cluster: Any) -> None:
    poison = {1 / 6: "raise", 2 / 6: "nan", 3 / 6: "hang", 4 / 6: "allocate", 5 / 6: "die"}
    kinds = {"raise": "exception", "nan": "nan", "hang": "timeout", "allocate": "out-of-memory", "die": "worker-died"}
    picked, seen = [], Counter[float]()
    for ask in asks():
        first = Point(ask.candidate).lengths[0]
        if first == 1.0 or seen[first] < 2:
            seen[first] += 1
            picked.append(ask)
    with Ray(FormulaWorkbench(poison), OBJECTIVES, workers=2, deadline_s=2.5) as evaluator:
        found = list(evaluator.run(picked))
    assert Counter(trial.ask for trial in found) == Counter(picked)
    for trial in found:
        mishap = poison.get(Point(trial.ask.candidate).lengths[0])
        if mishap is None:
            assert isinstance(trial.outcome, Measured)
        else:
            assert isinstance(trial.outcome, Failed)
            assert (trial.outcome.kind, mishap) == (kinds[mishap], mishap)
            assert trial.outcome.message


LISTENING = """
import psutil
from searchkit.evaluate.ray import Ray
from tests.analytic import OBJECTIVES, FormulaWorkbench, asks
with Ray(FormulaWorkbench({}), OBJECTIVES, workers=1) as evaluator:
    list(evaluator.run(asks()[:2]))
    mine = {process.pid for process in psutil.Process().children(recursive=True)} | {psutil.Process().pid}
    found = [one for one in psutil.net_connections("inet") if one.pid in mine and one.status == "LISTEN"]
    print(len(found), *{one.laddr.ip.removeprefix("::ffff:") for one in found})
"""


def test_a_local_cluster_listens_on_loopback_alone() -> None:
    where = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", LISTENING], cwd=where, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    count, *addresses = said.stdout.split()
    assert int(count) >= 3
    assert addresses == ["127.0.0.1"]


def test_what_no_node_has_is_said(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WARN_EVERY_S", 0.5)
    with pytest.raises(StudyError, match=r"one takes 1 CPU, 3 unobtainium, there are \d CPU, 0 GPU, 0 unobtainium"):
        Ray(FormulaWorkbench({}), OBJECTIVES, workers=1, resources=Resources(custom={"unobtainium": 3}))


def test_a_worker_that_dies_while_it_starts_is_started_again_a_few_times(cluster: Any) -> None:
    with pytest.raises(StudyError, match="a worker cannot start, it died 3 times"):
        Ray(Deadly(), OBJECTIVES, workers=1)


class Deadly:
    def build(self) -> Any:
        os._exit(1)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_resources_are_numbers(amount: float) -> None:
    with pytest.raises(StudyError, match="must be a number of 0 or more"):
        Resources(gpus=amount)
