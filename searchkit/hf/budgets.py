"""Choice of a member under a budget: of those within it, the best by the quality that was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from searchkit.errors import unknown
from searchkit.hf.errors import BudgetError
from searchkit.hf.members import Members


@dataclass(frozen=True)
class Limits:
    """The budget of a call: each limit that is given must hold.

    macs: ratio to the unreduced model's; latency_ms: of a forward pass, in the measured setting that `setting` (some
    of its entries) tells from the others
    """

    macs: float | None = None
    latency_ms: float | None = None
    setting: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, limit in (("macs", self.macs), ("latency_ms", self.latency_ms)):
            if limit is not None and not (_is_number(limit) and limit > 0):
                raise BudgetError(f"{name} must be a number above 0, got {limit!r}")
        if self.setting is not None and self.latency_ms is None:
            raise BudgetError("a setting belongs to latency_ms, which is not given")


def choose(members: Members, limits: Limits, here: Mapping[str, Any]) -> str:
    """The key of the best member within the limits; of equally good ones the cheapest.

    here: what this process runs in, such as {"device": "cpu", "threads": 1, "dtype": "float32"}; latencies that were
    measured in another setting do not count unless `limits.setting` names it. BudgetError: no member is within the
    limits (it names the smallest), the latency was measured in no such setting or in several, or nothing was measured.
    """
    costs: list[tuple[str, float, dict[str, float]]] = []  # name, limit, cost by key
    if limits.macs is not None:
        macs = {key: figures.macs for key, figures in members.figures.items() if figures.macs is not None}
        costs.append(("macs", float(limits.macs), macs))
    if limits.latency_ms is not None:
        costs.append(("latency_ms", float(limits.latency_ms), _latencies(members, limits.setting or {}, here)))
    for name, _, cost in costs:
        if not cost:
            raise BudgetError(f"no {name} was measured of any plan of this model; choose a plan by its key")
    within = [key for key in members.figures if all(cost.get(key, math.inf) <= limit for _, limit, cost in costs)]
    if not within:
        raise BudgetError("; ".join(_too_small(*cost) for cost in costs))
    losses = _losses(members, within)
    return min(losses, key=lambda key: (losses[key], *(cost[key] for _, _, cost in costs), key))


def _too_small(name: str, limit: float, cost: Mapping[str, float]) -> str:
    cheapest = min(cost, key=lambda key: cost[key])
    return f"no plan has {name} <= {limit:g} and the other limits; the smallest is {cost[cheapest]:g} ({cheapest!r})"


def _losses(members: Members, keys: list[str]) -> dict[str, float]:
    """The loss of each member by the quality that decides, of those that have it."""
    known = sorted({name for figures in members.figures.values() for name in figures.quality})
    name = members.quality or (known[0] if len(known) == 1 else None)
    if name is None:
        which = (
            f"name one of {', '.join(known)} as config.searchkit['quality']" if known else "choose a plan by its key"
        )
        raise BudgetError(f"plans of this model cannot be ranked by one measured quality: {which}")
    if name not in known:
        raise BudgetError(unknown("quality", name, known))
    losses = {key: members.figures[key].quality[name] for key in keys if name in members.figures[key].quality}
    if not losses:
        raise BudgetError(f"{name} was not measured of any plan within the budget: {', '.join(keys)}")
    return losses


def _latencies(members: Members, setting: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds by key, in the one measured setting that fits."""
    measured = [entry for figures in members.figures.values() for entry in figures.latency]
    settings = list({_text(entry.setting): entry.setting for entry in measured}.values())
    listed = "; ".join(map(_text, settings)) or "none"
    wanted = {**here, **setting}
    fitting = [
        each
        for each in settings
        if setting.keys() <= each.keys() and all(each.get(name, value) == value for name, value in wanted.items())
    ]
    if not fitting:
        raise BudgetError(f"no latency was measured for {_text(wanted)}; latencies were measured for: {listed}")
    if len(fitting) > 1:
        several = "; ".join(map(_text, fitting))
        raise BudgetError(f"latencies were measured in several settings, choose one with setting=: {several}")
    return {
        key: entry.ms
        for key, figures in members.figures.items()
        for entry in figures.latency
        if entry.setting == fitting[0]
    }


def _text(setting: Mapping[str, Any]) -> str:
    return json.dumps(dict(setting), sort_keys=True, default=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
