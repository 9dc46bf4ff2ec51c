"""Choice of one member of a front by limits and an objective, with its reason; from records alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from searchkit._internal.files import replace_whole
from searchkit.errors import StudyError, unknown
from searchkit.front import Front, losses_of
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.environment import fingerprint
from searchkit.report.limits import Held, Limit
from searchkit.report.neighbours import Neighbour, neighbours
from searchkit.report.notes import empty_front
from searchkit.report.paired import Difference, between
from searchkit.report.results import Results, estimates
from searchkit.report.summary import finite, shown
from searchkit.report.table import beside

KNEE: Final = "knee"
FILE: Final = "pick.json"


@dataclass(frozen=True)
class Figure:
    """Value of a member in one objective, beside the unreduced model's where that was measured."""

    objective: Objective
    own: Estimate
    unreduced: Estimate | None

    @property
    def difference(self) -> Difference | None:
        """Paired difference to the unreduced model."""
        return between(self.own, self.unreduced) if self.unreduced else None


@dataclass(frozen=True)
class Picked:
    """Chosen member of a front with the reason; all values are those of the report split.

    members: of the front, that were measured; meeting: those of them that keep every limit; untold: constraints of the
    study that nothing on the report split can tell; cheaper, better: the next members of the front in these directions,
    limits or not, None where there is none
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
    cheaper: Neighbour | None = None
    better: Neighbour | None = None

    def to_json(self) -> dict[str, Any]:
        """Content of `pick.json`, as strict JSON."""
        values = {
            figure.objective.name: {
                **figure.objective.describe(),
                **shown(self.trial.estimates[figure.objective.name]),
                "unreduced": figure.unreduced and figure.unreduced.value,
                "against_unreduced": figure.difference and asdict(figure.difference),
            }
            for figure in self.figures
        }
        content = {
            "study": self.study.get("name"),
            "fingerprint": self.study.get("fingerprint"),
            "key": self.trial.key,
            "candidate": self.trial.ask.candidate.to_json(),
            "why": self.why,
            "best": self.best,
            "members": self.members,
            "meeting": self.meeting,
            "confident": self.confident,
            "limits": [_limit_json(held) for held in self.held],
            "untold": self.untold,
            "values": values,
            "cheaper": self.cheaper and self.cheaper.to_json(),
            "better": self.better and self.better.to_json(),
            "environment": {"fingerprint": fingerprint(self.trial.environment), **self.trial.environment},
        }
        strict = finite(content)
        assert isinstance(strict, dict)
        return strict

    @property
    def text(self) -> str:
        """Content of `pick.json`."""
        text = json.dumps(self.to_json(), indent=2, allow_nan=False, ensure_ascii=False)
        return (text + "\n").encode(errors="backslashreplace").decode()

    def write(self, folder: Path) -> Path:
        """Write pick.json to the folder; StoreError if unwritable."""
        replace_whole(folder / FILE, self.text.encode())
        return folder / FILE


def _limit_json(held: Held) -> dict[str, Any]:
    """Limit as JSON; where it is `relative`, `value`, `low` and `high` are differences to the unreduced model."""
    limit = {"limit": str(held.limit), "by_study": held.limit.by_study, "relative": held.limit.relative}
    return {**limit, "value": held.value, "low": held.low, "high": held.high, "confident": held.confident}


@dataclass(frozen=True)
class _Member:
    trial: Trial  # on the report split
    figures: Mapping[str, Estimate]
    held: tuple[Held | None, ...]  # one for each limit, None where the member lacks the figure

    @classmethod
    def of(cls, trial: Trial, results: Results, limits: Sequence[Limit]) -> _Member:
        every = results.all_objectives
        own, unreduced = figures_of(trial, every), figures_of(results.unreduced, every)
        held = (
            limit.held(own[limit.name], unreduced.get(limit.name)) if limit.name in own else None for limit in limits
        )
        return cls(trial, own, tuple(held))

    def kept(self, confident: bool) -> list[bool]:
        """Return whether the member keeps each limit."""
        return [held is not None and held.holds and (held.confident is True or not confident) for held in self.held]

    def excess(self, confident: bool, scales: Sequence[float]) -> float:
        """Total excess of the member beyond its limits."""
        beyond = [math.inf if held is None else held.excess(confident) for held in self.held]
        return sum(excess / scale for excess, scale in zip(beyond, scales, strict=True))


def figures_of(trial: Trial | None, objectives: Sequence[Objective]) -> dict[str, Estimate]:
    """Figures that a limit may name: the objectives, and the columns beside them, named as in `front.csv`."""
    values = trial.estimates if trial else {}
    own = {objective.name: values[objective.name] for objective in objectives if objective.name in values}
    others = {
        name: Estimate(value, None, own[objective.name].n)
        for objective in objectives
        for name, value in beside(objective, own.get(objective.name)).items()
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
    """Pick the best member that keeps every limit on the report split; `confident`: on the whole 95 % interval.

    best: an objective, or `knee`. Without it: the lowest cost where a limit asks for quality, the highest quality where
    limits are on costs alone, the knee where there are none. Of equals, the one that is better in the other objectives,
    in order. StudyError for an unknown name, and where no member keeps the limits.
    """
    objectives = results.all_objectives
    aim = best or _aim(results, limits)
    if aim not in {KNEE, *(objective.name for objective in objectives)}:
        raise StudyError(f"--best: {unknown('objective', aim, [KNEE, *(objective.name for objective in objectives)])}")
    measured = (results.report.get(trial.key) for trial in results.members)
    members = [
        _Member.of(measured_trial, results, limits)
        for measured_trial in measured
        if measured_trial and estimates(measured_trial, results.objectives)
    ]
    if not members:
        why = "" if results.members else f" {empty_front(results.trials)}"
        raise StudyError(f"{results.study.get('name')}: no member of the front was measured on the report split.{why}")
    names = {name for member in members for name in member.figures}
    for limit in limits:
        if limit.name not in names:
            raise StudyError(f"--where {str(limit)!r}: {unknown('figure', limit.name, names)}")
    meeting = [member for member in members if all(member.kept(confident))]
    if not meeting:
        raise StudyError(_nothing(members, limits, confident))
    chosen = _best(meeting, aim, results)
    unreduced = figures_of(results.unreduced, objectives)
    cheaper, better = neighbours(chosen.trial, [member.trial for member in members], *_directions(results, aim))
    return Picked(
        study=results.study,
        trial=chosen.trial,
        best=aim,
        why=_why(aim, objectives, len(meeting), len(members), bool(limits)),
        members=len(members),
        meeting=len(meeting),
        confident=confident,
        held=tuple(held for held in chosen.held if held),
        untold=tuple(untold),
        figures=tuple(
            Figure(objective, chosen.figures[objective.name], unreduced.get(objective.name))
            for objective in objectives
            if objective.name in chosen.figures
        ),
        cheaper=cheaper,
        better=better,
    )


def _directions(results: Results, aim: str) -> tuple[Objective, Objective]:
    """Cost and quality of the neighbours: the objective that decided takes the place of its kind."""
    decided = next((objective for objective in results.all_objectives if objective.name == aim), None)
    if decided is None or decided.better == "higher":
        return results.cost, decided or results.quality
    return decided, results.quality


def _aim(results: Results, limits: Sequence[Limit]) -> str:
    """Objective that decides where none is given."""
    objectives = results.all_objectives
    limited = {
        objective.better
        for objective in objectives
        for limit in limits
        if f"{limit.name}_".startswith(f"{objective.name}_")
    }
    if "higher" in limited:
        return results.cost.name
    return results.quality.name if limited else KNEE


def _best(meeting: Sequence[_Member], aim: str, results: Results) -> _Member:
    if aim == KNEE:
        knee = Front.of([member.trial for member in meeting], results.objectives).knee()
        return next(member for member in meeting if member.trial.key == knee.key)
    every = sorted(results.all_objectives, key=lambda objective: objective.name != aim)

    def losses(member: _Member) -> list[float]:
        figures = [(objective, member.figures.get(objective.name)) for objective in every]
        return [math.inf if own is None else float(losses_of(objective, [own.value])[0]) for objective, own in figures]

    if all(aim not in candidate.figures for candidate in meeting):
        raise StudyError(f"--best {aim}: no member that keeps the limits was measured in it")
    return min(meeting, key=lambda member: (losses(member), member.trial.key))


def _why(aim: str, objectives: Sequence[Objective], meeting: int, members: int, limited: bool) -> str:
    whose = f"the {meeting} of {members} members of the front that keep every limit"
    if not limited:
        whose = f"the {members} members of the front" if members > 1 else "the front, which has one member"
    better = next((objective.better for objective in objectives if objective.name == aim), None)
    what = f"the {'highest' if better == 'higher' else 'lowest'} {aim}" if better else "the knee"
    return f"{what} of {whose}"


def _nothing(members: Sequence[_Member], limits: Sequence[Limit], confident: bool) -> str:
    """Explanation of an empty choice: the limit that excludes most, and the nearest member by scaled excess."""
    excluded = [
        sum(not kept for kept in of_limit)
        for of_limit in zip(*(candidate.kept(confident) for candidate in members), strict=True)
    ]
    worst = max(range(len(limits)), key=excluded.__getitem__)
    scales = [_scale([member.held[index] for member in members]) for index in range(len(limits))]
    nearest = min(members, key=lambda member: member.excess(confident, scales))
    whose = " of the study" if limits[worst].by_study else ""
    figures = ", ".join(dict.fromkeys(str(held) for held in nearest.held if held))
    return (
        f"no member of the front keeps every limit{' on its whole interval' if confident else ''}: {limits[worst]}"
        f"{whose} excludes {excluded[worst]} of {len(members)}; the nearest, {nearest.trial.key}, has {figures}"
    )


def _scale(held: Sequence[Held | None]) -> float:
    values = [held.value for held in held if held]
    return (max(values) - min(values)) or abs(values[0]) or 1.0
