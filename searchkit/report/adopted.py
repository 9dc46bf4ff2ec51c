"""Constant ratios that become members: baselines that no member dominates, within the study's constraints."""

from __future__ import annotations

from dataclasses import replace

from searchkit.front import Front
from searchkit.records import Trial
from searchkit.report.limits import keeps, of_study
from searchkit.report.results import CONSTANT_RATIO, Results, estimates


def with_ratios(results: Results) -> Results:
    """Results whose members include the constant ratios that none of them dominates on the report split.

    A ratio beyond a constraint of the study is none, nor is any where a constraint is on what the report split cannot
    tell. StoreError where the record's constraints are not searchkit's.
    """
    ratios = {trial.key: trial for trial in results.baselines.get(CONSTANT_RATIO, ())}
    rows = [trial for trial in {**ratios, **results.report}.values() if estimates(trial, results.objectives)]
    best = {trial.key for trial in Front.of(rows, results.objectives)} if results.members else set()
    adopted = {
        key: trial
        for key, trial in ratios.items()
        if key in best and key not in results.report and _is_within(trial, results)
    }
    return replace(results, report={**results.report, **adopted})


def _is_within(trial: Trial, results: Results) -> bool:
    """Return whether a trial on the report split keeps the study's constraints; False where that cannot be told."""
    limits, untold = of_study(results.study, results.all_objectives)
    unreduced = results.unreduced.estimates if results.unreduced else {}
    return not untold and keeps(trial.estimates, limits, unreduced)
