"""The encoder against stock transformers models, against LAT's equations in loops, and against itself in company."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from searchkit.reduction.encoder import encode
from searchkit.reduction.families import Block
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from tests.reduction.models import LAYERS, MODELS, STOCK, classifier, examples, padded, tokens

PLANS = {
    "decay": (0.8, 0.5, 0.3),
    "cliff": (1.0, 0.1, 0.1),
    "late": (1.0, 1.0, 0.4),
    "early": (0.05, 0.05, 0.05),
    "counts": (9, 4, 1),
}


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("family", sorted(STOCK))
def test_keeping_everything_equals_the_stock_model(family: str, batch: int) -> None:
    model, ids = classifier(family), examples(batch)
    input_ids, mask = padded(ids)
    with torch.no_grad():
        expected = model.stock(input_ids=input_ids, attention_mask=mask).logits
        for lengths in ((1.0,) * LAYERS, (64,) * LAYERS):
            ours = model(tokens(ids), ReductionPlan.of_lengths(lengths))
            torch.testing.assert_close(ours.logits, expected, atol=1e-5, rtol=0)


@pytest.mark.real
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_keeping_everything_equals_the_stock_model_on_real_weights(shared: Path, batch: int) -> None:
    from transformers import AutoTokenizer

    folder = str(shared / "models" / "minilm-l6")
    torch.manual_seed(0)
    model = load_model(folder, labels=2).eval()
    texts = [f"a film that is {'very ' * (3 * i)}good , no {i}" for i in range(batch)]
    encoded = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.stock(**encoded).logits
        packed = Tokens.of_padded(encoded.input_ids, encoded.attention_mask, encoded.token_type_ids)
        ours = model(packed, ReductionPlan.unreduced(model.shape.layers)).logits
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [2, 3, 8])
@pytest.mark.parametrize("plan", sorted(PLANS))
@pytest.mark.parametrize("family", sorted(STOCK))
def test_an_example_gets_the_same_tokens_and_logits_alone_and_in_company(family: str, plan: str, batch: int) -> None:
    model, ids, reduction = classifier(family), examples(batch, seed=batch), ReductionPlan.of_lengths(PLANS[plan])
    with torch.no_grad():
        together = model(tokens(ids), reduction)
        hidden = encode(model.view.blocks, model.embed(tokens(ids)), tokens(ids).layout, reduction)
        for row, example in enumerate(ids):
            alone = model(tokens([example]), reduction)
            torch.testing.assert_close(alone.logits[0], together.logits[row], atol=1e-5, rtol=0)
            assert torch.equal(alone.trace.feed_forward[0], together.trace.feed_forward[row])
            mine = encode(model.view.blocks, model.embed(tokens([example])), tokens([example]).layout, reduction)
            start, stop = hidden.layout.offsets[row], hidden.layout.offsets[row + 1]
            assert torch.equal(mine.layout.positions, hidden.layout.positions[start:stop])


@pytest.mark.parametrize("plan", sorted(PLANS))
@pytest.mark.parametrize("family", sorted(STOCK))
def test_dropping_follows_the_equations_of_lat(family: str, plan: str) -> None:
    """Kept sets, logits and Drop-and-Restore's buffer against a loop over examples, tokens, heads and queries."""
    ids = [example[:16] for example in examples(4, seed=7)]  # the slow reference takes seconds for long ones
    model, lengths = classifier(family), PLANS[plan]
    with torch.no_grad():
        embedded = model.embed(tokens(ids))
        ours = encode(model.view.blocks, embedded, tokens(ids).layout, ReductionPlan.of_lengths(lengths), restore=True)
        logits = model(tokens(ids), ReductionPlan.of_lengths(lengths)).logits
        assert ours.restored is not None
        for row, example in enumerate(ids):
            kept, hidden, buffer = _lat(model, example, lengths)
            start, stop = int(ours.layout.offsets[row]), int(ours.layout.offsets[row + 1])
            assert ours.layout.positions[start:stop].tolist() == kept[-1]
            assert ours.trace.feed_forward[row].tolist() == [len(layer) for layer in kept]
            torch.testing.assert_close(model.view.head(_pooled(model, hidden)[None])[0], logits[row], atol=1e-5, rtol=0)
            first = sum(map(len, ids[:row]))
            torch.testing.assert_close(ours.restored.hidden[first : first + len(example)], buffer, atol=1e-5, rtol=0)


def _lat(
    model: AdaptiveModel, example: list[int], lengths: tuple[float | int, ...]
) -> tuple[list[list[int]], Tensor, Tensor]:
    """LAT sec. 3.1 and 3.3, one example, one head and one query at a time; the slow reference."""
    hidden = model.embed(tokens([example]))
    buffer, alive, kept = hidden.clone(), list(range(len(example))), []
    for block, length in zip(model.view.blocks, lengths, strict=True):
        context, received = _attention(block, hidden, alive)
        hidden = block.attended(hidden, context)
        wanted = length if isinstance(length, int) else math.ceil(length * len(example) - 1e-9)
        ranking = sorted(range(1, len(alive)), key=lambda j: -received[j])
        stay = sorted([0, *ranking[: max(min(wanted, len(alive)), 1) - 1]])
        hidden, alive = hidden[stay], [alive[j] for j in stay]
        hidden = block.transformed(hidden)
        buffer[alive] = hidden
        kept.append(alive)
    return kept, hidden, buffer


