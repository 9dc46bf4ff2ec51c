"""Seconds of a call, the rate of a large product, and where time goes by kind of operation, on a CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import torch

from searchkit.reduction.device import synchronize

CPU: Final = torch.device("cpu")
KINDS: Final = {  # kind -> beginnings of the names of its operations
    "projections and feed-forward": ("aten::addmm", "aten::linear", "aten::mm"),
    "attention maps": (
        *("aten::bmm", "aten::baddbmm", "aten::_softmax", "aten::_scaled_dot_product"),
        *("aten::_flash_attention", "aten::_efficient_attention", "torch_attn::", "sums"),  # on a GPU
    ),
    "activation and norms": ("aten::gelu", "aten::native_layer_norm", "aten::add"),
    "moving tokens": ("aten::index", "aten::copy_", "aten::cat", "aten::fill_", "aten::masked_fill"),
    "ranking": ("aten::sort", "aten::cumsum", "aten::nonzero", "aten::scatter"),
}


def seconds(call: Callable[[], Any], device: torch.device = CPU) -> float:
    """Seconds of a call, without gradients, from an idle device to the end of its work."""
    synchronize(device)
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    synchronize(device)
    return time.perf_counter() - start


def large_product(dtype: torch.dtype, device: torch.device = CPU, rows: int = 4096, width: int = 1536) -> float:
    """GFLOP/s of a large matrix product (rows x width by width x width): the fastest of ten."""
    left, right = (torch.randn(size, width, dtype=dtype, device=device) for size in (rows, width))
    return 2 * rows * width**2 / min(seconds(lambda: left @ right, device) for _ in range(10)) / 1e9


def shares(call: Callable[[], Any], device: torch.device = CPU) -> dict[str, float]:
    """Share of the time of a call by kind of operation: on the CPU, or of kernels on a GPU, whose rest it idles.

    On a CPU with one thread: torch's profiler sees that one alone.
    """
    on_gpu, threads = device.type == "cuda", torch.get_num_threads()
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if on_gpu else [])]
    torch.set_num_threads(1)
    try:
        with torch.profiler.profile(activities=kinds) as profile:
            took = seconds(call, device)
    finally:
        torch.set_num_threads(threads)
    spent = dict.fromkeys(KINDS, 0.0)
    for event in profile.key_averages():
        for kind, names in KINDS.items():
            if event.key.startswith(names):
                spent[kind] += (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e6
                break
    rounded = {kind: round(value / took, 3) for kind, value in spent.items()}
    return {**rounded, "everything else": round(1 - sum(rounded.values()), 3)}
