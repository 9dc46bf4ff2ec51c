"""The stores of a run: trials of its search, and of its report, as two studies of one storage."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from searchkit.errors import NothingStoredError
from searchkit.objective import Objective
from searchkit.runs.report_store import IDENTITIES, report_name
from searchkit.study import Study

if TYPE_CHECKING:
    from searchkit.storage.store import Store

SUPERNET: Final = "supernet"  # the note in the store of a search


def report_objectives(study: Study) -> tuple[Objective, ...]:
    """Objectives of the report split: the searched ones as they are finally measured, then the front's own."""
    return (*(each.final for each in study.objectives), *study.front_objectives)


def report_identities(study: Study) -> list[dict[str, Any]]:
    """JSON that identifies each objective of the report split."""
    return [study.identity(objective) for objective in report_objectives(study)]


@dataclass(frozen=True)
class Stores:
    """Access to the stores of a study in one storage.

    storage: address of the trials; fingerprint: of the study, kept with its trials
    """

    study: Study
    storage: str
    fingerprint: str

    @cached_property
    def report_study(self) -> str:
        """Name of the study in the storage with the trials of the report split: one for each set of objectives."""
        return report_name(self.storage, self.study.name, report_identities(self.study))

    def open(self, split: str, create: bool = True, mended: bool = False) -> Store:
        """Store of one split. Without `create` nothing is written.

        mended: it starts anew where code from before its last change has failed all trials
        """
        from searchkit.storage.store import Store

        of_search = split == "search"
        name = f"{self.study.name}-search" if of_search else self.report_study
        objectives = self.study.objectives if of_search else report_objectives(self.study)
        store = Store.open(self.storage, name, objectives, create=create, fingerprint=self.fingerprint, mended=mended)
        if create and not of_search and store.note(IDENTITIES) is None:
            store.set_note(IDENTITIES, report_identities(self.study))
        return store

    @property
    def began_with(self) -> str:
        """Fingerprint of the supernet that the search began with, whatever number format is asked for by now."""
        try:
            noted = self.open("search", create=False).note(SUPERNET)
        except NothingStoredError:
            return ""
        return noted if isinstance(noted, str) else ""
