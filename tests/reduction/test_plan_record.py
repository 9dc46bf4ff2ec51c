"""Plans as JSON: every kind of reducer there and back, exactly; whatever else is one clear line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.errors import DataError
from searchkit.reduction.plan import FATES, PROTECT, SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.plan_record import plan_of, record_of
from searchkit.reduction.plugins import registry
from searchkit.reduction.scorers import PREDICTORS, SCORERS, scale_of
from searchkit.reduction.scorers.untrained import AttentionReceived, Position


@st.composite
def reducers(draw: st.DrawFn, site: str | None = None) -> Reducer:
    scorer = draw(st.sampled_from([*SCORERS.own, *PREDICTORS.own]))
    scale = scale_of(scorer)
    keep = draw(st.none() | ratios | st.builds(TopK, count=st.integers(1, 2**40))) if scale else draw(ratios)
    most = 1.0 if scale == "probability" else 1e300
    thresholds = st.floats(0, most, exclude_min=True)
    return Reducer(
        keep=keep,
        threshold=None if scale is None else draw(thresholds if keep is None else st.none() | thresholds),
        site=site or draw(st.sampled_from(SITES)),
        scorer=scorer,
        fate=draw(st.sampled_from(FATES)),
        protect=tuple(draw(st.lists(st.sampled_from(PROTECT), unique=True))),
    )


ratios = st.builds(TopK, ratio=st.floats(0, 1, exclude_min=True))
plans = st.builds(
    ReductionPlan,
    st.lists(st.none() | reducers(), min_size=1, max_size=4).map(tuple),
    st.none() | reducers(site="before_attention"),
)


@given(plans)
def test_a_plan_comes_back_exactly(plan: ReductionPlan) -> None:
    assert plan_of(json.loads(json.dumps(record_of(plan), sort_keys=True)), "x") == plan


def test_numbers_of_numpy_are_written_as_json() -> None:
    plan = ReductionPlan((Reducer(TopK(ratio=np.float64(0.1))), Reducer(TopK(count=np.int64(3)))))  # type: ignore[arg-type]
    assert plan_of(json.loads(json.dumps(record_of(plan))), "x") == plan


def test_a_scorer_that_equals_a_registered_one_is_written_by_its_name() -> None:
    record = record_of(ReductionPlan((Reducer(TopK(ratio=0.5), scorer=AttentionReceived(mean=True)),)))
    assert record["layers"][0]["scorer"] == "attention_mean"


@dataclass(frozen=True)
class Backwards(Position):
    """The same parts, another scorer."""


def test_a_scorer_without_a_name_cannot_be_written_until_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = ReductionPlan((Reducer(TopK(ratio=0.5), scorer=Backwards()),))
    with pytest.raises(DataError, match=r"has no name: call register\('scorer', NAME, Backwards"):
        record_of(plan)
    monkeypatch.setattr(registry("scorer"), "registered", {"backwards": Backwards()})
    record = record_of(plan)
    assert record["layers"][0]["scorer"] == "backwards"
    assert plan_of(record, "x").reducers[0] == Reducer(TopK(ratio=0.5), scorer="backwards")


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    *way, name, value = path

    def change(record: dict[str, Any]) -> None:
        part: Any = record
        for step in way:
            part = part[step]
        part[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("format", 2), "its format is 2, this version of searchkit reads 1"),
        (_set("layers", "all"), "layers must be a list, got 'all'"),
        (_set("layers", 0, "half"), "a reducer must be a JSON object, got 'half'"),
        (_set("layers", 0, "scorer", "attention_mean_"), "unknown scorer 'attention_mean_'; did you mean"),
        (_set("layers", 0, "scorer", 3), "scorer must be a name, got 3"),
        (_set("layers", 0, "site", "after"), "unknown site 'after'"),
        (_set("layers", 0, "fate", "thaw"), "unknown fate 'thaw'"),
        (_set("layers", 0, "protect", ["cls", "name"]), "unknown protected token 'name'"),
        (_set("layers", 0, "protect", "cls"), "protect must be a list of names, got 'cls'"),
        (_set("layers", 0, "keep", {"ratio": 0.5, "count": 3}), "keep must be"),
        (_set("layers", 0, "keep", {"ratio": "0.5"}), "ratio must be a number, got '0.5'"),
        (_set("layers", 0, "keep", {"ratio": 1.5}), "ratio must be in (0, 1]"),
        (_set("layers", 0, "keep", {"count": True}), "count must be a whole number, got True"),
        (_set("layers", 0, "keep", None), "needs a keep rule or a threshold"),
        (_set("layers", 0, "threshold", float("nan")), "threshold must be a number, got nan"),
        (_set("layers", 0, "threshold", 0.5), "they take no threshold"),
        (_set("layers", 0, "extra", 1), "unknown entry of a reducer 'extra'"),
        (_set("input", {"keep": None}), "a reducer lacks fate, protect, scorer, site, threshold"),
        (lambda record: record.pop("input"), "a plan lacks input"),
    ],
)
def test_a_record_that_is_no_plan_is_one_clear_line(change: Callable[[dict[str, Any]], None], said: str) -> None:
    record = copy.deepcopy(record_of(ReductionPlan((Reducer(TopK(ratio=0.5)), None))))
    change(record)
    with pytest.raises(DataError) as raised:
        plan_of(record, "config.json")
    assert str(raised.value).startswith("config.json: cannot read the plan: ")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("record", [None, [], "plan", 3])
def test_json_that_is_no_object_is_refused_as_a_plan(record: Any) -> None:
    with pytest.raises(DataError, match="x: cannot read the plan: a plan must be a JSON object"):
        plan_of(record, "x")
