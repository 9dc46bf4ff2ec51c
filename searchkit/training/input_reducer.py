"""Reducer of the input: drops tokens before the first attention, which reducers after attention leave whole.

Its predictor is distilled from the model's own received attention (no paper; the loss is AdapLeR's KL divergence
with attention in the place of saliency): a token that no layer looks at need not enter. With `value_norm`
nothing is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor

from searchkit._internal.checks import check_count, check_fields
from searchkit.errors import StudyError, unknown
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.relaxed import Decision
from searchkit.reduction.scorers.base import Seen
from searchkit.training.loop import fit
from searchkit.training.stage import WIDEST, Batch, Stage, TrainingContext, check_schedule

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

SCORERS: Final = {"predictor": "input", "value_norm": "value_norm"}


@dataclass(frozen=True)
class InputReducer:
    """Reducer of the input, before the first attention.

    scorer: "predictor" (D -> hidden -> 1, trained for `epochs`) or "value_norm" of the first layer

    >>> from searchkit.training import LengthDrop
    >>> LengthDrop(input=InputReducer(hidden=16)).input.reducer_template.scorer
    'input'
    """

    scorer: Literal["predictor", "value_norm"] = "predictor"
    hidden: int = 32
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scorer not in SCORERS:
            raise StudyError(unknown("input scorer", self.scorer, SCORERS))
        check_count("hidden", self.hidden, WIDEST)
        check_schedule(self.epochs, self.batch_size, self.learning_rate, 0.0)

    @property
    def reducer_template(self) -> Reducer:
        return Reducer(TopK(ratio=1.0), site="before_attention", scorer=SCORERS[self.scorer])

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        """Train the predictor alone; the model stays as it is."""
        if self.scorer != "predictor":
            return
        model.attach("input", hidden=self.hidden)
        stage = Stage("input", self.epochs, self.batch_size, self.learning_rate, 0.0, 0.0)
        fit(model, data, stage, _distilled, context)


@dataclass(frozen=True)
class _KeepAll:
    """Relaxation that keeps every token and records every score."""

    fades_states: bool = False

    def weights(self, decision: Decision) -> Tensor:
        return torch.ones_like(decision.scores)


def _distilled(model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
    """Loss KL(received || predicted), the attention received being the mean share over the layers, [CLS] included."""
    layout = batch.layout
    with torch.no_grad():
        model.eval()
        embedded = model.embed(batch.tokens)
        watched = ReductionPlan((Reducer(TopK(ratio=1.0), scorer="attention_mean"),) * model.shape.layers)
        _, seen = model.fade(batch.tokens, watched, _KeepAll(), embedded)
        target = torch.stack(list(seen.scores.values())).mean(0)
        model.train()
    predicted = model.predictor("input", 0).score(Seen(embedded, layout, layout, lambda: embedded))
    divergence = target * (target.clamp(min=1e-9).log() - predicted.clamp(min=1e-9).log())
    yield layout.summed(divergence).mean()
