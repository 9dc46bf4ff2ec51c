"""Energy meters: RAPL of Intel and AMD processors, NVML of GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from searchkit.records import Scalar
from searchkit.reduction.device import environment

RAPL = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Meter:
    """Energy meter: `read` gives joules since some moment, 0 without a source; `why` names the source or the lack.

    A processor's meter counts for all that runs on it, as a wall socket would.
    """

    read: Callable[[], float]
    why: str
    is_there: bool = True


def environment_of(model: Module) -> dict[str, Scalar]:
    """The environment of numbers that are measured with this model: device, number format, threads, versions, meter."""
    weight = next(model.parameters())
    return {**environment(weight.device, weight.dtype), "energy": meter(weight.device).why}


def meter(device: torch.device, rapl: Path = RAPL) -> Meter:
    """Meter of the device; without one, a meter that reads 0, with the reason in `why`."""
    return _nvml(device) if device.type == "cuda" else _rapl(rapl)


def _rapl(folder: Path) -> Meter:
    """Sum over processor packages; counters that wrap around are unrolled."""
    packages = [_Counter(path) for path in sorted(folder.glob("intel-rapl:[0-9]*")) if path.name.count(":") == 1]
    if not packages:
        return _absent("the processor has no RAPL counters here")
    try:
        for package in packages:
            package.joules()
    except (OSError, ValueError) as error:
        return _absent(f"RAPL cannot be read: {getattr(error, 'strerror', None) or error}")
    return Meter(lambda: sum(package.joules() for package in packages), "RAPL, processor packages")


class _Counter:
    """RAPL counter in microjoules, which wraps around at its range."""

    def __init__(self, path: Path) -> None:
        self._file = path / "energy_uj"
        self._range_file = path / "max_energy_range_uj"
        self._last, self._turns = 0, 0

    def joules(self) -> float:
        now = int(self._file.read_text())
        if now < self._last:
            self._turns += int(self._range_file.read_text())
        self._last = now
        return (now + self._turns) / 1e6


def _nvml(device: torch.device) -> Meter:
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]

        pynvml.nvmlInit()
        # NVML counts the machine's GPUs, torch those of CUDA_VISIBLE_DEVICES in another order
        unique = torch.cuda.get_device_properties(device).uuid
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{unique}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception as error:  # no library, no driver, or a GPU without the counter: all mean no meter
        return _absent(f"NVML cannot tell: {type(error).__name__}: {error}")
    return Meter(lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3, "NVML")


def _absent(why: str) -> Meter:
    return Meter(lambda: 0.0, f"absent: {why}", is_there=False)
