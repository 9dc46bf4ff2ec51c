"""Conversion of candidates to plans, the same for every recipe.

Slots are the input, where the recipe gives it a reducer, and the layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.plan import Reducer, ReductionPlan

if TYPE_CHECKING:
    from searchkit.reduction.scorers import Scorer
    from searchkit.training.recipe import Recipe


def slots(recipe: Recipe, layers: int) -> int:
    """Number of values of a candidate's `lengths` and `thresholds`."""
    return layers + (recipe.input is not None)


def predictors_of(recipe: Recipe) -> frozenset[str]:
    """Kinds of trained scorers that the recipe's reducers use."""
    from searchkit.reduction.scorers import is_trained

    return frozenset(reducer.scorer for reducer in _reducers(recipe) if is_trained(reducer.scorer))


def scorers_of(recipe: Recipe) -> list[Scorer | type[Any]]:
    """Scorers, and classes of trained ones, of its reducers and of the recipes that it starts from."""
    from searchkit.reduction.scorers import settings_of

    start = [] if recipe.start is None else scorers_of(recipe.start)
    return [settings_of(reducer.scorer) for reducer in _reducers(recipe)] + start


def _reducers(recipe: Recipe) -> list[Reducer]:
    return [recipe.reducer_template, *([recipe.input.reducer_template] if recipe.input else [])]


def takes_as_it_is(recipe: Recipe) -> bool:
    """Return whether the recipe leaves the model's weights as they are, so that its head has to be trained already."""
    return getattr(recipe, "epochs", None) == 0 and getattr(recipe, "start", None) is None


def imitates_as_it_is(recipe: Recipe) -> bool:
    """Return whether the recipe learns from the outputs of the model as it is, so that it has to be trained already."""
    return getattr(recipe, "start", None) is None and bool(getattr(recipe, "distil", 0.0))


def everywhere(recipe: Recipe, layers: int) -> ReductionPlan:
    """Plan with the recipe's reducer at every layer, not at the input, for a relaxed pass, which reads no lengths."""
    return ReductionPlan((recipe.reducer_template,) * layers)


def with_input(recipe: Recipe, of_layers: list[float], of_input: float) -> list[float]:
    """Convert values per layer to values per slot."""
    return of_layers if recipe.input is None else [of_input, *of_layers]


def plan(recipe: Recipe, candidate: Candidate, layers: int) -> ReductionPlan:
    """Plan of a candidate's `lengths` and `thresholds`; without either, nothing is reduced.

    StudyError: they do not fit the encoder, or the recipe trained no score that a threshold could turn.
    """
    lengths, thresholds = _values(candidate, "lengths"), _values(candidate, "thresholds")
    if thresholds is not None and any(thresholds) and recipe.scale is None:
        raise StudyError(f"{type(recipe).__name__} trains no score that thresholds could turn; search its lengths")
    for name, values in (("lengths", lengths), ("thresholds", thresholds)):
        if values is not None and len(values) != slots(recipe, layers):
            where = f"{layers} layers" + (" and an input reducer" if recipe.input else "")
            raise StudyError(f"the encoder has {where}, the candidate's {name} are {values!r}")
    return ReductionPlan.of_slots(
        recipe.reducer_template,
        layers,
        lengths=lengths,
        thresholds=None if thresholds is None else [float(item) for item in thresholds],
        input_template=None if recipe.input is None else recipe.input.reducer_template,
    )


def _values(candidate: Candidate, name: str) -> tuple[float | int, ...] | None:
    """Candidate's tuple of that name, None if it has none; ints stay ints, since they are counts."""
    value = dict(candidate.items).get(name)
    if value is None:
        return None
    if not isinstance(value, tuple) or not all(isinstance(item, int | float) for item in value):
        raise StudyError(f"{name} must be numbers, one per slot, got {value!r}")
    return tuple(item for item in value if isinstance(item, int | float))
