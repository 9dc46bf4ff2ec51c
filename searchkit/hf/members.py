"""Members of a shipped front: their plans and what was measured of them, as the config has them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from searchkit._internal.checks import json_number, json_of
from searchkit.errors import QUOTED, DataError, one_line, unknown
from searchkit.hf.errors import BudgetError
from searchkit.hf.inputs import marks_needed
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.plan_record import plan_of
from searchkit.reduction.scorers import is_trained

FORMAT: Final = 1
UNREDUCED: Final = "unreduced"  # a plan that every model has


@dataclass(frozen=True)
class Latency:
    """Time of a forward pass in a setting, such as {"device": "cpu", "threads": 1, "batch": 1}."""

    setting: Mapping[str, Any]
    ms: float


@dataclass(frozen=True)
class Figures:
    """What was measured of a member. quality: name -> value as a loss; macs: ratio to unreduced."""

    quality: Mapping[str, float]
    macs: float | None
    latency: tuple[Latency, ...]


@dataclass(frozen=True)
class Members:
    """Plans by key. default: the key of the plan that runs where none is chosen; quality: what members are ranked by.

    In `config.searchkit`: {"format": 1, "plan": KEY, "quality": NAME, "plans": {KEY: {"plan": RECORD, "measured":
    {"quality": {NAME: {"value": 0.9, "standard_error": 0.01, "goal": "max"}}, "macs": 0.5, "latency": [{"setting":
    {"device": "cpu", "threads": 1, "batch": 1}, "ms": 4.5, "speedup": 1.4}]}}}}; every entry may be missing.
    """

    plans: Mapping[str, ReductionPlan]
    figures: Mapping[str, Figures]
    default: str
    quality: str | None

    def plan(self, key: str) -> ReductionPlan:
        """The plan of this key; BudgetError names the known ones."""
        if key not in self.plans:
            raise BudgetError(unknown("plan", key, self.plans))
        return self.plans[key]

    @cached_property
    def marks(self) -> Mapping[str, frozenset[str]]:
        """Names of marked tokens ("sep", "question") that each plan protects, by key."""
        return {key: marks_needed(plan) for key, plan in self.plans.items()}

    @classmethod
    def of_config(cls, config: Any) -> Members:
        """Read the members of a config; DataError says what is wrong with it."""
        where = f"{getattr(config, 'name_or_path', '') or type(config).__name__}: searchkit"
        try:
            return cls._read(config, where)
        except KeyError as error:
            raise DataError(f"{where}: an entry of what was measured lacks {error}") from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: {one_line(error, QUOTED)}") from error

    @classmethod
    def _read(cls, config: Any, where: str) -> Members:
        notes = json_of(config.searchkit or {}, dict)
        if (version := notes.get("format", FORMAT)) != FORMAT:
            raise DataError(f"{where}: its format is {version!r}, this version of searchkit reads {FORMAT}")
        layers = config.num_hidden_layers
        plans = {UNREDUCED: ReductionPlan.unreduced(layers)}
        figures: dict[str, Figures] = {}
        for key, entry in json_of(notes.get("plans", {}), dict).items():
            plans[key] = plan_of(json_of(entry, dict).get("plan"), f"{where}: plan {key!r}")
            if len(plans[key].reducers) != layers:
                raise DataError(f"{where}: plan {key!r} has {len(plans[key].reducers)} layers, the encoder {layers}")
            _check_trained(plans[key], notes.get("predictors", {}), f"{where}: plan {key!r}")
            figures[key] = _figures(json_of(entry.get("measured", {}), dict))
        default = notes.get("plan", UNREDUCED)
        if default not in plans:
            raise DataError(f"{where}: {unknown('plan', default, plans)}")
        return cls(plans, figures, default, notes.get("quality"))


def measured_of(config: Any) -> Mapping[str, Mapping[str, Any]]:
    """By key, all that the config says was measured; a copy."""
    plans = (config.searchkit or {}).get("plans", {})
    return MappingProxyType(
        {key: MappingProxyType(copy.deepcopy(entry.get("measured", {}))) for key, entry in plans.items()}
    )


def _check_trained(plan: ReductionPlan, predictors: Mapping[str, Any], where: str) -> None:
    for reducer in plan.slots:
        if reducer is not None and is_trained(reducer.scorer) and reducer.scorer not in predictors:
            raise DataError(f"{where} scores by {reducer.scorer!r}, and the model has no such predictors")


def _figures(measured: Mapping[str, Any]) -> Figures:
    quality = json_of(measured.get("quality", {}), dict)
    macs = measured.get("macs")
    latency = json_of(measured.get("latency", []), list)
    return Figures(
        {name: _loss(entry) for name, entry in quality.items()},
        None if macs is None else float(json_number(macs)),
        tuple(Latency(json_of(entry["setting"], dict), float(json_number(entry["ms"]))) for entry in latency),
    )


def _loss(entry: Mapping[str, Any]) -> float:
    value, goal = float(json_number(entry["value"])), entry["goal"]
    if goal not in ("max", "min"):
        raise ValueError(f"goal is 'max' or 'min', got {goal!r}")
    return -value if goal == "max" else value
