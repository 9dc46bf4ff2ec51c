"""What CUDA asks for, as far as a CPU can tell: numbered devices, older torch, meters, and memory that ran out."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from searchkit import Candidate
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.energy import meter
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.trial import measure
from searchkit.objective import Objective
from searchkit.records import Ask, Estimate, Failed
from searchkit.reduction import attention, flash
from searchkit.reduction.attention import attend
from searchkit.reduction.device import device_of
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import SCORERS
from searchkit.reduction.scorers.block import exact_convolutions
from searchkit.tasks.base import Encoded
from searchkit.testing.models import bert
from searchkit.training import LengthDrop
from searchkit.training.stage import Stage, TrainingContext
from searchkit.training.trainer import _arguments
from tests.reduction.test_flash import HEADS, WIDTH, left_behind, packed

STAGE = Stage("finetune", 1, 8, 1e-4, 0.0, 0.0)


def on_gpu(size: int = 2) -> Any:
    """What `takes` asks of states on a GPU."""
    return SimpleNamespace(is_cuda=True, element_size=lambda: size, device=torch.device("cuda", 0))


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize("name", ["auto", "cuda", "cuda:1"])
def test_training_runs_on_the_gpu_that_was_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device, chosen = device_of(name), list[int]()
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # so that transformers looks for none
    arguments = _arguments(STAGE, TrainingContext(tmp_path, device, 0, lambda *_: None), tmp_path)
    assert arguments.device == device == torch.device("cuda", int(name[-1] == "1"))
    assert (arguments.n_gpu, chosen) == (1, [device.index])


@pytest.mark.parametrize(("capability", "taken"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_the_fused_kernel_is_left_to_gpus_that_have_it(
    capability: tuple[int, int], taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    flash._is_on.cache_clear()
    assert flash.takes(on_gpu(), 64) == taken
    assert not flash.takes(on_gpu(size=4), 64)
    assert not flash.takes(on_gpu(), 20)
    flash._is_on.cache_clear()


@pytest.mark.parametrize("knows", [True, False])
def test_one_split_is_asked_for_where_torch_knows_of_splits(knows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    given: list[dict[str, Any]] = []

    def new(*tensors: Any, return_aux: Any, num_splits: int | None = None) -> tuple[Tensor, Tensor]:
        given.append({"num_splits": num_splits})
        return tensors[0], torch.zeros(1)

    def old(*tensors: Any, return_aux: Any) -> tuple[Tensor, Tensor]:
        given.append({})
        return tensors[0], torch.zeros(1)

    monkeypatch.setattr(varlen, "varlen_attn", new if knows else old)
    flash._one_split.cache_clear()
    query = torch.zeros(3, 1, 8)
    flash.flash_attention(query, query, query, Layout.of_lengths(torch.tensor([3])))
    assert given == ([{"num_splits": 1}] if knows else [{}])
    flash._one_split.cache_clear()


@pytest.mark.parametrize("name", ["attention_mean", "attention_off_diagonal"])
def test_scores_of_the_fused_kernel_are_float32_under_autocast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training in bfloat16 drops the tokens that the evaluation drops."""
    projected, layout = packed((9, 4, 30))
    read = SCORERS[name].read
    assert read is not None
    _, exact = attend(projected, layout, heads=HEADS, read=read)
    context, unwritten = left_behind(projected, layout)
    monkeypatch.setattr(flash, "takes", lambda rows, width: True)
    monkeypatch.setattr(flash, "flash_attention", lambda q, k, v, layout: (context.reshape(q.shape), unwritten.lse))
    with torch.autocast("cpu", torch.bfloat16):
        _, seen = attend(projected, layout, heads=HEADS, read=read)
    assert seen is not None
    torch.testing.assert_close(seen, exact, atol=1e-5, rtol=1e-4)
    assert attention.flash is flash
    assert projected.shape[1] == 3 * HEADS * WIDTH


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_examples_are_those_of_a_loop_and_have_a_gradient(dtype: torch.dtype) -> None:
    layout = Layout.of_lengths(torch.tensor([3, 1, 40, 7]))
    values = torch.randn(51, dtype=dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()
    sums = layout.summed(values)
    expected = torch.stack([part.sum() for part in values.split([3, 1, 40, 7])])
    torch.testing.assert_close(sums, expected)
    (gradient,) = torch.autograd.grad((sums**2).sum(), values)
    torch.testing.assert_close(gradient, 2 * expected[layout.examples])
    assert torch.equal(layout.summed(torch.ones(51, dtype=torch.int64)), layout.lengths)


def test_convolutions_on_a_gpu_are_exact_and_repeat() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic, cudnn.enabled
    with exact_convolutions(on_gpu()):
        assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.enabled) == (False, True, before[2])
    assert (cudnn.allow_tf32, cudnn.deterministic, cudnn.enabled) == before
    with exact_convolutions(torch.zeros(1)):
        assert cudnn.allow_tf32 == before[0]


def test_energy_is_read_of_the_gpu_that_runs_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML numbers all GPUs of a machine, torch those that CUDA_VISIBLE_DEVICES leaves."""
    readings = {"GPU-0a": 1000, "GPU-0b": 5000}  # millijoules
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda unique: unique,
        nvmlDeviceGetTotalEnergyConsumption=readings.__getitem__,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0b"))
    found = meter(torch.device("cuda", 0))
    assert (found.is_there, found.why, found.read()) == (True, "NVML", 5.0)


def _raising(error: Exception) -> Objective:
    def measured(subject: Any) -> Estimate:
        raise error

    return Objective("raising", "", "lower", measured)


@pytest.fixture(scope="module")
def bench() -> SupernetBench:
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 9 * 12, 12, dtype=np.int64)
    ids = rng.integers(5, 50, offsets[-1]).astype(np.int32)
    data = Encoded(ids, np.zeros_like(ids), offsets, rng.integers(0, 3, 8))
    return SupernetBench(PlanRunner(bert().eval(), LengthDrop()), data, 12, token_budget=48, cache_bytes=1 << 20)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out-of-memory"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."), "out-of-memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out-of-memory"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out-of-memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "exception"),
    ],
)
def test_memory_of_a_gpu_that_ran_out_is_told_apart(error: Exception, kind: str, bench: SupernetBench) -> None:
    trial = measure(Ask(0, Candidate.of(lengths=(0.5, 0.5, 0.5))), bench, [_raising(error)])
    assert isinstance(trial.outcome, Failed)
    assert (trial.outcome.kind, trial.outcome.attempts) == (kind, 2 if kind == "out-of-memory" else 1)


def test_a_bench_that_ran_out_of_memory_gives_its_prefixes_back(bench: SupernetBench) -> None:
    candidates = [Candidate.of(lengths=(1.0, 0.5, share)) for share in (0.5, 0.25)]
    before = bench.prepare(candidates).subjects
    held = [cache for shard in bench.shards for cache in shard.split.caches]
    assert any(cache.held and cache.nodes for cache in held)
    bench.smaller()
    assert not any(cache.held or cache.nodes for cache in held)
    again = bench.prepare(candidates).subjects
    assert all(np.array_equal(again[key].logits, before[key].logits) for key in before)
