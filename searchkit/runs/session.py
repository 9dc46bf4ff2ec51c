"""Session of a study: its folder, its stores, its data and its supernet, which all phases share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from searchkit._internal.code import digest
from searchkit._internal.progress import Progress, silent, step
from searchkit.runs.cache import SupernetCache, T
from searchkit.runs.config import HERE, Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.placement import Placement
from searchkit.runs.runtimes import Runtime
from searchkit.runs.stores import Stores
from searchkit.runs.study_file import Loaded
from searchkit.training.cache import Trained, train

if TYPE_CHECKING:
    from searchkit.space import Space
    from searchkit.tasks.base import Tables


class Session:
    """Study under given conditions, in its folder; data and supernet are made once and kept here.

    folder: of the run, where it is not `<runs>/<study>`; runtime: of timed passes, where it is not the study's
    """

    def __init__(
        self,
        loaded: Loaded,
        conditions: Conditions = HERE,
        progress: Progress = silent,
        folder: Folder | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.loaded, self.study = loaded, loaded.study
        self.conditions, self.progress = conditions, progress
        self.runtime = runtime or Runtime.of((*loaded.study.objectives, *loaded.study.front_objectives))
        self.placement = Placement.of(conditions, exported=self.runtime.is_onnx)
        self.folder = folder or Folder(conditions.runs / loaded.study.name)

    @cached_property
    def description(self) -> dict[str, Any]:
        """Identity of the search as JSON; reads the model's config and the data."""
        step("reading the model's configuration and the data")
        return self.study.describe()

    @cached_property
    def slots(self) -> int:
        """Number of slots: the layers, and the input where the recipe reduces it."""
        return self.study.supernet.slots

    @cached_property
    def tables(self) -> Tables:
        """Tables of the three splits."""
        step("reading the data")
        return self.study.task.tables(self.study.seed)

    @cached_property
    def supernet(self) -> Trained:
        """Trained supernet: from the cache, or trained at the first access."""
        step("loading the model and encoding the train split")
        return train(
            self.study.supernet,
            self.study.task,
            self.tables,
            seed=self.study.seed,
            cache=self.conditions.runs / "supernets",
            device=self.placement.driver_device,
            dtype=self.conditions.dtype,
            threads=self.placement.driver_threads,
            began_with=self.stores.began_with,
            progress=self.progress,
        )

    @cached_property
    def space(self) -> Space:
        """Space of the study for this encoder; it starts from the thresholds and lengths that training ended with."""
        return self.study.bound_space.started(self.supernet.notes)

    @property
    def storage(self) -> str:
        """Storage address of the run's trials."""
        return self.conditions.storage or str(self.folder.journal)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the description, 16 hex digits."""
        return digest(self.description)

    @cached_property
    def stores(self) -> Stores:
        """The stores of its search and its report."""
        return Stores(self.study, self.storage, self.fingerprint)

    def cache(self, content: str, depends: Mapping[str, Any], parsed: Callable[[Any], T]) -> SupernetCache[T]:
        """Cache beside the supernet for content that depends on `depends` and the environment of this process."""
        return SupernetCache.beside(
            self.supernet, content, {**depends, "environment": self.placement.environment}, parsed
        )
