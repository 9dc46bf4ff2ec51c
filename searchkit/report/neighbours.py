"""Neighbours of a picked member on the front: what the next cheaper and the next better one cost and gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from searchkit.front import losses_of
from searchkit.objective import Objective
from searchkit.records import Estimate, Trial
from searchkit.report.columns import in_words
from searchkit.report.environment import OF_TEXTS
from searchkit.report.paired import Difference, between
from searchkit.report.results import estimates

WIDTH: Final = 80  # characters of a line; a neighbour that needs more has its key on a line of its own


@dataclass(frozen=True)
class Step:
    """Value of a neighbour in one objective, and its paired difference to the picked member's."""

    objective: Objective
    value: Estimate
    change: Difference

    def __str__(self) -> str:
        """Format `0.41 of the MACs (-0.08)` or `accuracy 0.871 (-0.6 points)`."""
        name, value = in_words(self.objective.name), f"{self.value.value:.3g}"
        unit = self.objective.unit.split(OF_TEXTS)[0]
        if unit == "fraction":
            return f"{name} {self.value.value:.3f} ({100 * self.change.value:+.1f} points)"
        change = f"({self.change.value:+.2g})"
        if self.objective.name in ("macs", "flops") and unit.startswith("of unreduced"):
            return f"{value}{unit.removeprefix('of unreduced')} of the {'MACs' if name == 'macs' else 'FLOPs'} {change}"
        return f"{name} {value} {in_words(unit)} {change}" if len(unit) <= 24 else f"{name} {value} {change}"

    def to_json(self) -> dict[str, Any]:
        """JSON of the step: objective, value and `change`, the difference to the picked member with its interval."""
        return {**self.objective.describe(), "value": self.value.value, "change": asdict(self.change)}


@dataclass(frozen=True)
class Neighbour:
    """Another member of the front; `cost` and `quality` are its steps from the picked member."""

    trial: Trial
    cost: Step
    quality: Step

    @property
    def key(self) -> str:
        return self.trial.key

    def to_json(self) -> dict[str, Any]:
        """JSON of the neighbour: key, candidate, cost and quality."""
        steps = {"cost": self.cost.to_json(), "quality": self.quality.to_json()}
        return {"key": self.key, "candidate": self.trial.ask.candidate.to_json(), **steps}


def neighbours(
    chosen: Trial, members: Sequence[Trial], cost: Objective, quality: Objective
) -> tuple[Neighbour | None, Neighbour | None]:
    """Next cheaper and next better member, on the report split; None where there is none.

    The next cheaper one is the best in quality of those that cost less, the next better one the cheapest of those that
    are better; of equals in that, the one that is better in the other.
    """
    rows = {member.key: row for member in members if (row := estimates(member, [cost, quality]))}
    own = rows.get(chosen.key)
    if own is None or cost.name == quality.name:
        return None, None

    def losses(key: str) -> tuple[float, float]:
        by_cost, by_quality = (float(losses_of(axis, [rows[key][axis.name].value])[0]) for axis in (cost, quality))
        return by_cost, by_quality

    def to(keys: Sequence[str], axis: int) -> Neighbour | None:
        if not keys:
            return None
        key = min(keys, key=lambda key: (losses(key)[axis], losses(key)[1 - axis], key))
        by_cost, by_quality = (
            Step(item, rows[key][item.name], between(rows[key][item.name], own[item.name])) for item in (cost, quality)
        )
        return Neighbour(next(member for member in members if member.key == key), by_cost, by_quality)

    here = losses(chosen.key)
    cheaper, better = ([key for key in rows if losses(key)[axis] < here[axis]] for axis in (0, 1))
    return to(cheaper, 1), to(better, 0)


def lines(cheaper: Neighbour | None, better: Neighbour | None, width: int = WIDTH) -> list[str]:
    """Lines for a terminal, their columns aligned, at most `width` wide where names and units allow it."""
    named = [(f"next {word}:", there) for word, there in (("cheaper", cheaper), ("better", better)) if there]
    if not named:
        return []
    costs = [f"{there.cost}," for _, there in named]
    start, wide = max(len(label) for label, _ in named), max(map(len, costs))
    texts = [
        f"{label:<{start}} {cost:<{wide}} {there.quality}" for (label, there), cost in zip(named, costs, strict=True)
    ]
    keys = [there.key for _, there in named]
    longest = max(map(len, texts))
    if longest + len(", key ") + len(keys[0]) <= width:
        return [f"{text + ',':<{longest + 1}} key {key}" for text, key in zip(texts, keys, strict=True)]
    blank, shown = " " * start, []
    for (label, there), text in zip(named, texts, strict=True):
        long = longest > width
        shown += [f"{label:<{start}} {there.cost},", f"{blank} {there.quality},"] if long else [f"{text},"]
        shown.append(f"{blank} key {there.key}")
    return shown
