"""LTP, PoWER-BERT and Block-Skim: their relaxed forms in the hard limit, and defects of the published codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from searchkit.records import Candidate
from searchkit.reduction.attention import attend
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import PREDICTORS, Seen
from searchkit.reduction.scorers.block import BlockScorer, squares_of
from searchkit.training import LTP, BlockSkim, PowerBert
from searchkit.training.block_skim import answer_tokens
from searchkit.training.ltp import Sigmoid
from searchkit.training.plans import everywhere, plan
from searchkit.training.power_bert import SoftExtract, lengths_of
from searchkit.training.stage import batch_of, labelled
from tests.reduction.models import LAYERS, classifier, examples, tokens
from tests.training.recipes import data_for, untrained

ETA = (0.6, 0.8, 1.0)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_cold_sigmoid_is_ltps_hard_threshold(batch: int) -> None:
    """T -> 0: below the threshold the token is absent, above it untouched."""
    model, given, recipe = classifier("bert"), tokens(examples(batch, seed=batch)), LTP()
    with torch.no_grad():
        logits, faded = model.fade(given, everywhere(recipe, LAYERS), Sigmoid(torch.tensor(ETA), 1e-9))
        hard = model(given, plan(recipe, Candidate.of(thresholds=ETA), LAYERS))
    torch.testing.assert_close(logits, hard.logits, atol=1e-5, rtol=0)
    kept = faded.alive.sum(1)[1:].tolist()
    assert kept[:-1] == hard.trace.feed_forward.sum(0).tolist()[:-1]  # the last layer computes [CLS] alone


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_soft_extract_of_zeros_and_ones_is_hard_extract(batch: int) -> None:
    """w_l[r] = 1 up to a rank and 0 after it: PoWER-BERT's own limit, at lengths that are whole levels."""
    model, given, recipe, shares = classifier("bert"), tokens(examples(batch, seed=batch)), PowerBert(), (48, 32, 16)
    extract = (torch.arange(64)[None, :] < torch.tensor(shares)[:, None]).float()
    assert lengths_of(extract) == [0.75, 0.5, 0.25]
    with torch.no_grad():
        logits, faded = model.fade(given, everywhere(recipe, LAYERS), SoftExtract(extract))
        hard = model(given, plan(recipe, Candidate.of(lengths=(0.75, 0.5, 0.25)), LAYERS))
    torch.testing.assert_close(logits, hard.logits, atol=1e-5, rtol=0)
    kept = faded.alive.sum(1)[1:].tolist()
    assert kept[:-1] == hard.trace.feed_forward.sum(0).tolist()[:-1]  # the last layer computes [CLS] alone


def test_multiplying_states_by_zero_as_published_is_not_dropping() -> None:
    """PoWER-BERT's soft-extract with w = 0 leaves a zero state that later layers attend to."""
    model, ids = classifier("bert"), [[3, 9, 8, 7, 6, 5, 4, 11]]
    like = Reducer(TopK(ratio=1.0), scorer="attention_off_diagonal")
    with torch.no_grad():
        dropped = model(tokens(ids), ReductionPlan.of_slots(like, LAYERS, lengths=(0.5, 0.5, 0.5))).logits
        states, layout = model.embed(tokens(ids)), tokens(ids).layout
        for number, block in enumerate(model.view.blocks):
            context, seen = attend(
                block.projected(states, layout.positions),
                layout,
                heads=block.heads,
                read=lambda map: map.received() - map.diagonal(),
            )
            states = block.attended(states, context)
            if number == 0:
                assert seen is not None
                scores = seen.index_fill(0, torch.tensor([0]), math.inf)
                states[scores.argsort(descending=True)[4:]] = 0
            states = block.transformed(states)
        published = model.view.head(states[:1])
    assert (published - dropped).abs().max() > 0.01


def test_published_ltp_scores_shrink_with_padding_and_ours_do_not() -> None:
    """The sum over keys is n_real / n_padded (1, 0.5, 0.3125, 0.156 for 0, 20, 44, 108 pads): no threshold fits all."""
    real = 20
    for pads, expected in ((0, 1.0), (20, 0.5), (44, 0.3125), (108, 0.15625)):
        attention = torch.zeros(real + pads, real + pads)
        attention[:real, :real] = 1 / real
        assert float(attention.sum(0).sum() / (real + pads)) == pytest.approx(expected)
    layout = Layout.of_lengths(torch.tensor([real, 128]))  # ours: in company of an example of any length
    states = torch.randn(148, 16)
    _, seen = attend(states.repeat(1, 3), layout, heads=2, read=lambda attention: attention.received())
    assert seen is not None
    shares = seen / (2 * layout.lengths[layout.examples])
    assert shares[:real].sum().item() == pytest.approx(1.0, abs=1e-5)
    assert shares[real:].sum().item() == pytest.approx(1.0, abs=1e-5)


