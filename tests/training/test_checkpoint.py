"""Fine-tuned checkpoints as supernets: labels by name, heads that are missing, of other sizes or of another kind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from searchkit.errors import DataError, StudyError
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.stock_check import compare_with_stock
from searchkit.tasks import Generated
from searchkit.tasks.words import word_tokenizer
from searchkit.training import AdapLeR, FineTune, LengthDrop, Recipe
from searchkit.training.checkpoint import trains_head
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet, check_fits
from tests.reduction.models import LAYERS, STOCK, classifier, examples, padded, reader, tokens

NAMES = ("bad", "fair", "good")
GENERIC = ("LABEL_0", "LABEL_1", "LABEL_2")
FAMILIES = sorted(STOCK)
AS_IT_IS = LengthDrop(start=None)
TASK = Generated(train=64, search=20, report=20)
WORDS = word_tokenizer(TASK.words())


def scratch(labels: Sequence[str] = ("a", "b"), head: str = "classification") -> Any:
    small = Supernet(Scratch(layers=2, width=8, heads=2, feed_forward=8), FineTune())
    return small.build(WORDS, labels, 80, 0, head)


def saved(
    folder: Path, names: Sequence[str] = NAMES, family: str = "bert", auto: Any = None, **config: Any
) -> tuple[str, Tensor]:
    """A fine-tuned checkpoint with these label names, and the stock model's logits on `examples(3)`."""
    settings = {"id2label": dict(enumerate(names)), "label2id": {name: n for n, name in enumerate(names)}}
    model = classifier(family).stock.config
    torch.manual_seed(1)
    stock = (auto or AutoModelForSequenceClassification).from_config(type(model)(**{**model.to_dict(), **settings}))
    with torch.no_grad():
        for name, weight in stock.named_parameters():
            if weight.dim() > 1 or name.endswith("bias"):
                weight.normal_(0, 0.2)
    stock.eval().save_pretrained(folder)
    if config:
        changed(folder, **config)
    ids, mask = padded(examples(3))
    with torch.no_grad():
        return str(folder), stock(input_ids=ids, attention_mask=mask).logits


