"""Session of a study: its folder, its stores, its data and its supernet, which all phases share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from searchkit._checks.code import digest
from searchkit._progress import Progress, silent, step
from searchkit.errors import NothingStoredError
from searchkit.objective import Objective
from searchkit.runs.cache import SupernetCache, T
from searchkit.runs.config import HERE, Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.placement import Placement
from searchkit.runs.report_store import IDENTITIES, report_name
from searchkit.runs.study_file import Loaded
from searchkit.training.cache import Trained, train

if TYPE_CHECKING:
    from searchkit.space import Space
    from searchkit.storage.store import Store
    from searchkit.tasks.base import Tables

SUPERNET: Final = "supernet"  # the note in the store of a search


class Session:
    """Study under given conditions, in its folder; data and supernet are made once and kept here.

    folder: of the run, where it is not `<runs>/<study>`
    """

    def __init__(
        self, loaded: Loaded, conditions: Conditions = HERE, progress: Progress = silent, folder: Folder | None = None
    ) -> None:
        self.loaded, self.study = loaded, loaded.study
        self.conditions, self.progress = conditions, progress
        self.placement = Placement.of(conditions)
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
            dtype=self.placement.dtype,
            threads=self.placement.driver_threads,
            began_with=self._began_with,
            progress=self.progress,
        )

    @property
    def _began_with(self) -> str:
        """Fingerprint of the supernet that the search began with, whatever number format is requested now."""
        try:
            noted = self.store("search", create=False).note(SUPERNET)
        except NothingStoredError:
            return ""
        return noted if isinstance(noted, str) else ""

    @cached_property
    def space(self) -> Space:
        """Space of the study for this encoder; it starts from the thresholds and lengths that training ended with."""
        return self.study.bound_space.started(self.supernet.notes)

    @property
    def storage(self) -> str:
        """Storage address of the run's trials."""
        return self.conditions.storage or str(self.folder.journal)

    @property
    def report_objectives(self) -> tuple[Objective, ...]:
        """Objectives of the report split: the searched ones in their final form, then those of the front only."""
        return (*(objective.final for objective in self.study.objectives), *self.study.front_objectives)

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the description, 16 hex digits."""
        return digest(self.description)

    @cached_property
    def report_study(self) -> str:
        """Name of the study in the storage with the trials of the report split: one for each set of objectives."""
        return report_name(self.storage, self.study.name, self.report_identities)

    @property
    def report_identities(self) -> list[dict[str, Any]]:
        """The JSON that identifies each objective of the report split."""
        return [self.study.identity(objective) for objective in self.report_objectives]

    def store(self, split: str, create: bool = True, mended: bool = False) -> Store:
        """Open the store of one split; the splits are two studies of one storage. Without `create` nothing is written.

        mended: it starts anew where code from before its last change has failed all trials
        """
        from searchkit.storage.store import Store

        of_search = split == "search"
        name = f"{self.study.name}-search" if of_search else self.report_study
        objectives = self.study.objectives if of_search else self.report_objectives
        store = Store.open(self.storage, name, objectives, create=create, fingerprint=self.fingerprint, mended=mended)
        if create and not of_search and store.note(IDENTITIES) is None:
            store.set_note(IDENTITIES, self.report_identities)
        return store

    def cache(self, content: str, depends: Mapping[str, Any], parsed: Callable[[Any], T]) -> SupernetCache[T]:
        """Cache beside the supernet for content that depends on `depends` and the environment of this process."""
        return SupernetCache.beside(
            self.supernet, content, {**depends, "environment": self.placement.environment}, parsed
        )
