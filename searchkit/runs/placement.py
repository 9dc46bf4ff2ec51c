"""Devices, number format, threads and Ray resources of one run, resolved once from its options."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from searchkit.errors import StudyError
from searchkit.evaluate.ray_cluster import Resources
from searchkit.records import Scalar
from searchkit.reduction.device import (
    ONE_TEXT_IN_FP32,
    alone_in_fp32,
    device_of,
    dtype_of,
    environment,
    name_of,
)
from searchkit.runs.config import Conditions


@dataclass(frozen=True)
class Placement:
    """Devices, number format, threads and Ray resources of a run.

    driver_device, driver_threads: of training, and of evaluation where there are no workers; worker_device, threads: of
    each process that evaluates, threads being 0 where torch chooses on another machine; dtype: "auto" takes each
    device's own; resources: that Ray sets aside for one worker
    """

    driver_device: torch.device
    driver_threads: int
    worker_device: str
    dtype: str
    threads: int
    resources: Resources

    @classmethod
    def of(cls, conditions: Conditions, *, exported: bool = False) -> Placement:
        """Resolve the options; StudyError in one line where a device, a number format or a GPU is not available.

        exported: graphs are measured, on the CPU and in float32, whatever trains
        """
        if exported:
            measured = cls.of(replace(conditions, device="cpu", dtype="fp32"))
            return replace(measured, driver_device=device_of(conditions.device))
        driver, driver_threads = device_of(conditions.device), conditions.threads or torch.get_num_threads()
        if not conditions.workers:
            dtype_of(conditions.dtype, driver)
            return cls(driver, driver_threads, conditions.device, conditions.dtype, driver_threads, Resources())
        gpus = _gpus(conditions)
        worker_device, elsewhere = "cuda" if gpus else "cpu", conditions.ray_address is not None
        dtype_of(conditions.dtype, driver if elsewhere else device_of(worker_device))
        share = 0 if elsewhere else max(1, (os.cpu_count() or 1) // conditions.workers)
        return cls(
            driver,
            driver_threads,
            worker_device,
            conditions.dtype,
            conditions.threads or share,
            Resources(conditions.cpus_per_worker, gpus, conditions.custom),
        )

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Set torch's number of threads to the driver's, and restore it afterwards."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.driver_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @property
    def dtype_name(self) -> str:
        """Name of the number format of values that are measured on this machine."""
        if self.dtype != "auto":
            return self.dtype
        return name_of(dtype_of(self.dtype, device_of(self.worker_device)))

    @property
    def environment(self) -> dict[str, Scalar]:
        """Environment of numbers that this process measures."""
        device = device_of(self.worker_device)
        own = environment(device, dtype_of(self.dtype, device))
        return {**own, "threads": self.threads, **(ONE_TEXT_IN_FP32 if alone_in_fp32(self.dtype, device) else {})}


def _gpus(conditions: Conditions) -> float:
    """GPUs of each worker; Ray decides which, and shows a worker only those."""
    device, gpus, workers = conditions.device, conditions.gpus_per_worker, conditions.workers
    if device.startswith("cuda:"):
        raise StudyError(
            f"--device {device!r} with --workers: Ray gives each worker its GPU; ask for --device cuda, and name the "
            "GPUs that it may give in CUDA_VISIBLE_DEVICES"
        )
    if device.startswith("cpu") and gpus:
        raise StudyError(f"--gpus-per-worker {gpus:g} contradicts --device cpu; leave out one of the two")
    if device == "cuda" and gpus == 0:
        raise StudyError("--device cuda contradicts --gpus-per-worker 0; leave out one of the two")
    devices = torch.cuda.device_count()
    if gpus is None:
        wanted = torch.cuda.is_available() and not device.startswith("cpu")
        return 1 / -(-workers // devices) if wanted else 0.0  # as many workers to each GPU: a part is of one GPU only
    if conditions.ray_address is None and gpus * workers > devices + 1e-6:
        raise StudyError(
            f"--gpus-per-worker {gpus:g}: {workers} workers take {gpus * workers:g} GPUs, this machine has {devices}"
        )
    return gpus