def gradient(loss: Tensor, parameter: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, parameter)
    return found


@pytest.mark.parametrize(("recipe", "name"), [(LTP(), "thresholds"), (PowerBert(), "soft_extract")])
def test_task_and_penalty_both_pull_at_every_layers_parameters(recipe: LTP | PowerBert, name: str) -> None:
    model, layers = untrained().eval(), 2
    batch = batch_of(data_for("classification"), torch.arange(16), torch.device("cpu"))
    if isinstance(recipe, LTP):
        learned = model.learn(name, torch.full((layers,), 0.9))
        logits, _ = model.fade(batch.tokens, everywhere(recipe, layers), Sigmoid(learned, recipe.temperature))
    else:
        learned = model.learn(name, torch.full((layers, recipe.levels), 0.7))
        logits, _ = model.fade(batch.tokens, everywhere(recipe, layers), SoftExtract(learned))
    task = gradient(model.head.loss(logits, batch.labels, batch.layout), learned)
    pull = task.reshape(layers, -1).abs().sum(1)
    assert (pull[:-1] > 0).all()
    assert pull[-1] == 0  # after the last attention the head reads [CLS] alone: what else stays does not matter
    assert torch.isfinite(task).all()
    (loss,) = (recipe._soft if isinstance(recipe, LTP) else recipe._search)(labelled, model, batch, 0)
    whole = gradient(loss, learned) - task
    wanted = -1 if isinstance(recipe, LTP) else 1  # a higher threshold keeps less; a lower weight does
    assert (torch.sign(whole.reshape(layers, -1).sum(1)) == wanted).all()


def test_the_block_scorer_has_the_published_size() -> None:
    """4.2 thousand parameters per layer of BERT-base: two convolutions of 12 heads, batch norms, 768 -> 2."""
    count = sum(weight.numel() for weight in PREDICTORS["block"](768, 12).parameters())
    assert count == 2 * (12 * 12 * 9 + 12 + 24) + (12 * 8 * 8 * 2 + 2) == 4_202


def test_blocks_are_the_squares_on_the_diagonal_of_each_examples_map() -> None:
    """Against slicing the softmax of one example at a time, with a last block that is not full."""
    torch.manual_seed(0)
    layout = Layout.of_lengths(torch.tensor([70, 9, 32]))
    states, scorer = torch.randn(111, 16), BlockScorer(16, 2)
    _, near = attend(states.repeat(1, 3), layout, heads=2, read=scorer.read)
    squares, block = squares_of(Seen(states, layout, layout, lambda: states, near))
    assert block.tolist() == [0] * 32 + [1] * 32 + [2] * 6 + [3] * 9 + [4] * 32
    number = 0
    for alone, length in zip(states.split([70, 9, 32]), (70, 9, 32), strict=True):
        parted = alone.reshape(length, 2, 8).transpose(0, 1)
        probabilities = (parted @ parted.mT / 8**0.5).softmax(-1)
        for start in range(0, length, 32):
            size = min(32, length - start)
            expected = torch.zeros(2, 32, 32)
            part = slice(start, start + size)
            expected[:, :size, :size] = probabilities[:, part, part]
            torch.testing.assert_close(squares[number], expected)
            number += 1
    assert number == len(squares)


def test_every_layers_block_scorer_learns_from_the_answer_spans() -> None:
    model = untrained("question_answering")
    model.attach("block")
    batch = batch_of(data_for("question_answering"), torch.arange(12), torch.device("cpu"))
    (loss,) = BlockSkim()._losses(labelled, model, batch, 0)
    loss.backward()  # type: ignore[no-untyped-call]
    for part in model.predictors["block"]:  # type: ignore[union-attr]
        assert isinstance(part, BlockScorer)
        assert part.out.weight.grad is not None
        assert part.out.weight.grad.abs().sum() > 0


def test_answer_tokens_are_those_between_the_ends_and_none_without_an_answer() -> None:
    layout = Layout.of_lengths(torch.tensor([6, 5]))
    marked = answer_tokens(layout, torch.tensor([[2, 4], [0, 0]]))
    assert marked.tolist() == [False, False, True, True, True, False] + [False] * 5
