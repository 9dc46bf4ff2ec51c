"""Fixtures that several packages of tests use."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import postgresql as own_postgresql
from tests.faults.malformed import Said
from tests.figures import without_figures
from tests.supernets import Supernets

# several processes with as many threads as cores each wait for one another; set before torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

# an example that waits for a busy machine is no failure
settings.register_profile("searchkit", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=1000)  # make test-thorough
settings.load_profile("searchkit")

SHARED = Path(__file__).parents[1].parent / "shared"  # real data sets and a real encoder, beside the repository


@pytest.hookimpl(optionalhook=True)  # without xdist the hook does not exist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than cores: tests of clusters and of killed processes wait for others most of the time."""
    return 1 + (os.cpu_count() or 1)


# files whose tests start clusters and many processes; begun last, one of them would run when all others are done
LONG = (
    "test_studies.py",
    "cluster/test_docs.py",
    "runs/test_session.py",
    "faults/test_kill.py",
    "contracts/test_plug_ins.py",
    "faults/test_workers.py",
    "test_docs.py",
    "serving/test_tutorial.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the others in their order."""
    here = Path(__file__).parent
    files = [here / name for name in LONG]
    items.sort(key=lambda item: files.index(item.path) if item.path in files else len(files))


@pytest.fixture(autouse=True, scope="module")
def imported_once() -> None:
    """What is imported by now is left out of further collections: every training asks for one over all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with `data/<set>/<split>.parquet` and `models/minilm-l6`; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir() or not (SHARED / "models").is_dir():
        pytest.skip(f"needs the real data and model in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def postgresql() -> Iterator[own_postgresql.Server]:
    """A PostgreSQL server of this test session; the test is skipped where PostgreSQL is absent."""
    if reason := own_postgresql.missing():
        pytest.skip(reason)
    with own_postgresql.server() as server:
        yield server


@pytest.fixture(scope="session")
def with_trained(tmp_path_factory: pytest.TempPathFactory) -> Supernets:
    """Puts the trained supernet of a study where its run looks; trained once for all tests, also beside each other."""
    base = tmp_path_factory.getbasetemp()
    return Supernets((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "supernets")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A local cluster of two cores for a module's tests, started as a run with workers does; that takes seconds."""
    ray = importlib.import_module("searchkit.evaluate.ray_cluster").connect(None, 2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def _without_figures() -> Iterator[None]:
    """Runs in this process write no figures, which take a second, but within `with_figures()`."""
    with without_figures():
        yield


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Said:
    """The command line in this process, in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return Said(capsys, monkeypatch)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is timed in few rounds without pauses: for runs whose times nobody believes."""
    for name in ("objectives.latency", "objectives.latency_model"):
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "in_turns", partial(_in_few_turns, module.in_turns))


def _in_few_turns(in_turns: Callable[..., Any], *given: Any) -> Any:
    *what, protocol = given
    return in_turns(*what, replace(protocol, budget_s=0.02), wait=lambda seconds: None)
