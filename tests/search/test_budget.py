"""Budgets and what ends a search: whichever comes first, judged from stored trials, and told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from searchkit import NSGA2, Ask, Budget, Candidate, Plateau, Surrogate, Trial
from searchkit.errors import StudyError
from searchkit.evaluate.inline import TOGETHER, Inline
from searchkit.evaluate.racing import RaceState
from searchkit.front import hypervolume_curve, losses, reference_point
from searchkit.objective import Objective
from searchkit.records import Estimate, Failed, Measured, Pruned
from searchkit.runs.status import status_lines
from searchkit.search.budget import HOUR_S, Account
from searchkit.search.failures import grouped
from searchkit.search.generational import search
from searchkit.search.steady import search_steadily
from tests.analytic import OBJECTIVES, SPACE, FormulaWorkbench
from tests.search.test_generational import Memory, Stopping, account, comparable

ONE_SECOND = 1 / HOUR_S


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"evaluations": 0}, r"evaluations must be a whole number of at least 1, got 0"),
        ({"evaluations": 2.5}, r"evaluations must be a whole number of at least 1, got 2\.5"),
        ({"evaluations": True}, r"evaluations must be a whole number"),
        ({"evaluations": 5, "hours": 0}, r"budget: hours must be more than 0, or None, got 0"),
        ({"evaluations": 5, "hours": -1.5}, r"hours must be more than 0, or None, got -1\.5"),
        ({"evaluations": 5, "hours": math.nan}, r"hours must be more than 0, or None, got nan"),
        ({"evaluations": 5, "worker_hours": math.inf}, r"worker_hours must be more than 0, or None, got inf"),
        ({"evaluations": 5, "worker_hours": "2"}, r"worker_hours must be more than 0, or None, got '2'"),
        (
            {"evaluations": 5, "plateau": 0.1},
            r"plateau is a Plateau\(evaluations=\.\.\., gain=\.\.\.\) or None, got 0\.1",
        ),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Budget(**arguments)


def test_a_plateau_that_makes_no_sense_is_refused() -> None:
    for arguments, message in (
        ({"evaluations": 0}, "plateau: evaluations must be a whole number of at least 1, got 0"),
        ({"gain": 0.0}, "plateau: gain is a share between 0 and 1, got 0.0"),
        ({"gain": math.nan}, "plateau: gain is a share"),
        ({"gain": 1}, "plateau: gain is a share"),
    ):
        with pytest.raises(StudyError, match=message):
            Plateau(**arguments)  # type: ignore[arg-type]


def test_a_budget_says_all_its_limits() -> None:
    assert str(Budget(600)) == "600 evaluations"
    assert str(Budget(600, 2, 3.5, Plateau())) == (
        "600 evaluations or 2 hours or 3.5 worker-hours or a plateau "
        "(the hypervolume grew by less than 0.1 % over 200 evaluations)"
    )


def drawn(count: int, dimensions: int, seed: int) -> list[Trial]:
    """Trials at random points that get better in the long run; some fail, some were turned down."""
    rng = np.random.default_rng(seed)
    names = ["a", "b", "c"][:dimensions]
    trials = []
    for number in range(count):
        point = rng.random(dimensions) + 2 / (1 + number / 20)
        chance = rng.random()
        estimates = {name: Estimate(float(x), None, 1) for name, x in zip(names, point, strict=True)}
        outcome = Failed("nan", "odd") if chance < 0.1 else Pruned("dear", 0) if chance < 0.2 else Measured(estimates)
        trials.append(Trial(Ask(number, Candidate.of(x=number)), outcome, 0.0))
    return trials


def plateau_by_definition(trials: Sequence[Trial], objectives: Sequence[Objective], plateau: Plateau) -> int | None:
    """After which trial the curve of the whole search, made at once, is flat for the first time."""
    counted = [(place, trial) for place, trial in enumerate(trials) if trial.is_evaluation]
    n, limit = plateau.evaluations, [1e9] * len(objectives)
    rows = [
        losses([trial.outcome.estimates], objectives)[0] if isinstance(trial.outcome, Measured) else np.array(limit)
        for _, trial in counted
    ]
    first = [row for row in rows[:n] if row[0] < 1e9]
    curve = hypervolume_curve(np.array(rows), reference_point(np.array(first)))
    flat = (place for place in range(n, len(rows)) if curve[place] - curve[place - n] < plateau.gain * curve[place - n])
    found = next(flat, None)
    return None if found is None else counted[found][0]


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_plateau_is_that_of_the_whole_curve(dimensions: int, seed: int) -> None:
    objectives = [Objective(name, "", "lower", print) for name in ["a", "b", "c"][:dimensions]]  # type: ignore[arg-type]
    trials, plateau = drawn(600, dimensions, seed), Plateau(30, gain=0.002)
    expected = plateau_by_definition(trials, objectives, plateau)
    assert expected is not None
    one_by_one = Account(Budget(10**6, plateau=plateau), objectives)
    for place, trial in enumerate(trials):
        assert one_by_one.ended is None
        one_by_one.add(trial)
        one_by_one.judge_plateau([trial])
        if place == expected:
            break
    assert one_by_one.ended == "the hypervolume grew by less than 0.2 % over 30 evaluations"
    assert Account(Budget(10**6, plateau=plateau), objectives, trials[: expected + 1]).ended
    assert Account(Budget(10**6, plateau=plateau), objectives, trials[:expected]).ended is None
    best = Measured({one.name: Estimate(-9.0, None, 1) for one in objectives})  # from what was in flight
    late = Trial(Ask(10**6, Candidate.of(x=-1)), best, 0.0)
    assert Account(Budget(10**6, plateau=plateau), objectives, [*trials[: expected + 1], late]).ended


def test_a_generation_that_is_not_whole_is_not_judged() -> None:
    """A kill leaves gaps: what came after one is told only when the generation is whole."""
    point = Measured({"a": Estimate(1.0, None, 1), "b": Estimate(1.0, None, 1)})
    same = [Trial(Ask(number, Candidate.of(x=number)), point, 0.0) for number in range(64)]
    objectives = [Objective(name, "", "lower", print) for name in "ab"]  # type: ignore[arg-type]
    budget = Budget(10**6, plateau=Plateau(8, gain=0.5))
    assert Account(budget, objectives, same, generation=8).ended
    assert Account(budget, objectives, same[:20], generation=8).ended
    assert Account(budget, objectives, same[:15], generation=8).ended is None
    assert Account(budget, objectives, [*same[:15], *same[16:]], generation=8).ended is None


def test_a_search_in_which_nothing_is_measured_has_no_plateau() -> None:
    failed = [Trial(Ask(n, Candidate.of(x=n)), Failed("nan", "odd"), 0.0) for n in range(100)]
    assert Account(Budget(10**6, plateau=Plateau(10, 0.5)), OBJECTIVES, failed).ended is None


def by_generation(store: Memory, budget: Budget, evaluator: Any = None, **more: Any) -> Account:
    spent = account(store, budget, **more)
    if spent.ended is None:
        engine = NSGA2(population=8).start(SPACE, OBJECTIVES, seed=3)
        search(engine, evaluator or Inline(FormulaWorkbench({}), OBJECTIVES), store, spent, population=8)
    return spent


def test_a_plateau_ends_the_search_after_a_generation_and_a_kill_does_not_change_that() -> None:
    budget = Budget(56, plateau=Plateau(16, gain=0.05))
    calm = Memory()
    assert by_generation(calm, budget).ended == "the hypervolume grew by less than 5 % over 16 evaluations"
    assert 24 <= len(calm.kept) < 56
    assert len(calm.kept) % 8 == 0
    for after in range(1, len(calm.kept)):
        store = Memory()
        with pytest.raises(KeyboardInterrupt):
            by_generation(store, budget, Stopping(after))
        by_generation(store, budget)
        assert comparable(store.kept) == comparable(calm.kept)
        assert by_generation(store, budget, Stopping(0)).ended  # nothing is measured


def test_a_plateau_can_be_given_later_and_taken_away() -> None:
    store, whole = Memory(), Memory()
    by_generation(store, Budget(56, plateau=Plateau(16, gain=0.05)))
    by_generation(store, Budget(56))
    by_generation(whole, Budget(56))
    assert comparable(store.kept) == comparable(whole.kept)


class Timed(Inline):
    """Each evaluation takes a second of worker's time; says how many groups were begun."""

    def run(self, asks: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        return (replace(trial, seconds=1.0) for trial in super().run(asks, race))


def test_worker_hours_end_the_search_after_what_is_in_flight() -> None:
    """In this process that is the group that was begun: the first of two halves of a generation of 16."""
    assert 8 <= TOGETHER < 16
    store, whole = Memory(), Memory()
    engine = NSGA2(population=16).start(SPACE, OBJECTIVES, seed=3)
    spent = Account(Budget(48, worker_hours=3 * ONE_SECOND), OBJECTIVES, generation=16)
    search(engine, Timed(FormulaWorkbench({}), OBJECTIVES), store, spent, population=16)
    assert len(store.kept) == 8
    assert spent.ended == f"{3 * ONE_SECOND:g} worker-hours are spent"
    assert Account(Budget(48, worker_hours=3 * ONE_SECOND), OBJECTIVES, store.kept, generation=16).ended
    for kept, steps in ((store, (1,)), (whole, (0,))):
        for _ in steps:
            engine = NSGA2(population=16).start(SPACE, OBJECTIVES, seed=3)
            larger = Account(Budget(48), OBJECTIVES, kept.trials(), generation=16)
            search(engine, Timed(FormulaWorkbench({}), OBJECTIVES), kept, larger, population=16)
    assert comparable(store.kept) == comparable(whole.kept)


def test_hours_are_those_of_the_clock() -> None:
    clock = iter(range(1000))
    spent = by_generation(Memory(), Budget(56, hours=10 * ONE_SECOND), seconds=lambda: float(next(clock)))
    assert spent.ended == f"{10 * ONE_SECOND:g} hours are spent"
    assert 0 < spent.evaluations < 20


def failing(kinds: dict[float, str], evaluations: int, max_failures: float) -> Account:
    store = Memory()
    return by_generation(
        store, Budget(evaluations), Inline(FormulaWorkbench(kinds), OBJECTIVES), max_failures=max_failures
    )


def test_too_many_failures_stop_the_search_and_say_what_failed() -> None:
    most = dict.fromkeys((1 / 6, 2 / 6, 3 / 6, 5 / 6, 1.0), "raise")
    with pytest.raises(
        StudyError,
        match=r"^(\d+) of 2\d evaluations failed, more than max_failures=0\.5 allows: \d+ x "
        r"exception: ZeroDivisionError: a mishap$",
    ):
        failing(most, 56, max_failures=0.5)
    assert failing(most, 56, max_failures=1.0).evaluations == 56
    assert failing(most, 19, max_failures=0.5).evaluations == 19  # too few to judge
    assert failing({0.5: "raise"}, 56, max_failures=0.5).evaluations == 56


def test_failures_are_counted_over_what_is_stored() -> None:
    failed = [Trial(Ask(n, Candidate.of(x=n)), Failed("nan", f"loss {n}"), 0.0) for n in range(15)]
    fine = [trial for trial in drawn(100, 2, 0) if isinstance(trial.outcome, Measured)]
    Account(Budget(99), OBJECTIVES, [*failed, *fine[:15]], max_failures=0.5).refuse_failures()
    with pytest.raises(StudyError, match=r"15 of 29 evaluations failed.*15 x nan: loss 0"):
        Account(Budget(99), OBJECTIVES, [*failed, *fine[:14]], max_failures=0.5).refuse_failures()


def test_failures_are_grouped_by_kind_and_message_whatever_the_numbers_in_it() -> None:
    outcomes = [
        Failed("exception", "RuntimeError: 20.5 MiB at 0x7fa0"),
        Failed("nan", "odd"),
        Failed("exception", "RuntimeError: 7 MiB at 0x11"),
        Failed("timeout", "RuntimeError: 7 MiB at 0x11"),
    ]
    trials = [Trial(Ask(n, Candidate.of(x=n)), outcome, 0.0) for n, outcome in enumerate(outcomes)]
    groups = grouped([*trials, *drawn(5, 2, seed=1)])
    assert [(group.kind, group.count) for group in groups][:1] == [("exception", 2)]
    assert groups[0].message == "RuntimeError: 20.5 MiB at 0x7fa0"
    assert groups[0].example.number == 0
    assert {(group.kind, group.message) for group in groups[1:]} == {
        ("nan", "odd"),
        ("timeout", "RuntimeError: 7 MiB at 0x11"),
    }


def test_the_status_tells_mode_progress_and_failures_with_an_example() -> None:
    record: dict[str, Any] = {"description": {"engine": {"population": 4}}, "budget": str(Budget(9))}
    trials = [replace(trial, seconds=360.0) for trial in drawn(10, 2, seed=1)]
    trials[7] = Trial(Ask(7, Candidate.of(x=7)), Failed("timeout", "took\ntoo long"), 360.0)
    missing = [trial for trial in trials if trial.ask.number != 9]
    lines = list(status_lines(record, missing, ended=None, in_flight=None, seconds=1800.0))
    assert lines[:3] == [
        "generation by generation: 2 done, of 4 candidates each",
        "until 9 evaluations",
        "0.50 hours, 0.90 worker-hours so far",
    ]
    assert '  1 x timeout: took too long; the first was ask 7, {"x": 7}' in lines
    record["description"]["engine"]["steady"] = True
    lines = list(status_lines(record, trials, ended="2 hours are spent", in_flight=6, seconds=0.0))
    assert lines[0] == "steady state, 6 candidates in flight: 10 are done"
    assert "ended: 2 hours are spent" in lines
    assert (
        next(status_lines(record, [], ended=None, in_flight=None, seconds=0.0))
        == "steady state, no candidates in flight: 0 are done"
    )


def test_a_search_ends_where_little_is_left_to_gain_and_goes_on_for_less() -> None:
    """The same budget again ends at the same place; a smaller share goes on from there."""
    store = Memory()
    counts = []
    for gain in (0.01, 0.01, 1e-5):
        engine = Surrogate(initial=4).start(SPACE, OBJECTIVES, seed=0)
        spent = Account(Budget(evaluations=SPACE.size, gain=gain), OBJECTIVES, store.trials())
        search(engine, Inline(FormulaWorkbench({}), OBJECTIVES), store, spent, population=4)
        counts.append(spent.evaluations)
        assert spent.ended == f"no candidate is expected to add {100 * gain:g} % to the hypervolume" or gain == 1e-5
    assert 4 < counts[0] == counts[1] < counts[2]


def test_a_gain_that_makes_no_sense_is_refused() -> None:
    for gain in (0.0, 1.0, math.nan, True, "much"):
        with pytest.raises(StudyError, match="budget: gain is a share between 0 and 1, or None"):
            Budget(evaluations=5, gain=gain)  # type: ignore[arg-type]
    assert str(Budget(evaluations=5, gain=0.001)) == (
        "5 evaluations or no candidate is expected to add 0.1 % to the hypervolume"
    )


def test_a_steady_search_that_ended_with_little_to_gain_stays_ended() -> None:
    store = Memory()
    counts = []
    for _ in range(3):
        engine = Surrogate(initial=4, steady=True).start(SPACE, OBJECTIVES, seed=0)
        spent = Account(Budget(evaluations=SPACE.size, gain=0.01), OBJECTIVES, store.appended())
        evaluator = Inline(FormulaWorkbench({}), OBJECTIVES)
        search_steadily(engine, evaluator, store, spent, population=4, in_flight=1)
        counts.append(spent.evaluations)
        assert spent.ended == "no candidate is expected to add 1 % to the hypervolume"
    assert 4 < counts[0] == counts[1] == counts[2] < SPACE.size
