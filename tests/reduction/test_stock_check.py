"""The comparison of unreduced outputs with transformers' own, and settings of configs that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from searchkit.errors import DataError
from searchkit.reduction.heads import HEADS
from searchkit.reduction.loading import load_model
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.stock_check import compare_with_stock, random_texts, shortened
from tests.reduction.models import LAYERS, MODELS, classifier, examples, tokens


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_family_and_head_agrees_with_its_stock_model(name: str) -> None:
    model = MODELS[name]()
    compare_with_stock(model, name)
    compare_with_stock(model, name, tokens(examples(3, seed=4)))
    compare_with_stock(model.train(), name)
    assert model.training


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_pass_that_differs_anywhere_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block in turn forgets its feed-forward part."""
    model = MODELS[name]()
    for block in model.view.blocks:
        with monkeypatch.context() as patch:
            patch.setattr(type(block), "transformed", lambda self, hidden: hidden + 1e-2 * torch.ones_like(hidden))
            with pytest.raises(DataError, match=f"{name}: unreduced states differ from transformers' own by"):
                compare_with_stock(model, name)


def test_a_head_that_differs_is_refused() -> None:
    model = classifier("roberta")
    plain = model.view.head
    object.__setattr__(model.view, "head", lambda rows: plain(rows) + 0.01)
    with pytest.raises(DataError, match="unreduced outputs differ"):
        compare_with_stock(model, "x")


def test_outputs_that_are_no_numbers_are_refused() -> None:
    model = classifier("bert")
    with torch.no_grad():
        model.stock.classifier.bias[0] = float("nan")
    with pytest.raises(DataError, match="outputs of the unreduced model are not finite"):
        compare_with_stock(model, "x")


@pytest.mark.parametrize("name", sorted(MODELS))
def test_made_up_texts_are_ragged_longer_than_windows_and_hold_no_padding(name: str) -> None:
    model = MODELS[name]()
    texts = random_texts(model)
    assert len(set(texts.layout.lengths.tolist())) == 3
    assert all(texts.layout.longest > block.window for block in model.view.blocks if block.window)
    assert not (texts.ids == model.stock.config.pad_token_id).any()
    assert int(texts.types.max()) == ((model.view.segments or 1) > 1)


def test_texts_with_a_padding_token_inside_are_left_out() -> None:
    model = classifier("roberta")
    pad = model.stock.config.pad_token_id
    kept = shortened(tokens([[3, pad, 4], [5, 6]]), model)
    assert kept.ids.tolist() == [5, 6]
    assert len(shortened(tokens([[pad, 3]]), model).layout.lengths) == 3  # made-up ones


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("bert", {"is_decoder": True}),
        ("roberta", {"is_decoder": True, "add_cross_attention": True}),
        ("electra", {"position_embedding_type": "relative_key"}),
        ("distilbert", {"is_encoder_decoder": True}),
        ("bert", {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}),
        ("bert", {"pruned_heads": {"0": [1]}}),
    ],
)
def test_settings_that_the_packed_pass_does_not_honour_are_refused(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    classifier(family).save(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    with pytest.raises(DataError, match=rf"{next(iter(settings))}=.* in its config is not supported; supported: "):
        load_model(str(tmp_path))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_angles_that_depend_on_the_longest_text_of_a_batch_are_refused(tmp_path: Path, kind: str) -> None:
    classifier("modernbert").save(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["rope_parameters"]["full_attention"] |= {"rope_type": kind, "factor": 2.0}
    file.write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"rope"):
        load_model(str(tmp_path))


HONOURED: dict[str, list[dict[str, Any]]] = {
    "bert": [
        {"hidden_act": "gelu_new"},
        {"hidden_act": "relu"},
        {"chunk_size_feed_forward": 2},
        {"layer_norm_eps": 0.1},
        {"classifier_dropout": 0.9},
        {"use_cache": True, "return_dict": False, "tie_word_embeddings": False},
        {"type_vocab_size": 1},
        {"type_vocab_size": 3},
        {"dtype": "float16"},
    ],
    "roberta": [{"hidden_act": "silu"}, {"type_vocab_size": 2}],
    "distilbert": [{"activation": "relu"}, {"sinusoidal_pos_embds": True}],
    "electra": [
        {"summary_type": "mean", "summary_use_proj": False, "summary_activation": "tanh"},
        {"hidden_act": "gelu_new"},
    ],
    "modernbert": [
        {"hidden_activation": "silu", "classifier_activation": "tanh"},
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True},
        {"norm_eps": 0.1, "deterministic_flash_attn": True, "sparse_prediction": True},
        {"layer_types": ["sliding_attention"] * 3, "local_attention": 4},
        {"classifier_pooling": "mean"},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
            }
        },
    ],
}


@pytest.mark.parametrize(
    ("family", "settings"), [(family, settings) for family in HONOURED for settings in HONOURED[family]], ids=str
)
def test_other_settings_are_honoured(tmp_path: Path, family: str, settings: dict[str, Any]) -> None:
    model = classifier(family, **settings)
    compare_with_stock(model, family)
    model.save(tmp_path)
    load_model(str(tmp_path))


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    classifier("bert").save(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(DataError, match="an adapter beside its base model is not supported; merge them"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_last_product_of_the_head_makes_the_outputs(name: str) -> None:
    model = MODELS[name]()
    output = model.view.output
    assert output.out_features == model.stock.config.num_labels
    with torch.no_grad():
        output.weight.zero_()
        logits = model(tokens(examples(2)), ReductionPlan.unreduced(LAYERS)).logits
    expected = output.bias if output.bias is not None else torch.zeros(output.out_features)
    torch.testing.assert_close(logits, expected.expand_as(logits))


def test_heads_say_the_labels_and_the_problem_type_that_they_have() -> None:
    formats = {name: (head.label_format, head.problem_type, head.reads) for name, head in HEADS.items()}
    assert formats == {
        "classification": (("int64", ()), "single_label_classification", None),
        "regression": (("float32", ()), "regression", None),
        "question_answering": (("int64", (2,)), None, "tokens"),
    }


def test_a_saved_model_is_compared_whenever_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier("electra")
    model.save(tmp_path)
    monkeypatch.setattr(type(model.view.blocks[0]), "transformed", lambda self, hidden: hidden)
    with pytest.raises(DataError, match="unreduced states differ"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("name", ["predictors", "weights"])
def test_weights_of_a_trained_supernet_that_are_not_finite_are_named(tmp_path: Path, name: str) -> None:
    model = classifier("bert")
    model.attach("contribution")
    damaged = model.predictors if name == "predictors" else model.stock
    with torch.no_grad():
        next(damaged.parameters()).fill_(float("inf"))
    model.save(tmp_path)
    with pytest.raises(DataError, match="not finite"):
        load_model(str(tmp_path))
