"""Selecting on noise flatters, and the report split says so: candidates that guess, of which half is right in truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from searchkit.records import Estimate, Measured, Trial
from searchkit.report.paired import front_probabilities
from searchkit.report.results import Results
from searchkit.report.table import front_frame
from tests.report.searches import drawn, staircase, trial

CANDIDATES, EXAMPLES, TRUTH = 200, 400, 0.5


def guesses(seed: int) -> Results:
    """A search among candidates whose answers are coins, thrown for each split anew; their costs are known exactly."""
    rng = np.random.default_rng(seed)
    trials, report = [], {}
    for number in range(CANDIDATES):
        macs = (number + 1) / CANDIDATES
        one = trial(number, 0, 0, lengths=(1.0, macs))
        accuracy = Estimate.of_fraction(rng.random(EXAMPLES) < TRUTH)
        trials.append(replace(one, outcome=Measured({"accuracy": accuracy, "macs": Estimate(macs, 0.0, EXAMPLES)})))
        report[one.key] = drawn(rng.random(EXAMPLES) < TRUTH, macs, number, lengths=(1.0, macs))
    unreduced: Trial = drawn(rng.random(EXAMPLES) < TRUTH, 1.0, baseline="unreduced")
    return staircase(trials=tuple(trials), report=report, baselines={"unreduced": (unreduced,)}, front_objectives=())


def test_a_front_chosen_among_guesses_is_optimistic_on_the_search_split_and_honest_on_the_report_split() -> None:
    fronts = [front_frame(guesses(seed)) for seed in range(12)]
    search, report, optimism = (
        np.concatenate([front[f"accuracy_{column}"] for front in fronts]) for column in ("search", "report", "optimism")
    )
    error = np.sqrt(TRUTH * (1 - TRUTH) / EXAMPLES / len(report))  # of the mean report, whose guesses are independent
    assert abs(report.mean() - TRUTH) < 3 * error
    assert search.mean() - TRUTH > 10 * error
    assert optimism.mean() > 0.03  # more than one standard error of a candidate, 0.025
    np.testing.assert_allclose(optimism, search - report)
    best = np.array([front["accuracy_optimism"].iloc[-1] for front in fronts])  # the most accurate of each front
    assert best.mean() > 0.05  # the highest of 200 coins lies 2.7 standard errors above the mean


def test_the_intervals_of_the_report_split_hold_the_truth_and_those_of_the_search_split_do_not() -> None:
    fronts = [front_frame(guesses(seed)) for seed in range(12)]

    def holding(split: str) -> float:
        held = [
            (front[f"accuracy_{split}_low"] <= TRUTH) & (front[f"accuracy_{split}_high"] >= TRUTH) for front in fronts
        ]
        return float(np.concatenate(held).mean())

    assert holding("report") > 0.88  # 0.95 of about 70 points
    assert holding("search") < 0.7


def test_most_members_of_a_front_of_guesses_are_not_sure_to_belong_there() -> None:
    chances = [chance for seed in range(3) for chance in list(front_probabilities(guesses(seed)).values())[1:]]
    assert np.mean(np.array(chances) < 0.9) > 0.7
    assert np.mean(chances) < 0.6
