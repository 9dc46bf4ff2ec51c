"""Device and number format of a pass, and the environment that stands beside every number measured on it."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from searchkit.errors import StudyError, unknown

# variables that choose among the ways in which a processor's libraries add up: other last digits, at one number format
ARITHMETIC: Final = (
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
ONE_TEXT: Final = "one text"  # its format in the environment of a run whose batches are in another one
ONE_TEXT_IN_FP32: Final = {ONE_TEXT: "fp32"}
DTYPES: Final[dict[str, torch.dtype]] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> torch.device:
    """Resolve `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:n`; StudyError for a missing device.

    A GPU comes with its number: `torch.cuda.set_device` refuses one without.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise StudyError(f"--device {name!r}: expected auto, cpu, cuda or cuda:n") from None
    if device.type not in ("cpu", "cuda"):
        raise StudyError(f"--device {name!r}: expected auto, cpu, cuda or cuda:n")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise StudyError(f"--device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", 0) if name == "cuda" else device


def fast_in_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32: on GPUs from Ampere on, with AMX, and on AMD with AVX512-BF16.

    Intel's vector units alone are no faster with it in large products, and slower on single texts (docs/measuring.md).
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    in_vectors = capabilities.get("avx512_bf16") and "Intel" not in str(capabilities.get("cpu_name"))
    return bool(capabilities.get("amx_bf16") or in_vectors)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """Resolve `auto` (bf16 where the device is faster with it, otherwise fp32), `fp32`, `bf16` or `fp16`."""
    _check_exact(device, name)
    if name == "auto":
        return torch.bfloat16 if fast_in_bf16(device) else torch.float32
    if name not in DTYPES:
        raise StudyError(unknown("dtype", name, ["auto", *DTYPES]))
    if name == "fp16" and device.type == "cpu":
        raise StudyError("--dtype 'fp16' needs a GPU; on a CPU use fp32 or bf16")
    return DTYPES[name]


def alone_in_fp32(name: str, device: torch.device) -> bool:
    """Return whether one text alone is passed in float32 where `auto` chose bf16 for batches: on a CPU.

    A shipped folder computes in that, and the pass for single texts knows it alone (docs/decisions/lean-pass.md).
    """
    return name == "auto" and device.type == "cpu" and dtype_of(name, device) != torch.float32


def _check_exact(device: torch.device, name: str) -> None:
    """StudyError where code in this process made float32 another format than its name says."""
    if torch.get_default_dtype() != torch.float32:
        raise StudyError(f"torch.set_default_dtype({torch.get_default_dtype()}) is in force: leave it at torch.float32")
    on_gpu = device.type == "cuda"
    products = (torch.backends.cuda if on_gpu else torch.backends.mkldnn).matmul.fp32_precision
    if products not in ("none", "ieee") and (name == "fp32" or not on_gpu):
        raise StudyError(
            f"float32 products are computed in {products} (torch.set_float32_matmul_precision): set them to 'highest'; "
            "the way to faster products is --dtype bf16"
        )


def name_of(dtype: torch.dtype) -> str:
    """Name of a number format: `fp32`, `bf16` or `fp16`."""
    return next(name for name, known in DTYPES.items() if known == dtype)


@contextmanager
def threads_of_torch(count: int) -> Iterator[None]:
    """Set torch's number of threads, 0 for its own, and restore it afterwards."""
    own = torch.get_num_threads()
    torch.set_num_threads(count or own)
    try:
        yield
    finally:
        torch.set_num_threads(own)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work; a CPU has no queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def give_back_memory() -> None:
    """Return free memory to the system; glibc keeps it where it lies between tensors that stay."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, str | int]:
    """Conditions of a measured number beside the candidate: device, its clock, threads, number format, versions.

    On a CPU also those of the variables in `ARITHMETIC` that are set.
    """
    import transformers

    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "clock": _gpu_clock(device) if device.type == "cuda" else _clock(),
        "dtype": name_of(dtype),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count() or 0,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        **(arithmetic() if device.type == "cpu" else {}),
    }


def arithmetic() -> dict[str, str]:
    """Variables of `ARITHMETIC` that are set in this process, with their values."""
    return {name: os.environ[name] for name in ARITHMETIC if os.environ.get(name)}


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _clock(folder: Path = Path("/sys/devices/system/cpu/cpu0/cpufreq")) -> str:
    """Settings that decide the processor's speed, as far as the system shows them; not its speed just now."""

    def read(name: str) -> str:
        try:
            return (folder / name).read_text().strip()
        except OSError:
            return ""

    governor, highest, preference = (
        read(name) for name in ("scaling_governor", "scaling_max_freq", "energy_performance_preference")
    )
    governors = [
        governor and f"governor {governor}",
        preference and f"preference {preference}",
        highest.isdigit() and f"up to {int(highest) // 1000} MHz",
    ]
    return ", ".join(str(value) for value in governors if value) or "unknown"


def _gpu_clock(device: torch.device) -> str:
    rate = getattr(torch.cuda.get_device_properties(device), "clock_rate", 0)
    return f"up to {rate // 1000} MHz" if rate else "unknown"
