"""Every family against its stock model: readers, dropout, windows, rotary positions, limits, and folders on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AlbertConfig, AlbertForSequenceClassification, AutoConfig

from searchkit.errors import DataError
from searchkit.reduction.encoder import encode
from searchkit.reduction.families import FAMILIES, reads, view_of
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import FATES, SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.relaxed import Hard
from tests.reduction.models import LAYERS, MODELS, READERS, STOCK, classifier, examples, padded, reader, tokens

AFTER_ATTENTION = [("attention_mean", site) for site in SITES if site != "before_attention"]
WHOLE = ReductionPlan.unreduced(LAYERS)


def stock_logits(model: AdaptiveModel, ids: list[list[int]], **inputs: Tensor) -> Tensor:
    """The stock model's logits on padded input, (B, C), or (T, 2) of the real tokens of a reader."""
    input_ids, mask = padded(ids)
    with torch.no_grad():
        out = model.stock(input_ids=input_ids, attention_mask=mask, **inputs)
    return torch.stack((out.start_logits, out.end_logits), -1)[mask.bool()] if "start_logits" in out else out.logits


def our_logits(model: AdaptiveModel, given: Tokens, plan: ReductionPlan = WHOLE) -> Tensor:
    with torch.no_grad():
        return model(given, plan).logits


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_a_head_reads_is_known_from_the_config_alone(name: str) -> None:
    model = MODELS[name]()
    assert reads(model.stock.config, model.head.name) == model.view.reads


def test_every_family_is_tested() -> None:
    assert {STOCK[name]().model_type for name in STOCK} == set(FAMILIES.own)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("family", READERS)
def test_a_readers_start_and_end_logits_equal_the_stock_models(family: str, batch: int) -> None:
    model, ids = reader(family), examples(batch)
    for plan in (WHOLE, ReductionPlan.of_lengths((64,) * LAYERS)):
        torch.testing.assert_close(our_logits(model, tokens(ids), plan), stock_logits(model, ids), atol=1e-5, rtol=0)


# In training every dropout takes its numbers from the same stream, so that one too many, too few or elsewhere shows.
DROPOUT: dict[str, dict[str, float]] = {
    "distilbert": {"dropout": 0.1, "attention_dropout": 0.2, "seq_classif_dropout": 0.3, "qa_dropout": 0.4},
    "modernbert": {
        "embedding_dropout": 0.1,
        "attention_dropout": 0.2,
        "mlp_dropout": 0.3,
        "classifier_dropout": 0.4,
    },
}


