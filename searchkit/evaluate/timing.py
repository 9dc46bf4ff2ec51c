"""Ratios of run times, measured in interleaved rounds on machines that are shared, drift and stall.

Plain means of consecutive runs compare two moments of a machine. Here all sides take turns in random order (A B R B A
R ...), each side's time is divided by the reference's on the same input in the same round, a moment away, and medians
over the rounds leave out what hit one visit alone. Rounds go on until the ratios are known well enough or the time is
spent; rounds in which the machine was busy with something else do not count. Rounds keep their distance: a shared
machine favours one side for seconds at a time: consecutive rounds are correlated, and their intervals too narrow.

Axes: R rounds, S sides (side 0 is the reference), J inputs.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.checks import check
from searchkit._internal.processors import processor_time_of_others
from searchkit._internal.progress import counted, step
from searchkit.errors import StudyError

Floats = NDArray[np.float64]
Visit = Callable[[int, int], float]  # (side, input) -> seconds that one pass took

RESAMPLES: Final = 400
SLOW: Final = 1.5  # a round that takes so many times as long as the faster ones was disturbed
PAUSES: Final = (
    20  # times `min_round_interval_s` that a measurement waits in all: small models would wait for hundreds of rounds
)
LONGEST_PAUSE_S: Final = 3600.0
WARM_PASSES: Final = 4  # after which a pass of 10 ms takes no less time any more
LONG_S: Final = 0.1  # a pass that takes so long spends little of it on reading weights
BUSY: Final = 0.1  # share of the processors that others may use during a round


@dataclass(frozen=True)
class Protocol:
    """Stopping rule: rounds until every ratio's interval is narrower than `width` (its half, as a share of it), or
    `budget_s` seconds per side are spent on passes; at least `fewest`, at most `most`. A round begins
    `min_round_interval_s` seconds after the one before, or when that is over.
    """

    width: float = 0.02
    budget_s: float = 5.0
    min_round_interval_s: float = 1.0
    fewest: int = 10
    most: int = 200
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check("latency: width", "float", self.width)
        check("latency: budget_s", "float", self.budget_s)
        check("latency: min_round_interval_s", "float", self.min_round_interval_s)
        if not 0 < self.width < 1:
            raise StudyError(f"latency: width must be in (0, 1), got {self.width}")
        if not (0 < self.budget_s < math.inf):
            raise StudyError(f"latency: budget_s must be above 0, got {self.budget_s}")
        if not 0 <= self.min_round_interval_s <= LONGEST_PAUSE_S:
            raise StudyError(
                f"latency: min_round_interval_s must be in [0, {LONGEST_PAUSE_S:g}], got {self.min_round_interval_s}"
            )
        if not 3 <= self.fewest <= self.most:
            raise StudyError(f"latency: rounds must be at least 3, got {self.fewest=}, {self.most=}")


@dataclass(frozen=True)
class Ratio:
    """Ratio of a side's time to the reference's, summed over the inputs, with its interval."""

    value: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """Half-width of the interval, as a share of the value."""
        return (self.high - self.low) / 2 / self.value


@dataclass(frozen=True, eq=False)
class Timed:
    """Measured times: (R, S, J) seconds of the rounds that count; rejected: others; contended: too few were left
    without them, so that all of them count after all; spent_s: what the measurement took
    """

    times: Floats
    rejected: int
    contended: bool
    spent_s: float
    protocol: Protocol

    @cached_property
    def ratios(self) -> list[Ratio]:
        """Ratios of the sides 1 to S - 1."""
        return _ratios(self.times, self.protocol.confidence)

    @property
    def settled(self) -> bool:
        """Return whether every ratio's interval is as narrow as the protocol asks."""
        return all(ratio.width <= self.protocol.width for ratio in self.ratios)

    @cached_property
    def typical(self) -> Floats:
        """(S,) seconds of a pass: the median over the rounds, averaged over the inputs."""
        typical: Floats = np.median(self.times, 0).mean(1)
        return typical

    @cached_property
    def by_input(self) -> Floats:
        """(S, J) seconds of a pass: the reference's median, times the median of the paired ratios."""
        logs = np.log(self.times) - np.log(self.times[:, :1])
        times: Floats = np.exp(np.median(logs, 0)) * np.median(self.times[:, 0], 0)
        return times

    def quantile(self, side: int, share: float) -> float:
        """Quantile over all passes of a side, in seconds."""
        return float(np.quantile(self.times[:, side], share))


