"""Odd estimates of a user's objective are refused before they are stored, with the objective's name and the field."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from searchkit import Candidate, Constraint, Objective
from searchkit.errors import TrialError
from searchkit.evaluate.estimates import checked_estimate
from searchkit.evaluate.trial import add, measure
from searchkit.records import Ask, Estimate, Failed, Trial
from tests.analytic import COST, OBJECTIVES, QUALITY, FormulaBench, Point

ASK = Ask(0, Candidate.of(lengths=(1.0, 0.5, 0.5)))
GOOD = Estimate(0.5, 0.1, 10)


def estimate(**changes: Any) -> Estimate:
    """Built past the constructor's own checks, as a subclass or a bug might."""
    odd = replace(GOOD)
    for name, value in changes.items():
        object.__setattr__(odd, name, value)
    return odd


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (0.5, "must return an Estimate, got float"),
        (estimate(value=True), "value must be a number, got True"),
        (estimate(value=np.bool_(True)), "value must be a number"),
        (estimate(value="0.5"), "value must be a number, got '0.5'"),
        (estimate(value=10**400), "value is larger than a float can hold"),
        (estimate(standard_error=-0.1), "standard_error must be 0 or more, got -0.1"),
        (estimate(standard_error="small"), "standard_error must be a number"),
        (estimate(n=0), "n must be a whole number of 1 or more, got 0"),
        (estimate(n=-3), "n must be a whole number of 1 or more, got -3"),
        (estimate(n=True), "n must be a whole number of 1 or more, got True"),
        (estimate(n=2.5), "n must be a whole number of 1 or more, got 2.5"),
        (estimate(low=0.6, high=0.7), "the interval must hold the value 0.5, got 0.6 to 0.7"),
        (estimate(low=math.nan, high=0.7), "the interval must hold the value 0.5, got nan to 0.7"),
        (estimate(beside={"rate": "high"}), r"beside\['rate'\] must be a number, got 'high'"),
        (estimate(beside=[1.0]), "beside must map names to numbers"),
        (estimate(resamples=(0.5, "x")), "resamples must be a number, got 'x'"),
        (estimate(resamples=0.5), "resamples must be a tuple of numbers, got float"),
    ],
)
def test_an_odd_estimate_is_refused_by_field(result: Any, message: str) -> None:
    with pytest.raises(TrialError, match=f"objective 'odd'.*{message}"):
        checked_estimate("odd", result)


def test_numbers_of_numpy_become_plain_ones_and_what_is_not_finite_beside_the_value_is_left_out() -> None:
    result = Estimate(
        np.float32(0.5),  # type: ignore[arg-type]
        math.nan,
        np.int64(7),  # type: ignore[arg-type]
        {"known": np.float64(2.0), "unknown": math.inf},
        resamples=(0.25, math.nan),
    )
    found = checked_estimate("fine", result)
    assert found == Estimate(0.5, None, 7, {"known": 2.0}, resamples=(0.25, None))
    assert Estimate.from_json(found.to_json()) == found
    assert [type(one) for one in (found.value, found.n, found.beside["known"])] == [float, int, float]


def _needs_depth(point: Point) -> Estimate:
    return Estimate(float(point.candidate["depth"]), None, 1)  # type: ignore[arg-type]


DEPTH = Objective("depth", "", "lower", _needs_depth)  # type: ignore[arg-type]
MISSING = "KeyError: \"the candidate has no 'depth', only ['lengths']\""


@pytest.mark.parametrize("order", [(QUALITY, COST, DEPTH), (DEPTH, QUALITY, COST)])
def test_an_objective_that_fails_leaves_the_values_of_the_others(order: tuple[Objective, ...]) -> None:
    outcome = measure(ASK, FormulaBench({}), order).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.reasons) == ("exception", {"depth": MISSING})
    assert outcome.message == f"objective 'depth': {MISSING}"
    assert outcome.estimates == {one.name: one.measure(Point(ASK.candidate)) for one in OBJECTIVES}  # type: ignore[arg-type]
    trial = Trial(ASK, outcome, 0.1)
    assert Trial.from_json(trial.to_json()) == trial


def test_objectives_that_fail_for_one_reason_share_it() -> None:
    broken = FormulaBench({1.0: "raise"})
    outcome = measure(ASK, broken, OBJECTIVES).outcome
    assert outcome == Failed("exception", "ZeroDivisionError: a mishap", getattr(outcome, "trace", ""))


@pytest.mark.parametrize("adding", [COST, DEPTH])
def test_what_is_measured_later_is_added_to_what_is_known_also_after_a_failure(adding: Objective) -> None:
    bench = FormulaBench({})
    before = measure(ASK, bench, (QUALITY, DEPTH))
    ((later,),) = [add([before], bench, [adding])]
    assert isinstance(later.outcome, Failed)
    assert set(later.outcome.estimates) == {"quality"} | ({"cost"} if adding is COST else set())
    assert later.outcome.reasons == {"depth": MISSING}
    failing = add([measure(ASK, bench, (QUALITY,))], bench, [DEPTH])[0].outcome
    assert isinstance(failing, Failed)
    assert set(failing.estimates) == {"quality"}


def test_a_record_of_a_failure_without_values_reads_as_before() -> None:
    old = {"kind": "exception", "message": "no", "trace": ""}
    assert Failed.from_json(old) == Failed("exception", "no")
    assert Failed("exception", "no").to_json() == old


def test_an_objective_of_a_constraint_that_fails_is_named() -> None:
    bench = FormulaBench({}, constraints=(Constraint(DEPTH, at_most=3.0),))
    outcome = measure(ASK, bench, OBJECTIVES).outcome
    assert isinstance(outcome, Failed)
    assert (set(outcome.estimates), outcome.reasons) == ({"quality", "cost"}, {"depth": MISSING})