@pytest.mark.parametrize("build", [classifier, reader])
@pytest.mark.parametrize("family", READERS)
def test_dropout_in_training_equals_the_stock_models(family: str, build: Any) -> None:
    like_bert = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.3}
    model, ids = (
        build(family, **DROPOUT.get(family, like_bert)),
        [[5, 6, 7, 8, 9, 10, 11]] * 3,
    )  # no pads on either side
    model.train()
    torch.manual_seed(1)
    expected = stock_logits(model, ids)
    torch.manual_seed(1)
    torch.testing.assert_close(our_logits(model, tokens(ids)), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(expected, stock_logits(model, ids), atol=1e-2)  # the next numbers are others


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_segments_are_embedded_as_the_stock_model_does(family: str) -> None:
    model, ids = classifier(family), examples(3)
    input_ids, mask = padded(ids)
    types = (torch.arange(input_ids.shape[1]) >= 2).long().expand_as(input_ids)
    ours = our_logits(model, Tokens.of_padded(input_ids, mask, types))
    torch.testing.assert_close(ours, stock_logits(model, ids, token_type_ids=types), atol=1e-5, rtol=0)
    assert not torch.allclose(ours, our_logits(model, tokens(ids)), atol=1e-2)


@pytest.mark.parametrize("family", ["distilbert", "roberta", "modernbert"])
def test_segments_of_the_tokenizer_are_ignored_by_families_without_any(family: str) -> None:
    model, given = classifier(family), tokens(examples(3))
    marked = Tokens(given.ids, torch.ones_like(given.types), given.layout)
    assert torch.equal(our_logits(model, marked), our_logits(model, given))


@pytest.mark.parametrize(("family", "limit"), [("roberta", 64), ("modernbert", 64), ("electra", 64)])
def test_an_example_may_be_as_long_as_the_stock_model_takes_and_no_longer(family: str, limit: int) -> None:
    model, longest = classifier(family), [[3] * limit]
    torch.testing.assert_close(our_logits(model, tokens(longest)), stock_logits(model, longest), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=f"{limit + 1} tokens, the encoder takes {limit}"):
        model(tokens([[3] * (limit + 1)]), WHOLE)


def test_robertas_positions_end_where_its_table_does() -> None:
    with pytest.raises(RuntimeError, match="out of bounds"):  # the limit above is not ours to choose
        stock_logits(classifier("roberta"), [[3] * 65])


@pytest.mark.parametrize("width", [2, 3, 7, 8, 9, 128])
def test_local_attention_of_any_width_equals_the_stock_models(width: int) -> None:
    local = ["sliding_attention"] * LAYERS
    model, ids = classifier("modernbert", local_attention=width, layer_types=local), examples(3)
    torch.testing.assert_close(our_logits(model, tokens(ids)), stock_logits(model, ids), atol=1e-5, rtol=0)


def test_each_kind_of_layer_turns_by_its_own_angles() -> None:
    angles = {
        kind: {"rope_type": "default", "rope_theta": theta}
        for kind, theta in (("full_attention", 50.0), ("sliding_attention", 3.0))
    }
    model, ids = classifier("modernbert", rope_parameters=angles), examples(3)
    expected = stock_logits(model, ids)
    torch.testing.assert_close(our_logits(model, tokens(ids)), expected, atol=1e-5, rtol=0)
    assert not torch.allclose(expected, stock_logits(classifier("modernbert"), ids), atol=1e-2)


@pytest.mark.parametrize(
    ("scorer", "site"), [*AFTER_ATTENTION, *(("value_norm", site) for site in SITES), ("random", "before_attention")]
)
@pytest.mark.parametrize("family", ["modernbert", "modernbert_mean"])
def test_survivors_keep_their_original_positions_in_modernbert(family: str, scorer: str, site: str) -> None:
    """Against the stock layers, run one by one on the survivors with their original position ids and windows."""
    model = classifier(family)
    reducer = Reducer(TopK(ratio=0.5), site=site, scorer=scorer)
    plan = ReductionPlan((reducer, None, Reducer(TopK(ratio=0.2), site=site, scorer=scorer)))
    for example in examples(4, seed=3):
        given = tokens([example])
        with torch.no_grad():
            ours = encode(model.view.blocks, model.embed(given), given.layout, plan)
            first = encode(model.view.blocks[:1], model.embed(given), given.layout, ReductionPlan((reducer,)))
            kept = [first.layout.positions.tolist(), ours.layout.positions.tolist()]
            expected = _stock_layers(model.stock.model, example, site, {0: kept[0], 2: kept[1]})
        torch.testing.assert_close(ours.hidden, expected, atol=1e-5, rtol=0)


def _stock_layers(encoder: Any, example: list[int], site: str, kept: dict[int, list[int]]) -> Tensor:
    """(T', D) of the survivors; kept: layer -> the positions that stay when that layer drops."""
    hidden, alive = encoder.embeddings(input_ids=torch.tensor([example])), list(range(len(example)))
    for number, layer in enumerate(encoder.layers):
        for step in SITES:
            if step == "between":
                hidden = hidden + _stock_attention(encoder, layer, hidden, torch.tensor([alive]))
            if step == "after_layer":
                hidden = hidden + layer.mlp(layer.mlp_norm(hidden))
            if step == site and number in kept:
                hidden = hidden[:, [place for place, position in enumerate(alive) if position in kept[number]]]
                alive = kept[number]
    return hidden[0]


def _stock_attention(encoder: Any, layer: Any, hidden: Tensor, position_ids: Tensor) -> Tensor:
    distance = (position_ids[0][:, None] - position_ids[0]).abs()
    local = layer.attention_type == "sliding_attention"
    mask = distance <= encoder.config.local_attention // 2 if local else torch.ones_like(distance, dtype=torch.bool)
    angles = encoder.rotary_emb(hidden, position_ids, layer.attention_type)
    return layer.attn(layer.attn_norm(hidden), position_embeddings=angles, attention_mask=mask[None, None])[0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_values_alone_are_those_of_the_attention_at_the_price_charged_for_them(name: str) -> None:
    model, layout = MODELS[name](), Layout.of_lengths(torch.tensor([9]))
    torch.manual_seed(0)
    hidden = torch.randn(9, model.shape.width)
    for block in model.view.blocks:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            values = block.values(hidden)
        assert counter.get_total_flops() == 2 * 9 * model.shape.width**2
        projected = block.projected(hidden, layout.positions)
        torch.testing.assert_close(values, projected.chunk(3, -1)[2], atol=1e-6, rtol=0)
        asking = torch.tensor([0, 4])
        query, others = block.projected_for(asking, hidden, layout.positions)
        torch.testing.assert_close(torch.cat([projected[:, : hidden.shape[1]][asking]]), query, atol=1e-6, rtol=0)
        torch.testing.assert_close(projected[:, hidden.shape[1] :], others, atol=1e-6, rtol=0)
        torch.testing.assert_close(block.joined().projected(hidden, layout.positions), projected, atol=1e-6, rtol=0)
        for one, other in zip(
            block.joined().projected_for(asking, hidden, layout.positions), (query, others), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize(("scorer", "site"), [*AFTER_ATTENTION, *(("value_norm", site) for site in SITES)])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_fading_in_the_hard_limit_is_dropping_in_every_family(name: str, scorer: str, site: str, fate: str) -> None:
    model, given = MODELS[name](), tokens(examples(3, seed=5))
    for protect, lengths, thresholds in (
        (("cls",), (0.8, 0.5, 0.3), None),
        ((), (0.8, 0.5, 0.3), None),
        ((), None, (0.9,) * 3),
        (("cls",), (0.9, 0.9, 0.3), (0.8,) * 3),
    ):
        like = Reducer(TopK(ratio=1.0), site=site, scorer=scorer, fate=fate, protect=protect)
        plan = ReductionPlan.of_slots(like, LAYERS, lengths=lengths, thresholds=thresholds)
        with torch.no_grad():
            dropped, (faded, _) = model(given, plan), model.fade(given, plan, Hard())
        assert dropped.trace.attention.sum() < LAYERS * len(given.ids)
        torch.testing.assert_close(faded, dropped.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_saved_model_comes_back_with_the_same_logits(name: str, tmp_path: Path) -> None:
    model, ids, plan = MODELS[name](), examples(3), ReductionPlan.of_lengths((0.7, 0.5, 0.3))
    model.attach("contribution")
    model.save(tmp_path)
    again = load_model(str(tmp_path)).eval()
    other = MODELS[name]()
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    other.restore(tmp_path)
    for copy in (again, other):
        assert (copy.head, copy.shape) == (model.head, model.shape)
        assert torch.equal(our_logits(copy, tokens(ids), plan), our_logits(model, tokens(ids), plan))
        assert torch.equal(copy.predictors["contribution"][1].up.weight, model.predictors["contribution"][1].up.weight)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_stock_class_loads_a_saved_folder(name: str, tmp_path: Path) -> None:
    model, ids = MODELS[name](), examples(3)
    model.attach("contribution")
    model.save(tmp_path)
    loaded, info = type(model.stock).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert AutoConfig.from_pretrained(tmp_path).architectures == [type(model.stock).__name__]
    torch.testing.assert_close(
        stock_logits(AdaptiveModel(loaded.eval()), ids), our_logits(model, tokens(ids)), atol=1e-5, rtol=0
    )


def test_an_unsupported_family_is_refused_in_one_line_that_names_the_supported(tmp_path: Path) -> None:
    stock = AlbertForSequenceClassification(
        AlbertConfig(vocab_size=50, embedding_size=8, hidden_size=16, num_attention_heads=2, intermediate_size=16)
    )
    stock.save_pretrained(tmp_path)
    for refused in (lambda: view_of(stock), lambda: load_model(str(tmp_path))):
        with pytest.raises(DataError) as error:
            refused()
        assert str(error.value).endswith(
            "model_type 'albert' is not supported; supported families: bert, distilbert, roberta, electra, modernbert"
        )
        assert "\n" not in str(error.value)
