"""Commands that choose and ship a member, to copy from a page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator

from searchkit.errors import StoreError
from searchkit.objective import Objective
from searchkit.records import Trial
from searchkit.report.limits import Limit, keeps, of_study
from searchkit.report.page.shown import Shown
from searchkit.report.results import Results, estimates

DIGITS = 4  # significant ones of a limit, where that is enough


def ship_command(shown: Shown, key: str) -> str:
    return f"searchkit ship {shlex.quote(shown.folder)} --key {key} --to DIR"


def pick_command(shown: Shown, limits: tuple[Limit, ...]) -> str:
    words = "".join(f" --where {shlex.quote(str(limit))}" for limit in limits)
    return f"searchkit pick {shlex.quote(shown.folder)}{words}"


def picking_limits(results: Results) -> dict[str, tuple[Limit, ...]]:
    """Limits, by key, with which `pick` chooses the member; members that no such limits choose are left out."""
    within = _within_study(results)
    found = {}
    for member in within:
        candidates = _candidates(results, member, within)
        chosen = (limits for limits in candidates if _chosen(results, within, limits) == member.key)
        if limits := next(chosen, None):
            found[member.key] = limits
    return found


def _within_study(results: Results) -> list[Trial]:
    """Members on the report split that keep the study's own constraints."""
    try:
        own, _ = of_study(results.study, results.all_objectives)
    except StoreError:
        return []
    unreduced = results.unreduced.estimates if results.unreduced else {}
    members = (trial for trial in results.report.values() if estimates(trial, results.objectives))
    return [trial for trial in members if keeps(trial.estimates, own, unreduced)]


def _candidates(results: Results, member: Trial, members: list[Trial]) -> Iterator[tuple[Limit, ...]]:
    """Limits on the cost, on the quality, around the cost, around both."""
    cost, quality = (_around(axis, member, members) for axis in (results.cost, results.quality))
    yield (cost[results.cost.better == "higher"],)
    yield (quality[results.quality.better == "higher"],)
    yield cost
    yield (*cost, *quality)


def _around(axis: Objective, member: Trial, members: list[Trial]) -> tuple[Limit, Limit]:
    """Limits from above and below, as short as leaves out all members with another value."""
    value = member.estimates[axis.name].value
    others = [other.estimates[axis.name].value for other in members]
    above = min((other for other in others if other > value), default=math.inf)
    below = max((other for other in others if other < value), default=-math.inf)
    at_most, at_least = _short(value, above, math.ceil), _short(value, below, math.floor)
    return Limit(axis.name, "<=", at_most), Limit(axis.name, ">=", at_least)


def _chosen(results: Results, members: list[Trial], limits: tuple[Limit, ...]) -> str:
    """Key of the member that `pick` chooses: by cost where a limit asks for quality, otherwise by quality."""
    better = {axis.name: axis.better for axis in results.all_objectives}
    limits_of_study, _ = of_study(results.study, results.all_objectives)
    by_cost = any(better.get(limit.name) == "higher" for limit in (*limits, *limits_of_study))
    aim = results.cost if by_cost else results.quality
    order = sorted(results.all_objectives, key=lambda axis: axis.name != aim.name)

    def rank(member: Trial) -> tuple[list[float], str]:
        own = member.estimates
        losses = [_loss(axis, own[axis.name].value) if axis.name in own else math.inf for axis in order]
        return losses, member.key

    kept = (
        member for member in members if all(limit.held(member.estimates[limit.name], None).holds for limit in limits)
    )
    return min(map(rank, kept))[1]


def _loss(axis: Objective, value: float) -> float:
    return -value if axis.better == "higher" else value


def _short(value: float, other: float, rounded: Callable[[float], int]) -> float:
    """A number with few digits between the value and another one."""
    for digits in range(DIGITS, 12):
        power = 10.0 ** (digits - 1 - math.floor(math.log10(abs(value) or 1)))
        number = float(f"{rounded(value * power) / power:.12g}")
        if value <= number < other or other < number <= value:
            return number
    return value
