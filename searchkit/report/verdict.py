"""Whether the front beats the baselines: quality at equal cost, on the report split, against the standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from searchkit.objective import Objective
from searchkit.records import Estimate
from searchkit.report.results import UNREDUCED, Results, estimates, measured

Found = Mapping[str, Estimate]


@dataclass(frozen=True)
class Verdict:
    """The front against one family of baselines.

    At each of the `points` the front sends the member that a user would choose at that cost: of those that cost no more
    on the report split, the best on the search split. The front is `better` where the quality of this member is
    higher than the baseline's by more than their combined standard error sqrt(a^2 + b^2), `worse` where it is
    lower by more. A baseline that is cheaper than the whole front is met by the cheapest member, which can only lose.

    The unreduced model cannot be beaten in quality at equal cost but by luck, so there the member must cost less, and
    not be worse.
    """

    points: int
    better: int
    worse: int

    @property
    def beaten(self) -> bool:
        """Better somewhere, and worse nowhere."""
        return self.better > 0 and self.worse == 0


def verdicts(results: Results) -> dict[str, Verdict]:
    """Family -> verdict, of those that were measured; none where the study has no quality or no cost."""
    axes = quality_and_cost(results.objectives)
    if axes is None:
        return {}
    judge = _Judge(*axes, _members(results, axes))
    found = {}
    for name, trials in results.baselines.items():
        met = judge.unreduced if name == UNREDUCED else judge.point
        outcomes = [met(point) for point in measured(trials, axes)]
        if outcomes:
            found[name] = Verdict(len(outcomes), outcomes.count(1), outcomes.count(-1))
    return found


def sentences(results: Results) -> list[str]:
    """One for each family, and one if the search has seen texts of the report split."""
    shared = results.duplicates.get("search/report", 0)
    warned = [f"The report split is not new to the search: {shared} of its texts are in both."] if shared else []
    return [*(_sentence(name, verdict) for name, verdict in verdicts(results).items()), *warned]


def quality_and_cost(objectives: Sequence[Objective]) -> tuple[Objective, Objective] | None:
    """The first objective that is better when higher and the first that is better when lower; None without both."""
    firsts = {objective.better: objective for objective in reversed(objectives)}
    return (firsts["higher"], firsts["lower"]) if len(firsts) == 2 else None


def _sentence(name: str, verdict: Verdict) -> str:
    does = "beats" if verdict.beaten else "does not beat"
    if name == UNREDUCED:
        why = {1: "a cheaper candidate is as good", -1: "what is cheaper is worse"}
        return f"The front {does} the unreduced model: {why.get(verdict.better - verdict.worse, 'nothing is cheaper')}."
    better, worse = verdict.better, verdict.worse or "none"
    return f"The front {does} {name}: better at {better or 'none'} of {verdict.points} points, worse at {worse}."


def _members(results: Results, axes: Sequence[Objective]) -> list[tuple[Found, Found]]:
    """(search, report) estimates of the members that were measured on both splits."""
    both = ((estimates(one, axes), estimates(results.report.get(one.key), axes)) for one in results.front)
    return [(search, report) for search, report in both if search is not None and report is not None]


@dataclass(frozen=True)
class _Judge:
    """Outcomes are 1 (the front is better), 0, -1 (worse)."""

    quality: Objective
    cost: Objective
    members: Sequence[tuple[Found, Found]]  # (search, report)

    def point(self, point: Found) -> int:
        limit = self._cost(point)
        chosen = self._chosen([member for member in self.members if self._cost(member[1]) <= limit])
        if chosen is not None:
            return self._compared(chosen, point)
        cheapest = min((report for _, report in self.members), key=self._cost, default=None)
        return 0 if cheapest is None else min(0, self._compared(cheapest, point))

    def unreduced(self, point: Found) -> int:
        limit = self._cost(point)
        chosen = self._chosen([member for member in self.members if self._cost(member[1]) < limit])
        if chosen is None:
            return 0
        return -1 if self._compared(chosen, point) < 0 else 1

    def _chosen(self, members: Sequence[tuple[Found, Found]]) -> Found | None:
        """What the best of them on the search split is on the report split."""
        best = max(members, key=lambda member: member[0][self.quality.name].value, default=None)
        return None if best is None else best[1]

    def _compared(self, one: Found, other: Found) -> int:
        a, b = one[self.quality.name], other[self.quality.name]
        error = math.hypot(a.standard_error or 0.0, b.standard_error or 0.0)
        return int(a.value - b.value > error) - int(b.value - a.value > error)

    def _cost(self, found: Found) -> float:
        return found[self.cost.name].value
