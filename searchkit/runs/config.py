"""Options of a run, as requested."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from searchkit._internal.checks import check_count, check_fields
from searchkit.errors import StudyError
from searchkit.evaluate.ray import DEADLINE_S


@dataclass(frozen=True)
class Conditions:
    """Conditions of a run: devices, threads, folders and the like; none but `warm_start` changes what is searched.

    workers: Ray actors, 0 for this process; threads: of training and of each worker, 0 for torch's own choice and for
    the machine's cores over the workers; gpus_per_worker: None shares this machine's GPUs among the workers; custom:
    resources of the cluster that a worker takes, by name; deadline_s: for one candidate, on workers; cache_mib: what
    each worker may keep of prefixes that later candidates may share; warm_start: an earlier run, by its folder or its
    name in `runs`, with whose front the search begins
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
    warm_start: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name, most in {"workers": 10_000, "threads": 1024, "cache_mib": 2**40}.items():
            check_count(f"--{name.replace('_', '-')}", getattr(self, name), most, least=0)
        gpus = self.gpus_per_worker or 0.0
        amounts = {"cpus-per-worker": self.cpus_per_worker, "gpus-per-worker": gpus}
        for name, amount in amounts.items():
            if not 0 <= amount < math.inf:
                raise StudyError(f"--{name} must be a number of 0 or more, got {amount}")
        if gpus > 1 and gpus % 1:
            raise StudyError(f"--gpus-per-worker above 1 is a whole number, got {gpus}")
        for name, amount in self.custom.items():
            if not 0 <= amount < math.inf:
                raise StudyError(f"--resource {name}={amount}: an amount must be a number of 0 or more")
        if not 0 < self.deadline_s < math.inf:
            raise StudyError(f"--deadline must be more than 0 seconds, got {self.deadline_s}")
        self._refuse_without_workers()
        for name in ("ray_address", "storage", "warm_start"):
            if getattr(self, name) == "":
                raise StudyError(f"--{name.replace('_', '-')} is empty; leave it out, or say where")

    def words(self) -> list[str]:
        """Options of the command line that differ from their defaults, other than folder, storage and workers.

        Nor the warm start, which a run that has begun keeps by itself.
        """
        others = {"runs", "storage", "workers", "custom", "warm_start"}
        words = [f"--resource={name}={amount:g}" for name, amount in self.custom.items()]
        for each in (item for item in fields(self) if item.name not in others):
            if (value := getattr(self, each.name)) != each.default:
                words += [f"--{each.name.removesuffix('_s').replace('_', '-')}", str(value)]
        return words

    def _refuse_without_workers(self) -> None:
        """Raise StudyError for an option of workers alone, where there are none."""
        given = {
            "--ray-address": self.ray_address is not None,
            "--cpus-per-worker": self.cpus_per_worker != 1,
            "--gpus-per-worker": self.gpus_per_worker is not None,
            "--resource": bool(self.custom),
            "--deadline": self.deadline_s != DEADLINE_S,
        }
        for option, is_given in given.items():
            if is_given and not self.workers:
                raise StudyError(f"{option} needs --workers N with N at least 1")


HERE: Final = Conditions()  # this machine as it is
