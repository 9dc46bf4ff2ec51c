"""The relaxed pass in its hard limit is physical dropping, for every scorer and site, at any scale of the logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from searchkit.reduction.attention import weighted_softmax
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.relaxed import Hard
from searchkit.reduction.scorers import PREDICTORS, SCORERS, scale_of
from tests.reduction.models import LAYERS, classifier, examples, tokens

LAYER_PREDICTORS = tuple(name for name in PREDICTORS if name != "input")
SCALES = (0.02, 1.0, 100.0)  # standard deviation of the attention logits


def scaled(scale: float) -> AdaptiveModel:
    """A random model with every predictor, whose first layer's attention logits have this standard deviation."""
    torch.manual_seed(0)
    model = classifier("bert")
    for name in PREDICTORS:
        for part in model.attach(name):
            for weight in part.parameters():
                torch.nn.init.normal_(weight, std=0.5)
    block = model.view.blocks[0]
    projected = block.projected(model.embed(tokens(examples(3))), tokens(examples(3)).layout.positions)
    query, key, _ = projected.chunk(3, -1)
    logits = (query @ key.T).std().item() / math.sqrt(query.shape[1] // block.heads)
    with torch.no_grad():
        for layer in model.stock.bert.encoder.layer:
            layer.attention.self.query.weight *= scale / logits
            layer.attention.self.query.bias *= scale / logits
    return model.eval()


def able(scorer: str, site: str) -> bool:
    """Scorers of attention need an attention before them."""
    known = SCORERS.get(scorer) or PREDICTORS[scorer]
    return site != "before_attention" or known.read is None


CASES = [(scorer, site) for scorer in (*SCORERS, *LAYER_PREDICTORS) for site in SITES if able(scorer, site)]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("scorer", "site"), CASES)
def test_the_hard_limit_of_the_relaxed_pass_is_physical_dropping(scorer: str, site: str, scale: float) -> None:
    model = scaled(scale)
    medium = {"relative": 0.7, "probability": 0.5}.get(scale_of(scorer) or "")
    plans = [
        ReductionPlan.of_slots(Reducer(TopK(ratio=1.0), site=site, scorer=scorer), LAYERS, lengths=(0.8, 0.5, 0.3))
    ]
    if medium is not None:
        like = Reducer(TopK(ratio=1.0), site=site, scorer=scorer)
        plans += [
            ReductionPlan.of_slots(like, LAYERS, thresholds=(medium,) * LAYERS),
            ReductionPlan.of_slots(like, LAYERS, thresholds=(medium,) * LAYERS, lengths=(0.8, 0.8, 0.3)),
        ]
    for plan in plans:
        apart, rounding = [], []
        for batch in (3, 8):  # others, in float64, by the contract of scorers
            given = tokens(examples(batch, seed=batch))
            dropped, faded = both(model.float(), given, plan)
            exactly, faded_exactly = both(model.double(), given, plan)
            torch.testing.assert_close(faded_exactly, exactly, atol=1e-9, rtol=0)
            apart.append((faded - dropped).abs().max().item())
            rounding.append((dropped - exactly).abs().max().item())
        # logits of 100 amplify float32 rounding: there no two ways to compute the same agree better than this
        allowed = 1e-5 if scale <= 1 else max(1e-5, 3 * max(rounding))
        assert max(apart) <= allowed, (apart, rounding)


def both(model: AdaptiveModel, given: Tokens, plan: ReductionPlan) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the physical and of the relaxed pass, whose weights must be 0 and 1 only."""
    with torch.no_grad():
        logits, faded = model.fade(given, plan, Hard())
        assert set(faded.alive.unique().tolist()) <= {0.0, 1.0}
        return model(given, plan).logits.double(), logits.double()


@pytest.mark.parametrize("scale", SCALES)
def test_weighted_softmax_is_the_softmax_over_what_is_present(scale: float) -> None:
    torch.manual_seed(0)
    logits, weights = scale * torch.randn(50, 20), torch.randint(0, 2, (50, 20)).float()
    weights[:, 0] = 1
    expected = logits.masked_fill(weights == 0, -math.inf).softmax(-1)
    torch.testing.assert_close(weighted_softmax(logits, weights), expected, atol=1e-6, rtol=1e-5)
    part = torch.rand(50, 20) + 0.01
    weighted = weighted_softmax(logits.double(), part.double())
    torch.testing.assert_close(weighted, (logits.double() + part.double().log()).softmax(-1))


def test_an_absent_key_has_the_gradient_that_its_return_would_have() -> None:
    """Against the difference quotient: bringing a key of weight 0 back by a little."""
    torch.manual_seed(0)
    logits, weights, chosen = (
        torch.randn(6).double(),
        torch.tensor([1.0, 0, 1, 1, 0, 1]).double(),
        torch.randn(6).double(),
    )
    weights.requires_grad_()
    (weighted_softmax(logits, weights) * chosen).sum().backward()
    step = 1e-6
    for key in range(6):
        moved = weights.detach().clone()
        moved[key] += step
        allowed = logits.clone()
        if weights[key] == 0:  # an absent key's exponential is cut at the strongest present one
            allowed[key] = min(allowed[key], logits[weights > 0].max())
        change = ((moved.log() + allowed).softmax(-1) - (weights.detach().log() + allowed).softmax(-1)) @ chosen
        assert weights.grad is not None
        assert weights.grad[key].item() == pytest.approx(change.item() / step, abs=1e-4)


def test_masking_after_the_softmax_as_published_is_not_dropping() -> None:
    """Transkimmer's master multiplies the probabilities by the mask: the defect, beside what we do."""
    torch.manual_seed(0)
    logits, value = 2 * torch.randn(5, 8), torch.randn(8, 4)
    mask = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 1])
    dropped = F.softmax(logits[:, mask > 0], -1) @ value[mask > 0]
    published = (logits.softmax(-1) * mask) @ value
    ours = weighted_softmax(logits, mask) @ value
    assert (published - dropped).abs().max() > 0.1
    torch.testing.assert_close(ours, dropped, atol=1e-6, rtol=1e-5)
