"""The contract of evaluators: every ask comes back once, failures are outcomes, timed objectives run alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from searchkit.errors import StudyError
from searchkit.evaluate.base import Evaluator, Workbench
from searchkit.objective import Objective, Timing
from searchkit.records import Ask, Estimate, Failed, Measured, Trial
from searchkit.testing.formula import COST, OBJECTIVES, FormulaWorkbench, Point, asks


def by_number(trials: Iterator[Trial]) -> list[Any]:
    return [(trial.ask, trial.outcome) for trial in sorted(trials, key=lambda trial: trial.ask.number)]


def _not_a_number(point: Point) -> Estimate:
    return Estimate(float("nan") if point.lengths[0] < 0.5 else 1.0, None, 1)


def _no_estimate(point: Point) -> float:
    return 1.0


def _stamp(point: Point) -> Estimate:
    start = time.monotonic()
    time.sleep(0.02)
    return Estimate(time.monotonic(), None, 1, {"start": start, "stop": time.monotonic()})


def _group(points: Sequence[Point]) -> list[Estimate]:
    return [Estimate(float(len(points)), None, 1) for _ in points]


def _alone(point: Point) -> Estimate:
    return Estimate(1.0, None, 1)


def _many(point: Point) -> int:
    return 1000


def _few(point: Point) -> int:
    return 1


class EvaluatorContract:
    """Tests of the evaluator that `make` makes."""

    def make(self, workbench: Workbench, objectives: Sequence[Objective]) -> Evaluator:
        raise NotImplementedError("override: return an evaluator of this workbench and these objectives")

    def test_every_ask_comes_back_once_with_the_values_of_the_formula(self) -> None:
        with self.make(FormulaWorkbench({}), OBJECTIVES) as evaluator:
            trials = by_number(evaluator.run(asks()))
        assert [ask for ask, _ in trials] == asks()
        for ask, outcome in trials:
            point = Point(ask.candidate)
            assert outcome == Measured({one.name: one.measure(point) for one in OBJECTIVES})  # type: ignore[arg-type]

    def test_an_exception_is_an_outcome_with_kind_message_and_trace(self) -> None:
        with self.make(FormulaWorkbench({0.5: "raise"}), OBJECTIVES) as evaluator:
            for ask, outcome in by_number(evaluator.run(asks())):
                if Point(ask.candidate).lengths[0] == 0.5:
                    assert isinstance(outcome, Failed)
                    assert (outcome.kind, outcome.message) == ("exception", "ZeroDivisionError: a mishap")
                    assert "in subject" in outcome.trace
                else:
                    assert isinstance(outcome, Measured)

    def test_a_value_that_is_not_finite_is_a_failure_of_kind_nan(self) -> None:
        odd = Objective("odd", "", "lower", _not_a_number)  # type: ignore[arg-type]
        with self.make(FormulaWorkbench({}), (odd, COST)) as evaluator:
            trials = by_number(evaluator.run(asks()))
        kinds = {Point(ask.candidate).lengths[0] < 0.5: getattr(outcome, "kind", "measured") for ask, outcome in trials}
        assert kinds == {True: "nan", False: "measured"}

    def test_an_objective_that_returns_no_estimate_is_named(self) -> None:
        odd = Objective("odd", "", "lower", _no_estimate)  # type: ignore[arg-type]
        with self.make(FormulaWorkbench({}), (odd,)) as evaluator:
            (_, outcome), *_ = by_number(evaluator.run(asks()[:1]))
        assert "objective 'odd' must return an Estimate, got float" in outcome.message

    def test_a_stream_is_fed_while_it_runs_and_gives_the_same_trials(self) -> None:
        """Never more than five are open; each trial that was dealt with lets one more begin."""
        waiting, open_, most, trials = asks()[::-1], 0, 0, []

        def more() -> list[Ask]:
            nonlocal open_, most
            started = [waiting.pop() for _ in range(min(5 - open_, len(waiting)))]
            open_ += len(started)
            most = max(most, open_)
            return started

        with self.make(FormulaWorkbench({0.5: "raise"}), OBJECTIVES) as evaluator:
            for trial in evaluator.stream(more):
                open_ -= 1
                trials.append(trial)
            whole = by_number(evaluator.run(asks()))
        assert (open_, most, len(trials)) == (0, 5, len(asks()))
        assert [(ask, outcome) for ask, outcome in by_number(iter(trials)) if isinstance(outcome, Measured)] == [
            (ask, outcome) for ask, outcome in whole if isinstance(outcome, Measured)
        ]
        assert any(isinstance(trial.outcome, Failed) for trial in trials)

    def test_what_is_halted_finishes_what_is_in_flight_and_starts_nothing_more(self) -> None:
        with self.make(FormulaWorkbench({}), OBJECTIVES) as evaluator:
            running = evaluator.run(asks())
            trials = [next(running)]
            evaluator.halt()
            trials += running
            assert list(evaluator.run(asks())) == []
        assert len({trial.key for trial in trials}) == len(trials)
        assert all(isinstance(trial.outcome, Measured) for trial in trials)

    @pytest.mark.parametrize(("mishap", "kind"), [("memory", "measured"), ("no memory", "out-of-memory")])
    def test_out_of_memory_is_tried_once_more_in_smaller_batches(self, mishap: str, kind: str) -> None:
        with self.make(FormulaWorkbench({0.5: mishap}), OBJECTIVES) as evaluator:
            trials = by_number(evaluator.run(asks()))
        chosen = [outcome for ask, outcome in trials if Point(ask.candidate).lengths[0] == 0.5]
        assert chosen
        assert {getattr(outcome, "kind", "measured") for outcome in chosen} == {kind}
        assert {getattr(outcome, "attempts", 2) for outcome in chosen} == {2}
        assert all(isinstance(outcome, Measured) for ask, outcome in trials if Point(ask.candidate).lengths[0] != 0.5)

    def test_an_error_of_the_study_comes_through(self) -> None:
        everything = dict.fromkeys((level / 6 for level in range(1, 7)), "study")
        wrong = pytest.raises(StudyError, match="study is wrong")
        with self.make(FormulaWorkbench(everything), OBJECTIVES) as evaluator, wrong:
            list(evaluator.run(asks()))

    def test_timed_objectives_are_measured_alone(self) -> None:
        timed = Objective("timed", "s", "lower", _stamp, timing=Timing())  # type: ignore[arg-type]
        slow = Objective("slow", "s", "lower", _stamp)  # type: ignore[arg-type]
        with self.make(FormulaWorkbench({}), (slow, timed)) as evaluator:
            outcomes = [outcome.estimates for _, outcome in by_number(evaluator.run(asks()[:6]))]
        timings = [each["timed"].beside for each in outcomes]
        spans = [(each["start"], each["stop"], number) for number, each in enumerate(timings)]
        others = [(each["slow"].beside["start"], each["slow"].beside["stop"]) for each in outcomes]
        for start, stop, number in spans:
            overlapping = [other for other in others if other[0] < stop and start < other[1]]
            assert not overlapping
            assert not [other for other in spans if other[2] != number and other[0] < stop and start < other[1]]

    @pytest.mark.parametrize(("at_once", "whole"), [(_many, True), (_few, False)])
    def test_what_can_be_timed_at_once_is_timed_in_one_group(self, at_once: Any, whole: bool) -> None:
        timing = Timing(together=_group, at_once=at_once)  # type: ignore[arg-type]
        timed = Objective("timed", "ms", "lower", _alone, timing=timing)  # type: ignore[arg-type]
        with self.make(FormulaWorkbench({}), (COST, timed)) as evaluator:
            sizes = {outcome.estimates["timed"].value for _, outcome in by_number(evaluator.run(asks()[:30]))}
        assert (sizes == {30.0}) == whole
        assert whole or max(sizes) <= 12