def changed(folder: Path, **settings: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def built(
    source: str, labels: Sequence[str], recipe: Recipe = AS_IT_IS, head: str = "classification", **more: Any
) -> Any:
    return Supernet(source, recipe, **more).build(None, labels, 32, 0, head).eval()  # type: ignore[arg-type]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(tokens(examples(3)), ReductionPlan.unreduced(LAYERS)).logits  # type: ignore[no-any-return]


# Labels


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recipe", [AS_IT_IS, FineTune()])
def test_the_same_function_of_a_text_to_a_name_whatever_the_order(tmp_path: Path, family: str, recipe: Recipe) -> None:
    source, expected = saved(tmp_path, family=family)
    order = [2, 0, 1]
    model = built(source, [NAMES[number] for number in order], recipe)
    torch.testing.assert_close(logits(model), expected[:, order], atol=1e-5, rtol=0)


def test_saved_checkpoints_name_the_outputs_that_they_have(tmp_path: Path) -> None:
    source, expected = saved(tmp_path / "given")
    built(source, ("good", "bad", "fair")).save(tmp_path / "saved")
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    ids, mask = padded(examples(3))
    with torch.no_grad():
        found = stock(input_ids=ids, attention_mask=mask).logits.argmax(1).tolist()
    assert [stock.config.id2label[number] for number in found] == [NAMES[n] for n in expected.argmax(1).tolist()]
    assert stock.config.label2id == {"good": 0, "bad": 1, "fair": 2}
    assert stock.config.problem_type == "single_label_classification"


def test_case_and_blanks_of_names_do_not_matter_and_the_datas_spelling_is_kept(tmp_path: Path) -> None:
    source, expected = saved(tmp_path, (" GOOD", "Bad", "very  fair"))
    model = built(source, ("bad", "good", "Very fair"))
    torch.testing.assert_close(logits(model), expected[:, [1, 0, 2]], atol=1e-5, rtol=0)
    assert model.stock.config.id2label == {0: "bad", 1: "good", 2: "Very fair"}


@pytest.mark.parametrize(
    "names", [("LABEL_0", "LABEL_1", "LABEL_2"), ("x", "bad", "good"), ("0", "1", "2"), NAMES[::-1]]
)
@pytest.mark.parametrize("labels", [("0", "1", "3"), ("negative", "neutral", "positive"), ("bad", "BAD", "good")])
def test_names_that_do_not_match_are_refused_with_both_lists(
    tmp_path: Path, names: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    source, _ = saved(tmp_path, names)
    with pytest.raises(DataError) as error:
        built(source, labels)
    assert f"the checkpoint's labels are {list(names)}, the data's {list(labels)}" in str(error.value)
    assert f"label_map={{{names[0]!r}: {labels[0]!r}" in str(error.value)


@pytest.mark.parametrize("names", [NAMES, GENERIC])
def test_numbers_in_the_data_say_nothing_of_a_checkpoints_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A wrong order would halve the accuracy without a word: the author of the study decides."""
    source, expected = saved(tmp_path, names)
    with pytest.raises(DataError, match="their order is unknown"):
        built(source, ("0", "1", "2"))
    model = built(source, ("0", "1", "2"), label_map={names[0]: 2, names[1]: 0, names[2]: "1"})
    torch.testing.assert_close(logits(model), expected[:, [1, 2, 0]], atol=1e-5, rtol=0)
    own = {0: "fair", 1: "good", 2: "bad"}
    assert model.stock.config.id2label == (own if names == NAMES else {0: "0", 1: "1", 2: "2"})


def test_numbers_that_both_know_are_matched(tmp_path: Path) -> None:
    source, expected = saved(tmp_path, ("1", "0", "-1"))
    torch.testing.assert_close(logits(built(source, ("-1", "0", "1"))), expected[:, [2, 1, 0]], atol=1e-5, rtol=0)


def test_two_tables_of_names_that_disagree_match_nothing(tmp_path: Path) -> None:
    source, _ = saved(tmp_path, label2id={"bad": 2, "fair": 1, "good": 0})
    with pytest.raises(DataError, match="their order is unknown"):
        built(source, NAMES)


@pytest.mark.parametrize(
    "label_map", [{"bad": "a"}, {"bad": "a", "fair": "b", "good": "b"}, {"bad": "a", "fair": "b", "fine": "c"}]
)
def test_a_label_map_that_is_not_one_to_one_is_refused(tmp_path: Path, label_map: dict[str, str]) -> None:
    source, _ = saved(tmp_path)
    with pytest.raises(DataError, match=r"label_map gives each of .* labels \['bad', 'fair', 'good'\] one"):
        built(source, ("a", "b", "c"), label_map=label_map)


def test_a_label_map_without_labels_to_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="Scratch has no labels"):
        Supernet(Scratch(), FineTune(), label_map={"a": "b"})
    with pytest.raises(StudyError, match="label_map maps the checkpoint's names"):
        Supernet("./x", FineTune(), label_map={0: "b"})  # type: ignore[dict-item]
    source, _ = saved(tmp_path, auto=AutoModelForMaskedLM)
    with pytest.raises(StudyError, match="no classification head of 3 labels to map"):
        built(source, NAMES, FineTune(), label_map={"bad": "bad", "fair": "fair", "good": "good"})


def test_a_label_map_is_part_of_a_supernets_identity(tmp_path: Path) -> None:
    source, _ = saved(tmp_path)
    plain = Supernet(source, AS_IT_IS)
    assert plain.describe() != replace(plain, label_map={"bad": "0", "fair": "1", "good": "2"}).describe()


def test_training_goes_on_from_a_head_without_matching_names_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, expected = saved(tmp_path)
    model = built(source, ("a", "b", "c"), FineTune())
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    assert "the head is trained on from: bad as a, fair as b, good as c" in caplog.text
    assert model.stock.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_a_change_of_order_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, _ = saved(tmp_path)
    built(source, NAMES)
    assert not caplog.text
    built(source, NAMES[::-1])
    moved = "its outputs ['bad', 'fair', 'good'] are put into the order ['good', 'fair', 'bad']"
    assert moved in caplog.text


def test_a_study_of_numbers_and_one_of_answers_have_no_names_to_match(tmp_path: Path) -> None:
    source, expected = saved(tmp_path / "number", ("LABEL_0",))
    model = built(source, ("score",), head="regression")
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=0)
    assert (model.head.name, model.stock.config.problem_type, model.stock.config.num_labels) == ("regression",) * 2 + (
        1,
    )
    reader("bert").save(tmp_path / "reader")
    assert (
        built(str(tmp_path / "reader"), ("start", "end"), head="question_answering").head.name == "question_answering"
    )


# Heads


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_under_another_name_is_refused_as_it_is_and_reported_where_it_is_trained(
    tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = saved(tmp_path, family=family)
    rewritten(tmp_path, lambda weights: {name.replace("classifier", "score"): w for name, w in weights.items()})
    with pytest.raises(DataError, match=r"the file of weights lacks classifier.*start=FineTune"):
        built(source, NAMES)
    built(source, NAMES, FineTune())
    assert "the head is new: classifier" in caplog.text
    assert "weights of the file are not read: " in caplog.text
    assert "score" in caplog.text


def test_a_pooler_that_is_missing_is_part_of_the_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, _ = saved(tmp_path)
    rewritten(tmp_path, lambda weights: {name: w for name, w in weights.items() if "pooler" not in name})
    with pytest.raises(DataError, match=r"lacks bert.pooler.dense.bias, bert.pooler.dense.weight; begin with"):
        built(source, NAMES)
    built(source, NAMES, FineTune())
    assert "the head is new: bert.pooler.dense.bias, bert.pooler.dense.weight" in caplog.text


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_of_other_tasks_are_no_classifiers(tmp_path: Path, family: str) -> None:
    """ModernBERT's for tokens has the very same names of weights."""
    if family == "modernbert_mean":
        return
    source, _ = saved(tmp_path, family=family, auto=AutoModelForTokenClassification)
    with pytest.raises(DataError, match="TokenClassification has no classification head, and none is trained"):
        built(source, NAMES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("labels", "head"), [(("a", "b"), "classification"), (("score",), "regression")])
def test_a_head_of_another_size_is_made_anew_where_it_is_trained(
    tmp_path: Path, family: str, labels: tuple[str, ...], head: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = saved(tmp_path, family=family)
    with pytest.raises(DataError, match=rf"head has 3 labels, the data {len(labels)}; begin with start=FineTune"):
        built(source, labels, head=head)
    model = built(source, labels, FineTune(), head)
    assert (logits(model).shape, model.head.name) == ((3, len(labels)), head)
    assert f"as the checkpoint has 3 labels and the data {len(labels)}" in caplog.text
    compare_with_stock(model, source)


def test_a_head_that_is_unlike_its_own_config_is_named_with_both_shapes(tmp_path: Path) -> None:
    source, _ = saved(tmp_path)
    rewritten(tmp_path, lambda weights: weights | {"classifier.bias": torch.zeros(5)})
    for recipe in (FineTune(), AS_IT_IS):
        with pytest.raises(DataError, match=r"classifier.bias has the shape \(5,\) in the file of weights, .* \(3,\)"):
            built(source, NAMES, recipe)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named_before_anything_is_trained(tmp_path: Path, value: float) -> None:
    source, _ = saved(tmp_path)
    name = "bert.encoder.layer.1.output.dense.weight"
    rewritten(tmp_path, lambda weights: weights | {name: weights[name].index_fill(0, torch.tensor([3]), value)})
    with pytest.raises(DataError, match=rf"weights of the file are not finite: {name}"):
        built(source, NAMES, FineTune())


def test_layers_of_the_file_that_the_config_leaves_out_are_reported_and_refused_as_they_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = saved(tmp_path, num_hidden_layers=2)
    with pytest.raises(DataError, match=r"the config has no place for weights of the file: bert.encoder.layer.2"):
        built(source, NAMES)
    built(source, NAMES, FineTune())
    assert "weights of the file are not read: bert.encoder.layer.2" in caplog.text


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_a_head_of_another_problem_type_is_refused_or_trained_anew(tmp_path: Path, kind: str) -> None:
    source, _ = saved(tmp_path, problem_type=kind)
    with pytest.raises(DataError, match=f"trained as {kind}, the task is single_label_classification"):
        built(source, NAMES)
    assert built(source, NAMES, FineTune()).stock.config.problem_type == "single_label_classification"


def test_a_cross_encoders_number_after_a_sigmoid_is_refused_as_it_is(tmp_path: Path) -> None:
    activation = {"activation_fn": "torch.nn.modules.activation.Sigmoid"}
    source, _ = saved(tmp_path, ("LABEL_0",), sentence_transformers=activation)
    with pytest.raises(DataError, match=r"the output after torch\.nn\.modules\.activation\.Sigmoid"):
        built(source, ("score",), head="regression")
    built(source, ("score",), FineTune(), "regression")


def test_only_a_chain_that_begins_with_fine_tuning_trains_the_head() -> None:
    assert [trains_head(recipe) for recipe in (FineTune(), LengthDrop(), AdapLeR())] == [True] * 3
    assert not trains_head(LengthDrop(start=None))
    assert not trains_head(AdapLeR(start=None))
    assert not trains_head(LengthDrop(start=FineTune(epochs=0)))


# What the data brings


def test_segments_that_the_encoder_does_not_know_are_an_error_of_the_data(tmp_path: Path) -> None:
    data = TASK.encode(TASK.tables(0).train, WORDS)
    types = data.types.copy()
    types[0] = 2
    with pytest.raises(DataError, match="the tokenizer gives segments up to number 2, the encoder knows 2"):
        check_fits("./m", WORDS, scratch(), replace(data, types=types), 80)
    check_fits("./m", WORDS, scratch(), data, 80)


def test_labels_of_another_format_than_the_heads_are_refused() -> None:
    data = TASK.encode(TASK.tables(0).train, WORDS)
    with pytest.raises(DataError, match=r"labels of the head 'regression' are \('float32', \(\)\), the task gives"):
        check_fits("./m", WORDS, scratch(("score",), "regression"), data, 80)


def test_texts_of_the_task_are_compared_with_the_stock_model(monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = TASK.encode(TASK.tables(0).train, WORDS), scratch()
    block = type(model.view.blocks[0])
    monkeypatch.setattr(block, "transformed", lambda self, hidden: hidden * 1.01)
    with pytest.raises(DataError, match="unreduced states differ from transformers' own"):
        check_fits("./m", WORDS, model, data, 80)


def test_a_hub_name_with_a_pickle_alone_is_to_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "model")
    snapshot = tmp_path / "hub" / "models--some--pickled" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes((tmp_path / "model" / "config.json").read_bytes())
    torch.save(load_file(tmp_path / "model" / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc123")
    code = f"""
from searchkit.training import FineTune
from searchkit.training.supernet import Supernet
try:
    Supernet("some/pickled", FineTune()).build(None, {NAMES}, 32, 0)
except Exception as error:
    print(type(error).__name__, error)
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout
    assert re.match(
        r"DataError some/pickled: no safetensors weights .*; convert the checkpoint with transformers", said
    )
