"""The protocol of recipes: how a model is trained so that many plans work on the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from searchkit.errors import StudyError, unknown
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import FATES, Reducer
from searchkit.reduction.scorers import Scale
from searchkit.training.stage import Where

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded
    from searchkit.training.input_reducer import InputReducer


class Recipe(Protocol):
    """A way to train a supernet, and what a candidate means for a model trained that way."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The kinds of output (`heads.HEADS`) it can train."""

    @property
    def scale(self) -> Scale | None:
        """What thresholds mean for a model trained this way; None: it has no score that a threshold could turn."""

    @property
    def reducer_template(self) -> Reducer:
        """Its reducer, length and threshold aside."""

    @property
    def start(self) -> Recipe | None:
        """The recipe that is run before; None to begin with the model as it is."""

    @property
    def input(self) -> InputReducer | None:
        """The reducer before the first attention, if any, which is trained after `start`."""

    def train(self, model: AdaptiveModel, data: Encoded, where: Where) -> None:
        """Train `model` in place; continue from whatever `where.folder` holds of an interrupted training."""


def begin(recipe: Recipe, model: AdaptiveModel, data: Encoded, where: Where) -> None:
    """What comes before a recipe's own stages: the recipe it starts from, and its input's reducer."""
    if recipe.start is not None:
        recipe.start.train(model, data, where)
    if recipe.input is not None:
        recipe.input.train(model, data, where)


def check_fate(fate: str) -> None:
    """Refused when the recipe is made, not after hours of training."""
    if fate not in FATES:
        raise StudyError(unknown("fate", fate, FATES))
