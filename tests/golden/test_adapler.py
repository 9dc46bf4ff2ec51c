"""Golden numbers of AdapLeR's published code, and its defects beside what we do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from searchkit.records import Candidate
from searchkit.reduction.cost import Shape, macs
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers.predictors import Contribution
from searchkit.reduction.trace import Trace
from searchkit.training import AdapLeR
from searchkit.training.adapler import SoftRemoval, distillation, removal, slope_of
from searchkit.training.packing import as_tokens
from searchkit.training.plans import everywhere, plan
from searchkit.training.saliency import saliency, stored_saliency, token_rows
from searchkit.training.stage import batch_of, labelled
from tests.reduction.models import LAYERS, classifier, examples, tokens
from tests.training.recipes import context_in, data_for, trained, untrained

DELTA = 0.0125
SHARES = (0.0, 0.5 * DELTA, 0.9 * DELTA, DELTA, 1.1 * DELTA, 0.05, 0.5, 1.0)


@pytest.mark.parametrize(
    ("slope", "expected"),
    [
        (10.0, (0, 0.0067, 0.3642, 0.9900, 0.9901, 0.9904, 0.9949, 1)),
        (100.0, (0, 0, 0, 0.9990, 0.9990, 0.9990, 0.9995, 1)),
        (1e4, (0, 0, 0, 1, 1, 1, 1, 1)),
    ],
)
def test_the_soft_mask_has_the_authors_values(slope: float, expected: tuple[float, ...]) -> None:
    """T-ADA-1."""
    term = removal(torch.tensor(SHARES), torch.full((8,), DELTA), slope)
    torch.testing.assert_close(term.exp(), torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)


@pytest.mark.parametrize("slope", [10.0, 100.0, 1000.0])
def test_the_soft_mask_is_continuous_where_its_branches_meet(slope: float) -> None:
    """T-ADA-1: both branches are -0.1 / lambda at x = delta."""
    near = torch.tensor([DELTA * (1 - 1e-6), DELTA, DELTA * (1 + 1e-6)])
    term = removal(near.double(), torch.full((3,), DELTA).double(), slope)
    assert term.tolist() == pytest.approx([-0.1 / slope] * 3, abs=slope * 2e-6)


def test_soft_removal_at_an_endless_slope_is_physical_removal(tmp_path: Path) -> None:
    """T-ADA-2: the authors' own difference is 1.9e-6."""
    model, recipe = trained("adapler", "classification", tmp_path).eval(), AdapLeR()
    eta = torch.tensor([0.9, 0.7])
    given = as_tokens(data_for("classification").take(range(16)))
    with torch.no_grad():
        soft = SoftRemoval(eta, 1e20, torch.ones(2))
        logits, faded = model.fade(given, everywhere(recipe, 2), soft)
        hard = model(given, plan(recipe, Candidate.of(thresholds=tuple(eta.tolist())), 2))
    torch.testing.assert_close(logits, hard.logits, atol=1e-5, rtol=0)
    left = torch.stack([faded.alive[place].sum() for place in (1, 2)])
    assert left.tolist() == hard.trace.attention.sum(0).tolist()
    assert left[-1] < given.layout.lengths.sum()


def test_an_adaptive_layer_that_removes_nothing_costs_what_its_predictor_adds() -> None:
    """T-ADA-3: 0.35 % of a layer's per-token MACs; removing nothing is a ratio of 0.9966, not the published 1.087."""
    assert sum(part.numel() for part in Contribution(768, 12).parameters()) == 24_641
    base = Shape(layers=12, width=768, feed_forward=3072, heads=12, labels=2)
    lengths = torch.tensor([24])
    plain = Trace.of_unreduced(lengths, 12)
    predictors = torch.full((1, 12), 24 * (768 * 32 + 32))
    ratio = float(macs(plain, base) / macs(Trace.of_kept(lengths, plain.attention, predictors), base))
    assert ratio == pytest.approx(0.9966, abs=2e-4)


@pytest.mark.parametrize(
    ("tokens_in", "gflops"), [(8, 1.3653), (25, 4.2803), (64, 11.0502), (128, 22.4094), (384, 70.9488), (512, 97.0800)]
)
def test_unreduced_flops_are_near_the_authors_profile(tokens_in: int, gflops: float) -> None:
    """T-ADA-3: their profile of BERT also counts LayerNorm, softmax and activations, so ours is a little less."""
    base = Shape(layers=12, width=768, feed_forward=3072, heads=12, labels=2)
    ours = 2 * float(macs(Trace.of_unreduced(torch.tensor([tokens_in]), 12), base)) / 1e9
    assert 0.99 < ours / gflops < 1.001


def test_the_published_count_of_the_last_layer_loses_tokens_that_ours_keeps() -> None:
    """The published count compares shares with eta, not with eta / n: a layer that keeps all counts as almost none."""
    shares, eta = torch.full((20,), 1 / 20), 0.25
    published = int((shares >= eta).sum())
    layout = Layout.of_lengths(torch.tensor([20]))
    like = Reducer(threshold=eta, site="before_attention", scorer="contribution")
    assert published == 0
    assert int(like.kept(shares, layout, layout).sum()) == 20


