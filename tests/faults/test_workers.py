"""Workers that die, hang, leave and join, on real raylets: no trial is lost or duplicated, and the search goes on."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
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
from searchkit.evaluate import ray_cluster
from searchkit.evaluate.ray import Ray
from searchkit.evaluate.ray_cluster import Resources, check_workers
from searchkit.records import Failed, Measured, Trial
from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import load
from tests.analytic import OBJECTIVES, FormulaWorkbench, Point, asks
from tests.studies import SMALL as SMALL_STUDY
from tests.studies import small_study

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


def test_candidates_that_break_their_worker_fail_by_kind_and_the_others_are_measured(cluster: Any) -> None:
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

class Importing(FormulaWorkbench):
    def build(self):
        import wave  # of the standard library, not of the current folder
        return super().build()

with Ray(Importing({}), OBJECTIVES, workers=1) as evaluator:
    assert len(list(evaluator.run(asks()[:2]))) == 2
    mine = {process.pid for process in psutil.Process().children(recursive=True)} | {psutil.Process().pid}
    found = [socket for socket in psutil.net_connections("inet") if socket.pid in mine and socket.status == "LISTEN"]
    print(len(found), *{socket.laddr.ip.removeprefix("::ffff:") for socket in found})
"""


def test_a_local_cluster_is_on_loopback_and_takes_nothing_from_around_it(tmp_path: Path) -> None:
    """Started by `uv run`, in a Ray job, behind a proxy, without a home, where a file has the name of a module."""
    (tmp_path / "wave.py").write_text("raise RuntimeError('the current folder hides a module')")
    (tmp_path / "local.py").write_text(LISTENING)
    (tmp_path / "run").write_text(f"{shlex.quote(sys.executable)} -P local.py\nexit $?\n")
    shutil.copy(shutil.which("bash") or "bash", tmp_path / "uv")
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "HOME": "/proc/nowhere",
        "http_proxy": "http://127.0.0.1:1",
        "RAY_JOB_CONFIG_JSON_ENV_VAR": '{"runtime_env": {"working_dir": "gcs://_ray_pkg_0.zip"}}',
        "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    }
    result = subprocess.run(
        [tmp_path / "uv", "run"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    count, *addresses = result.stdout.split()
    assert int(count) >= 3
    assert addresses == ["127.0.0.1"]


def checked(workers: int = 1, resources: Resources = Resources(), address: str | None = None, **sent: object) -> None:  # noqa: B008
    check_workers(workers, address, resources, sent)


def test_resources_that_this_machine_lacks_are_refused_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(StudyError, match="a cluster on this machine has no A100: leave --resource out"):
        checked(resources=Resources(custom={"A100": 1}))
    with pytest.raises(StudyError, match=r"--workers 3 with 0.6 GPUs each: this machine has 2 GPUs, .* enough for 2"):
        checked(3, Resources(gpus=0.6))
    checked(4, Resources(gpus=0.5))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(StudyError, match="--workers 1 with 1 GPUs each: this machine has no GPU"):
        checked(resources=Resources(gpus=1))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "x" * 60)
    with pytest.raises(StudyError, match=r"RAY_TMPDIR=/tmp/x+: Ray's sockets in it would have names of 13\d bytes"):
        checked()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/nowhere")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(StudyError, match="RAY_TMPDIR /tmp/nowhere: Ray cannot write there"):
        checked()


def test_what_cannot_be_sent_to_workers_is_named(cluster: Any) -> None:
    checked(**{"the recipe": {"epochs": 1}})
    with pytest.raises(StudyError, match=r"objective 'depth' cannot be sent to workers: .*lock"):
        checked(**{"the recipe": {"epochs": 1}, "objective 'depth'": threading.Lock()})


LOCKED = """
import threading
from searchkit import Estimate, Objective

lock = threading.Lock()


def measure(subject):
    with lock:
        return Estimate(1.0, None, 1)


macs = Objective("depth", "tokens", "lower", measure)
"""


def test_an_objective_that_cannot_travel_is_refused_before_the_training(tmp_path: Path, cluster: Any) -> None:
    loaded = load(small_study(tmp_path, LOCKED + SMALL_STUDY.replace("import accuracy, macs", "import accuracy")))
    with pytest.raises(StudyError, match=r"objective 'depth' cannot be sent to workers: .*lock"):
        execute(loaded, Conditions(runs=tmp_path / "runs", workers=1))
    assert not (tmp_path / "runs").exists()


def test_a_resource_that_no_node_has_is_named(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WARN_EVERY_S", 0.5)
    with pytest.raises(StudyError, match=r"one takes 1 CPU, 3 unobtainium, there are \d CPU, 0 GPU, 0 unobtainium"):
        Ray(FormulaWorkbench({}), OBJECTIVES, workers=1, resources=Resources(custom={"unobtainium": 3}))


def test_a_worker_that_dies_while_it_starts_is_started_again_a_few_times(cluster: Any) -> None:
    with pytest.raises(StudyError, match="a worker cannot start, it died 3 times"):
        Ray(Deadly(), OBJECTIVES, workers=1)


def test_variables_of_worker_processes_reach_them_on_a_cluster(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "RUNTIME_ENV_VARS", {"OMP_WAIT_POLICY": "of this run"})
    with pytest.raises(StudyError, match=r"a worker cannot start: .*waits as: of this run"):
        Ray(Telling(), OBJECTIVES, workers=1, address="the given one")


class Telling:
    def build(self) -> Any:
        raise RuntimeError(f"waits as: {os.environ.get('OMP_WAIT_POLICY')}")


class Deadly:
    def build(self) -> Any:
        os._exit(1)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf")])
def test_resources_are_numbers(amount: float) -> None:
    for make in (
        lambda: Resources(cpus=amount),
        lambda: Resources(gpus=amount),
        lambda: Resources(custom={"x": amount}),
    ):
        with pytest.raises(StudyError, match="must be a number of 0 or more"):
            make()


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"gpus": 1.5}, "gpus must be a whole number, or a part of one GPU, got 1.5"),
        ({"cpus": 1e-5}, "cpus must be 0 or at least 0.0001"),
        ({"custom": {"GPU": 1}}, "resource 'GPU': expected a name that nodes were given"),
        ({"custom": {"": 1}}, "resource '': expected a name"),
    ],
)
def test_amounts_and_names_that_ray_does_not_have_are_refused(resources: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Resources(**resources)
