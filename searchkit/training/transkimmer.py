"""Transkimmer: a gate before every layer decides for each token whether it goes on (arXiv 2205.07324).

A hard Gumbel-softmax sample (tau = 1) with a straight-through gradient decides; skimmed tokens are absent from every
later attention and keep their last state in the buffer. Loss = task + coefficient * mean over layers
of the share of tokens kept.

Deviations from the published code: the mask acts before the softmax, as absence (its own multiplies probabilities
afterwards, which is not dropping); no noise in evaluation; pads are never candidates, and the share is of real tokens
unless `measure` says "padded"; `measure="macs"` penalises what is computed, gates included, and `target` sets a goal
for the measure, reached by two Lagrange multipliers (ToP's scheme), in the place of a coefficient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from searchkit.errors import StudyError
from searchkit.reduction.cost import macs, unreduced_macs
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, TopK
from searchkit.reduction.relaxed import Decision
from searchkit.reduction.scorers.predictors import Gate
from searchkit.reduction.trace import Trace
from searchkit.training.loop import fit
from searchkit.training.plans import everywhere, with_input
from searchkit.training.recipe import begin
from searchkit.training.schedule import Taught
from searchkit.training.stage import Batch, TaskLoss, TrainingContext, check_scheduled, stage_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

MEASURES = ("tokens", "padded", "macs")


@dataclass(frozen=True)
class Transkimmer(Taught):
    """Train a gate per layer (see the top of this file).

    start: published None; distil: published 0 (docs/decisions/distillation.md); width: of the gates, None for the
    encoder's as published; bias: how sure of keeping they begin (a few hundred steps do not bring them down from the
    published 5); gate_rate: their learning rate; coefficient: of the skim loss, published 0.2 to 0.5; measure: "tokens"
    (share of the real tokens), "padded" (the paper's, of the longest in the batch) or "macs"; target: the measure's
    goal in (0, 1], None for a fixed coefficient; multiplier_rate: of theirs

    >>> Transkimmer(measure="macs", target=0.5).scale
    'probability'
    """

    learning_rate: float = 2e-5
    distil: float = 0.5
    width: int | None = None
    bias: float = 5.0
    gate_rate: float = 1e-3
    coefficient: float = 0.5
    measure: Literal["tokens", "padded", "macs"] = "tokens"
    target: float | None = None
    multiplier_rate: float = 2e-2

    heads = HEADS
    scale = "probability"

    def __post_init__(self) -> None:
        check_scheduled(self)
        if self.measure not in MEASURES:
            raise StudyError(f"measure is one of {', '.join(MEASURES)}, got {self.measure=}")
        if self.target is not None and not 0 < self.target <= 1:
            raise StudyError(f"target must be in (0, 1], got {self.target=}")
        if self.width is not None and self.width < 1:
            raise StudyError(f"width must be at least 1, got {self.width=}")
        if not (self.coefficient >= 0 and self.gate_rate > 0 and self.multiplier_rate > 0):
            raise StudyError(
                f"coefficient must not be negative and rates positive, got {self.coefficient=}, {self.gate_rate=}, "
                f"{self.multiplier_rate=}"
            )

    @property
    def reducer_template(self) -> Reducer:
        return Reducer(TopK(ratio=1.0), site="before_attention", scorer="gate")

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        task = begin(self, model, data, context)
        model.attach("gate", hidden=self.width, bias=self.bias)
        rates = {"predictors.gate": self.gate_rate}
        if self.target is not None:
            model.learn("multipliers", torch.zeros(2))
            rates["learned.multipliers"] = self.multiplier_rate

        def finish(model: AdaptiveModel) -> None:
            model.learned.clear()
            layers = model.shape.layers
            model.note("thresholds", with_input(self, [0.5] * layers, 0.0))  # the gates' own choice

        fit(model, data, stage_of("transkimmer", self, rates=rates), partial(self._losses, task), context, finish)

    def _losses(self, task_of: TaskLoss, model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
        logits, faded = model.fade(batch.tokens, everywhere(self, model.shape.layers), StraightThrough())
        kept = torch.stack([batch.layout.summed(alive) for alive in faded.alive[1:]], 1)  # (B, N)
        excess = skim_share(self.measure, model, kept, batch) - (self.target or 0.0)
        task = task_of(model, logits, batch)
        if self.target is None:
            yield task + self.coefficient * excess
            return
        multipliers = model.learned["multipliers"]
        yield task + multipliers[0] * excess + multipliers[1] * excess**2
        assert multipliers.grad is not None
        multipliers.grad.neg_()  # the model descends, the multipliers climb


def skim_share(measure: str, model: AdaptiveModel, kept: Tensor, batch: Batch) -> Tensor:
    """The share that is kept, of (B, N) kept tokens, by one of `MEASURES`: the skim loss pulls it down."""
    lengths = batch.layout.lengths
    if measure == "padded":
        return kept.mean() / batch.layout.longest
    if measure == "tokens":
        return (kept.mean(1) / lengths).mean()
    gate = cast(Gate, model.predictor("gate", 0))
    scored = torch.cat([lengths[:, None].to(kept), kept[:, :-1]], 1)  # a gate reads what the one before it left
    scoring = (gate.up.weight.numel() + gate.down.weight.numel()) * scored
    trace = Trace.of_kept(lengths, kept, scoring, first_only=model.shape.reads == "first")
    return (macs(trace, model.shape).sum() / unreduced_macs(lengths, model.shape).sum()).float()


@dataclass(frozen=True)
class StraightThrough:
    """Relaxation by a hard sample of the gate, with the soft one's gradient; without `noise` the gate's own choice."""

    noise: bool = True
    fades_states: bool = False

    def weights(self, decision: Decision) -> Tensor:
        logits = cast(Gate, decision.scorer).logits(decision.seen.hidden)
        if self.noise:
            return F.gumbel_softmax(logits, tau=1.0, hard=True)[:, 1]
        soft = logits.softmax(-1)[:, 1]
        return (soft >= 0.5).to(soft.dtype) - soft.detach() + soft
