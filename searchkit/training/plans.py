"""From a candidate to a plan, the same way for every recipe."""

from __future__ import annotations

from typing import Protocol

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.scorers import Scale


class Reducing(Protocol):
    """What of a recipe its plans depend on."""

    @property
    def scale(self) -> Scale | None: ...
    @property
    def input_like(self) -> Reducer | None: ...


def plan_of(candidate: Candidate, layers: int, like: Reducer, recipe: Reducing) -> ReductionPlan:
    """Reducers like `like` with the candidate's `lengths` and `thresholds`; either may be missing."""
    thresholds = _values(candidate, "thresholds")
    if thresholds is not None and any(thresholds) and recipe.scale is None:
        raise StudyError(f"{type(recipe).__name__} trains no score that thresholds could turn; search its lengths")
    lengths = _values(candidate, "lengths")
    places = layers + (recipe.input_like is not None)
    for name, values in (("lengths", lengths), ("thresholds", thresholds)):
        if values is not None and len(values) != places:
            where = f"{layers} layers" + (" and an input reducer" if recipe.input_like else "")
            raise StudyError(f"the encoder has {where}, the candidate's {name} are {values!r}")
    return ReductionPlan.of_places(
        like,
        layers,
        lengths=lengths,
        thresholds=None if thresholds is None else [float(item) for item in thresholds],
        input_like=recipe.input_like,
    )


def _values(candidate: Candidate, name: str) -> tuple[float | int, ...] | None:
    """The candidate's tuple of that name, None if it has none; ints stay ints, they are counts."""
    value = dict(candidate.items).get(name)
    if value is None:
        return None
    if not isinstance(value, tuple) or not all(isinstance(item, int | float) for item in value):
        raise StudyError(f"{name} must be numbers, one per place, got {value!r}")
    return tuple(item for item in value if isinstance(item, int | float))
