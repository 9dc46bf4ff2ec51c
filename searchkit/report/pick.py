"""One member of a front, chosen by what a user can afford or must reach, and why; made of records alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from searchkit._files import replace_whole
from searchkit.errors import StudyError, unknown
from searchkit.front import Front, losses_of
from searchkit.objective import Objective
from searchkit.records import Estimate, Measured, Trial
from searchkit.report.environment import fingerprint
from searchkit.report.limits import Held, Limit
from searchkit.report.notes import empty_front
from searchkit.report.paired import Difference, between
from searchkit.report.results import Results, estimates
from searchkit.report.summary import finite, outcome
from searchkit.report.table import beside

KNEE: Final = "knee"
FILE: Final = "pick.json"


@dataclass(frozen=True)
class Figure:
    """A member in one objective, beside the unreduced model where that was measured."""

    objective: Objective
    own: Estimate
    unreduced: Estimate | None

    @property
    def difference(self) -> Difference | None:
        """To the unreduced model, paired."""
        return between(self.own, self.unreduced) if self.unreduced else None


@dataclass(frozen=True)
class Picked:
    """A member of a front and why it was chosen; all values are those of the report split.

    members: of the front, that were measured; meeting: those of them that keep every limit; untold: constraints of the
    study that nothing on the report split can tell
    """

    study: Mapping[str, Any]
    trial: Trial
    best: str  # an objective, or KNEE
    why: str
    members: int
    meeting: int
    confident: bool
    held: tuple[Held, ...]
    untold: tuple[str, ...]
    figures: tuple[Figure, ...]

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: what `pick.json` holds."""
        values = {
            one.objective.name: {
                **one.objective.describe(),
                **(outcome(self.trial) or {})[one.objective.name],
                "unreduced": one.unreduced and one.unreduced.value,
                "against_unreduced": one.difference and asdict(one.difference),
            }
            for one in self.figures
        }
        told = {
            "study": self.study.get("name"),
            "fingerprint": self.study.get("fingerprint"),
            "key": self.trial.key,
            "candidate": self.trial.ask.candidate.to_json(),
            "why": self.why,
            "best": self.best,
            "members": self.members,
            "meeting": self.meeting,
            "confident": self.confident,
            "limits": [_told(one) for one in self.held],
            "untold": self.untold,
            "values": values,
            "environment": {"fingerprint": fingerprint(self.trial.environment), **self.trial.environment},
        }
        strict = finite(told)
        assert isinstance(strict, dict)
        return strict

    def write(self, folder: Path) -> Path:
        """pick.json in the folder; StoreError if unwritable."""
        text = json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
        replace_whole(folder / FILE, (text + "\n").encode(errors="backslashreplace"))
        return folder / FILE


def _told(one: Held) -> dict[str, Any]:
    """Where the limit is `relative`, `value`, `low` and `high` are those of the difference to the unreduced model."""
    limit = {"limit": str(one.limit), "by_study": one.limit.by_study, "relative": one.limit.relative}
    return {**limit, "value": one.value, "low": one.low, "high": one.high, "confident": one.confident}


@dataclass(frozen=True)
class _Member:
    trial: Trial  # on the report split
    figures: Mapping[str, Estimate]
    held: tuple[Held | None, ...]  # one for each limit, None where the member lacks the figure

    @classmethod
    def of(cls, trial: Trial, results: Results, limits: Sequence[Limit]) -> _Member:
        every = (*results.objectives, *results.front_objectives)
        own, unreduced = figures_of(trial, every), figures_of(results.unreduced, every)
        held = (one.held(own[one.name], unreduced.get(one.name)) if one.name in own else None for one in limits)
        return cls(trial, own, tuple(held))

    def kept(self, confident: bool) -> list[bool]:
        """Whether it keeps each limit."""
        return [one is not None and one.holds and (one.confident is True or not confident) for one in self.held]

    def excess(self, confident: bool, scales: Sequence[float]) -> float:
        """How far beyond its limits it is, in all."""
        beyond = [math.inf if one is None else one.excess(confident) for one in self.held]
        return sum(one / scale for one, scale in zip(beyond, scales, strict=True))


def figures_of(trial: Trial | None, objectives: Sequence[Objective]) -> dict[str, Estimate]:
    """Everything that a limit may name: the objectives, and what stands beside them, named as in `front.csv`."""
    found = trial.outcome.estimates if trial and isinstance(trial.outcome, Measured) else {}
    own = {one.name: found[one.name] for one in objectives if one.name in found}
    others = {
        name: Estimate(value, None, own[one.name].n)
        for one in objectives
        for name, value in beside(one, own.get(one.name)).items()
        if math.isfinite(value)
    }
    return others | own


