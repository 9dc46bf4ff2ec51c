"""LTP, Learned Token Pruning: a threshold per layer on the attention a token receives (arXiv 2107.00910).

Soft stage: the state is multiplied by sigmoid((s - theta) / T), loss = task + lambda * sum over layers of the mean
share of tokens left. Hard stage: thresholds fixed, tokens dropped, the rest trained on.

Deviations from the published code. Its scores sum to n_real / n_padded, so its thresholds only hold at one padded
length and pads enter its penalty; here scores are shares of the real tokens and thresholds are relative to uniform
(theta times the number of living tokens), as are T and the ramp they start from. Faded tokens also fade as keys, [CLS]
stays, and tokens are really dropped: the published code never removes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, TopK
from searchkit.reduction.relaxed import Decision
from searchkit.training.loop import fit
from searchkit.training.plans import everywhere, plan, with_input
from searchkit.training.recipe import begin, check_fate
from searchkit.training.schedule import Taught
from searchkit.training.stage import Batch, TaskLoss, TrainingContext, check_scheduled, stage_of, task_loss

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class LTP(Taught):
    """Train a threshold per layer, then train on with it (see the top of this file).

    epochs: of the soft stage; hard_epochs: of the hard one; penalty: lambda, published 0.01 to 0.2; temperature: T, in
    multiples of the uniform share (published 1e-4 to 2e-3 of 128 tokens); final: the last layer's threshold to start
    from, layer l of L starting at final * (l - 1) / L

    >>> LTP(penalty=0.05, hard_epochs=1).reducer_template.fate
    'discard'
    """

    hard_epochs: int = 2
    learning_rate: float = 2e-5
    penalty: float = 0.1
    temperature: float = 0.1
    final: float = 1.0
    threshold_rate: float = 2e-3
    fate: str = "discard"

    heads = HEADS
    scale = "relative"

    def __post_init__(self) -> None:
        check_scheduled(self)
        check_fate(self.fate)
        if self.hard_epochs < 0:
            raise StudyError(f"hard_epochs must not be negative, got {self.hard_epochs=}")
        for name in ("penalty", "temperature", "final", "threshold_rate"):
            if not getattr(self, name) > 0:
                raise StudyError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def reducer_template(self) -> Reducer:
        return Reducer(TopK(ratio=1.0), scorer="attention_mean", fate=self.fate)

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        task = begin(self, model, data, context)
        layers = model.shape.layers
        model.learn("thresholds", self.final * torch.arange(layers) / layers)

        def finish(model: AdaptiveModel) -> None:
            learned = [max(threshold, 0.0) for threshold in model.pop_learned("thresholds")]
            model.note("thresholds", with_input(self, learned, 0.0))

        rates = {"learned.thresholds": self.threshold_rate}

        fit(model, data, stage_of("ltp-soft", self, rates=rates), partial(self._soft, task), context, finish)
        if self.hard_epochs:
            trained_plan = plan(self, Candidate.of(thresholds=tuple(model.notes["thresholds"])), layers)
            fit(model, data, stage_of("ltp-hard", self, self.hard_epochs), task_loss(trained_plan, task), context)

    def _soft(self, task: TaskLoss, model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
        reducers = everywhere(self, model.shape.layers)
        logits, faded = model.fade(batch.tokens, reducers, Sigmoid(model.learned["thresholds"], self.temperature))
        shares = torch.stack([batch.layout.summed(alive) for alive in faded.alive[1:]]) / batch.layout.lengths  # (N, B)
        yield task(model, logits, batch) + self.penalty * shares.sum(0).mean()


@dataclass(frozen=True, eq=False)
class Sigmoid:
    """Relaxation sigmoid((s n - theta_l) / T), s n being the score in multiples of the uniform share."""

    thresholds: Tensor
    temperature: float
    fades_states: bool = True

    def weights(self, decision: Decision) -> Tensor:
        relative = decision.scores * decision.seen.counts[decision.layout.examples]
        return torch.sigmoid((relative - self.thresholds[decision.slot - 1]) / self.temperature)