def _attention(block: Block, hidden: Tensor, alive: list[int]) -> tuple[Tensor, list[float]]:
    """The context of every token of one example and the attention that each received; `alive` are their positions."""
    q, k, v = block.projected(hidden, torch.tensor(alive)).chunk(3, -1)
    width = q.shape[1] // block.heads
    context, received = torch.zeros_like(q), [0.0] * len(alive)
    for head, i in itertools.product(range(block.heads), range(len(alive))):
        part = slice(head * width, (head + 1) * width)
        near = [j for j in range(len(alive)) if block.window is None or abs(alive[i] - alive[j]) <= block.window]
        weights = torch.stack([q[i, part] @ k[j, part] / math.sqrt(width) for j in near]).softmax(0)
        for j, weight in zip(near, weights, strict=True):
            context[i, part] += weight * v[j, part]
            received[j] += float(weight)
    return context, received


def _pooled(model: AdaptiveModel, hidden: Tensor) -> Tensor:
    """What the head reads of one example's survivors (T', D)."""
    finished = model.view.finish(hidden)
    return finished.mean(0) if model.view.reads == "mean" else finished[0]


def test_pads_of_any_content_influence_nothing() -> None:
    model, ids = classifier("bert"), examples(3)
    input_ids, mask = padded(ids)
    garbage = torch.where(mask.bool(), input_ids, torch.randint(1, 50, input_ids.shape))
    plan = ReductionPlan.of_lengths((0.6, 0.4, 0.2))
    with torch.no_grad():
        first = model(Tokens.of_padded(input_ids, mask), plan)
        second = model(Tokens.of_padded(garbage, mask), plan)
    assert torch.equal(first.logits, second.logits)


def test_left_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="pad on the right"):
        Tokens.of_padded(torch.tensor([[0, 5, 6]]), torch.tensor([[0, 1, 1]]))


def test_discarded_tokens_end_as_zeros_and_frozen_ones_keep_their_last_state() -> None:
    model, ids = classifier("bert"), examples(2)
    embedded, layout = model.embed(tokens(ids)), tokens(ids).layout
    with torch.no_grad():
        frozen = encode(model.view.blocks, embedded, layout, ReductionPlan.of_lengths((0.5, 0.5, 0.5)), restore=True)
        plan = ReductionPlan.of_lengths((0.5, 0.5, 0.5), fate="discard")
        discarded = encode(model.view.blocks, embedded, layout, plan, restore=True)
    assert frozen.restored is not None
    assert discarded.restored is not None
    gone = torch.ones(len(embedded), dtype=torch.bool)
    gone[frozen.layout.rows_in(layout)] = False
    assert gone.any()
    assert (discarded.restored.hidden[gone] == 0).all()
    torch.testing.assert_close(frozen.restored.hidden[gone], embedded[gone])  # dropped in layer 1: the embedding stays
    assert torch.equal(frozen.restored.hidden[~gone], discarded.restored.hidden[~gone])


def test_skipping_every_layer_but_one_equals_a_model_of_that_layer() -> None:
    model, ids = classifier("bert"), examples(3)
    with torch.no_grad():
        ours = model(tokens(ids), ReductionPlan.unreduced(LAYERS), skip={0, 2})
        model.stock.bert.encoder.layer = model.stock.bert.encoder.layer[1:2]
        input_ids, mask = padded(ids)
        expected = model.stock(input_ids=input_ids, attention_mask=mask).logits
    torch.testing.assert_close(ours.logits, expected, atol=1e-5, rtol=0)
    assert ours.trace.attention[:, [0, 2]].sum() == 0


def test_an_example_longer_than_the_encoder_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="65 tokens, the encoder takes 64"):
        classifier("bert")(tokens([[1] * 65]), ReductionPlan.unreduced(LAYERS))


def test_a_plan_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="the plan has 2 layers, the encoder 3"):
        classifier("bert")(tokens([[1, 2]]), ReductionPlan.unreduced(2))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_gradients_reach_every_weight_of_the_layers_that_run(name: str) -> None:
    model = MODELS[name]()
    model.train()
    model(tokens(examples(4)), ReductionPlan.of_lengths((0.9, 0.6, 0.4))).logits.square().sum().backward()
    silent = [name for name, weight in model.stock.named_parameters() if weight.grad is None or not weight.grad.any()]
    # the key bias adds the same to all logits of a query, which softmax cancels; nothing has segment 1 here
    assert not [name for name in silent if "key.bias" not in name and "k_lin.bias" not in name], silent
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)
