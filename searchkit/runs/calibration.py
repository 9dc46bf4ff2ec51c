"""Tables of modelled objectives: measured once for each run, on its device, before anything else runs there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from searchkit._internal.files import replace_whole
from searchkit.errors import StoreError, StudyError
from searchkit.objective import Objective
from searchkit.runs.session import Session

CALIBRATED: Final = 24  # candidates that are timed for a modelled objective; a third of them tests the model


def calibrated(session: Session, build: Callable[[], Any]) -> dict[str, Any]:
    """Table of each modelled objective by name, from the run's folder or measured now on the bench of `build`."""
    modelled = _modelled(session)
    if not modelled:
        return {}
    if session.conditions.ray_address:
        raise StudyError(
            f"{modelled[0].name} is modelled from times on this machine, and the workers of --ray-address may be "
            "others: measure it during the search (during_search='measured')"
        )
    if session.folder.calibration.exists():
        return _stored(session, modelled)
    tables = _measured(session, modelled, build())
    replace_whole(session.folder.calibration, (json.dumps(tables, indent=2) + "\n").encode())
    return tables


def _modelled(session: Session) -> list[Objective]:
    study = session.study
    objectives = (*study.objectives, *(constraint.objective for constraint in study.constraints))
    return list({objective.name: objective for objective in objectives if objective.modelled}.values())


def _stored(session: Session, modelled: Sequence[Objective]) -> dict[str, Any]:
    names = [objective.name for objective in modelled]
    try:
        stored: dict[str, Any] = json.loads(session.folder.calibration.read_text())
        return {name: dict(stored[name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{session.folder.calibration}: not a table of {', '.join(names)} ({error}): "
            "start a new run, since the values so far came from another one"
        ) from error


def _measured(session: Session, modelled: Sequence[Objective], bench: Any) -> dict[str, Any]:
    rng = np.random.default_rng(session.study.seed)
    candidates = [session.space.decode(genome) for genome in session.space.sample(CALIBRATED, rng)]
    tables = {}
    for number, objective in enumerate(modelled):
        session.progress("calibrate", number, len(modelled))
        assert objective.timing is not None
        assert objective.timing.calibrate is not None
        table = objective.timing.calibrate(bench.subject, candidates)
        tables[objective.name] = {**table, "environment": dict(bench.environment)}
    session.progress("calibrate", len(modelled), len(modelled))
    return tables
