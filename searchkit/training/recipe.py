"""Protocol of recipes: training of a model so that many plans work on the same weights."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Protocol

from searchkit.errors import StudyError, unknown
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import FATES, Reducer
from searchkit.reduction.scorers import Scale
from searchkit.training.stage import TaskLoss, TrainingContext, labelled
from searchkit.training.teacher import taught

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded
    from searchkit.training.input_reducer import InputReducer


class Recipe(Protocol):
    """Training method of a supernet, and the reducer that its candidates configure.

    >>> from searchkit.training import LengthDrop
    >>> recipe: Recipe = LengthDrop()
    >>> recipe.reducer_template.scorer, recipe.scale
    ('attention_mean', 'relative')
    """

    @property
    def heads(self) -> Collection[str]:
        """Kinds of output (`heads.HEADS`) that it can train."""

    @property
    def scale(self) -> Scale | None:
        """Scale of its thresholds; None: it trains no score to which a threshold applies."""

    @property
    def reducer_template(self) -> Reducer:
        """Reducer of the candidates, length and threshold aside."""

    @property
    def start(self) -> Recipe | None:
        """Recipe that runs before; None to begin with the model as it is."""

    @property
    def input(self) -> InputReducer | None:
        """Reducer before the first attention, if any, which is trained after `start`."""

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        """Train `model` in place; go on from an interrupted training that `context.folder` holds."""


def check_recipe(recipe: Recipe, head: str, scales: Iterable[Scale]) -> None:
    """Raise StudyError where the recipe cannot train this kind of output, or has no thresholds of these scales.

    scales: of the thresholds that a study searches
    """
    name, start = type(recipe).__name__, recipe.start
    if head not in recipe.heads:
        raise StudyError(f"{name} trains {' and '.join(recipe.heads)}, the task is {head}")
    if start is not None and start.input is not None:
        raise StudyError(f"{name}: its start trains an input reducer that no candidate uses; give it to {name} itself")
    for scale in scales:
        if recipe.scale is None:
            raise StudyError(f"{name} trains no score that thresholds could turn; search its lengths")
        if scale != recipe.scale:
            raise StudyError(f"thresholds of {name} have the scale {recipe.scale!r}, the space has {scale!r}")


def begin(recipe: Recipe, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> TaskLoss:
    """Train the recipe that it starts from, then its input's reducer: the stages before a recipe's own.

    Returns the loss of the task for those, in which the model teaches as it is now where the recipe says so (`distil`).
    """
    if recipe.start is not None:
        recipe.start.train(model, data, context)
    if recipe.input is not None:
        recipe.input.train(model, data, context)
    share = getattr(recipe, "distil", 0.0)
    return taught(model, data, context, share) if share else labelled


def check_fate(fate: str) -> None:
    """Raise StudyError for an unknown fate."""
    if fate not in FATES:
        raise StudyError(unknown("fate", fate, FATES))
