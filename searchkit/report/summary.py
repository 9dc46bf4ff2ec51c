"""A search in one JSON object: what was searched, what it cost, what came out, and whether it beats the baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from searchkit import front
from searchkit.objective import Objective
from searchkit.records import Estimate, Measured, Trial
from searchkit.report.results import CONSTANT_RATIO, UNREDUCED, Results


def summary(results: Results) -> dict[str, Any]:
    """The summary; numbers that JSON cannot hold (NaN, infinity) are None."""
    data = {
        "study": results.study.get("name"),
        "fingerprint": results.study.get("fingerprint"),
        "seed": results.study.get("seed"),
        "environment": dict(results.environment),
        "seconds": dict(results.seconds),
        "evaluations": len(results.trials),
        "distinct": len({trial.key for trial in results.trials}),
        "failed": sum(trial.status == "failed" for trial in results.trials),
        "pruned": sum(trial.status == "pruned" for trial in results.trials),
        "hypervolume": _hypervolume(results),
        "unreduced": [outcome(trial) for trial in results.baselines.get(UNREDUCED, ())],
        "constant_ratio": against_constant_ratio(results),
        "front": [_member(results, trial) for trial in results.front],
    }
    finite = _finite(data)
    assert isinstance(finite, dict)
    return finite


def estimates(trial: Trial | None, objectives: Sequence[Objective]) -> Mapping[str, Estimate] | None:
    """The estimates of a trial that was measured in all of the objectives, else None."""
    if trial is None or not isinstance(trial.outcome, Measured):
        return None
    found = trial.outcome.estimates
    return found if all(objective.name in found for objective in objectives) else None


def measured(trials: Iterable[Trial | None], objectives: Sequence[Objective]) -> list[Mapping[str, Estimate]]:
    """The estimates of those that have them all."""
    return [found for trial in trials if (found := estimates(trial, objectives)) is not None]


def outcome(trial: Trial | None) -> dict[str, Any] | None:
    """Estimates by objective, or what came instead."""
    if trial is None:
        return None
    if isinstance(trial.outcome, Measured):
        return {name: estimate.to_json() for name, estimate in trial.outcome.estimates.items()}
    return {"status": trial.status, **trial.outcome.to_json()}


def reference(results: Results) -> dict[str, float]:
    """The reference point of the hypervolume in the units of the objectives; empty where nothing was measured."""
    rows = measured(results.trials, results.objectives)
    if not rows:
        return {}
    point = front.reference_point(front.losses(rows, results.objectives))
    return front.in_units(point, results.objectives)


def against_constant_ratio(results: Results) -> dict[str, Any]:
    """Front members against the constant-ratio baseline, both on the report split, by the point estimates.

    `dominated` of its `points` are dominated by a member, `members_dominated` of the `members` by one of its points;
    `beaten` says that all its points are. The hypervolumes share a reference point, the worst of both and of unreduced.
    """
    objectives = results.objectives
    own = front.losses(measured((results.report.get(trial.key) for trial in results.front), objectives), objectives)
    other = front.losses(measured(results.baselines.get(CONSTANT_RATIO, ()), objectives), objectives)
    unreduced = front.losses(measured(results.baselines.get(UNREDUCED, ()), objectives), objectives)
    dominated = _dominated(other, own)
    counts = {
        "points": len(other),
        "dominated": dominated,
        "beaten": 0 < len(other) == dominated,
        "members": len(own),
        "members_dominated": _dominated(own, other),
    }
    if not counts["points"] or not counts["members"]:
        return counts
    limit = front.reference_point(np.concatenate([own, other, unreduced]))
    volumes = {"hypervolume": front.hypervolume(other, limit), "hypervolume_of_front": front.hypervolume(own, limit)}
    return counts | volumes


def _dominated(rows: front.Array, by: front.Array) -> int:
    """How many of (N, M) losses are dominated by one of (K, M)."""
    return sum(bool(((by <= row).all(axis=1) & (by < row).any(axis=1)).any()) for row in rows)


def _hypervolume(results: Results) -> dict[str, Any]:
    rows = front.losses(measured(results.trials, results.objectives), results.objectives)
    value = front.hypervolume(rows, front.reference_point(rows)) if len(rows) else 0.0
    return {"value": value, "reference": reference(results)}


def _member(results: Results, trial: Trial) -> dict[str, Any]:
    return {
        "key": trial.key,
        "candidate": trial.ask.candidate.to_json(),
        "search": outcome(trial),
        "report": outcome(results.report.get(trial.key)),
    }


def _finite(value: Any) -> Any:
    """The same JSON with None for numbers that JSON does not know."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
