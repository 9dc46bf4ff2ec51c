"""Racing: the sequential test that stops candidates which a front member beats.

A candidate and an incumbent are compared on the same examples, shard by shard, in an order that is random with respect
to the outcomes. N examples make up the split; after n of them the differences d = candidate - incumbent are known. The
claim on trial is that over all N they sum to zero or more, in other words that the candidate is at least as good on the
whole split, which is what the search without racing would see. Evidence against the claim is the wealth of a gambler
who bets that the next difference falls below what the claim demands on average of those that are left (Waudby-Smith and
Ramdas, "Estimating means of bounded random variables by betting", 2023, sampling without replacement). If the claim is
true the wealth ever exceeds 1 / a with probability at most a (Ville), so it may be looked at after every shard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.checks import check_fields
from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Estimate, Pruned, Trial
from searchkit.stats import betting_interval, evidence

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Racing:
    """Stop a candidate as soon as a front member of no higher cost beats it, at this confidence.

    A candidate that belongs on the front of the whole search split is stopped with probability at most
    1 - `confidence`, whatever the number of looks. The split is cut at random into `shards`, or fewer where they would
    be small; after each the candidate is compared with the best front member that costs no more, on the front as it was
    when the engine was last told, never with others in flight.

    >>> from searchkit import Racing
    >>> Racing(confidence=0.999).confidence
    0.999
    """

    confidence: float = 0.95
    shards: int = 8

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0.5 <= self.confidence < 1:
            raise StudyError(f"racing: confidence must be in [0.5, 1), got {self.confidence=}")
        if not 2 <= self.shards <= 1000:
            raise StudyError(f"racing: shards must be from 2 to 1000, got {self.shards=}")


@dataclass(frozen=True, eq=False)
class Incumbent:
    """Measured trial of the front: the quality of each unit of the split, and the cost of each example."""

    key: str
    quality: Floats
    cost: Floats


@dataclass(frozen=True, eq=False)
class RaceState:
    """Front that new candidates are raced against, in two objectives."""

    quality: Objective
    cost: Objective
    error: float
    looks: int
    incumbents: tuple[Incumbent, ...] = ()

    @classmethod
    def of(cls, racing: Racing | None, objectives: Sequence[Objective]) -> RaceState | None:
        """Race of these objectives; None unless they are two, a quality and a cost, both known per example."""
        able = [objective for objective in objectives if objective.examples is not None]
        quality = [objective for objective in able if objective.better == "higher"]
        cost = [objective for objective in able if objective.better == "lower"]
        if racing is None or len(objectives) != 2 or not quality or not cost:
            return None
        return cls(quality[0], cost[0], 1 - racing.confidence, racing.shards - 1)

    def outcomes(self, subject: Any) -> dict[str, Floats]:
        """Per-example values of quality and cost, by name. StudyError where they break `Objective.examples`."""
        by_name = {}
        for objective, most in ((self.quality, 1.0), (self.cost, math.inf)):
            assert objective.examples is not None
            values = np.asarray(objective.examples(subject), dtype=np.float64)
            if values.ndim != 1 or not ((values >= 0) & (values <= most) & np.isfinite(values)).all():
                allowed = "qualities in [0, 1]" if objective is self.quality else "finite costs of 0 or more"
                raise StudyError(
                    f"objective {objective.name!r}: examples must be {allowed}, one for each example; "
                    "without `examples` it is not raced"
                )
            by_name[objective.name] = values
        return by_name

    def against(self, trials: Iterable[Trial]) -> RaceState:
        """Copy of the race against these trials, whose examples are known."""
        incumbents = (
            Incumbent(trial.key, trial.examples[self.quality.name], trial.examples[self.cost.name]) for trial in trials
        )
        return replace(self, incumbents=tuple(incumbents))


class SequentialTest:
    """Sequential test of one candidate, shard by shard; `costs` are those of all examples, where known beforehand.

    It has one incumbent, so that the error is spent once: the best in quality of those that cost no more. Where costs
    are known only as the examples come, the first shard chooses it, and bets begin with the second; then half of the
    error is left to the quality, and half to the cost, of which every look takes its share.
    """

    def __init__(self, race: RaceState, costs: Floats | None = None) -> None:
        self._race, self._exact = race, costs is not None
        self._share = race.error if self._exact else race.error / 2
        self._incumbent = None if costs is None else self._best(lambda member: float((costs - member.cost).sum()) >= 0)
        self._start = 0
        self._quality = self._cost = np.zeros(0)
        self._units = self._rows = np.zeros(0, dtype=np.int64)

    def stops(self, subject: Any, units: NDArray[np.int64], rows: NDArray[np.int64]) -> Pruned | None:
        """Verdict after one more shard: `units` and `rows` of the split that its qualities and costs belong to."""
        race = self._race
        if self._exact and self._incumbent is None:
            return None
        outcomes = race.outcomes(subject)
        self._quality = np.concatenate([self._quality, outcomes[race.quality.name]])
        self._units = np.concatenate([self._units, units])
        self._cost = np.concatenate([self._cost, outcomes[race.cost.name]])
        self._rows = np.concatenate([self._rows, rows])
        if self._incumbent is None:
            self._incumbent, self._start = self._best(self._costs_more), len(self._units)
            return None
        incumbent, behind = self._incumbent, self._incumbent.quality[self._units] - self._quality
        if evidence(-behind, len(incumbent.quality), 0.0, self._start) <= -math.log(self._share):
            return None
        if not self._exact and not self._costs_more(incumbent):
            return None
        low, high = betting_interval(behind, len(incumbent.quality), race.error, self._start)
        return Pruned(
            f"{race.quality.name} {self._quality.mean():.3f}, behind {incumbent.key} by {behind.mean():.3f} "
            f"({low:.3f} to {high:.3f} at {100 * (1 - race.error):g} %), which costs no more",
            len(self._units),
            seen={race.quality.name: self._seen()},
        )

    def _seen(self) -> Estimate:
        n = len(self._quality)
        return Estimate(float(self._quality.mean()), float(self._quality.std()) / math.sqrt(n), n)

    def _best(self, cheaper: Callable[[Incumbent], bool]) -> Incumbent | None:
        able = (incumbent for incumbent in self._race.incumbents if cheaper(incumbent))
        return max(able, key=lambda incumbent: float(incumbent.quality.mean()), default=None)

    def _costs_more(self, incumbent: Incumbent) -> bool:
        """Return whether the candidate costs more than the incumbent, by the examples seen so far.

        Student's bound on the mean with the correction for a finite population: costs vary little from their pattern
        over lengths, and are exact at the end.
        """
        from scipy.special import stdtrit  # imported on use: it takes a tenth of a second

        excess, population = self._cost - incumbent.cost[self._rows], len(incumbent.cost)
        n = len(excess)
        if n < 2:
            return False
        quantile = stdtrit(n - 1, 1 - self._share / self._race.looks)
        margin = quantile * float(excess.std(ddof=1)) * math.sqrt((1 - n / population) / n)
        return bool(excess.mean() >= margin)
