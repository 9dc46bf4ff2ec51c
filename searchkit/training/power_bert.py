"""PoWER-BERT: learn a weight for each rank of tokens, derive lengths from it, retrain at them (arXiv 2001.08950).

Configuration search: in layer l the token ranked r by attention received (without its own) is multiplied by a learnable
w_l[r] in [0, 1], with the penalty lambda * sum_l l * sum_r w_l[r]. Lengths are the masses sum_r w_l[r], made
non-increasing. Retraining drops tokens at these lengths.

Deviations from the published code: ranks are relative to the example's own length (`levels` of them), so that lengths
are shares and pads neither rank nor count; faded tokens also fade as keys, without which the limit of w = 0 is not
dropping; the order of tokens never changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, TopK, ranks
from searchkit.reduction.relaxed import Decision
from searchkit.training.loop import fit
from searchkit.training.plans import everywhere, plan, with_input
from searchkit.training.recipe import begin
from searchkit.training.schedule import Taught
from searchkit.training.stage import Batch, TaskLoss, TrainingContext, check_scheduled, stage_of, task_loss

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class PowerBert(Taught):
    """Train a weight per rank of tokens, then train on at the lengths derived from it (see the top of this file).

    epochs: of the configuration search; retrain_epochs: at its lengths; penalty: lambda, published 1e-4 to 7e-3;
    soft_rate: the learning rate of w, published 1e-4 to 3e-3

    >>> PowerBert(epochs=2, penalty=1e-3).heads
    ('classification', 'regression')
    """

    retrain_epochs: int = 2
    learning_rate: float = 3e-5
    penalty: float = 1e-3
    soft_rate: float = 3e-3
    levels: int = 64

    heads = ("classification", "regression")  # the paper restores nothing, so no token can be read
    scale = None

    def __post_init__(self) -> None:
        check_scheduled(self)
        if self.retrain_epochs < 0:
            raise StudyError(f"retrain_epochs must not be negative, got {self.retrain_epochs=}")
        if not (self.penalty > 0 and self.soft_rate > 0):
            raise StudyError(f"penalty and soft_rate must be positive, got {self.penalty=}, {self.soft_rate=}")
        if self.levels < 2:
            raise StudyError(f"levels must be at least 2, got {self.levels=}")

    @property
    def reducer_template(self) -> Reducer:
        return Reducer(TopK(ratio=1.0), scorer="attention_off_diagonal", fate="discard")

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        task = begin(self, model, data, context)
        layers = model.shape.layers
        model.learn("soft_extract", torch.ones(layers, self.levels))

        def finish(model: AdaptiveModel) -> None:
            lengths = lengths_of(model.learned.pop("soft_extract"))
            model.note("lengths", with_input(self, lengths, 1.0))

        rates = {"learned.soft_extract": self.soft_rate}

        fit(model, data, stage_of("power-search", self, rates=rates), partial(self._search, task), context, finish)
        if self.retrain_epochs:
            trained_plan = plan(self, Candidate.of(lengths=tuple(model.notes["lengths"])), layers)
            fit(
                model,
                data,
                stage_of("power-retrain", self, self.retrain_epochs),
                task_loss(trained_plan, task),
                context,
            )

    def _search(self, task: TaskLoss, model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
        extract = model.learned["soft_extract"]
        with torch.no_grad():
            extract.clamp_(0.0, 1.0)
        reducers = everywhere(self, model.shape.layers)
        logits, _ = model.fade(batch.tokens, reducers, SoftExtract(extract))
        depth = torch.arange(1, len(extract) + 1, device=extract.device)
        yield task(model, logits, batch) + self.penalty * (depth * extract.sum(1)).sum()


@dataclass(frozen=True, eq=False)
class SoftExtract:
    """Relaxation w_l[r] of the token of rank r, the ranks scaled to the (N, K) weights."""

    extract: Tensor
    fades_states: bool = True

    def weights(self, decision: Decision) -> Tensor:
        living = decision.scores.masked_fill(decision.alive <= 0, -math.inf).masked_fill(decision.protected, math.inf)
        layout = decision.layout
        level = ranks(living, layout) * self.extract.shape[1] // layout.lengths[layout.examples]
        return self.extract[decision.slot - 1][level]


def lengths_of(extract: Tensor) -> list[float]:
    """Lengths: the mean weight of each layer, never growing with depth, at least one level."""
    shares = extract.detach().clamp(0.0, 1.0).mean(1).clamp(min=1 / extract.shape[1])
    return list(accumulate((float(share) for share in shares), min))
