"""What a front gained in time, in one sentence for each objective that was timed; from records alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from searchkit.front import losses_of
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.paired import Difference, between
from searchkit.report.results import Results, estimates, is_timed

POINT: Final = 0.01  # of a fraction, or share of another quality's value, that a member may lose


@dataclass(frozen=True)
class Gained:
    """Fastest member that loses at most one point on the report split, or None where all lose more.

    timed, quality: the objectives; own, whole: estimates of the member and of the unreduced model, by name
    """

    timed: Objective
    quality: Objective
    member: Trial | None
    own: Mapping[str, Estimate]
    whole: Mapping[str, Estimate]

    @property
    def speedup(self) -> tuple[float, float, float]:
        """Speed of the member over the unreduced model's, with its 95 % interval."""
        beside = self.own[self.timed.name].beside
        value, low, high = (beside.get(name, math.nan) for name in ("ratio", "ratio_low", "ratio_high"))
        return 1 / value, 1 / high, 1 / low

    @property
    def lost(self) -> Difference:
        """Quality lost against the unreduced model, in the objective's unit; negative where the member is better."""
        better, worse = (self.whole, self.own) if self.quality.better == "higher" else (self.own, self.whole)
        return between(better[self.quality.name], worse[self.quality.name])

    @property
    def is_faster(self) -> bool:
        """Return whether a member is faster beyond its interval."""
        return self.member is not None and self.speedup[1] > 1

    def to_json(self) -> dict[str, Any]:
        """JSON of what the sentence says; `speedup` is empty and `lost` None where no member is within a point."""
        timed, speedup = {**self.timed.describe(), "quality": self.quality.name}, {}
        if self.member is not None:
            speedup = dict(zip(("value", "low", "high"), self.speedup, strict=True))
        key, lost = (self.member.key, asdict(self.lost)) if self.member is not None else (None, None)
        return {**timed, "key": key, "speedup": speedup, "lost": lost, "is_faster": self.is_faster}

    @property
    def text(self) -> str:
        """One sentence: `... passes 1.52 (1.48 to 1.55) times as fast as unreduced, 0.4 (-0.2 to 1) points lost ...`"""
        where = self.timed.unit.removeprefix("ms ")
        where += "" if "Runtime" in where else " in PyTorch"
        point = "one point" if self.quality.unit == "fraction" else "one percent"
        if self.member is None:
            return f"No member is within {point} of the unreduced {self.quality.name}."
        value, low, high = self.speedup
        speed = f"{value:.2f} ({low:.2f} to {high:.2f}) times as fast as unreduced {where}"
        if not self.is_faster:
            near = f"within {point} of the unreduced {self.quality.name}"
            return f"No member {near} is surely faster; the best has passes {speed}."
        return f"The fastest member within {point} has passes {speed}, {self._lost}: {self.member.key}."

    @property
    def _lost(self) -> str:
        times, unit = (100, "points") if self.quality.unit == "fraction" else (1, self.quality.name)
        value, low, high = self.lost.value, self.lost.low, self.lost.high
        interval = "" if low is None or high is None else f" ({times * low:.2g} to {times * high:.2g})"
        return f"{times * value:.2g}{interval} {unit} lost on the report split"


def gained(results: Results) -> Iterator[Gained]:
    """The fastest member within a point for each objective that was timed on the report split."""
    quality = results.quality
    for timed in results.all_objectives:
        whole = estimates(results.unreduced, [quality])
        known = {
            trial.key: (trial, own)
            for trial in results.members
            if (own := estimates(results.report.get(trial.key), [quality, timed])) is not None
        }
        if whole is None or not known or not all(is_timed(own[timed.name]) for _, own in known.values()):
            continue
        limit = POINT * (1 if quality.unit == "fraction" else abs(whole[quality.name].value))
        near = [
            (trial, own) for trial, own in known.values() if _loss(quality, own) - _loss(quality, whole) <= limit + 1e-9
        ]
        trial, own = min(near, key=lambda pair: pair[1][timed.name].value, default=(None, {}))
        yield Gained(timed, quality, trial, own, whole)


def _loss(quality: Objective, values: Mapping[str, Estimate]) -> float:
    return float(losses_of(quality, values[quality.name].value))
