"""Opening of a run: everything that can be refused beforehand is checked, then the folder is claimed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from searchkit.errors import DataError, NothingStoredError, StudyError
from searchkit.evaluate.ray_cluster import check_workers
from searchkit.records import Failed
from searchkit.reduction.plugins import registered
from searchkit.runs.folder import IDENTIFIED, only_code_differs, same_study
from searchkit.runs.numerics import check_numerics, numerics, options
from searchkit.runs.rivals import check_rivals, rivals_of
from searchkit.runs.session import Session
from searchkit.runs.stores import report_objectives
from searchkit.runs.transfer import left_behind
from searchkit.runs.warm_start import chosen
from searchkit.storage.address import StorageAddress
from searchkit.storage.store import Store

log = logging.getLogger(__name__)


@contextmanager
def opened(session: Session) -> Iterator[None]:
    """Claim the session's folder for its study and this process, and log to it.

    Raises StudyError, DataError or StoreError before anything is written, where the run cannot begin.
    """
    record, mended = checked(session)
    start = chosen(session, mended=mended)

    def prepare() -> None:
        search, _ = (session.stores.open(split, mended=mended) for split in ("search", "report"))
        if start is not None:
            start.keep(search)

    with session.folder.claimed(record, prepare, mended), session.placement.in_force():
        log.info("study %s, fingerprint %s", session.study.name, record["fingerprint"])
        try:
            yield
        except Exception:
            log.exception("the run stopped")
            raise


def checked(session: Session) -> tuple[dict[str, Any], bool]:
    """Check all that can be refused before a run begins; writes nothing.

    Returns the content of study.json, and whether only the user's code changed since a run that measured nothing.
    """
    if session.conditions.workers:
        _check_workers(session)
    session.runtime.check(session.conditions, report_objectives(session.study))
    with suppress(NothingStoredError):
        Store.held(session.storage)  # a typo in its address, too
    record = record_of(session)  # reads model and data: what is wrong with them is said before anything is made
    _check_storage(session)
    check_numerics(session)
    _check_labels(session)
    check_rivals(session)
    return record, _failed_by_other_code(session)


def record_of(session: Session) -> dict[str, Any]:
    """Content of study.json: the identity of the study, its origin, and the objectives that readers of trials need."""
    study, conditions = session.study, session.conditions
    return {
        "description": session.description,
        "fingerprint": session.fingerprint,
        **_origin(session),
        "objectives": [objective.describe() for objective in study.objectives],
        "front_objectives": [objective.describe() for objective in study.front_objectives],
        "report": session.stores.report_study,
        "published": study.published and study.published.describe(),
        "rivals": {name: [each.to_json() for each in family] for name, family in rivals_of(session).items()},
        "storage": conditions.storage and StorageAddress(conditions.storage).kept,
        "layers": study.supernet.layers,
        "places": session.slots,
        "evaluations": study.budget.evaluations,
        "budget": str(study.budget),
        "cache_mib": conditions.cache_mib,
        "workers": conditions.workers,
        "options": options(session),
        "numerics": numerics(session),
        "cwd": str(Path.cwd()),  # base of relative paths of data and models when the run is reopened
    }


def _origin(session: Session) -> dict[str, Any]:
    """File and parameters of the study; those of the earlier run, where the study is made in Python this time."""
    loaded, folder = session.loaded, session.folder
    if loaded.file is None and folder.study.exists():
        before = folder.read()
        return {"file": before["file"], "parameters": before["parameters"]}
    return {"file": loaded.file and str(loaded.file.resolve()), "parameters": dict(loaded.parameters)}


def _check_workers(session: Session) -> None:
    """Raise StudyError, before the training, for what would keep workers from starting."""
    study, conditions = session.study, session.conditions
    objectives = {f"objective {objective.name!r}": objective for objective in report_objectives(session.study)}
    searched = {f"objective {objective.name!r}": objective for objective in study.objectives}
    sent = {"the recipe": study.supernet.recipe, "the task": study.task, "the constraints": study.constraints}
    sent |= {f"the {kind} {name!r}": thing for kind, name, thing in registered()}
    resources = session.placement.resources
    check_workers(conditions.workers, conditions.ray_address, resources, {**objectives, **searched, **sent})


def _check_labels(session: Session) -> None:
    """Raise DataError for an objective that has no value on the labels of its split, whatever the model predicts."""
    searched = (*session.study.objectives, *(limit.objective for limit in session.study.constraints))
    for split, objectives in (("search", searched), ("report", report_objectives(session.study))):
        for objective in (item for item in objectives if item.undefined):
            labels = session.tables[split].get("label")  # None for questions: the objective itself refuses them
            reason = objective.undefined(labels.to_numpy()) if objective.undefined and labels is not None else None
            if reason:
                raise DataError(f"objective {objective.name!r} is not defined on the {split} split: {reason}")


def _check_storage(session: Session) -> None:
    """Raise StudyError if the folder's trials are in another storage, where the search would begin anew."""
    folder, storage = session.folder, session.conditions.storage
    behind = left_behind(folder, storage) if folder.study.exists() else None
    if behind:
        to = StorageAddress(session.storage)
        raise StudyError(
            f"{folder.path} has {behind[1]} trials in {behind[0]} that are not in {to}: go on there with "
            f"--storage, or first copy them with `searchkit copy {folder.path} --to {to}`"
        )


def _failed_by_other_code(session: Session) -> bool:
    """Return whether only the user's code has changed since the run in the folder, which has measured nothing."""
    folder = session.folder
    if not folder.study.exists():
        return False
    before = folder.read()
    if not only_code_differs(before, session.description):
        return False
    if same_study(before, session.description) and before.get(IDENTIFIED):
        return False
    with suppress(NothingStoredError):
        store = Store.open(session.storage, f"{session.study.name}-search", session.study.objectives, create=False)
        return all(isinstance(trial.outcome, Failed) for trial in store.trials())
    return True
