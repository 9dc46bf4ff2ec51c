"""Summary of a search as one JSON object: study, costs, front, and comparison with the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from searchkit import front
from searchkit.objective import Objective
from searchkit.records import Estimate, Measured, Trial
from searchkit.report.environment import environments, fingerprint_of
from searchkit.report.gained import gained
from searchkit.report.paired import difference, front_probabilities
from searchkit.report.results import CONSTANT_RATIO, UNREDUCED, Results, measured
from searchkit.report.verdict import Verdict, rival_verdicts, verdicts


def summary(results: Results) -> dict[str, Any]:
    """Make the summary; numbers that JSON cannot hold (NaN, infinity) are None."""
    data = {
        "study": results.study.get("name"),
        "fingerprint": results.study.get("fingerprint"),
        "seed": results.study.get("seed"),
        "environment": dict(results.environment),
        "environments": environments((*results.trials, *results.on_report)),
        "objectives": [_described(objective, results) for objective in results.all_objectives],
        "seconds": dict(results.seconds),
        "duplicates": dict(results.duplicates),
        "began_with": results.began_with or None,
        "evaluations": len(results.evaluations),
        "turned_down": len(results.trials) - len(results.evaluations),
        "distinct": len({trial.key for trial in results.trials}),
        "failed": sum(trial.status == "failed" for trial in results.evaluations),
        "pruned": sum(trial.status == "pruned" for trial in results.evaluations),
        "hypervolume": _hypervolume(results),
        "unreduced": [outcome(trial) for trial in results.baselines.get(UNREDUCED, ())],
        "constant_ratio": against_constant_ratio(results),
        "baselines": against_baselines(results),
        "gained": [each.to_json() for each in gained(results)],
        "front": _members(results),
    }
    strict = finite(data)
    assert isinstance(strict, dict)
    return strict


def outcome(trial: Trial | None) -> dict[str, Any] | None:
    """Outcome as JSON: estimates by objective with their intervals, without resamples, or the reason for their lack."""
    if trial is None:
        return None
    values = {name: shown(estimate) for name, estimate in trial.estimates.items()}
    if isinstance(trial.outcome, Measured):
        return values
    return {"status": trial.status, **trial.outcome.to_json(), **({"estimates": values} if values else {})}


def shown(estimate: Estimate) -> dict[str, Any]:
    """Estimate as JSON: with its interval, without resamples."""
    low, high = estimate.interval or (None, None)
    return replace(estimate, low=low, high=high, resamples=()).to_json()


def _described(objective: Objective, results: Results) -> dict[str, Any]:
    accounting = results.accounting(objective)
    return {**objective.describe(), **({"accounting": accounting} if accounting else {})}


def reference(results: Results) -> dict[str, float]:
    """Reference point of the hypervolume in the units of the objectives; empty where nothing was measured."""
    rows = measured(results.measured_trials, results.objectives)
    if not rows:
        return {}
    point = front.reference_point(front.losses(rows, results.objectives))
    return front.in_units(point, results.objectives)


def against_baselines(results: Results) -> dict[str, Any]:
    """Comparison with each family of baselines: its trials on the report split and, with a quality and a cost, at how
    many of its `points` the front is `better` and `worse`, and whether it is `beaten` (see `Verdict`). Rivals have
    these counts for every cost that they were measured in, under `at_equal`.
    """
    by_family, of_rivals = verdicts(results), rival_verdicts(results)
    return {
        name: {
            "trials": [_trial_json(trial) for trial in trials],
            **(_counts(by_family[name]) if name in by_family else {}),
            **(
                {"at_equal": {cost: _counts(each) for cost, each in of_rivals[name].items()}}
                if name in of_rivals
                else {}
            ),
        }
        for name, trials in results.baselines.items()
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    content = {"key": trial.key, "candidate": trial.ask.candidate.to_json(), "report": outcome(trial)}
    return content | {"environment": {"report": fingerprint_of(trial)}}


def _counts(verdict: Verdict) -> dict[str, Any]:
    return {**asdict(verdict), "beaten": verdict.beaten}


def against_constant_ratio(results: Results) -> dict[str, Any]:
    """Comparison of front members with the constant-ratio baseline on the report split, by the point estimates.

    `dominated` of its `points` are dominated by a member, `members_dominated` of the `members` by one of its points;
    `beaten` is the verdict of `against_baselines`. The hypervolumes share a reference point, the worst of both and of
    unreduced.
    """
    verdict = verdicts(results).get(CONSTANT_RATIO)
    objectives = results.objectives
    searched = (results.report.get(trial.key) for trial in results.members if trial.estimates)
    own = front.losses(measured(searched, objectives), objectives)
    baseline = front.losses(measured(results.baselines.get(CONSTANT_RATIO, ()), objectives), objectives)
    unreduced = front.losses(measured(results.baselines.get(UNREDUCED, ()), objectives), objectives)
    dominated = _dominated(baseline, own)
    counts = {
        "points": len(baseline),
        "dominated": dominated,
        "beaten": verdict is not None and verdict.beaten,
        "members": len(own),
        "members_dominated": _dominated(own, baseline),
    }
    if not counts["points"] or not counts["members"]:
        return counts
    limit = front.reference_point(np.concatenate([own, baseline, unreduced]))
    volumes = {"hypervolume": front.hypervolume(baseline, limit), "hypervolume_of_front": front.hypervolume(own, limit)}
    return counts | volumes


def _dominated(rows: front.Array, by: front.Array) -> int:
    """Number of (N, M) losses that are dominated by one of (K, M)."""
    return sum(bool(((by <= row).all(axis=1) & (by < row).any(axis=1)).any()) for row in rows)


def _hypervolume(results: Results) -> dict[str, Any]:
    rows = front.losses(measured(results.measured_trials, results.objectives), results.objectives)
    value = front.hypervolume(rows, front.reference_point(rows)) if len(rows) else 0.0
    return {"value": value, "reference": reference(results)}


def _members(results: Results) -> list[dict[str, Any]]:
    """Front as JSON; `against_unreduced` is the paired difference on the report split, with its 95 % interval."""
    chances = front_probabilities(results)
    return [
        {
            "key": trial.key,
            "candidate": trial.ask.candidate.to_json(),
            "search": outcome(trial),
            "report": outcome(results.report.get(trial.key)),
            "against_unreduced": {
                objective.name: asdict(paired)
                for objective in results.objectives
                if (paired := difference(results, trial, objective))
            },
            "chosen_as": results.chosen_as(trial.key),
            "on_front": trial in results.reported_front,
            "front_probability": chances.get(trial.key),
            "environment": {"search": fingerprint_of(trial), "report": fingerprint_of(results.report.get(trial.key))},
        }
        for trial in results.members
    ]


def finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by None."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
