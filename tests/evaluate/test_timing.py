"""The timing protocol on simulated machines with a known truth: drift, spikes, a slow second half, a neighbour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from searchkit import StudyError
from searchkit._internal.processors import processor_time_of_others
from searchkit.evaluate.timing import WARM_PASSES, Protocol, Timed, in_turns, steady

TRUTH = (1.0, 1.0, 0.97, 0.94, 0.7)  # of the reference's time; the reference comes first
LENGTHS = np.array([0.004, 0.006, 0.010, 0.020])  # seconds of the reference on each input


class Machine:
    """A clock that passes by itself: `speed` is what a moment and chance make of a pass that should take a second."""

    def __init__(
        self, speed: Callable[[float, np.random.Generator], float], seed: int = 0, noise: float = 0.03
    ) -> None:
        self.now, self._speed, self._rng, self._noise = 0.0, speed, np.random.default_rng(seed), noise

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def visit(self, side: int, one: int) -> float:
        took = TRUTH[side] * float(LENGTHS[one]) * self._speed(self.now, self._rng)
        took *= float(np.exp(self._rng.normal(0, self._noise)))
        self.now += took
        return took


def calm(now: float, rng: np.random.Generator) -> float:
    return 1.0


def drift(now: float, rng: np.random.Generator) -> float:
    return 1.0 + now / 10  # after ten seconds everything takes twice as long


def spikes(now: float, rng: np.random.Generator) -> float:
    return 10.0 if rng.random() < 0.05 else 1.0


def slow_second_half(now: float, rng: np.random.Generator) -> float:
    return 1.0 if now < 2.0 else 2.0


def busy_neighbour(now: float, rng: np.random.Generator) -> float:
    """Half of every second somebody else computes, and everything takes longer, more or less."""
    return 1.0 if now % 1.0 < 0.5 else float(rng.uniform(1.2, 3.0))


MACHINES = {
    "calm": calm,
    "drift": drift,
    "spikes": spikes,
    "slow second half": slow_second_half,
    "neighbour": busy_neighbour,
}


def measured(speed: Callable[[float, np.random.Generator], float], seed: int, **changes: Any) -> Timed:
    machine = Machine(speed, seed)
    protocol = Protocol(**{"width": 0.01, "budget_s": 3.0, **changes})
    return in_turns(
        machine.visit,
        len(TRUTH),
        len(LENGTHS),
        protocol,
        seed=seed,
        clock=machine.clock,
        wait=machine.wait,
        others=lambda: None,
    )


def consecutive(speed: Callable[[float, np.random.Generator], float], seed: int, runs: int = 25) -> list[float]:
    """What others do: each side alone for a while, then the mean."""
    machine = Machine(speed, seed)
    means = [
        np.mean([sum(machine.visit(side, one) for one in range(len(LENGTHS))) for _ in range(runs)])
        for side in range(len(TRUTH))
    ]
    return [float(mean / means[0]) for mean in means[1:]]


@pytest.mark.parametrize("name", MACHINES)
def test_plans_that_differ_come_out_in_the_right_order(name: str) -> None:
    for seed in range(20):
        same, little, more, most = (ratio.value for ratio in measured(MACHINES[name], seed).ratios)
        assert most < more < little < same, (name, seed)
        assert same == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", ["drift", "spikes", "slow second half", "neighbour"])
def test_the_mean_of_consecutive_runs_gets_the_order_wrong(name: str) -> None:
    right = sum(
        sorted(ratios, reverse=True) == ratios for ratios in (consecutive(MACHINES[name], s) for s in range(20))
    )
    assert right < 15


@pytest.mark.parametrize("name", MACHINES)
def test_intervals_hold_the_truth_at_their_rate(name: str) -> None:
    held = total = 0
    for seed in range(60):
        for truth, ratio in zip(TRUTH[1:], measured(MACHINES[name], seed).ratios, strict=True):
            held += ratio.low <= truth <= ratio.high
            total += 1
    # a little leeway: 240 intervals of 60 runs, which share their reference
    assert held / total >= 0.92


def test_two_measurements_of_one_plan_agree_within_their_intervals() -> None:
    agree = 0
    for seed in range(40):
        one, other = (measured(busy_neighbour, seed + 1000 * time).ratios[2] for time in (0, 1))
        agree += one.low <= other.high and other.low <= one.high
    assert agree >= 38


def test_it_stops_when_ratios_are_known_and_says_so() -> None:
    coarse, fine = (measured(calm, 0, width=width, min_round_interval_s=0.0) for width in (0.05, 0.004))
    assert coarse.settled
    assert len(coarse.times) == 10
    assert len(fine.times) > 2 * len(coarse.times)
    assert max(ratio.width for ratio in fine.ratios) < min(ratio.width for ratio in coarse.ratios)


def test_what_small_models_would_wait_for_is_bounded() -> None:
    """Their passes are so short that the budget for passes alone would take hundreds of rounds."""
    machine = Machine(calm)
    simulated: dict[str, Any] = {"clock": machine.clock, "wait": machine.wait, "others": lambda: None}
    timed = in_turns(machine.visit, 2, 4, Protocol(width=1e-6, budget_s=100.0, fewest=8), **simulated)
    assert not timed.settled
    assert 20 <= timed.spent_s < 25


class Moody(Machine):
    """Favours the reference, or the others, by some 4 % for three seconds at a time, as shared machines do."""

    def __init__(self, seed: int) -> None:
        super().__init__(calm, seed, noise=0.1)
        self._mood, self._since = 0.0, 0.0

    def visit(self, side: int, one: int) -> float:
        stays = float(np.exp((self._since - self.now) / 3.0))
        self._mood = stays * self._mood + (1 - stays**2) ** 0.5 * float(self._rng.normal(0, 0.04))
        self._since = self.now
        took = super().visit(side, one)
        extra = took * (float(np.exp(self._mood)) - 1) if side == 0 else 0.0
        self.now += extra
        return took + extra


def held_in_moods(min_round_interval_s: float) -> float:
    """Of 80 measurements of the reference against itself the share whose intervals hold 1."""
    held = 0
    for seed in range(80):
        machine, protocol = Moody(seed), Protocol(budget_s=1.5, min_round_interval_s=min_round_interval_s, fewest=8)
        simulated: dict[str, Any] = {"clock": machine.clock, "wait": machine.wait, "others": lambda: None}
        (ratio,) = in_turns(machine.visit, 2, 4, protocol, **simulated).ratios
        held += ratio.low <= 1.0 <= ratio.high
    return held / 80


def test_rounds_keep_their_distance_so_that_slow_drift_of_the_machine_widens_the_interval() -> None:
    """Only so far: intervals know nothing of what lasts longer than the measurement."""
    assert held_in_moods(min_round_interval_s=0.0) < 0.82
    assert held_in_moods(min_round_interval_s=1.0) >= 0.9


def tiny(sides: int, seed: int) -> Timed:
    """As many plans as `sides`, all as fast as the reference, in passes of 1 to 5 ms on a machine with a neighbour."""
    machine = Machine(busy_neighbour, seed)

    def visit(side: int, one: int) -> float:
        return machine.visit(0, one) / 4  # and the rest goes to what is around a pass

    simulated: dict[str, Any] = {"clock": machine.clock, "wait": machine.wait, "others": lambda: None}
    return in_turns(visit, 1 + sides, len(LENGTHS), Protocol(budget_s=1.5, fewest=8), seed=seed, **simulated)


def test_one_large_group_waits_once_and_its_intervals_hold_as_often() -> None:
    held = {2: 0.0, 26: 0.0}
    spent = {2: 0.0, 26: 0.0}
    for sides in held:
        for seed in range(10):
            timed = tiny(sides, seed)
            held[sides] += sum(ratio.low <= 1.0 <= ratio.high for ratio in timed.ratios) / sides / 10
            spent[sides] += timed.spent_s / sides / 10
    assert held[26] >= 0.92
    assert spent[26] < spent[2] / 3


def test_it_stops_when_the_time_is_spent_and_says_so() -> None:
    timed = measured(spikes, 0, width=0.0001, budget_s=1.0)
    assert not timed.settled
    rounds = len(timed.times) + timed.rejected
    assert rounds * timed.times.sum((1, 2)).max() >= 1.0 * len(TRUTH)
    assert rounds - 1 <= timed.spent_s < rounds + 1  # they begin a second apart


def test_a_round_with_a_busy_neighbour_does_not_count() -> None:
    machine, seconds = Machine(calm), iter(range(10_000))
    used = [0.0]

    def others() -> float:
        if next(seconds) % 4 == 1:  # during every second round somebody uses all processors
            used[0] += 100.0
        return used[0]

    timed = in_turns(machine.visit, 2, 4, Protocol(width=0.02), clock=machine.clock, wait=machine.wait, others=others)
    assert timed.rejected == pytest.approx(len(timed.times), abs=1)
    assert not timed.contended


def test_a_machine_that_is_always_busy_is_reported_as_contended() -> None:
    machine, used = Machine(calm), [0.0]

    def others() -> float:
        used[0] += 100.0
        return used[0]

    timed = in_turns(machine.visit, 2, 4, Protocol(budget_s=1.0), clock=machine.clock, wait=machine.wait, others=others)
    assert timed.contended
    assert timed.rejected == len(timed.times)


def test_every_side_sees_every_input_once_a_round_in_changing_order() -> None:
    seen: list[tuple[int, int]] = []
    machine = Machine(calm)

    def visit(side: int, one: int) -> float:
        seen.append((side, one))
        return machine.visit(side, one)

    in_turns(visit, 3, 2, Protocol(width=0.9, fewest=4), clock=machine.clock, wait=machine.wait, others=lambda: None)
    rounds = [seen[start : start + 6] for start in range(6, len(seen), 6)]  # after the warm-up
    assert len(rounds) == 4
    assert all(sorted(one) == [(side, j) for side in range(3) for j in range(2)] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_this_process_is_not_one_of_the_others() -> None:
    before = processor_time_of_others()
    if before is None:
        pytest.skip("no /proc/stat on this machine")
    total = sum(number * number for number in range(2_000_000))
    after = processor_time_of_others()
    assert total
    assert after is not None
    assert after >= before - 0.05


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0.0}, {"budget_s": 0.0}, {"min_round_interval_s": -1.0}, {"fewest": 2}, {"fewest": 9, "most": 8}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="latency"):
        Protocol(**wrong)


def test_a_side_whose_weights_were_put_out_of_the_caches_warms_up_untimed() -> None:
    """Sides 0 and 1 share their weights; a long pass reads none that would matter."""
    took, calls, now = {0: 1e-3, 1: 1e-3, 2: 2e-3, 3: 1.0}, list[tuple[str, int]](), [0.0]

    def visit(side: int, number: int) -> float:
        calls.append(("timed", side))
        return took[side]

    def untimed(side: int, number: int) -> None:
        calls.append(("untimed", side))
        now[0] += took[side]

    steadily = steady(visit, untimed, [0, 0, 2, 3].__getitem__, clock=lambda: now[0])
    assert [steadily(side, 0) for side in (0, 1, 2, 0, 3, 3, 0, 3)] == [1e-3, 1e-3, 2e-3, 1e-3, 1.0, 1.0, 1e-3, 1.0]
    warmed = [sum(call == ("untimed", side) for call in calls) for side in range(4)]
    assert warmed == [3 * WARM_PASSES, 0, WARM_PASSES, 1]  # one of side 3, to see how long it takes
    assert [side for kind, side in calls if kind == "timed"] == [0, 1, 2, 0, 3, 3, 0, 3]
