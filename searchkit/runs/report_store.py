"""Stores of the report split, one for each set of objectives, so that later ones can be added to a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from searchkit._internal.code import digest
from searchkit.errors import NothingStoredError
from searchkit.records import Estimate, Failed, Measured, Trial

IDENTITIES: Final = "objectives"  # the note with what identifies each objective, the user's code included
ANY: Final = "any"  # the code of objectives in a store from before it was identified

Identities = Sequence[Mapping[str, Any]]  # of objectives


def report_name(storage: str, study: str, wanted: Identities) -> str:
    """Name of the report's store: `<study>-report`, with 8 hex digits of the objectives where that has other ones."""
    held = _identities(storage, study).get(f"{study}-report")
    if held is None or _same(held, wanted):
        return f"{study}-report"
    return f"{study}-report-{digest(list(wanted))[:8]}"


def measured_before(storage: str, study: str, wanted: Identities) -> dict[str, Trial]:
    """Trials with values of these objectives from other reports of the run: key -> measured, or failed without some.

    Values of an objective whose definition or code was another one are left out.
    """
    from searchkit.storage.store import Store

    known: dict[str, Trial] = {}
    for name, identities in _identities(storage, study).items():
        same = {str(now["name"]) for now in wanted if any(_same([before], [now]) for before in identities)}
        objectives = Store.held(storage)[name]
        for trial in Store.open(storage, name, objectives, create=False).trials():
            estimates = {key: value for key, value in estimates_of(trial).items() if key in same}
            if len(estimates) > len(estimates_of(known.get(trial.key))):
                known[trial.key] = _with(trial, estimates, [str(objective["name"]) for objective in wanted])
    return known


def estimates_of(trial: Trial | None) -> Mapping[str, Estimate]:
    """Estimates of a candidate, also where some objective failed."""
    return trial.estimates if trial else {}


def merged(trial: Trial, known: Mapping[str, Estimate]) -> Trial:
    """Merge into the trial the estimates of other objectives that were measured before."""
    outcome = trial.outcome
    if not known or not isinstance(outcome, Measured | Failed):
        return trial
    estimates = {**known, **outcome.estimates}
    return replace(trial, outcome=replace(outcome, estimates=estimates))


def _with(trial: Trial, estimates: Mapping[str, Estimate], wanted: Sequence[str]) -> Trial:
    lacks = [name for name in wanted if name not in estimates]
    if not lacks:
        return replace(trial, outcome=Measured(estimates))
    reasons = dict.fromkeys(lacks, "not measured yet")
    failed = Failed("incomplete", f"not measured yet: {', '.join(lacks)}", reasons=reasons, estimates=estimates)
    return replace(trial, outcome=failed)


def _identities(storage: str, study: str) -> dict[str, Identities]:
    """Objectives of each report of a run in a storage, by name; older reports lack the identity of code."""
    from searchkit.storage.store import Store

    own = re.compile(re.escape(study) + r"-report(-[0-9a-f]{8})?")
    try:
        held = {name: objectives for name, objectives in Store.held(storage).items() if own.fullmatch(name)}
    except NothingStoredError:
        return {}
    reports: dict[str, Identities] = {}
    for name, objectives in held.items():
        note = Store.open(storage, name, objectives, create=False).note(IDENTITIES)
        reports[name] = (
            note if isinstance(note, list) else [{**objective.describe(), "code": ANY} for objective in objectives]
        )
    return reports


def _same(before: Identities, now: Identities) -> bool:
    """Return whether these are the same objectives, in order."""
    return len(before) == len(now) and all(
        old == ({**new, "code": ANY} if old.get("code") == ANY else new) for old, new in zip(before, now, strict=True)
    )
