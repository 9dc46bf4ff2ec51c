"""The loop: budget, replay, failures, and the front against brute force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchkit import NSGA2, Ask, Budget, Constraint, Front, Objective, Pruned, Trial
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.racing import RaceState
from searchkit.evaluate.trial import measure, measure_together
from searchkit.front import losses, nondominated
from searchkit.objective import Timing
from searchkit.records import Estimate
from searchkit.search.budget import Account
from searchkit.search.generational import Trials, search
from searchkit.space import Lengths, Space
from searchkit.storage.store import Store
from tests.analytic import COST, OBJECTIVES, QUALITY, SPACE, FormulaBench, FormulaWorkbench, asks


class Memory:
    """A store without a disk."""

    def __init__(self, trials: Sequence[Trial] = ()) -> None:
        self.kept = list(trials)

    def append(self, trial: Trial) -> None:
        self.kept.append(trial)

    def trials(self) -> list[Trial]:
        return sorted(self.kept, key=lambda trial: trial.ask.number)

    def appended(self) -> list[Trial]:
        return list(self.kept)


class Stopping:
    """An inline evaluator that is interrupted after some asks, and counts what it measured."""

    def __init__(self, after: int) -> None:
        self._bench, self._left, self.measured = FormulaWorkbench({}).build(), after, 0

    def run(self, todo: Sequence[Ask], race: RaceState | None = None) -> Iterator[Trial]:
        for ask in todo:
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            self.measured += 1
            yield measure(ask, self._bench, OBJECTIVES)  # type: ignore[arg-type]


def account(store: Trials, budget: Budget, max_failures: float = 1.0, **more: Any) -> Account:
    return Account(budget, OBJECTIVES, store.trials(), generation=8, max_failures=max_failures, **more)


def run(store: Trials, evaluations: int, evaluator: object = None, max_failures: float = 1.0) -> dict[str, Trial]:
    return search(
        NSGA2(population=8).start(SPACE, OBJECTIVES, seed=3),
        evaluator or Inline(FormulaWorkbench({}), OBJECTIVES),  # type: ignore[arg-type]
        store,
        account(store, Budget(evaluations), max_failures),
        population=8,
    )


def comparable(trials: Sequence[Trial]) -> list[object]:
    return [(trial.ask, trial.outcome) for trial in sorted(trials, key=lambda trial: trial.ask.number)]


def test_the_budget_is_kept_to_the_evaluation() -> None:
    for evaluations in (1, 8, 21):
        store = Memory()
        assert len(run(store, evaluations)) == evaluations == len(store.kept)


def test_a_space_smaller_than_the_budget_is_evaluated_whole_and_ends_the_search() -> None:
    done = run(Memory(), evaluations=1000)
    assert set(done) == {ask.key for ask in asks()}


def test_the_front_of_an_exhausted_space_equals_brute_force() -> None:
    bench = FormulaWorkbench({}).build()
    every = [measure(ask, bench, OBJECTIVES) for ask in asks()]  # type: ignore[arg-type]
    table = losses([trial.outcome.estimates for trial in every], OBJECTIVES)  # type: ignore[union-attr]
    brute = [
        trial.key
        for trial, mine in zip(every, table, strict=True)
        if not any((other <= mine).all() and (other < mine).any() for other in table)
    ]
    front = Front.of(list(run(Memory(), 1000).values()), OBJECTIVES)
    assert sorted(member.key for member in front.members) == sorted(brute)
    assert nondominated(np.asarray(table)).sum() == len(brute)


@pytest.mark.parametrize("after", [0, 1, 7, 8, 9, 20])
def test_an_interrupted_search_continues_and_measures_nothing_twice(after: int) -> None:
    undisturbed = Memory()
    run(undisturbed, 30)
    store, first, second = Memory(), Stopping(after), Stopping(1000)
    with pytest.raises(KeyboardInterrupt):
        run(store, 30, first)
    run(store, 30, second)
    assert comparable(store.kept) == comparable(undisturbed.kept)
    assert first.measured + second.measured == 30


def test_a_larger_budget_continues_as_if_it_had_been_given_at_once(tmp_path: Path) -> None:
    at_once = Memory()
    run(at_once, 30)
    for steps in ([5, 30], [8, 13, 30], [29, 30]):
        store = Memory()
        for evaluations in steps:
            run(store, evaluations)
        assert comparable(store.kept) == comparable(at_once.kept)


def test_a_stored_ask_that_the_engine_does_not_repeat_stops_the_search() -> None:
    store = Memory()
    run(store, 16)
    other = next(ask.candidate for ask in asks() if ask.key not in {trial.key for trial in store.kept})
    place = next(place for place, trial in enumerate(store.kept) if trial.ask.number == 3)
    store.kept[place] = Trial(Ask(3, other), store.kept[place].outcome, 0.0)
    with pytest.raises(StoreError, match=r"ask 3 was .* and is now"):
        run(store, 30)


def test_failures_are_outcomes_and_the_search_goes_on() -> None:
    evaluator = Inline(FormulaWorkbench({0.5: "raise"}), OBJECTIVES)
    done = run(Memory(), 40, evaluator)
    failed = [trial for trial in done.values() if trial.status == "failed"]
    assert len(done) == 40
    assert failed
    assert all(trial.ask.candidate["lengths"][0] == 0.5 for trial in failed)  # type: ignore[index]
    assert failed[0].outcome.kind == "exception"  # type: ignore[union-attr]
    assert "ZeroDivisionError: a mishap" in failed[0].outcome.message  # type: ignore[union-attr]
    assert "formula.py" in failed[0].outcome.trace  # type: ignore[union-attr]


def test_a_first_generation_in_which_everything_fails_stops_with_the_reason() -> None:
    everything = dict.fromkeys((level / 6 for level in range(1, 7)), "raise")
    with pytest.raises(StudyError, match=r"every candidate of the first generation failed.*a mishap"):
        run(Memory(), 40, Inline(FormulaWorkbench(everything), OBJECTIVES))


def test_an_error_of_the_study_stops_the_search_at_once() -> None:
    everything = dict.fromkeys((level / 6 for level in range(1, 7)), "study")
    store = Memory()
    with pytest.raises(StudyError, match="the study is wrong"):
        run(store, 40, Inline(FormulaWorkbench(everything), OBJECTIVES))
    assert not store.kept


def test_the_loop_works_on_the_real_store(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"), "s", OBJECTIVES)
    run(store, 20)
    memory = Memory()
    run(memory, 20)
    assert comparable(store.trials()) == comparable(memory.kept)


def limited(*constraints: Constraint) -> Inline:
    return Inline(FormulaWorkbench({}, constraints=constraints), OBJECTIVES)


def test_what_a_constraint_turns_down_is_stored_and_costs_the_budget_nothing() -> None:
    store = Memory()
    done = run(store, 20, limited(Constraint(COST, at_most=0.5)))
    measured = [trial for trial in done.values() if trial.status == "measured"]
    turned_down = [trial for trial in done.values() if trial.status == "pruned"]
    assert len(measured) == 20
    assert turned_down
    assert len(store.kept) == len(done)
    cost = {trial.key: sum(trial.ask.candidate["lengths"]) / 3 for trial in done.values()}  # type: ignore[arg-type]
    assert all(cost[trial.key] <= 0.5 for trial in measured)
    assert all(cost[trial.key] > 0.5 and trial.outcome.examples == 0 for trial in turned_down)  # type: ignore[union-attr]
    assert "at most 0.5 is allowed" in turned_down[0].outcome.why  # type: ignore[union-attr]


def test_the_front_under_a_constraint_is_that_of_what_it_allows() -> None:
    done = run(Memory(), 1000, limited(Constraint(COST, at_most=0.6)))
    free = [trial for trial in run(Memory(), 1000).values() if trial.outcome.estimates["cost"].value <= 0.6]  # type: ignore[union-attr]
    assert Front.of(list(done.values()), OBJECTIVES).members
    assert [one.key for one in Front.of(list(done.values()), OBJECTIVES)] == [
        one.key for one in Front.of(free, OBJECTIVES)
    ]


def test_a_limit_on_what_only_the_model_can_tell_counts_as_an_evaluation() -> None:
    done = run(Memory(), 30, limited(Constraint(QUALITY, at_least=0.7)))
    pruned = [trial for trial in done.values() if trial.status == "pruned"]
    assert len(done) == 30
    assert pruned
    assert all(trial.outcome.examples == 100 for trial in pruned)  # type: ignore[union-attr]
    measured = [trial.outcome.estimates["quality"].value for trial in done.values() if trial.status == "measured"]  # type: ignore[union-attr]
    assert min(measured) >= 0.7


def test_a_constraint_on_something_that_is_not_searched_is_measured_for_it() -> None:
    depth = Objective("depth", "", "lower", lambda point: replace(COST.measure(point), value=point.lengths[2]))  # type: ignore[attr-defined]
    done = run(Memory(), 30, limited(Constraint(depth, at_most=0.5)))
    assert {trial.status for trial in done.values()} == {"measured", "pruned"}
    for trial in done.values():
        assert (trial.ask.candidate["lengths"][2] <= 0.5) == (trial.status == "measured")  # type: ignore[index]


def test_an_interrupted_search_under_a_constraint_continues_as_if_nothing_had_happened() -> None:
    undisturbed, store = Memory(), Memory()
    run(undisturbed, 20, limited(Constraint(COST, at_most=0.5)))
    for evaluations in (3, 9, 20):
        run(store, evaluations, limited(Constraint(COST, at_most=0.5)))
    assert comparable(store.kept) == comparable(undisturbed.kept)


def test_constraints_that_allow_nothing_stop_the_search_with_the_reason() -> None:
    for space in (SPACE, Space(Lengths(levels=64)).bound(3)):
        engine = NSGA2(population=8).start(space, OBJECTIVES, seed=3)
        with pytest.raises(StudyError, match=r"turn down almost everything.*at most 0\.001 is allowed"):
            search(
                engine, limited(Constraint(COST, at_most=0.001)), Memory(), account(Memory(), Budget(10)), population=8
            )


def test_the_reason_given_is_that_of_a_candidate_that_was_turned_down() -> None:
    """Not of one that was measured and then left out, or that lost a race."""
    both = limited(Constraint(QUALITY, at_least=0.99), Constraint(COST, at_most=0.001))
    engine = NSGA2(population=8).start(Space(Lengths(levels=64)).bound(3), OBJECTIVES, seed=3)
    evaluated = Trial(Ask(10**6, asks()[0].candidate), Pruned("lost a race", 50), 0.0)
    with pytest.raises(StudyError, match=r"the first: cost is .* at most 0\.001"):
        search(engine, both, Memory([evaluated]), account(Memory([evaluated]), Budget(10)), population=8)


def test_a_limit_on_a_timed_objective_holds_where_it_is_timed_in_turns() -> None:
    def together(subjects: Any) -> list[Estimate]:
        return [COST.measure(subject) for subject in subjects]

    timed = Objective("timed", "ms", "lower", COST.measure, timing=Timing(together=together))
    bench = replace(FormulaBench({}), constraints=(Constraint(timed, at_most=0.5),))
    trials = list(measure_together(asks(), bench, [QUALITY, timed]))
    assert {trial.status for trial in trials} == {"measured", "pruned"}
    for trial in trials:
        value = COST.measure(bench.subject(trial.ask.candidate)).value
        assert (trial.status == "pruned") == (value > 0.5)


def test_a_constraint_has_a_limit_that_something_can_meet() -> None:
    timed = Objective("latency", "ms", "lower", COST.measure, timing=Timing())
    for arguments, message in (
        ({"objective": COST}, "needs at_most or at_least"),
        ({"objective": COST, "at_most": float("nan")}, "must be a finite number"),
        ({"objective": COST, "at_most": 0.2, "at_least": 0.3}, "allows nothing"),
        ({"objective": timed, "within": 3.0}, "is timed: give at_most"),
        ({"objective": COST, "within": -0.1}, "must not be negative"),
        ({"objective": COST, "within": float("inf")}, "must be a finite number"),
        ({"objective": COST, "within": 0.1, "at_most": 0.3}, "takes within alone"),
        ({"objective": COST, "within": 0.1, "at_least": 0.3}, "takes within alone"),
    ):
        with pytest.raises(StudyError, match=message):
            Constraint(**arguments)  # type: ignore[arg-type]


def test_within_follows_the_direction_of_its_objective_and_its_limit_is_allowed() -> None:
    quality, cost = Constraint(QUALITY, within=0.1).against(0.9), Constraint(COST, within=0.1).against(0.2)
    assert (quality.at_most, cost.at_least) == (None, None)
    for value, allowed in ((0.95, True), (0.8, True), (0.9 - 0.1, True), (0.799, False)):
        assert (quality.broken_by(value) is None) == allowed
    for value, allowed in ((0.1, True), (0.3, True), (0.2 + 0.1, True), (0.301, False)):
        assert (cost.broken_by(value) is None) == allowed
    assert Constraint(COST, at_most=0.5).against(0.2) == Constraint(COST, at_most=0.5)
    assert quality.broken_by(0.7) == "quality is 0.7, at least 0.8 is required"


def test_within_says_nothing_before_the_unreduced_model_is_known() -> None:
    with pytest.raises(ValueError, match="is relative to the unreduced model"):
        Constraint(QUALITY, within=0.1).broken_by(0.5)
    with pytest.raises(StudyError, match="quality is nan for the unreduced model"):
        Constraint(QUALITY, within=0.1).against(float("nan"))


def test_a_constraint_is_described_as_before_unless_it_is_relative() -> None:
    assert Constraint(COST, at_most=0.5).describe().keys() == {"objective", "at_most", "at_least"}
    assert Constraint(COST, within=0.5).describe()["within"] == 0.5
