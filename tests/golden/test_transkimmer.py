"""Golden numbers of Transkimmer's published code, and its defects beside what we do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout
from searchkit.reduction.relaxed import Decision
from searchkit.reduction.scorers.base import Seen
from searchkit.reduction.scorers.predictors import Gate
from searchkit.training import Transkimmer
from searchkit.training.plans import everywhere
from searchkit.training.stage import batch_of, labelled
from searchkit.training.transkimmer import StraightThrough, skim_share
from tests.reduction.models import LAYERS, classifier, examples, tokens
from tests.training.recipes import data_for, untrained

RECIPE = Transkimmer()


def gated(bias: float = 0.0, head: str = "classification", scale: float = 1.0) -> AdaptiveModel:
    """A random reader or classifier with gates that skim about half of the tokens."""
    model = untrained(head).eval() if head != "classification" else classifier("bert")
    torch.manual_seed(1)
    for part in model.attach("gate", hidden=16, bias=bias):
        nn.init.normal_(part.up.weight, std=scale)
        nn.init.normal_(part.down.weight, std=scale)
    return model


def test_the_gate_is_the_published_predictor() -> None:
    """T-TRK-1: the same function of the same weights, 595,202 parameters at width 768."""
    torch.manual_seed(0)
    gate = Gate(768, 12)
    assert sum(weight.numel() for weight in gate.parameters()) == 595_202
    published = nn.Sequential(nn.LayerNorm(768), nn.Linear(768, 768), nn.LayerNorm(768), nn.GELU(), nn.Linear(768, 2))
    parts = ((0, gate.norm), (1, gate.up), (2, gate.inner_norm), (4, gate.down))
    for place, own in parts:
        published[place].load_state_dict(own.state_dict())
    states = torch.randn(11, 768)
    torch.testing.assert_close(gate.logits(states), published(states), atol=1e-6, rtol=0)


def test_a_fresh_gate_keeps_with_probability_near_one() -> None:
    """The biases start around (-5, +5): sigmoid(10) = 0.99995."""
    torch.manual_seed(0)
    layout = Layout.of_lengths(torch.tensor([9]))
    hidden = torch.randn(9, 64)
    probability = Gate(64, 4).score(Seen(hidden, layout, layout, lambda: hidden))
    assert probability.min() > 0.9995


def test_masking_after_the_softmax_is_off_by_what_the_authors_conceded() -> None:
    """T-TRK-2, the defect: master multiplies attention after the softmax; dropping gives other logits."""
    model = gated()
    given = tokens(examples(6))
    with torch.no_grad():
        logits, faded = model.fade(given, everywhere(RECIPE, LAYERS), StraightThrough(noise=False))
        published = _post_softmax(model, given.layout, model.embed(given), faded.alive)
        dropped = model(given, _thresholds(0.5)).logits
    assert (logits - dropped).abs().max() < 1e-5
    assert (published - dropped).abs().max() > 0.05


def _post_softmax(model: AdaptiveModel, layout: Layout, hidden: Tensor, alive: Tensor) -> Tensor:
    """Master's forward pass in loops: probabilities over all tokens, times the mask, not renormalised."""
    first = []
    for row in range(len(layout.lengths)):
        part = slice(int(layout.offsets[row]), int(layout.offsets[row + 1]))
        states = hidden[part]
        for place, block in enumerate(model.view.blocks, start=1):
            query, key, value = block.projected(states, layout.positions[part]).chunk(3, -1)
            width = query.shape[1] // block.heads
            context = []
            for head in range(block.heads):
                columns = slice(head * width, (head + 1) * width)
                probabilities = (query[:, columns] @ key[:, columns].T / width**0.5).softmax(-1)
                context.append((probabilities * alive[place, part]) @ value[:, columns])
            states = block.transformed(block.attended(states, torch.cat(context, 1)))
        first.append(states[0])
    return model.view.head(torch.stack(first))


