"""Where and with what a study runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from searchkit._checks import check_count, check_fields
from searchkit.errors import StudyError
from searchkit.evaluate.ray import DEADLINE_S
from searchkit.evaluate.ray_cluster import Resources


@dataclass(frozen=True)
class Conditions:
    """Where and with what a study runs; nothing here changes what is searched.

    workers: Ray actors, 0 for this process; threads per worker, 0 for the machine's cores over the workers;
    gpus_per_worker: None shares this machine's GPUs among the workers; custom: resources of the cluster that a worker
    takes, by name; deadline_s: for one candidate, on workers; cache_mib: what each worker may keep of prefixes that
    later candidates may share
    """

    runs: Path = Path("runs")
    device: str = "auto"
    dtype: str = "auto"
    workers: int = 0
    threads: int = 0
    ray_address: str | None = None
    cpus_per_worker: float = 1
    gpus_per_worker: float | None = None
    custom: Mapping[str, float] = field(default_factory=dict)
    deadline_s: float = DEADLINE_S
    cache_mib: int = 2048
    storage: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name, most in {"workers": 10_000, "threads": 1024, "cache_mib": 2**40}.items():
            check_count(f"--{name.replace('_', '-')}", getattr(self, name), most, least=0)
        Resources(self.cpus_per_worker, self.gpus_per_worker or 0, self.custom)
        if not 0 < self.deadline_s < math.inf:
            raise StudyError(f"--deadline must be more than 0 seconds, got {self.deadline_s}")
        if not self.workers and (idle := self._only_for_workers()):
            raise StudyError(f"{', '.join(idle)} need --workers N with N at least 1")
        for name in ("ray_address", "storage"):
            if getattr(self, name) == "":
                raise StudyError(f"--{name.replace('_', '-')} is empty; leave it out, or say where")

    @property
    def gpus(self) -> float:
        """For each worker."""
        import torch

        given = self.gpus_per_worker
        if given is not None:
            return given
        wanted = self.device != "cpu" and torch.cuda.is_available()
        return 1 / math.ceil(self.workers / torch.cuda.device_count()) if wanted else 0.0

    @property
    def resources(self) -> Resources:
        """Of the cluster, for each worker."""
        return Resources(self.cpus_per_worker, self.gpus, self.custom)

    def _only_for_workers(self) -> list[str]:
        """Options that were given and mean nothing without workers."""
        given = {
            "--ray-address": self.ray_address is not None,
            "--cpus-per-worker": self.cpus_per_worker != 1,
            "--gpus-per-worker": self.gpus_per_worker is not None,
            "--resource": bool(self.custom),
            "--deadline": self.deadline_s != DEADLINE_S,
        }
        return [option for option, is_given in given.items() if is_given]

    @property
    def worker_device(self) -> str:
        """Under Ray the GPUs a worker gets decide: Ray shows it only those, and hides none if it gets 0."""
        if not self.workers:
            return self.device
        return "cuda" if self.gpus else "cpu"

    @property
    def worker_threads(self) -> int:
        """0 leaves them to torch, where the machine may be another one."""
        if self.threads or not self.workers or self.ray_address:
            return self.threads
        return max(1, (os.cpu_count() or 1) // self.workers)


HERE: Final = Conditions()  # this machine as it is
