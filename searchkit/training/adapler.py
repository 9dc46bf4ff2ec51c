"""AdapLeR: contribution predictors learn from saliency which tokens matter; thresholds learn how many stay.

Modarressi, Mohebbi, Pilehvar, arXiv 2203.08991. A predictor before every layer gives each living token a share; tokens
below eta_l / n_l fade, steeper with every epoch. Weights and predictors follow task + gamma * sum_l (L - l)
KL(saliency || predicted shares); eta and theta follow task + phi * sum_l n_l, with their own learning rate. theta_l
scales the share that [CLS] has in the target, and moves against the gradient of a probe on its predicted share.

Deviations from the published code: the slope of an epoch holds from its first step; one saliency dump, of the last
fine-tuned epoch (the published one averages the three best by dev score, which would need a fourth split); the last
layer's tokens are counted as they are (the published count compares shares with eta, not eta / n). Dropout of attention
probabilities is off, as published.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit._internal.checks import check_count
from searchkit.errors import StudyError
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, TopK
from searchkit.reduction.ragged import Layout
from searchkit.reduction.relaxed import Decision
from searchkit.training.loop import fit
from searchkit.training.plans import everywhere, with_input
from searchkit.training.recipe import begin
from searchkit.training.saliency import stored_saliency, token_rows
from searchkit.training.schedule import Taught
from searchkit.training.stage import WIDEST, Batch, TaskLoss, TrainingContext, check_scheduled, stage_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

BETA = 0.1
LOWEST, HIGHEST = 0.01, 1.0  # bounds of eta
FLOOR = -10_000.0  # lowest value of the additive mask term; its exp is 0


@dataclass(frozen=True)
class AdapLeR(Taught):
    """Train contribution predictors and thresholds per layer (see the top of this file).

    start: the fine-tuning that saliency is taken from; initial: the weights that training starts from, "pretrained" as
    published or "finetuned"; gamma, phi: weights of the distillation and of the length; eta: the threshold to start
    from; hidden: the predictors' width; explain: the output whose saliency is taken, the "gold" one or, for data
    without labels, the "predicted" one

    >>> AdapLeR(eta=0.3, hidden=16).reducer_template.scorer
    'contribution'
    """

    epochs: int = 5
    initial: Literal["pretrained", "finetuned"] = "pretrained"
    learning_rate: float = 3e-5
    gamma: float = 5e-3
    phi: float = 5e-4
    eta: float = 0.25
    threshold_rate: float = 5e-4
    predictor_rate: float | None = None
    hidden: int = 32
    explain: Literal["gold", "predicted"] = "gold"

    heads = ("classification", "regression")
    scale = "relative"

    def __post_init__(self) -> None:
        check_scheduled(self)
        if self.initial not in ("pretrained", "finetuned"):
            raise StudyError(f"initial is 'pretrained' or 'finetuned', got {self.initial=}")
        if self.explain not in ("gold", "predicted"):
            raise StudyError(f"explain is 'gold' or 'predicted', got {self.explain=}")
        if not LOWEST <= self.eta <= HIGHEST:
            raise StudyError(f"eta must be in [{LOWEST}, {HIGHEST}], got {self.eta=}")
        if not (self.gamma >= 0 and self.phi >= 0 and self.threshold_rate > 0):
            raise StudyError(f"weights must not be negative, got {self.gamma=}, {self.phi=}, {self.threshold_rate=}")
        check_count("hidden", self.hidden, WIDEST)

    @property
    def reducer_template(self) -> Reducer:
        return Reducer(TopK(ratio=1.0), site="before_attention", scorer="contribution", fate="discard")

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        pretrained = {name: weight.clone() for name, weight in model.stock.state_dict().items()}
        task = begin(self, model, data, context)
        saliency = stored_saliency(model, data, context, gold=self.explain == "gold")
        if self.initial == "pretrained":
            model.stock.load_state_dict(pretrained)
        layers = model.shape.layers
        model.attach("contribution", hidden=self.hidden)
        model.learn("eta", torch.full((layers,), self.eta))
        model.learn("theta", torch.ones(layers))
        rates = {"learned.": self.threshold_rate}
        if self.predictor_rate is not None:
            rates["predictors.contribution"] = self.predictor_rate
        steps = -(-len(data) // self.batch_size)

        def losses(model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
            return self._losses(model, batch, slope_of(step // steps, self.epochs), data, saliency, task)

        def finish(model: AdaptiveModel) -> None:
            model.pop_learned("theta")
            eta = [min(max(value, LOWEST), HIGHEST) for value in model.pop_learned("eta")]
            model.note("thresholds", with_input(self, eta, 0.0))

        fit(model, data, stage_of("adapler", self, rates=rates), losses, context, finish)

    def _losses(
        self,
        model: AdaptiveModel,
        batch: Batch,
        slope: float,
        data: Encoded,
        saliency: NDArray[np.float32],
        task_of: TaskLoss,
    ) -> Iterator[Tensor]:
        eta, theta, layout = model.learned["eta"], model.learned["theta"], batch.layout
        with torch.no_grad():
            eta.clamp_(LOWEST, HIGHEST)
        probe = torch.ones_like(theta, requires_grad=True)
        soft = SoftRemoval(eta, slope, probe)
        reducers = everywhere(self, model.shape.layers)
        logits, faded = model.fade(batch.tokens, reducers, soft, attention_dropout=False)
        task = task_of(model, logits, batch)
        left = torch.stack([layout.summed(alive) for alive in faded.alive[1:]])  # (N, B) soft tokens per layer
        shortened = torch.autograd.grad(task + self.phi * left.sum(0).mean(), [eta, probe], retain_graph=True)
        target = torch.as_tensor(saliency[token_rows(data, batch.rows.numpy())].copy()).to(layout.offsets.device)
        yield task + self.gamma * distillation(target, soft, theta.detach(), layout)
        eta.grad = shortened[0]  # instead of what the distillation has to say about them
        theta.grad = shortened[1] / theta.detach()
        theta.grad[0] = 0.0  # the first layer's target has no theta


@dataclass(frozen=True, eq=False)
class SoftRemoval:
    """Relaxation by exp of `removal`; `seen` keeps each layer's shares and the weights before it.

    probe: (N,) ones that scale the predicted share of [CLS]; more of it leaves less to the others
    """

    eta: Tensor
    slope: float
    probe: Tensor
    fades_states: bool = False
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def weights(self, decision: Decision) -> Tensor:
        layer, layout = decision.slot - 1, decision.layout
        probed = torch.where(layout.positions == 0, self.probe[layer], 1.0) * decision.scores
        shares = probed / layout.summed(probed).clamp(min=1e-30)[layout.examples]
        self.seen.append((shares, decision.alive))
        delta = self.eta[layer] / decision.seen.counts
        return removal(shares, delta[layout.examples], self.slope).exp()


def removal(shares: Tensor, delta: Tensor, slope: float) -> Tensor:
    """Log-weight min((slope / delta) (x - delta) - beta / slope, (beta / slope) (x - 1) / (1 - delta), 0), >= -10,000.

    The term that is added to the attention logits of a token with share x. (T,), (T,) -> (T,)
    """
    below = slope / delta * (shares - delta) - BETA / slope
    above = BETA / slope * (shares - 1) / (1 - delta).clamp(min=1e-6)
    return torch.minimum(below, above).clamp(FLOOR, 0.0)


def distillation(saliency: Tensor, soft: SoftRemoval, theta: Tensor, layout: Layout) -> Tensor:
    """Loss sum_l (L - l) KL(target_l || shares_l), l from 0, mean over the examples, without those of [CLS] alone.

    target_l: the saliency (T,) of what lives before layer l, [CLS] scaled by theta_l, divided by its sum.
    """
    total = torch.zeros((), device=saliency.device)
    for layer, (shares, alive) in enumerate(soft.seen):
        scaled = saliency * alive * torch.where(layout.positions == 0, theta[layer], 1.0)
        target = scaled / layout.summed(scaled).clamp(min=1e-30)[layout.examples]
        terms = target * (target.clamp(min=1e-7).log() - shares.clamp(min=1e-7).log())
        apart = layout.summed(terms)[layout.summed(alive) > 1 + 1e-3]
        total = total + (len(soft.seen) - layer) * (apart.mean() if len(apart) else 0.0)
    return total


def slope_of(epoch: int, epochs: int) -> float:
    """Slope (lambda) of an epoch (0-based): 10^(e + 1); 10 * 3^e of exactly 10 epochs; 50 * 50^e of exactly 3."""
    first, factor = {10: (10.0, 3.0), 3: (50.0, 50.0)}.get(epochs, (10.0, 10.0))
    return float(first * factor**epoch)
