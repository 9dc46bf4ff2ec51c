"""Comparison of the front with each family of baselines: quality at equal cost, by paired differences."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from searchkit.objective import Objective
from searchkit.records import Estimate
from searchkit.report.columns import in_words
from searchkit.report.paired import between
from searchkit.report.results import (
    UNREDUCED,
    Results,
    estimates,
    is_other_runtime,
    is_rival,
    is_timed,
    measured,
)

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Verdict:
    """Verdict on the front against one family of baselines.

    At each of the `points` the front sends the member that a user would choose at that cost: of those that cost no more
    on the report split, the best on the search split. The front is `better` where this member's quality is higher than
    the baseline's, `worse` where it is lower, beyond chance: the 95 % interval of their difference, on the same
    resamples of the report split, is above 0, or below. At `unpaired` points, for want of resamples, it is the combined
    standard error sqrt(a^2 + b^2) that the difference has to exceed. A baseline that is cheaper than the whole front is
    met by the cheapest member, which can only lose.

    The unreduced model cannot be beaten in quality at equal cost but by luck, so there the member must cost less, and
    not be worse.
    """

    points: int
    better: int
    worse: int
    unpaired: int = 0

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Verdict:
        signs = [outcome.sign for outcome in outcomes]
        return cls(len(signs), signs.count(1), signs.count(-1), sum(not outcome.paired for outcome in outcomes))

    @property
    def beaten(self) -> bool:
        """Return whether the front is better somewhere, and worse nowhere."""
        return self.better > 0 and self.worse == 0


def verdicts(results: Results) -> dict[str, Verdict]:
    """Verdicts by family of baselines that was measured; none where the study has no quality or no cost."""
    axes = quality_and_cost(results.objectives)
    if axes is None:
        return {}
    judge = Judge.of(results, *axes)
    by_family = {}
    for name, trials in results.baselines.items():
        met = judge.unreduced if name == UNREDUCED else judge.point
        outcomes = [] if is_rival(trials) else [met(point) for point in measured(trials, axes)]
        if outcomes:
            by_family[name] = Verdict.of(outcomes)
    return by_family


def sentences(results: Results) -> list[str]:
    """Sentences for each family, on the comparison, and if the search has seen texts of the report split."""
    by_family = verdicts(results)
    shared = results.duplicates.get("search/report", 0)
    warned = [f"The report split is not new to the search: {shared} of its texts are in both."] if shared else []
    of_rivals = rival_verdicts(results)
    every = [*by_family.values(), *(verdict for by_cost in of_rivals.values() for verdict in by_cost.values())]
    return [
        *(_sentence(name, verdict) for name, verdict in by_family.items()),
        *(_on_rival(name, by_cost, results) for name, by_cost in of_rivals.items()),
        *_measure_of(every),
        *warned,
    ]


def _measure_of(compared: Collection[Verdict]) -> list[str]:
    """Sentence that defines better and worse."""
    points, unpaired = sum(verdict.points for verdict in compared), sum(verdict.unpaired for verdict in compared)
    if not compared:
        return []
    paired = "the 95 % interval of the paired difference is above or below 0"
    combined = "the difference exceeds the combined standard error"
    if not unpaired:
        return [f"Better and worse: {paired}."]
    if unpaired == points:
        return [f"Better and worse: {combined}, since the resamples for paired intervals are missing."]
    return [f"Better and worse: {paired}; at {unpaired} of {points} points, which lack resamples, {combined}."]


def rival_verdicts(results: Results) -> dict[str, dict[str, Verdict]]:
    """Verdicts on each family of rivals by the name of the cost: the search's, and those of the front that are timed.

    At equal cost as for baselines, but where a rival is cheaper than the whole front, the front is `worse` unless even
    its cheapest member is better. The unreduced model in another runtime is compared in times alone.
    """
    quality, timed = results.quality, [item for item in results.measured_apart if item.better == "lower"]
    axes = quality_and_cost(results.objectives)
    judges = [Judge.of(results, quality, cost) for cost in [*(axes[1:] if axes else ()), *timed]]
    found: dict[str, dict[str, Verdict]] = {}
    for name, trials in results.baselines.items():
        for judge in judges if is_rival(trials) else ():
            points = measured(trials, [quality, judge.cost])
            same = is_other_runtime(trials)
            if same:  # which changes times alone
                points = [point for point in points if is_timed(point[judge.cost.name])]
            outcomes = [judge.rival(point, same_weights=same) for point in points]
            if outcomes and judge.members:
                found.setdefault(name, {})[judge.cost.name] = Verdict.of(outcomes)
    return found


def _on_rival(name: str, by_cost: Mapping[str, Verdict], results: Results) -> str:
    """Sentence on one family of rivals: `Rival small: it beats the front at equal macs and at equal latency.`"""
    if is_other_runtime(results.baselines[name]):
        known = {1: "a member of less {} is not worse", -1: "no member of less {} is as good"}
        signs = {in_words(cost): verdict.better - verdict.worse for cost, verdict in by_cost.items()}
        clauses = [known.get(sign, "nothing is of less {}").format(cost) for cost, sign in signs.items()]
        return f"{name.capitalize()}: {'; '.join(clauses)}."
    costs: dict[str, list[str]] = {}
    for cost, verdict in by_cost.items():
        better, worse = verdict.better, verdict.worse
        if verdict.points == 1:
            outcome = {1: "the front beats it", -1: "it beats the front", 0: "neither beats the other"}[better - worse]
        else:
            of = f"{better or 'none'} of {verdict.points} points, worse at {worse or 'none'}"
            outcome = f"the front is better at {of},"
        costs.setdefault(outcome, []).append(f"at equal {in_words(cost)}")
    clauses = [f"{outcome} {' and '.join(names)}" for outcome, names in costs.items()]
    return f"{name[0].upper()}{name[1:]}: {'; '.join(clauses)}."


def quality_and_cost(objectives: Sequence[Objective]) -> tuple[Objective, Objective] | None:
    """First objective that is better when higher and first that is better when lower; None without both."""
    firsts = {objective.better: objective for objective in reversed(objectives)}
    return (firsts["higher"], firsts["lower"]) if len(firsts) == 2 else None


def _sentence(name: str, verdict: Verdict) -> str:
    does = "beats" if verdict.beaten else "does not beat"
    if name == UNREDUCED:
        why = {1: "a cheaper candidate is not worse", -1: "what is cheaper is worse"}
        return f"The front {does} the unreduced model: {why.get(verdict.better - verdict.worse, 'nothing is cheaper')}."
    better, worse = verdict.better, verdict.worse or "none"
    return f"The front {does} {name}: better at {better or 'none'} of {verdict.points} points, worse at {worse}."


@dataclass(frozen=True)
class Outcome:
    """Outcome of a comparison: 1 (the front is better), 0 or -1, and whether it is by a paired difference, if any."""

    sign: int
    paired: bool = True


@dataclass(frozen=True)
class Judge:
    """Comparison of one point with the member of the front that a user would choose at its cost.

    members: estimates (search, report), of the quality on both splits and of the cost on the report split
    """

    quality: Objective
    cost: Objective
    members: Sequence[tuple[Estimates, Estimates]]

    @classmethod
    def of(cls, results: Results, quality: Objective, cost: Objective) -> Judge:
        """Judge of the members that were measured in these."""
        pairs = ((estimates(trial, [quality]), results.report.get(trial.key)) for trial in results.members)
        both = ((search, estimates(report, [quality, cost])) for search, report in pairs)
        return cls(
            quality,
            cost,
            [(search, report) for search, report in both if search is not None and report is not None],
        )

    def point(self, point: Estimates) -> Outcome:
        limit = self._cost(point)
        chosen = self._chosen([member for member in self.members if self._cost(member[1]) <= limit])
        if chosen is not None:
            return self._compared(chosen, point)
        cheapest = min((report for _, report in self.members), key=self._cost, default=None)
        if cheapest is None:
            return Outcome(0)
        outcome = self._compared(cheapest, point)
        return replace(outcome, sign=min(0, outcome.sign))

    def unreduced(self, point: Estimates) -> Outcome:
        limit = self._cost(point)
        chosen = self._chosen([member for member in self.members if self._cost(member[1]) < limit])
        if chosen is None:
            return Outcome(0)
        outcome = self._compared(chosen, point)
        return replace(outcome, sign=-1 if outcome.sign < 0 else 1)

    def rival(self, point: Estimates, *, same_weights: bool) -> Outcome:
        """A rival that is cheaper than the whole front wins unless even the cheapest member is better.

        same_weights: it is the unreduced model in another runtime, which is beaten as that is
        """
        limit = self._cost(point)
        chosen = self._chosen([member for member in self.members if self._cost(member[1]) <= limit])
        if chosen is not None:
            return self.unreduced(point) if same_weights else self._compared(chosen, point)
        cheapest = min((report for _, report in self.members), key=self._cost, default=None)
        if cheapest is None:
            return Outcome(0)
        outcome = self._compared(cheapest, point)
        return replace(outcome, sign=0 if outcome.sign > 0 else -1)

    def _chosen(self, members: Sequence[tuple[Estimates, Estimates]]) -> Estimates | None:
        """The best of them on the search split: its values on the report split."""
        best = max(members, key=lambda member: member[0][self.quality.name].value, default=None)
        return None if best is None else best[1]

    def _compared(self, own: Estimates, other: Estimates) -> Outcome:
        a, b = own[self.quality.name], other[self.quality.name]
        difference = between(a, b)
        if difference.low is not None and difference.high is not None:
            return Outcome(int(difference.low > 0) - int(difference.high < 0))
        error = math.hypot(a.standard_error or 0.0, b.standard_error or 0.0)
        return Outcome(int(difference.value > error) - int(difference.value < -error), paired=False)

    def _cost(self, estimates: Estimates) -> float:
        return estimates[self.cost.name].value
