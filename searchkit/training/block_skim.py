"""Block-Skim: after each layer, blocks of 32 tokens that will not hold the answer are dropped (arXiv 2112.08560).

A small CNN reads each block's square of the attention map and learns, from the answer spans, whether the block holds
answer tokens: loss = task + factor * sum over layers of a cross-entropy in which such blocks weigh `balance`.
Nothing is dropped in training.

Deviations from the published code: blocks are fixed by position, so lengths need not be multiples of 32 and every
example drops for itself (the published batch keeps as many blocks as its neediest example); [CLS] and the question
always stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from searchkit.errors import StudyError
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, TopK
from searchkit.reduction.ragged import Layout
from searchkit.reduction.relaxed import Decision
from searchkit.reduction.scorers.block import BlockScorer
from searchkit.training.finetune import FineTune
from searchkit.training.loop import fit
from searchkit.training.plans import everywhere, with_input
from searchkit.training.recipe import begin, check_fate
from searchkit.training.schedule import Taught
from searchkit.training.stage import Batch, TaskLoss, TrainingContext, check_scheduled, stage_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class BlockSkim(Taught):
    """Train a scorer of blocks per layer (see the top of this file).

    start: a fine-tuning before, None to begin with the pretrained model as published; factor: published 0.1; balance:
    the weight of blocks with an answer, published 20; fate: "freeze" gives skimmed tokens back to the span head with
    their last state, "discard" rules them out as the published code does

    >>> BlockSkim(balance=10.0).heads
    ('question_answering',)
    """

    epochs: int = 2
    start: FineTune | None = None
    batch_size: int = 16
    learning_rate: float = 3e-5
    scorer_rate: float = 1e-3
    factor: float = 0.1
    balance: float = 20.0
    fate: str = "freeze"

    heads = ("question_answering",)
    scale = "probability"

    def __post_init__(self) -> None:
        check_scheduled(self)
        check_fate(self.fate)
        for name in ("scorer_rate", "factor", "balance"):
            if not getattr(self, name) > 0:
                raise StudyError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def reducer_template(self) -> Reducer:
        protect = ("cls", "question")
        return Reducer(TopK(ratio=1.0), site="after_layer", scorer="block", fate=self.fate, protect=protect)

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        task = begin(self, model, data, context)
        model.attach("block")

        def finish(model: AdaptiveModel) -> None:
            layers = model.shape.layers
            model.note("thresholds", with_input(self, [0.5] * layers, 0.0))

        rates = {"predictors.block": self.scorer_rate}

        fit(model, data, stage_of("block-skim", self, rates=rates), partial(self._losses, task), context, finish)

    def _losses(self, task: TaskLoss, model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
        watch = Supervised(answer_tokens(batch.layout, batch.labels), self.balance)
        logits, _ = model.fade(batch.tokens, everywhere(self, model.shape.layers), watch)
        yield task(model, logits, batch) + self.factor * torch.stack(watch.losses).sum()


@dataclass(frozen=True, eq=False)
class Supervised:
    """Relaxation that keeps every token, and compares each layer's blocks with the answer tokens (T,)."""

    answers: Tensor
    balance: float
    fades_states: bool = False
    losses: list[Tensor] = field(default_factory=list)

    def weights(self, decision: Decision) -> Tensor:
        logits, block = cast(BlockScorer, decision.scorer).logits(decision.seen)
        holds = torch.zeros(len(logits), device=logits.device).index_add(0, block, self.answers.float()) > 0
        weight = torch.tensor([1.0, self.balance], device=logits.device)
        self.losses.append(F.cross_entropy(logits, holds.long(), weight))
        return torch.ones_like(decision.scores)


def answer_tokens(layout: Layout, labels: Tensor) -> Tensor:
    """(T,) True for the tokens of each example's answer, labels (B, 2) being its ends; none where both are 0."""
    first, last = labels[layout.examples].unbind(1)
    return (layout.positions >= first) & (layout.positions <= last) & (last > 0)