def test_the_distillation_is_the_sum_of_keras_like_divergences_weighted_by_depth() -> None:
    """T-ADA-4: sum over layers of (L - l) KL(target || prediction), computed example by example."""
    torch.manual_seed(0)
    layout = Layout.of_lengths(torch.tensor([4, 6]))
    found, theta = torch.rand(10), torch.tensor([1.0, 1.7])
    shares = [torch.cat([torch.rand(n).softmax(0) for n in (4, 6)]) for _ in range(2)]
    alive = [torch.ones(10), torch.tensor([1.0, 0, 1, 1, 1, 0.5, 0, 1, 1, 1])]
    soft = SoftRemoval(torch.ones(2), 10.0, torch.ones(2), seen=list(zip(shares, alive, strict=True)))
    expected = 0.0
    for layer, weight in enumerate((2, 1)):
        for rows in (range(4), range(4, 10)):
            target = [float(found[i] * alive[layer][i] * (theta[layer] if i == rows[0] else 1)) for i in rows]
            whole = sum(target)
            kl = sum(
                value / whole * math.log(max(value / whole, 1e-7) / float(shares[layer][i]))
                for i, value in zip(rows, target, strict=True)
            )
            expected += weight * kl / 2
    assert distillation(found, soft, theta, layout).item() == pytest.approx(expected, rel=1e-5)


def test_saliency_of_a_linear_model_is_the_norm_of_its_weighted_input() -> None:
    """T-ADA-5: with logits = sum of the tokens' weighted states, it is || w_c * x || exactly."""

    class Linear(torch.nn.Module):
        head = classifier("bert").head
        shape = classifier("bert").shape
        weight = torch.randn(3, 32)

        def embed(self, given: object) -> torch.Tensor:
            return self.states

        def forward(self, given: object, plan: object, embedded: torch.Tensor) -> object:
            logits = torch.stack([part.sum(0) for part in (embedded @ self.weight.T).split([4, 3])])
            return type("Out", (), {"logits": logits})

    model = Linear()
    model.states = torch.randn(7, 32)
    given = batch_of(data_for("classification").take([0, 1]), torch.arange(2), torch.device("cpu"))
    labels = torch.tensor([2, 0])
    given = type(given)(given.tokens, labels, given.rows)
    ours = saliency(model, given, gold=True)  # type: ignore[arg-type]
    chosen = labels.repeat_interleave(torch.tensor([4, 3]))
    torch.testing.assert_close(ours, (model.weight[chosen] * model.states).norm(dim=1))


def test_the_dump_is_keyed_by_example_whatever_the_order_of_batches(tmp_path: Path) -> None:
    model, data = untrained(), data_for("classification")
    written = stored_saliency(model, data, context_in(tmp_path), gold=True)
    model.eval()
    for row in (0, 17, 159):
        own = saliency(model, batch_of(data, torch.tensor([row]), torch.device("cpu")), gold=True)
        stored = torch.as_tensor(np.array(written[token_rows(data, np.array([row]))]))
        torch.testing.assert_close(stored, own, atol=1e-6, rtol=1e-4)
    other = stored_saliency(model, data, context_in(tmp_path / "predicted"), gold=False)
    assert not np.array_equal(other, written)  # an untrained model predicts another class often


def test_thresholds_that_remove_nothing_leave_plain_bert() -> None:
    """T-ADA-6: eta = 1e-10."""
    model = classifier("bert")
    model.attach("contribution")
    reduced = ReductionPlan.of_slots(
        Reducer(TopK(ratio=1.0), site="before_attention", scorer="contribution"), LAYERS, thresholds=(1e-10,) * LAYERS
    )
    given = tokens(examples(3))
    with torch.no_grad():
        plain = model(given, ReductionPlan.unreduced(LAYERS)).logits
        torch.testing.assert_close(model(given, reduced).logits, plain, atol=1e-6, rtol=0)


def test_the_slope_follows_the_published_schedules() -> None:
    assert [slope_of(epoch, 5) for epoch in range(3)] == [10, 100, 1000]
    assert [slope_of(epoch, 10) for epoch in range(3)] == [10, 30, 90]
    assert [slope_of(epoch, 3) for epoch in range(3)] == [50, 2500, 125000]


def test_thresholds_follow_their_own_losses_alone(tmp_path: Path) -> None:
    """eta and theta follow task + phi * length alone: without them, the distillation would pull at eta too."""
    model, data, recipe = untrained().eval(), data_for("classification"), AdapLeR(gamma=100.0, phi=0.0)
    model.attach("contribution")
    eta, theta = model.learn("eta", torch.full((2,), 0.9)), model.learn("theta", torch.ones(2))
    batch = batch_of(data, torch.arange(8), torch.device("cpu"))
    found = stored_saliency(model, data, context_in(tmp_path), gold=True)
    for loss in recipe._losses(model, batch, 10.0, data, found, labelled):
        loss.backward()
    assert eta.grad is not None
    assert theta.grad is not None
    own, probed = eta.grad.clone(), theta.grad.clone()
    probe = torch.ones(2, requires_grad=True)
    soft = SoftRemoval(eta, 10.0, probe)
    logits, _ = model.fade(batch.tokens, everywhere(recipe, 2), soft, attention_dropout=False)
    expected = torch.autograd.grad(F.cross_entropy(logits, batch.labels), [eta, probe])
    torch.testing.assert_close(own, expected[0])
    assert own.abs().min() > 0
    assert probed[0] == 0  # the first layer has no theta
    torch.testing.assert_close(probed[1], expected[1][1])
    for name, weight in model.predictors.named_parameters():
        assert weight.grad is not None, name
        if not name.endswith("down.bias"):  # a shift of all logits, which the softmax does not see
            assert weight.grad.abs().sum() > 0, name
