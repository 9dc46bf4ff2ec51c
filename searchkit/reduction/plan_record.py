"""Plans as JSON: written into the config of a shipped model, and read back exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from searchkit.errors import DataError, SearchkitError, unknown
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.scorers import SCORERS, Scorer

FORMAT: Final = 1
_PLAN: Final = ("format", "input", "layers")
_REDUCER: Final = ("fate", "keep", "protect", "scorer", "site", "threshold")

Record = dict[str, Any]


def record_of(plan: ReductionPlan) -> Record:
    """The plan as JSON; DataError for a scorer that is an object without a registered name.

    >>> from searchkit.reduction.plan import ReductionPlan
    >>> record = record_of(ReductionPlan.of_lengths((1.0, 0.3)))
    >>> record["layers"][0], record["layers"][1]["keep"]
    (None, {'ratio': 0.3})
    >>> plan_of(record, "here") == ReductionPlan.of_lengths((1.0, 0.3))
    True
    """
    return {
        "format": FORMAT,
        "input": _written(plan.input),
        "layers": [_written(reducer) for reducer in plan.reducers],
    }


def plan_of(record: Any, source: str) -> ReductionPlan:
    """The plan that `record_of` wrote; DataError, which begins with `source`, says what is wrong with it.

    Scorers are looked up by name: the code that registers one of your own must have run.
    """
    try:
        given = _fields(record, _PLAN, "a plan")
        if given["format"] != FORMAT:
            raise DataError(f"its format is {given['format']!r}, this version of searchkit reads {FORMAT}")
        if not isinstance(given["layers"], list):
            raise DataError(f"layers must be a list, got {given['layers']!r}")
        return ReductionPlan(tuple(map(_read, given["layers"])), _read(given["input"]))
    except (SearchkitError, ValueError) as error:
        raise DataError(f"{source}: cannot read the plan: {error}") from None


def _written(reducer: Reducer | None) -> Record | None:
    if reducer is None:
        return None
    keep, threshold = reducer.keep, reducer.threshold
    return {
        "keep": None if keep is None else _keep_written(keep),
        "threshold": None if threshold is None else float(threshold),
        "site": reducer.site,
        "scorer": _name_of(reducer.scorer),
        "fate": reducer.fate,
        "protect": list(reducer.protect),
    }


def _keep_written(keep: TopK) -> Record:
    if keep.count is not None:
        return {"count": int(keep.count)}
    assert keep.ratio is not None
    return {"ratio": float(keep.ratio)}


def _name_of(scorer: str | Scorer) -> str:
    if isinstance(scorer, str):
        return scorer
    name = next((name for name, known in SCORERS.items() if known == scorer), None)
    if name is None:
        raise DataError(
            f"the plan scores by {scorer!r}, which has no name: call register('scorer', NAME, {type(scorer).__name__}"
            "(...)) in the study file, then the plan can be stored"
        )
    return name


def _read(record: Any) -> Reducer | None:
    if record is None:
        return None
    given = _fields(record, _REDUCER, "a reducer")
    protect = given["protect"]
    if not isinstance(protect, list) or not all(isinstance(name, str) for name in protect):
        raise DataError(f"protect must be a list of names, got {protect!r}")
    for name in ("site", "scorer", "fate"):
        if not isinstance(given[name], str):
            raise DataError(f"{name} must be a name, got {given[name]!r}")
    return Reducer(
        keep=_keep_read(given["keep"]),
        threshold=None if given["threshold"] is None else _number(given["threshold"], "threshold"),
        site=given["site"],
        scorer=given["scorer"],
        fate=given["fate"],
        protect=tuple(protect),
    )


def _keep_read(record: Any) -> TopK | None:
    if record is None:
        return None
    if not isinstance(record, Mapping) or list(record) not in (["ratio"], ["count"]):
        raise DataError(f"keep must be {{'ratio': number}} or {{'count': number}}, got {record!r}")
    if "ratio" in record:
        return TopK(ratio=_number(record["ratio"], "ratio"))
    if type(record["count"]) is not int:
        raise DataError(f"count must be a whole number, got {record['count']!r}")
    return TopK(count=record["count"])


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{name} must be a number, got {value!r}")
    return float(value)


def _fields(record: Any, names: tuple[str, ...], what: str) -> Mapping[str, Any]:
    if not isinstance(record, Mapping):
        raise DataError(f"{what} must be a JSON object, got {record!r}")
    for name in record:
        if name not in names:
            raise DataError(unknown(f"entry of {what}", name, names))
    if lacking := [name for name in names if name not in record]:
        raise DataError(f"{what} lacks {', '.join(lacking)}")
    return record
