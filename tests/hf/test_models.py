"""Shipped models against stock transformers, and against the packed pass that was measured."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification

import searchkit.hf
from searchkit.errors import DataError
from searchkit.hf.convert import shipped_model
from searchkit.hf.errors import InputError
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.testing.models import bert, random_model
from tests.hf.shipped import LIKE, PLANS, shipped
from tests.reduction.models import LAYERS, MODELS, STOCK, classifier, examples, padded, reader, tokens

GATED = {"gated": ReductionPlan.of_slots(Reducer(threshold=0.5, scorer="gate"), LAYERS, thresholds=(0.9, 0.5, 0.4))}


def auto(model: Any) -> Any:
    return (
        AutoModelForQuestionAnswering
        if hasattr(model, "qa_outputs") or "Question" in type(model).__name__
        else (AutoModelForSequenceClassification)
    )


def outputs(out: Any) -> Tensor:
    """(B, C) logits, or (B, L, 2)."""
    return torch.stack([out.start_logits, out.end_logits], -1) if "start_logits" in out else out.logits


def gated(seed: int = 0) -> AdaptiveModel:
    model = classifier("bert", seed=seed)
    model.attach("gate", hidden=8)
    with torch.no_grad():
        for weight in model.predictors.parameters():
            weight.normal_(0, 0.3)
    return model.eval()


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_unreduced_plan_gives_the_stock_models_logits(name: str) -> None:
    model = MODELS[name]()
    ids, mask = padded(examples(3))
    with torch.no_grad():
        expected = outputs(model.stock(input_ids=ids, attention_mask=mask))
        got = outputs(shipped(model)(ids, mask, plan="unreduced"))
    real = mask.bool() if expected.dim() == 3 else torch.ones(3, dtype=torch.bool)
    torch.testing.assert_close(got[real], expected[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize("key", sorted(PLANS))
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_plan_gives_the_packed_passs_logits_in_any_company(name: str, key: str) -> None:
    model, ids = MODELS[name](), examples(3)
    one = shipped(model)
    with torch.no_grad():
        expected = model(tokens(ids), PLANS[key])
        together = outputs(one(*padded(ids), plan=key))
        trace = one.last_trace
        joined = model.frozen()(tokens(ids), PLANS[key]).logits
        alone = [outputs(one(*padded([example]), plan=key)) for example in ids]
    flat = together if together.dim() == 2 else together[padded(ids)[1].bool()]
    assert torch.equal(flat, joined)  # inference joins the weights of query, key and value
    torch.testing.assert_close(flat, expected.logits, atol=1e-5, rtol=0)
    assert trace.feed_forward.tolist() == expected.trace.feed_forward.tolist()
    for row, example in enumerate(ids):
        torch.testing.assert_close(together[row : row + 1][:, : len(example)], alone[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", sorted(STOCK))
def test_the_loss_of_classes_is_the_stock_classs_and_has_its_gradient(family: str) -> None:
    model, (ids, mask) = classifier(family), padded(examples(3))
    labels = torch.tensor([0, 2, 1])
    expected = model.stock(input_ids=ids, attention_mask=mask, labels=labels).loss
    name, weight = next((name, weight) for name, weight in model.stock.named_parameters() if weight.dim() > 1)
    (wanted,) = torch.autograd.grad(expected, weight)
    one = shipped(model)
    loss = one(ids, mask, labels=labels, plan="unreduced").loss
    loss.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.get_parameter(name).grad, wanted, atol=1e-5, rtol=1e-3)


def test_the_loss_of_numbers_is_the_stock_classs_and_the_config_says_that_they_are_no_classes() -> None:
    model, (ids, mask) = bert(labels=1), padded(examples(3))
    labels = torch.tensor([0.5, -1.0, 2.0])
    one = shipped(model)
    assert one.config.problem_type == "regression"
    expected = model.stock(input_ids=ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(one(ids, mask, labels=labels, plan="unreduced").loss, expected, atol=1e-5, rtol=0)


def test_the_loss_of_answers_is_the_stock_classs_where_nothing_is_padded() -> None:
    """The stock class lets the answer begin in a pad, which this one does not."""
    model, ids = reader("bert"), torch.randint(4, 50, (3, 20))
    ends = {"start_positions": torch.tensor([3, 0, 19]), "end_positions": torch.tensor([5, 0, 25])}
    expected = model.stock(input_ids=ids, **ends).loss
    got = shipped(model)(ids, plan="unreduced", **ends)
    torch.testing.assert_close(got.loss, expected, atol=1e-5, rtol=0)
    padded_ids, mask = padded(examples(3))
    out = shipped(model)(padded_ids, mask, plan="few")
    assert out.start_logits.shape == padded_ids.shape
    assert out.start_logits[~mask.bool()].max() < out.start_logits[mask.bool()].min() - 1000


def test_a_batch_that_is_wider_than_its_longest_text_keeps_its_width() -> None:
    one, (ids, mask) = shipped(reader("bert")), padded(examples(3))
    wide = torch.nn.functional.pad(ids, (0, 7)), torch.nn.functional.pad(mask, (0, 7))
    out = one(*wide)
    assert out.end_logits.shape == wide[0].shape
    assert torch.equal(out.end_logits[:, : ids.shape[1]], one(ids, mask).end_logits)


@pytest.mark.parametrize("name", ["bert", "modernbert", "roberta reader", "distilbert reader", "electra"])
def test_a_saved_model_is_the_same_after_two_rounds_and_the_stock_class_reads_its_weights(
    name: str, tmp_path: Path
) -> None:
    model = MODELS[name]()
    one, (ids, mask) = shipped(model), padded(examples(3))
    expected, unreduced = outputs(one(ids, mask)), outputs(one(ids, mask, plan="unreduced"))
    last = one
    for number in range(2):
        last.save_pretrained(tmp_path / str(number))
        last = auto(one).from_pretrained(tmp_path / str(number))
        assert type(last) is type(one)
        assert torch.equal(outputs(last(ids, mask)), expected)
        assert last.plans == one.plans
    folder = str(tmp_path / "1")
    stock = type(model.stock).from_pretrained(folder)
    real = mask.bool() if expected.dim() == 3 else torch.ones(3, dtype=torch.bool)
    got = outputs(stock(input_ids=ids, attention_mask=mask))
    torch.testing.assert_close(got[real], unreduced[real], atol=1e-5, rtol=0)


def test_trained_predictors_are_stored_under_their_prefix_in_a_file_that_says_its_format(tmp_path: Path) -> None:
    from safetensors import safe_open

    model = gated()
    one, (ids, mask) = shipped(model, GATED, "gated"), padded(examples(4))
    with torch.no_grad():
        expected = model(tokens(examples(4)), GATED["gated"])
    assert 0 < int(expected.trace.feed_forward[:, 1].sum()) < int(expected.trace.tokens.sum())
    one.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == {
            *model.stock.state_dict(),
            *(f"predictors.{n}" for n in model.predictors.state_dict()),
        }
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(ids, mask).logits, expected.logits, atol=1e-5, rtol=0)
    assert loaded.last_trace.feed_forward.tolist() == expected.trace.feed_forward.tolist()


def test_a_folder_that_lacks_trained_predictors_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shipped(gated(), GATED, "gated").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["predictors.gate.1.up.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="the file of weights lacks the trained predictors gate"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_copies_casts_and_loaded_states_are_used_at_once() -> None:
    one, (ids, mask) = shipped(gated(), {**PLANS, **GATED}), padded(examples(3))
    with torch.no_grad():
        before = one(ids, mask).logits
        copied = copy.deepcopy(one)
        other = shipped(gated(seed=1), {**PLANS, **GATED})
        expected = other(ids, mask).logits
        stored = io.BytesIO()
        torch.save(other.state_dict(), stored)
        stored.seek(0)
        one.load_state_dict(torch.load(stored, weights_only=True))
        assert torch.equal(one(ids, mask).logits, expected)
        assert not torch.equal(expected, before)
        assert torch.equal(copied(ids, mask).logits, before)
        assert copied(ids, mask, plan="gated").logits.dtype == torch.float32
        assert copied.double()(ids, mask).logits.dtype == torch.float64
        torch.testing.assert_close(copied(ids, mask).logits.float(), before, atol=1e-5, rtol=0)


def test_a_weight_that_is_written_between_two_calls_is_used_by_the_second() -> None:
    one, (ids, mask) = shipped(classifier("bert")), padded(examples(3))
    with torch.no_grad():
        before = one(ids, mask).logits
        one.bert.encoder.layer[0].attention.self.query.weight.mul_(2)
        after = one(ids, mask).logits
        assert not torch.equal(before, after)
        torch.testing.assert_close(after, copy.deepcopy(one)(ids, mask).logits, atol=0, rtol=0)


def test_weights_made_in_inference_mode_are_read() -> None:
    with torch.inference_mode():
        one, (ids, mask) = shipped(classifier("bert")), padded(examples(3))
        one.to(torch.float64)
        assert one(ids, mask).logits.dtype == torch.float64


def test_the_view_is_no_part_of_the_model() -> None:
    one = shipped(classifier("bert"))
    one(*padded(examples(1)))
    assert [name for name, _ in one.named_children()] == ["bert", "dropout", "classifier", "predictors"]
    assert set(one.state_dict()) == set(classifier("bert").stock.state_dict())


def test_training_mode_drops_and_eval_mode_does_not() -> None:
    one, (ids, mask) = shipped(classifier("bert")), padded(examples(3))
    torch.manual_seed(0)
    first, second = (one.train()(ids, mask).logits for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(one.eval()(ids, mask).logits, one(ids, mask).logits)


@pytest.mark.parametrize("setting", ["output_attentions", "output_hidden_states", "inputs_embeds", "position_ids"])
def test_what_the_packed_pass_cannot_give_or_read_is_refused(setting: str) -> None:
    one, (ids, mask) = shipped(classifier("bert")), padded(examples(3))
    asked = {setting: ids if setting.endswith("s") and "output" not in setting else True}
    with pytest.raises(InputError, match=rf"^{setting} is not available: .*model.last_trace"):
        one(ids, mask, **asked)


def test_a_config_that_asks_for_attentions_is_refused() -> None:
    one = shipped(classifier("bert", attn_implementation="eager"))
    one.config.output_hidden_states = True
    with pytest.raises(InputError, match="output_hidden_states is not available"):
        one(*padded(examples(1)))


def test_tuples_are_given_where_they_are_asked_for() -> None:
    one, (ids, mask) = shipped(classifier("bert")), padded(examples(3))
    (logits,) = one(ids, mask, return_dict=False)
    assert torch.equal(logits, one(ids, mask).logits)


def test_adapters_and_quantised_layers_are_refused() -> None:
    class Adapter(torch.nn.Linear):
        """A layer of another library."""

    Adapter.__module__ = "peft.tuners.lora"
    one = shipped(classifier("bert"))
    one.bert.encoder.layer[1].attention.self.value = Adapter(32, 32)
    with pytest.raises(InputError, match=r"layer.1.attention.self.value is a peft.tuners.lora.Adapter.*merge adapters"):
        one(*padded(examples(1)))


def test_gradient_checkpointing_is_refused_by_transformers() -> None:
    one = shipped(classifier("bert"))
    enable = getattr(one, "activation_checkpointing_enable", one.gradient_checkpointing_enable)  # its newer name
    with pytest.raises(ValueError, match=r"does not support (gradient|activation) checkpointing"):
        enable()


def test_a_family_without_a_class_cannot_be_shipped() -> None:
    from searchkit.reduction.families import FAMILIES
    from searchkit.reduction.families.post_norm import ROBERTA

    FAMILIES.registered["camembert"] = ROBERTA
    try:
        config = transformers.CamembertConfig(**STOCK["roberta"]().to_dict() | {"model_type": "camembert"})
        with pytest.raises(DataError, match="CamembertForSequenceClassification cannot be shipped; families that can"):
            shipped_model(random_model(config))
    finally:
        del FAMILIES.registered["camembert"]


def test_plans_of_another_depth_or_without_their_predictors_are_refused() -> None:
    short = {"half": ReductionPlan.of_slots(LIKE, 2, lengths=(0.5, 0.5))}
    with pytest.raises(DataError, match="plan 'half' has 2 layers, the encoder 3"):
        shipped(classifier("bert"), short)
    with pytest.raises(DataError, match="plan 'gated' scores by 'gate', and the model has no such predictors"):
        shipped(classifier("bert"), GATED, "gated")


def test_registering_twice_is_safe_and_nothing_is_registered_without_the_import(tmp_path: Path) -> None:
    import importlib

    importlib.reload(searchkit.hf)
    shipped(classifier("bert")).save_pretrained(tmp_path)
    code = (
        "import sys, searchkit; from transformers import AutoConfig\n"
        f"try: AutoConfig.from_pretrained({str(tmp_path)!r})\n"
        "except ValueError as error: print('searchkit-bert' in str(error))\n"
        f"print(type(searchkit.load({str(tmp_path)!r})).__name__)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out == "True\nSearchkitBertForSequenceClassification\n"
