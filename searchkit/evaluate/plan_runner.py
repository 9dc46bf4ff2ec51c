"""Runner of candidates' plans: a trained model with its recipe, which says what a candidate means."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from searchkit.evaluate.baselines import plan_of
from searchkit.evaluate.energy import environment_of
from searchkit.evaluate.passes import Passes, passes_over
from searchkit.evaluate.split import Split
from searchkit.records import Candidate, Scalar
from searchkit.reduction.device import ONE_TEXT_IN_FP32
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.training.recipe import Recipe


@dataclass(frozen=True, eq=False)
class PlanRunner:
    """Model in evaluation mode, on its device, and the recipe that trained it.

    alone: makes the same model in float32, where one text alone is passed in that (`alone_in_fp32`)
    """

    model: AdaptiveModel
    recipe: Recipe
    alone: Callable[[], AdaptiveModel] | None = field(default=None, kw_only=True)

    @cached_property
    def _for_one(self) -> AdaptiveModel:
        return self.model if self.alone is None else self.alone()

    @cached_property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        """Environment of every number that is measured with this model."""
        return {**environment_of(self.model), **({} if self.alone is None else ONE_TEXT_IN_FP32)}

    @property
    def unreduced(self) -> ReductionPlan:
        return ReductionPlan.unreduced(self.model.shape.layers)

    def plan(self, candidate: Candidate, marks: Collection[str] = ()) -> ReductionPlan:
        """Plan of a candidate, or of the baseline that it names; StudyError where it does not fit the encoder.

        marks: kinds of tokens that the task marks in its texts
        """
        return plan_of(candidate, self.recipe, self.model.shape.layers, marks, self.model.head.name)

    def forward(self, tokens: Tokens, plan: ReductionPlan) -> Tensor:
        """Float32 logits (B, C), or (T, C) of every token, of one pass over a batch alone, as deployed."""
        with torch.inference_mode():
            model = self._for_one if tokens.layout.only else self.model
            return model(tokens, plan).logits.float()  # type: ignore[no-any-return]

    def weights(self, plan: ReductionPlan) -> Hashable:
        """Identity of the weights in memory that a pass under the plan reads."""
        return id(self.model)

    def passes_over(self, split: Split, plans: Sequence[ReductionPlan]) -> list[Passes]:
        """Passes of every plan over a split; a plan's result depends neither on the others nor on the cache."""
        return passes_over(split, self.model, plans, self.recipe.reducer_template)


@dataclass(frozen=True, eq=False)
class Rival:
    """Model of a rival, always run unreduced, with the split as its tokenizer encodes it."""

    runner: PlanRunner
    split: Split

    def smaller(self, token_budget: int) -> Rival:
        """The rival with batches of so many tokens."""
        return replace(self, split=replace(self.split, token_budget=token_budget))