def in_turns(
    visit: Visit,
    sides: int,
    inputs: int,
    protocol: Protocol = Protocol(),
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[float], object] = time.sleep,
    others: Callable[[], float | None] | None = None,
) -> Timed:
    """Time `sides` on `inputs` by the protocol; every side runs every input once before the first round.

    clock, wait: for the budget and between rounds; others: seconds of processor time that other processes have used so
    far, None where nobody knows; the share of it that a round may have is `BUSY` of all processors.
    """
    rng, others = np.random.default_rng(seed), others or processor_time_of_others
    for side in range(sides):
        for number in range(inputs):
            step(f"warming up {counted(sides - 1, 'candidate')} to be timed")
            visit(side, number)
    begun, rounds, busy = clock(), list[Floats](), list[bool]()
    timed_sides = counted(sides - 1, "candidate")
    look, passing, allowed_s = protocol.fewest, 0.0, protocol.budget_s * sides
    while True:
        start, used = clock(), others()
        times = np.empty((sides, inputs))
        for number in rng.permutation(inputs):
            for side in rng.permutation(sides):
                step(f"timing {timed_sides}: round {len(rounds) + 1}, {passing:.0f} of {allowed_s:.0f} s")
                times[side, number] = visit(int(side), int(number))
        took = clock() - start
        rounds.append(times)
        busy.append(_was_busy(used, others(), took))
        passing += took
        waited = clock() - begun - passing
        spent = passing >= allowed_s or waited >= PAUSES * protocol.min_round_interval_s > 0
        over = len(rounds) >= protocol.most or (len(rounds) >= protocol.fewest and spent)
        if len(rounds) >= look or over:
            timed = _counted(np.array(rounds), np.array(busy), clock() - begun, protocol)
            if over or (timed.settled and not timed.contended):
                return timed
            look = math.ceil(look * 1.3)  # every look is a chance to stop by luck: few keep the intervals honest
        wait(max(0.0, protocol.min_round_interval_s - took))


def steady(
    visit: Visit,
    untimed: Callable[[int, int], object],
    weights: Callable[[int], Hashable],
    clock: Callable[[], float] = time.perf_counter,
) -> Visit:
    """`visit` as in a process that serves one model over and over, whose weights lie in the caches.

    A side that follows one with other weights finds them gone, which costs a short pass a third of its time: so it
    first makes a few passes that are not timed. weights: identity of a side's.
    """
    latest: list[Hashable] = []
    took: dict[int, float] = {}

    def visited(side: int, number: int) -> float:
        if latest != [weights(side)]:
            latest[:] = [weights(side)]
            for _ in range(WARM_PASSES):
                if took.get(side, 0.0) >= LONG_S:
                    break
                begun = clock()
                untimed(side, number)
                took[side] = clock() - begun
        took[side] = visit(side, number)
        return took[side]

    return visited


def _was_busy(before: float | None, after: float | None, took: float) -> bool:
    if before is None or after is None or took <= 0:
        return False
    tick = 2 / os.sysconf("SC_CLK_TCK")  # counters move in ticks
    return after - before - tick > BUSY * took * (os.cpu_count() or 1)


def _counted(rounds: Floats, busy: NDArray[np.bool_], spent: float, protocol: Protocol) -> Timed:
    """Select the rounds that count, by a round's time for all sides together, so that no side is favoured."""
    whole = rounds.sum((1, 2))
    counts = ~busy & (whole <= SLOW * np.quantile(whole, 0.25))
    contended = counts.sum() < protocol.fewest
    times = rounds if contended else rounds[counts]
    return Timed(times, int((~counts).sum()), bool(contended), spent, protocol)


def _ratios(times: Floats, confidence: float) -> list[Ratio]:
    """Ratio of sums over inputs: per input the median of the paired ratios, weighted with the reference's time.

    The interval is the bootstrap's over rounds, with percentiles further out as Student's t is for so few of them
    (Hesterberg 2015, "What teachers should know about the bootstrap", sec. 4.3).
    """
    from scipy.stats import norm, t

    n = len(times)
    logs = np.log(times[:, 1:]) - np.log(times[:, :1])  # (R, S - 1, J)
    weights = np.median(times[:, 0], 0)
    weights = weights / weights.sum()  # (J,)
    tail = norm.cdf(-math.sqrt(n / (n - 1)) * t.ppf((1 + confidence) / 2, n - 1))
    draws = np.random.default_rng(0).integers(0, n, (RESAMPLES, n))
    ratios = []
    for side in range(logs.shape[1]):
        own = logs[:, side]  # (R, J)
        resampled = np.exp(np.median(own[draws], 1)) @ weights  # (RESAMPLES,)
        value = float(np.exp(np.median(own, 0)) @ weights)
        low, high = np.quantile(resampled, [tail, 1 - tail]).tolist()
        ratios.append(Ratio(value, min(low, value), max(high, value)))
    return ratios
