"""Steady state: asks follow from the order of tells, whatever is killed, and nothing is measured twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchkit import NSGA2, Ask, Budget, Constraint, Front, Plateau, Pruned, Trial
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.trial import measure
from searchkit.records import Failed
from searchkit.search.budget import Account
from searchkit.search.generational import Trials
from searchkit.search.steady import replayed, search_steadily
from searchkit.storage.store import Store
from tests.analytic import COST, OBJECTIVES, SPACE, FormulaWorkbench, asks
from tests.search.test_generational import Memory

CONFIG = NSGA2(population=8, steady=True)


class Shuffled:
    """What is in flight completes in the order of a seeded chance; stops dead after some trials."""

    def __init__(
        self, seed: int, stops_after: int = 10**6, judge: Callable[[Trial], Trial] = lambda trial: trial
    ) -> None:
        self._chance, self._left, self._judge = np.random.default_rng(seed), stops_after, judge
        self._bench = FormulaWorkbench({}).build()
        self.most = 0
        self.measured: list[str] = []

    def stream(self, more: Callable[[], Sequence[Ask]]) -> Iterator[Trial]:
        running = list(more())
        while running:
            self.most = max(self.most, len(running))
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            ask = running.pop(int(self._chance.integers(len(running))))
            self.measured.append(ask.key)
            yield self._judge(measure(ask, self._bench, OBJECTIVES))  # type: ignore[arg-type]
            running += more()


def run(
    store: Trials,
    evaluations: int,
    evaluator: Any,
    in_flight: int = 5,
    halted: Callable[[], bool] = lambda: False,
    **more: Any,
) -> Account:
    account = Account(Budget(evaluations), OBJECTIVES, store.appended(), **more)
    engine = CONFIG.start(SPACE, OBJECTIVES, seed=3)
    search_steadily(engine, evaluator, store, account, population=8, in_flight=in_flight, halted=halted)
    return account


def told_anew(store: Trials, in_flight: int) -> None:
    """The law, spelled out: W asks, then a tell of one trial and one more ask, in the order of the store."""
    engine = CONFIG.start(SPACE, OBJECTIVES, seed=3)
    known = {ask.number: ask for ask in engine.ask(in_flight)}
    for trial in store.appended():
        assert known[trial.ask.number] == trial.ask
        engine.tell([trial])
        known |= {ask.number: ask for ask in engine.ask(1)}


@pytest.mark.parametrize("in_flight", [1, 2, 7, 12])
@pytest.mark.parametrize("seed", range(4))
def test_a_search_killed_at_random_asks_as_an_undisturbed_one_with_the_same_completion_order(
    seed: int, in_flight: int
) -> None:
    store, chance, measured = Memory(), np.random.default_rng(seed), list[str]()
    for attempt in range(100):
        evaluator = Shuffled(100 * seed + attempt, stops_after=int(chance.integers(0, 12)))
        try:
            run(store, 40, evaluator, in_flight)
        except KeyboardInterrupt:
            measured += evaluator.measured
            continue
        measured += evaluator.measured
        break
    assert attempt > 2
    assert len(store.kept) == len({trial.key for trial in store.kept}) == 40
    assert sorted(measured) == sorted(trial.key for trial in store.kept)  # nothing twice
    told_anew(store, in_flight)


def test_the_completion_order_decides_the_asks() -> None:
    def keys(in_flight: int, seed: int) -> set[str]:
        store = Memory()
        run(store, 30, Shuffled(seed), in_flight)
        return {trial.key for trial in store.kept}

    assert keys(6, 0) == keys(6, 0) != keys(6, 1)
    assert keys(1, 0) == keys(1, 1)


@pytest.mark.parametrize("in_flight", [1, 6])
def test_the_number_in_flight_and_the_budget_are_kept_exactly(in_flight: int) -> None:
    store, evaluator = Memory(), Shuffled(0)
    account = run(store, 30, evaluator, in_flight)
    assert evaluator.most == in_flight
    assert len(store.kept) == 30
    assert account.ended == "30 evaluations are made"


def test_a_larger_budget_continues_as_if_it_had_never_stopped() -> None:
    at_once = Memory()
    run(at_once, 40, Inline(FormulaWorkbench({}), OBJECTIVES), in_flight=1)
    store = Memory()
    for evaluations in (3, 17, 40):
        run(store, evaluations, Inline(FormulaWorkbench({}), OBJECTIVES), in_flight=1)
    assert [trial.ask for trial in store.kept] == [trial.ask for trial in at_once.kept]
    store = Memory()
    for evaluations in (3, 17, 40):
        run(store, evaluations, Shuffled(evaluations), in_flight=5)
    told_anew(store, 5)


def test_the_whole_space_is_evaluated_once_and_ends_the_search() -> None:
    store = Memory()
    account = run(store, 1000, Shuffled(0))
    assert {trial.key for trial in store.kept} == {ask.key for ask in asks()}
    assert len(store.kept) == len(asks())
    assert account.ended == "every candidate of the space is tried"
    assert run(store, 1000, Shuffled(1)).ended == "every candidate of the space is tried"


def test_an_interrupted_search_on_the_real_store_replays(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "journal.log"), "s", OBJECTIVES)
    with pytest.raises(KeyboardInterrupt):
        run(store, 30, Shuffled(0, stops_after=13))
    again = Store.open(str(tmp_path / "journal.log"), "s", OBJECTIVES)
    assert [trial.ask.number for trial in again.appended()] != [trial.ask.number for trial in again.trials()]
    run(again, 30, Shuffled(1))
    told_anew(again, 5)


def test_a_store_whose_trials_are_others_or_in_another_order_is_refused() -> None:
    store = Memory()
    run(store, 30, Shuffled(0))
    other = next(ask.candidate for ask in asks() if ask.key not in {trial.key for trial in store.kept})
    changed = list(store.kept)
    changed[9] = Trial(Ask(changed[9].ask.number, other), changed[9].outcome, 0.0)
    for trials in (changed, store.trials(), store.kept[10:]):
        with pytest.raises(StoreError, match=r"start a new run"):
            replayed(CONFIG.start(SPACE, OBJECTIVES, seed=3), 5, trials)
    with pytest.raises(StoreError, match=r"start a new run"):
        replayed(CONFIG.start(SPACE, OBJECTIVES, seed=3), 3, store.kept)


def test_failed_trials_are_told_and_never_become_parents() -> None:
    def some_fail(trial: Trial) -> Trial:
        return Trial(trial.ask, Failed("nan", "odd"), 0.0) if int(trial.key, 16) % 3 == 0 else trial

    store = Memory()
    run(store, 40, Shuffled(0, judge=some_fail))
    assert {trial.status for trial in store.kept} == {"measured", "failed"}
    told_anew(store, 5)


def test_where_everything_fails_the_search_stops_with_the_reason() -> None:
    store = Memory()
    with pytest.raises(StudyError, match=r"every candidate of the first generation failed.*nan: odd"):
        run(store, 40, Shuffled(0, judge=lambda trial: Trial(trial.ask, Failed("nan", "odd"), 0.0)))
    assert len(store.kept) == 8


def test_what_a_constraint_turns_down_does_not_count() -> None:
    store, evaluator = Memory(), Inline(FormulaWorkbench({}, constraints=(Constraint(COST, at_most=0.5),)), OBJECTIVES)
    run(store, 15, evaluator)
    assert sum(trial.is_evaluation for trial in store.kept) == 15
    assert any(isinstance(trial.outcome, Pruned) for trial in store.kept)
    told_anew(store, 5)
    nothing = Inline(FormulaWorkbench({}, constraints=(Constraint(COST, at_most=0.001),)), OBJECTIVES)
    with pytest.raises(StudyError, match="turn down almost everything"):
        run(Memory(), 15, nothing)


def test_an_interrupt_finishes_what_is_in_flight_and_stores_it() -> None:
    store, evaluator = Memory(), Shuffled(0)
    run(store, 40, evaluator, halted=lambda: len(store.kept) >= 10)
    assert len(store.kept) == 14  # the tenth leaves four in flight
    assert [trial.key for trial in store.kept] == evaluator.measured
    run(store, 40, Shuffled(1))
    told_anew(store, 5)


def test_a_plateau_that_was_reached_stays_reached() -> None:
    """What was in flight then may still raise the front; a restart does not go on for that."""
    budget = Budget(50, plateau=Plateau(8, gain=0.05))
    for seed in range(5):
        store = Memory()
        for attempt in range(2):
            account = Account(budget, OBJECTIVES, store.appended())
            before = len(store.kept)
            if account.ended is None:
                engine = CONFIG.start(SPACE, OBJECTIVES, seed=3)
                search_steadily(engine, Shuffled(seed), store, account, population=8, in_flight=6)  # type: ignore[arg-type]
            assert account.ended == "the hypervolume grew by less than 5 % over 8 evaluations"
            assert (len(store.kept) == before) == bool(attempt)
        assert 16 < len(store.kept) < 50


def test_the_front_of_an_exhausted_space_is_that_of_the_generational_search() -> None:
    from tests.search.test_generational import run as by_generation

    store, other = Memory(), Memory()
    run(store, 1000, Shuffled(0))
    by_generation(other, 1000)
    fronts = [{member.key for member in Front.of(one.kept, OBJECTIVES)} for one in (store, other)]
    assert fronts[0] == fronts[1]
