"""Options of a run are followed by training and by every worker, or refused before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from searchkit.errors import StudyError
from searchkit.evaluate.ray_cluster import Resources
from searchkit.runs import placement
from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.placement import Placement
from searchkit.runs.study_file import load
from tests.studies import small_study


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two GPUs and eight cores, as far as torch and the operating system say."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 8)  # type: ignore[attr-defined]


def of(**options: Any) -> Placement:
    return Placement.of(Conditions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:1", "workers": 2}, "--device 'cuda:1' with --workers: Ray gives each worker its GPU"),
        ({"device": "cpu", "workers": 2, "gpus_per_worker": 1}, "--gpus-per-worker 1 contradicts --device cpu"),
        ({"device": "cuda", "workers": 2, "gpus_per_worker": 0}, "--device cuda contradicts --gpus-per-worker 0"),
        ({"workers": 3, "gpus_per_worker": 1}, "3 workers take 3 GPUs, this machine has 2"),
        ({"device": "cuda:2"}, "this machine has 2 CUDA devices"),
        ({"device": "cpu", "dtype": "fp16"}, "--dtype 'fp16' needs a GPU"),
        ({"device": "cpu", "dtype": "fp16", "workers": 2}, "--dtype 'fp16' needs a GPU"),
        ({"dtype": "fp8"}, "fp8"),
    ],
)
def test_an_unavailable_device_or_format_is_refused(two_gpus: None, options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        of(**options)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"gpus_per_worker": 1}, "--gpus-per-worker"),
        ({"cpus_per_worker": 2}, "--cpus-per-worker"),
        ({"custom": {"A100": 1}}, "--resource"),
        ({"ray_address": "auto"}, "--ray-address"),
        ({"deadline_s": 5.0}, "--deadline"),
    ],
)
def test_an_option_of_workers_needs_workers(options: dict[str, Any], option: str) -> None:
    with pytest.raises(StudyError, match=f"{option} needs --workers N"):
        Conditions(**options)


def test_amounts_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(StudyError, match="--resource A100=nan"):
        Conditions(workers=1, custom={"A100": float("nan")})
    with pytest.raises(StudyError, match="--gpus-per-worker above 1 is a whole number, got 1"):
        Conditions(workers=1, gpus_per_worker=1.5)


def test_gpus_without_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(StudyError, match="2 workers take 2 GPUs, this machine has 0"):
        of(workers=2, gpus_per_worker=1)
    assert of(workers=2, gpus_per_worker=1, ray_address="auto").worker_device == "cuda"  # the cluster may have them


def test_workers_share_gpus_and_cores(two_gpus: None) -> None:
    shared = of(workers=4)
    assert (shared.worker_device, shared.resources, shared.threads) == ("cuda", Resources(1, 0.5, {}), 2)
    assert of(workers=4, device="cpu").worker_device == "cpu"
    assert of(workers=4, device="cpu").resources.gpus == 0
    assert of(workers=4, ray_address="auto").threads == 0  # torch's choice, on other machines
    assert of(workers=4, ray_address="auto", threads=3).threads == 3
    assert (of(device="cuda:1").driver_device, of(device="cuda:1").worker_device) == (torch.device("cuda:1"), "cuda:1")


def test_threads_reach_the_driver_and_are_given_back() -> None:
    before = torch.get_num_threads()
    assert (of().driver_threads, of().threads, of().environment["threads"]) == (before,) * 3
    for workers in (0, 2):
        given = of(threads=before + 1, device="cpu", workers=workers)
        assert given.driver_threads == given.threads == given.environment["threads"] == before + 1
        with given.in_force():
            assert torch.get_num_threads() == before + 1
        assert torch.get_num_threads() == before


def test_a_refused_option_makes_nothing(tmp_path: Path) -> None:
    loaded = load(small_study(tmp_path))
    with pytest.raises(StudyError, match="expected auto, cpu, cuda or cuda:n"):
        execute(loaded, Conditions(runs=tmp_path / "runs", device="tpu"))
    assert not (tmp_path / "runs").exists()
