"""Supernets that are trained once per test session, for tests that need a trained one and are not about training."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from searchkit import Study


@dataclass(frozen=True)
class Supernets:
    """A cache of trained supernets that the workers of a test session share; a second that needs one waits."""

    cache: Path

    def __call__(self, runs: Path, study: Study) -> None:
        """Copy the trained supernet of the study to where a run in `runs` looks for it."""
        import torch

        from searchkit.training.cache import train

        supernet, task, seed = study.supernet, study.task, study.seed
        cpu = torch.device("cpu")
        found = train(supernet, task, task.tables(seed), seed=seed, cache=self.cache, device=cpu, threads=1)
        shutil.copytree(found.folder, runs / "supernets" / found.fingerprint)