def _thresholds(threshold: float) -> ReductionPlan:
    return ReductionPlan.of_slots(RECIPE.reducer_template, LAYERS, thresholds=(threshold,) * LAYERS)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_the_gates_own_choice_as_a_mask_is_physical_dropping(batch: int) -> None:
    """T-TRK-3 and T-TRK-4."""
    model, ids = gated(), examples(batch, seed=batch)
    with torch.no_grad():
        logits, faded = model.fade(tokens(ids), everywhere(RECIPE, LAYERS), StraightThrough(noise=False))
        dropped = model(tokens(ids), _thresholds(0.5))
        torch.testing.assert_close(logits, dropped.logits, atol=1e-5, rtol=0)
        for row, example in enumerate(ids):
            alone = model(tokens([example]), _thresholds(0.5))
            torch.testing.assert_close(alone.logits[0], dropped.logits[row], atol=1e-5, rtol=0)
            assert torch.equal(alone.trace.attention[0], dropped.trace.attention[row])
    assert set(faded.alive.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(("measure", "ratio"), [("tokens", 1.0), ("macs", None), ("padded", None)])
def test_keeping_all_is_a_kept_ratio_of_one(measure: str, ratio: float | None) -> None:
    """T-TRK-5: with a large bias the real-token ratio is 1; the paper's own counts pads, the cost its gates."""
    recipe = Transkimmer(measure=measure)  # type: ignore[arg-type]
    model = untrained().eval()
    model.attach("gate", hidden=16, bias=50.0)
    batch = batch_of(data_for("classification"), torch.arange(12), torch.device("cpu"))
    lengths = batch.layout.lengths.float()
    _, faded = model.fade(batch.tokens, everywhere(recipe, 2), StraightThrough())
    kept = torch.stack([lengths, lengths], 1)
    assert torch.equal(faded.alive.sum(1), torch.full((3,), lengths.sum().item()))
    measured = skim_share(recipe.measure, model, kept, batch).item()
    width, hidden = model.shape.width, 16
    padded = (lengths.mean() / lengths.max()).item()
    whole = _whole(model, lengths)
    gates = 2 * (width * hidden + 2 * hidden) * lengths.sum().item() / whole
    assert measured == pytest.approx({"tokens": ratio, "padded": padded, "macs": 1 + gates}[measure])


def _whole(model: AdaptiveModel, lengths: Tensor) -> float:
    shape = model.shape
    layer = 4 * shape.width**2 * lengths + 2 * shape.width * lengths**2 + 2 * shape.width * shape.feed_forward * lengths
    keys = 2 * shape.width**2 * lengths + 2 * shape.width * lengths  # of the last layer, which computes [CLS] alone
    last = keys + 2 * shape.width**2 + 2 * shape.width * shape.feed_forward
    return float(((shape.layers - 1) * layer + last + shape.width**2 + shape.width * shape.labels).sum())


def test_the_published_ratio_of_kept_tokens_exceeds_one() -> None:
    """24 real tokens padded to 64, everything kept: mean kept / mean real is 2.667."""
    kept, real = 64.0, 24.0
    assert kept / real == pytest.approx(2.667, abs=1e-3)
    model = gated(bias=50.0)
    with torch.no_grad():
        trace = model(tokens([[3] * 24, [4] * 40]), _thresholds(0.5)).trace
    assert torch.equal(trace.attention, trace.tokens[:, None].expand_as(trace.attention))


def test_evaluation_has_no_noise() -> None:
    """T-TRK-6: bit-identical repeats, where the published code draws Gumbel noise in evaluation too."""
    model, given = gated(), tokens(examples(5))
    with torch.no_grad():
        assert torch.equal(model(given, _thresholds(0.5)).logits, model(given, _thresholds(0.5)).logits)
        first, again = (model.fade(given, everywhere(RECIPE, LAYERS), StraightThrough())[0] for _ in range(2))
    assert not torch.equal(first, again)  # training has it


def gate_gradients(model: AdaptiveModel, output: Tensor) -> list[float]:
    model.zero_grad()
    output.square().sum().backward()
    parts = model.predictors["gate"]
    return [sum(float(w.grad.abs().sum()) for w in part.parameters() if w.grad is not None) for part in parts]  # type: ignore[union-attr]


def test_the_tasks_gradient_reaches_every_gate_through_attention() -> None:
    """T-TRK-7, first path: the head reads [CLS] alone, so gates matter only as keys of later attention."""
    model = gated()
    torch.manual_seed(0)
    logits, _ = model.fade(tokens(examples(8)), everywhere(RECIPE, LAYERS), StraightThrough())
    assert min(gate_gradients(model, logits)) > 0


def test_the_tasks_gradient_reaches_every_gate_through_the_buffer() -> None:
    """T-TRK-7, second path: attention is cut (values are zero), the buffer alone carries the gates' decisions."""
    model = gated(head="question_answering")
    for layer in model.stock.bert.encoder.layer:
        nn.init.zeros_(layer.attention.self.value.weight)
        nn.init.zeros_(layer.attention.self.value.bias)
    torch.manual_seed(0)
    batch = batch_of(data_for("question_answering"), torch.arange(8), torch.device("cpu"))
    logits, _ = model.fade(batch.tokens, everywhere(RECIPE, 2), StraightThrough())
    assert min(gate_gradients(model, logits)) > 0


def test_a_skimmed_token_has_no_gradient_to_later_gates() -> None:
    """T-TRK-7: its gradient to a later gate's decision is exactly zero, that of living tokens is not."""
    model = gated()
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(StraightThrough):
        def weights(self, decision: Decision) -> Tensor:
            chosen = super().weights(decision)
            chosen.retain_grad()
            seen.append((chosen, decision.alive.detach()))
            return chosen

    torch.manual_seed(0)
    given = tokens(examples(8))
    logits, _ = model.fade(given, everywhere(RECIPE, LAYERS), Watched())
    logits.square().sum().backward()
    for chosen, alive in seen[1:]:
        assert chosen.grad is not None
        assert (alive == 0).any()
        assert (chosen.grad[alive == 0] == 0).all()
        deciding = (alive > 0) & (given.layout.positions > 0)  # [CLS] is kept whatever its gate says
        assert deciding.any()
        assert (chosen.grad[deciding] != 0).all()


def test_the_multipliers_climb_while_the_model_descends() -> None:
    """A goal that is exceeded raises both multipliers: their gradient is turned round."""
    recipe = Transkimmer(target=0.1)
    model = copy.deepcopy(untrained())
    model.attach("gate", hidden=8, bias=5.0)
    multipliers = model.learn("multipliers", torch.zeros(2))
    batch = batch_of(data_for("classification"), torch.arange(8), torch.device("cpu"))
    for loss in recipe._losses(labelled, model, batch, 0):
        loss.backward()
    assert multipliers.grad is not None
    assert multipliers.grad.tolist() == pytest.approx([-0.9, -0.81], abs=1e-4)
