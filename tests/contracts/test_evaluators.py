"""What every evaluator promises: the same trials, failures as outcomes, timed objectives measured alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from searchkit.errors import StudyError
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.ray import ATTEMPTS, Ray
from searchkit.evaluate.ray_cluster import check_reachable
from searchkit.objective import Objective, Timing
from searchkit.records import Ask, Estimate, Failed, Measured, Trial
from tests.analytic import COST, OBJECTIVES, QUALITY, FormulaWorkbench, Point, asks

Make = Callable[..., Any]


EVALUATORS: dict[str, Make] = {
    "inline": lambda workbench, objectives: Inline(workbench, objectives),
    "ray, two workers": lambda workbench, objectives: Ray(workbench, objectives, workers=2),
}


@pytest.fixture(params=sorted(EVALUATORS))
def make(request: pytest.FixtureRequest, local_ray: None) -> Make:
    return EVALUATORS[request.param]


def by_number(trials: Iterator[Trial]) -> list[Any]:
    return [(trial.ask, trial.outcome) for trial in sorted(trials, key=lambda trial: trial.ask.number)]


def test_one_worker_gives_the_same_trials_as_this_process(local_ray: None) -> None:
    workbench = FormulaWorkbench({0.5: "raise", 2 / 6: "memory"})
    with Ray(workbench, OBJECTIVES, workers=1) as one_worker, Inline(workbench, OBJECTIVES) as inline:
        found, expected = (dict(by_number(evaluator.run(asks()))) for evaluator in (one_worker, inline))
    assert [ask for ask, outcome in found.items() if outcome != expected[ask] and isinstance(outcome, Measured)] == []
    assert [getattr(outcome, "kind", "") for outcome in found.values()] == [
        getattr(outcome, "kind", "") for outcome in expected.values()
    ]


def test_every_ask_comes_back_once_with_the_values_of_the_formula(make: Make) -> None:
    with make(FormulaWorkbench({}), OBJECTIVES) as evaluator:
        found = by_number(evaluator.run(asks()))
    assert [ask for ask, _ in found] == asks()
    for ask, outcome in found:
        point = Point(ask.candidate)
        assert outcome == Measured({one.name: one.measure(point) for one in OBJECTIVES})  # type: ignore[arg-type]


def test_an_exception_is_an_outcome_with_kind_message_and_trace(make: Make) -> None:
    with make(FormulaWorkbench({0.5: "raise"}), OBJECTIVES) as evaluator:
        for ask, outcome in by_number(evaluator.run(asks())):
            if Point(ask.candidate).lengths[0] == 0.5:
                assert isinstance(outcome, Failed)
                assert (outcome.kind, outcome.message) == ("exception", "ZeroDivisionError: a mishap")
                assert "in subject" in outcome.trace
            else:
                assert isinstance(outcome, Measured)


def _not_a_number(point: Point) -> Estimate:
    return Estimate(float("nan") if point.lengths[0] < 0.5 else 1.0, None, 1)


def _no_estimate(point: Point) -> float:
    return 1.0


def test_a_value_that_is_not_finite_is_a_failure_of_kind_nan(make: Make) -> None:
    odd = Objective("odd", "", "lower", _not_a_number)  # type: ignore[arg-type]
    with make(FormulaWorkbench({}), (odd, COST)) as evaluator:
        found = by_number(evaluator.run(asks()))
    kinds = {Point(ask.candidate).lengths[0] < 0.5: getattr(outcome, "kind", "measured") for ask, outcome in found}
    assert kinds == {True: "nan", False: "measured"}


def test_an_objective_that_returns_no_estimate_is_named(make: Make) -> None:
    odd = Objective("odd", "", "lower", _no_estimate)  # type: ignore[arg-type]
    with make(FormulaWorkbench({}), (odd,)) as evaluator:
        (_, outcome), *_ = by_number(evaluator.run(asks()[:1]))
    assert "objective 'odd' must return an Estimate, got float" in outcome.message


def test_a_stream_is_fed_while_it_runs_and_gives_the_same_trials(make: Make) -> None:
    """Never more than five are open; each trial that was dealt with lets one more begin."""
    waiting, open_, most, found = asks()[::-1], 0, 0, []

    def more() -> list[Ask]:
        nonlocal open_, most
        started = [waiting.pop() for _ in range(min(5 - open_, len(waiting)))]
        open_ += len(started)
        most = max(most, open_)
        return started

    with make(FormulaWorkbench({0.5: "raise"}), OBJECTIVES) as evaluator:
        for trial in evaluator.stream(more):
            open_ -= 1
            found.append(trial)
        whole = by_number(evaluator.run(asks()))
    assert (open_, most, len(found)) == (0, 5, len(asks()))
    assert [(ask, outcome) for ask, outcome in by_number(iter(found)) if isinstance(outcome, Measured)] == [
        (ask, outcome) for ask, outcome in whole if isinstance(outcome, Measured)
    ]
    assert any(isinstance(trial.outcome, Failed) for trial in found)


def test_what_is_halted_finishes_what_is_in_flight_and_starts_nothing_more(make: Make) -> None:
    with make(FormulaWorkbench({}), OBJECTIVES) as evaluator:
        running = evaluator.run(asks())
        found = [next(running)]
        evaluator.halt()
        found += running
        assert list(evaluator.run(asks())) == []
    assert len({trial.key for trial in found}) == len(found)
    assert all(isinstance(trial.outcome, Measured) for trial in found)


@pytest.mark.parametrize(("mishap", "kind"), [("memory", "measured"), ("no memory", "out-of-memory")])
def test_out_of_memory_is_tried_once_more_in_smaller_batches(make: Make, mishap: str, kind: str) -> None:
    with make(FormulaWorkbench({0.5: mishap}), OBJECTIVES) as evaluator:
        found = by_number(evaluator.run(asks()))
    chosen = [outcome for ask, outcome in found if Point(ask.candidate).lengths[0] == 0.5]
    assert chosen
    assert {getattr(outcome, "kind", "measured") for outcome in chosen} == {kind}
    assert {getattr(outcome, "attempts", 2) for outcome in chosen} == {2}
    assert all(isinstance(outcome, Measured) for ask, outcome in found if Point(ask.candidate).lengths[0] != 0.5)


def test_an_error_of_the_study_comes_through(make: Make) -> None:
    everything = dict.fromkeys((level / 6 for level in range(1, 7)), "study")
    with make(FormulaWorkbench(everything), OBJECTIVES) as evaluator, pytest.raises(StudyError, match="study is wrong"):
        list(evaluator.run(asks()))


def _stamp(point: Point) -> Estimate:
    start = time.monotonic()
    time.sleep(0.02)
    return Estimate(time.monotonic(), None, 1, {"start": start, "stop": time.monotonic()})


def test_timed_objectives_are_measured_alone(make: Make) -> None:
    timed = Objective("timed", "s", "lower", _stamp, timing=Timing())  # type: ignore[arg-type]
    slow = Objective("slow", "s", "lower", _stamp)  # type: ignore[arg-type]
    with make(FormulaWorkbench({}), (slow, timed)) as evaluator:
        outcomes = [outcome.estimates for _, outcome in by_number(evaluator.run(asks()[:6]))]
    spans = [
        (each["timed"].beside["start"], each["timed"].beside["stop"], number) for number, each in enumerate(outcomes)
    ]
    others = [(each["slow"].beside["start"], each["slow"].beside["stop"]) for each in outcomes]
    for start, stop, number in spans:
        overlapping = [other for other in others if other[0] < stop and start < other[1]]
        assert not overlapping
        assert not [other for other in spans if other[2] != number and other[0] < stop and start < other[1]]


def test_a_worker_that_dies_once_costs_no_trial(local_ray: None, tmp_path: Path) -> None:
    with Ray(FormulaWorkbench({2 / 6: "die once"}, str(tmp_path)), OBJECTIVES, workers=2) as evaluator:
        found = by_number(evaluator.run(asks()))
    assert [ask for ask, _ in found] == asks()
    assert all(isinstance(outcome, Measured) for _, outcome in found)
    assert list(tmp_path.iterdir()), "no worker died, so nothing was shown"


def test_a_candidate_that_kills_every_worker_fails_and_the_others_are_measured(local_ray: None) -> None:
    chosen = [ask for ask in asks() if Point(ask.candidate).lengths != (0.5, 0.5, 0.5)][:8]
    killer = next(ask for ask in asks() if Point(ask.candidate).lengths[0] == 2 / 6)
    todo = [ask for ask in chosen if Point(ask.candidate).lengths[0] != 2 / 6] + [killer]
    with Ray(FormulaWorkbench({2 / 6: "die"}), OBJECTIVES, workers=2) as evaluator:
        found = {ask.key: outcome for ask, outcome in by_number(evaluator.run(todo))}
    assert isinstance(found[killer.key], Failed)
    assert found[killer.key].kind == "worker-died"
    assert found[killer.key].attempts == ATTEMPTS
    assert f"{ATTEMPTS} times" in found[killer.key].message
    assert all(isinstance(found[ask.key], Measured) for ask in todo if ask is not killer)


def test_a_worker_that_cannot_start_stops_the_study_with_its_own_error(local_ray: None) -> None:
    with pytest.raises(StudyError, match=r"a worker cannot start: .*weights.bin is not here"):
        Ray(FormulaWorkbench({}, broken=True), (QUALITY,), workers=1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nohost.invalid:6379", "a..b:80"])
def test_a_cluster_that_is_not_there_is_said_in_one_line(address: str) -> None:
    with pytest.raises(StudyError, match=rf"cannot reach the Ray cluster at {re.escape(address)}: \S.*") as caught:
        check_reachable(address)
    assert "\n" not in str(caught.value)
