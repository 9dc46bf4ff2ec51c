"""The contract of engines: asks that follow from seed and outcomes, no candidate twice, failures survived."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from searchkit.engines.base import Engine, EngineConfig
from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Outcome, Pruned, Trial
from searchkit.space import Choice, Integer, Lengths, Space


def _unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("an engine never measures")


OBJECTIVES = [
    Objective("accuracy", "fraction", "higher", _unmeasurable),
    Objective("flops", "share", "lower", _unmeasurable),
]
SUM = Objective("sum", "1", "lower", _unmeasurable)
SMALL = Space(Lengths(6, layers=3))  # 56 candidates
LARGE = Space(Lengths(16, layers=12))
MIXED = Space(Lengths(4, layers=3), Integer("heads", 1, 4), Choice("fate", ("discard", "freeze")))
POPULATION = 10


def measured(candidate: Candidate) -> Measured:
    """Early layers matter most; all cost the same."""
    kept = np.array(candidate["lengths"], dtype=float)
    accuracy = float(1 - ((1 - kept) ** 2 / np.arange(1, len(kept) + 1)).sum() / len(kept))
    return Measured({"accuracy": Estimate(accuracy, None, 1), "flops": Estimate(float(kept.mean()), None, 1)})


def outcomes(asks: Sequence[Ask], judge: Callable[[Candidate], Outcome] = measured) -> list[Trial]:
    return [Trial(ask, judge(ask.candidate), seconds=0.0) for ask in asks]


def search(engine: Engine, generations: int, n: int = POPULATION) -> list[Trial]:
    history: list[Trial] = []
    for _ in range(generations):
        trials = outcomes(engine.ask(n))
        engine.tell(trials)
        history += trials
    return history


def asked(trials: Sequence[Trial]) -> list[Ask]:
    return [trial.ask for trial in trials]


class EngineContract:
    """Tests of `engine`, which makes generations of `POPULATION` candidates.

    ends: it may stop before a space is exhausted; lengths_only: it searches no other dimension; two_objectives: it
    needs so many
    """

    engine: EngineConfig
    ends = False
    lengths_only = False
    two_objectives = False

    @pytest.mark.parametrize("space", [SMALL, LARGE, MIXED], ids=["small", "large", "mixed"])
    def test_asks_are_numbered_from_zero_and_never_repeat(self, space: Space) -> None:
        if space is MIXED and self.lengths_only:
            pytest.skip("the engine searches lengths alone")
        asks = asked(search(self.engine.start(space, OBJECTIVES, seed=0), generations=5))
        wanted = len(asks) if self.ends and space is not LARGE else 5 * POPULATION
        assert [ask.number for ask in asks] == list(range(wanted))
        assert len({ask.key for ask in asks}) == len(asks)
        assert all(space.decode(space.encode(ask.candidate)) == ask.candidate for ask in asks)

    @pytest.mark.parametrize("space", [SMALL, LARGE, MIXED], ids=["small", "large", "mixed"])
    def test_the_same_seed_and_outcomes_give_the_same_asks(self, space: Space) -> None:
        if space is MIXED and self.lengths_only:
            pytest.skip("the engine searches lengths alone")
        first, second = (search(self.engine.start(space, OBJECTIVES, seed=3), generations=6) for _ in range(2))
        assert asked(first) == asked(second)

    def test_another_seed_gives_other_asks(self) -> None:
        first, second = (search(self.engine.start(LARGE, OBJECTIVES, seed=seed), generations=2) for seed in (0, 1))
        assert asked(first) != asked(second)

    @pytest.mark.parametrize("space", [SMALL, LARGE], ids=["small", "large"])
    def test_global_random_numbers_are_neither_used_nor_touched(self, space: Space) -> None:
        runs = []
        for seed in (1, 2):
            np.random.seed(seed)  # noqa: NPY002
            before = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
            runs.append(asked(search(self.engine.start(space, OBJECTIVES, seed=0), generations=6)))
            assert np.random.get_state()[1].tolist() == before  # type: ignore[index]  # noqa: NPY002
        assert runs[0] == runs[1]

    def test_outcomes_read_back_from_json_replay_the_search(self) -> None:
        first = self.engine.start(LARGE, OBJECTIVES, seed=0)
        stored = [json.dumps(trial.to_json()) for trial in search(first, generations=4)]
        second = self.engine.start(LARGE, OBJECTIVES, seed=0)
        trials = [Trial.from_json(json.loads(line)) for line in stored]
        for start in range(0, len(trials), POPULATION):
            generation = trials[start : start + POPULATION]
            assert second.ask(POPULATION) == asked(generation)
            second.tell(generation)
        assert second.ask(POPULATION) == first.ask(POPULATION)

    def test_telling_piece_by_piece_equals_telling_at_once(self) -> None:
        whole, pieces = (self.engine.start(LARGE, OBJECTIVES, seed=0) for _ in range(2))
        for _ in range(4):
            trials = outcomes(whole.ask(POPULATION))
            assert pieces.ask(POPULATION) == asked(trials)
            whole.tell(trials)
            for trial in trials:
                pieces.tell([trial])
        assert whole.ask(POPULATION) == pieces.ask(POPULATION)

    @pytest.mark.parametrize("n", [1, 3, 4])
    def test_a_smaller_ask_is_the_beginning_of_a_larger_one(self, n: int) -> None:
        engine, in_parts = (self.engine.start(LARGE, OBJECTIVES, seed=0) for _ in range(2))
        for first in (engine, in_parts):
            search(first, generations=2)
        whole = engine.ask(POPULATION)
        begun = in_parts.ask(n)
        if not self.engine.steady:  # a generation is made whole; a steady engine learns from every outcome
            in_parts.tell(outcomes(begun))
        assert begun + in_parts.ask(POPULATION - n) == whole

    def test_a_space_of_one_candidate_is_asked_once(self) -> None:
        engine = self.engine.start(Space(Lengths(1, layers=3)), OBJECTIVES, seed=0)
        assert [ask.candidate for ask in engine.ask(5)] == [Candidate.of(lengths=(1.0, 1.0, 1.0))]
        assert engine.ask(5) == []

    def test_a_candidate_told_twice_counts_once(self) -> None:
        once, twice = (self.engine.start(LARGE, OBJECTIVES, seed=0) for _ in range(2))
        for _ in range(3):
            trials = outcomes(once.ask(POPULATION))
            twice.ask(POPULATION)
            once.tell(trials)
            twice.tell(trials)
            twice.tell(trials[::-1])
        assert once.ask(POPULATION) == twice.ask(POPULATION)

    @pytest.mark.parametrize(
        "outcome", [Failed("nan", "loss is NaN"), Pruned("dominated", 10)], ids=["failed", "pruned"]
    )
    def test_a_generation_without_any_measurement_is_survived(self, outcome: Outcome) -> None:
        engine = self.engine.start(LARGE, OBJECTIVES, seed=0)
        keys = set()
        for judge in (lambda _: outcome, lambda _: outcome, measured, lambda _: outcome, measured):
            asks = engine.ask(POPULATION)
            keys |= {ask.key for ask in asks}
            engine.tell(outcomes(asks, judge))
        assert len(keys) == 5 * POPULATION

    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_few_measurements_in_a_generation_are_enough(self, keep: int) -> None:
        engine = self.engine.start(LARGE, OBJECTIVES, seed=0)
        for _ in range(5):
            asks = engine.ask(POPULATION)
            assert len(asks) == POPULATION
            failed = outcomes(asks[keep:], lambda _: Failed("timeout", "took too long"))
            engine.tell(outcomes(asks[:keep]) + failed)

    @pytest.mark.parametrize(
        "objectives", [OBJECTIVES[:1], [*OBJECTIVES, Objective("sum", "1", "lower", _unmeasurable)]]
    )
    def test_one_and_three_objectives_work_as_two_do(self, objectives: list[Objective]) -> None:
        def judge(candidate: Candidate) -> Measured:
            values = dict(measured(candidate).estimates)
            total = sum(estimate.value for estimate in values.values())
            return Measured({**values, "sum": Estimate(total, None, 1)})

        if len(objectives) < 2 and self.two_objectives:
            with pytest.raises(StudyError, match="a quality for a cost"):
                self.engine.start(LARGE, objectives, seed=0)
            return
        engine = self.engine.start(LARGE, objectives, seed=0)
        for _ in range(4):
            asks = engine.ask(POPULATION)
            assert len(asks) == POPULATION
            engine.tell(outcomes(asks, judge))

    def test_equal_measurements_everywhere_do_not_stall_an_engine(self) -> None:
        flat = Measured({"accuracy": Estimate(0.5, None, 1), "flops": Estimate(0.5, None, 1)})
        engine = self.engine.start(LARGE, OBJECTIVES, seed=0)
        for _ in range(4):
            asks = engine.ask(POPULATION)
            assert len(asks) == POPULATION
            engine.tell(outcomes(asks, lambda _: flat))

    def test_running_engines_of_one_configuration_share_nothing(self) -> None:
        alone = search(self.engine.start(LARGE, OBJECTIVES, seed=0), generations=3)
        one, other = self.engine.start(LARGE, OBJECTIVES, seed=0), self.engine.start(LARGE, OBJECTIVES, seed=9)
        beside: list[Trial] = []
        for _ in range(3):
            beside += search(one, generations=1)
            search(other, generations=1)
        assert asked(beside) == asked(alone)

    def test_an_unbound_space_is_refused_at_the_start(self) -> None:
        with pytest.raises(StudyError, match="call bound"):
            self.engine.start(Space(Lengths(4)), OBJECTIVES, seed=0).ask(1)

    def test_the_description_is_json(self) -> None:
        described = self.engine.describe()
        assert json.loads(json.dumps(described)) == described
        assert described["engine"]


class EndlessEngineContract(EngineContract):
    """Tests of an engine that asks, told or not, until no candidate of the space is left.

    learns: what it asks depends on outcomes
    """

    learns = False

    @pytest.mark.parametrize("n", [1, 2, 3, 8, 25])
    def test_every_ask_has_the_wanted_number_until_the_space_is_exhausted(self, n: int) -> None:
        engine = self.engine.start(SMALL, OBJECTIVES, seed=0)
        seen: list[str] = []
        while len(seen) < SMALL.size:
            asks = engine.ask(n)
            assert len(asks) == min(n, SMALL.size - len(seen))
            seen += [ask.key for ask in asks]
            engine.tell(outcomes(asks))
        assert set(seen) == {candidate.key for candidate in SMALL.all()}
        assert engine.ask(n) == []
        engine.tell([])
        assert engine.ask(n) == []

    def test_a_space_too_large_to_list_is_exhausted_all_the_same(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("searchkit.engines.base.ENUMERABLE", 10)
        trials = search(self.engine.start(SMALL, OBJECTIVES, seed=0), generations=6)
        assert len({trial.key for trial in trials}) == SMALL.size

    def test_the_first_generation_is_full_and_holds_both_corners(self) -> None:
        first = self.engine.start(SMALL, OBJECTIVES, seed=0).ask(POPULATION)
        lengths = {ask.candidate["lengths"] for ask in first}
        assert len(lengths) == POPULATION
        assert {(1.0,) * 3, (1 / 6,) * 3} <= lengths

    def test_asking_on_without_telling_gives_new_candidates(self) -> None:
        engine = self.engine.start(LARGE, OBJECTIVES, seed=0)
        keys = [ask.key for _ in range(4) for ask in engine.ask(7)]
        assert len(set(keys)) == 28

    def test_a_candidate_told_before_it_was_asked_is_never_asked(self) -> None:
        known = [candidate for i, candidate in enumerate(SMALL.all()) if i % 2]
        earlier = outcomes([Ask(1000 + i, candidate) for i, candidate in enumerate(known)])
        engine = self.engine.start(SMALL, OBJECTIVES, seed=0)
        begun = {ask.key for ask in engine.ask(1)}  # the rest of this generation is still waiting
        engine.tell(earlier)
        left = {ask.key for ask in engine.ask(SMALL.size)}
        assert begun | left | {trial.key for trial in earlier} == {candidate.key for candidate in SMALL.all()}
        assert left.isdisjoint(trial.key for trial in earlier)

    @pytest.mark.parametrize("in_flight", [1, 3, 8, 25])
    def test_asks_that_overlap_with_tells_follow_from_their_order(self, in_flight: int) -> None:
        """As a steady search does: some asks are open, outcomes come in any order, each is followed by one more ask."""
        runs = []
        for order in (1, 1, 2):
            engine, chance = self.engine.start(LARGE, OBJECTIVES, seed=0), np.random.default_rng(order)
            waiting = engine.ask(in_flight)
            keys = [ask.key for ask in waiting]
            for _ in range(60):
                ask = waiting.pop(int(chance.integers(len(waiting))))
                engine.tell(outcomes([ask]))
                waiting += engine.ask(1)
                keys.append(waiting[-1].key)
            assert len(set(keys)) == in_flight + 60
            assert len(waiting) == in_flight
            runs.append(keys)
        assert runs[0] == runs[1]
        if self.learns and self.engine.steady and in_flight > 1:
            assert runs[0] != runs[2]