def pick(
    results: Results,
    limits: Sequence[Limit] = (),
    *,
    best: str | None = None,
    confident: bool = False,
    untold: Sequence[str] = (),
) -> Picked:
    """The best of the members that keep every limit on the report split; `confident`: on the whole 95 % interval.

    best: an objective, or `knee`. Without it: the lowest cost where a limit asks for quality, the highest quality where
    limits are on costs alone, the knee where there are none. Of equals, the one that is better in the other objectives,
    in order. StudyError for an unknown name, and where no member keeps the limits.
    """
    objectives = (*results.objectives, *results.front_objectives)
    aim = best or _aim(results, limits)
    if aim not in {KNEE, *(one.name for one in objectives)}:
        raise StudyError(f"--best: {unknown('objective', aim, [KNEE, *(one.name for one in objectives)])}")
    measured = (results.report.get(one.key) for one in results.front)
    members = [_Member.of(one, results, limits) for one in measured if one and estimates(one, results.objectives)]
    if not members:
        why = "" if results.front.members else f" {empty_front(results.trials)}"
        raise StudyError(f"{results.study.get('name')}: no member of the front was measured on the report split.{why}")
    names = {name for one in members for name in one.figures}
    for limit in limits:
        if limit.name not in names:
            raise StudyError(f"--where {str(limit)!r}: {unknown('figure', limit.name, names)}")
    meeting = [one for one in members if all(one.kept(confident))]
    if not meeting:
        raise StudyError(_nothing(members, limits, confident))
    chosen = _best(meeting, aim, results)
    unreduced = figures_of(results.unreduced, objectives)
    return Picked(
        study=results.study,
        trial=chosen.trial,
        best=aim,
        why=_why(aim, objectives, len(meeting), len(members), bool(limits)),
        members=len(members),
        meeting=len(meeting),
        confident=confident,
        held=tuple(one for one in chosen.held if one),
        untold=tuple(untold),
        figures=tuple(
            Figure(one, chosen.figures[one.name], unreduced.get(one.name))
            for one in objectives
            if one.name in chosen.figures
        ),
    )


def _aim(results: Results, limits: Sequence[Limit]) -> str:
    """What limits leave to be wished for."""
    objectives = (*results.objectives, *results.front_objectives)
    limited = {one.better for one in objectives for limit in limits if f"{limit.name}_".startswith(f"{one.name}_")}
    if "higher" in limited:
        return results.cost.name
    return results.quality.name if limited else KNEE


def _best(meeting: Sequence[_Member], aim: str, results: Results) -> _Member:
    if aim == KNEE:
        knee = Front.of([one.trial for one in meeting], results.objectives).knee()
        return next(one for one in meeting if one.trial.key == knee.key)
    every = sorted((*results.objectives, *results.front_objectives), key=lambda one: one.name != aim)

    def losses(member: _Member) -> list[float]:
        found = [(one, member.figures.get(one.name)) for one in every]
        return [math.inf if own is None else float(losses_of(one, [own.value])[0]) for one, own in found]

    if all(aim not in one.figures for one in meeting):
        raise StudyError(f"--best {aim}: no member that keeps the limits was measured in it")
    return min(meeting, key=lambda one: (losses(one), one.trial.key))


def _why(aim: str, objectives: Sequence[Objective], meeting: int, members: int, limited: bool) -> str:
    whose = f"the {meeting} of {members} members of the front that keep every limit"
    if not limited:
        whose = f"the {members} members of the front" if members > 1 else "the front, which has one member"
    better = next((one.better for one in objectives if one.name == aim), None)
    what = f"the {'highest' if better == 'higher' else 'lowest'} {aim}" if better else "the knee"
    return f"{what} of {whose}"


def _nothing(members: Sequence[_Member], limits: Sequence[Limit], confident: bool) -> str:
    """Which limit excludes most, and who is nearest: least beyond its limits, in units of the spread of each figure."""
    excluded = [
        sum(not kept for kept in of_limit) for of_limit in zip(*(one.kept(confident) for one in members), strict=True)
    ]
    worst = max(range(len(limits)), key=excluded.__getitem__)
    scales = [_scale([one.held[place] for one in members]) for place in range(len(limits))]
    nearest = min(members, key=lambda one: one.excess(confident, scales))
    whose = " of the study" if limits[worst].by_study else ""
    figures = ", ".join(dict.fromkeys(str(one) for one in nearest.held if one))
    return (
        f"no member of the front keeps every limit{' on its whole interval' if confident else ''}: {limits[worst]}"
        f"{whose} excludes {excluded[worst]} of {len(members)}; the nearest, {nearest.trial.key}, has {figures}"
    )


def _scale(held: Sequence[Held | None]) -> float:
    values = [one.value for one in held if one]
    return (max(values) - min(values)) or abs(values[0]) or 1.0
