"""Checkpoints whose config or file of weights says more than, or something else than, transformers' class reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from searchkit.errors import DataError, StudyError
from searchkit.reduction.checkpoint import load_config
from searchkit.reduction.stock_check import compare_with_stock
from searchkit.training import FineTune, LengthDrop
from tests.training.test_checkpoint import NAMES, built, changed, logits, rewritten, saved


@pytest.mark.parametrize(
    "label2id",
    [
        {"BAD": 2, "Fair": 1, "GOOD ": 0},
        {"bad": "2", "fair": "1", "good": "0"},
        {"bad": "x", "fair": "y", "good": "z"},
    ],
)
def test_tables_of_names_disagree_whatever_their_spelling(tmp_path: Path, label2id: dict[str, Any]) -> None:
    source, _ = saved(tmp_path, label2id=label2id)
    with pytest.raises(DataError, match="their order is unknown"):
        built(source, NAMES)


def test_tables_of_names_that_agree_in_another_spelling_are_one(tmp_path: Path) -> None:
    source, expected = saved(tmp_path, label2id={"BAD": "0", "Fair": 1, "GOOD": 2})
    torch.testing.assert_close(logits(built(source, NAMES)), expected, atol=1e-5, rtol=0)


def test_a_head_with_more_outputs_than_names_is_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, expected = saved(tmp_path, id2label={"0": "bad"}, label2id={"bad": 0})
    with pytest.raises(DataError, match="head has 1 labels, the data 3"):
        built(source, NAMES)
    torch.testing.assert_close(logits(built(source, NAMES, FineTune())), expected, atol=1e-5, rtol=0)
    assert "its labels do not match the data's" in caplog.text


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"auto_map": {"AutoModel": "modeling.JinaBert"}}, "BertForSequenceClassification"),
        ({"architectures": ["JinaBertForSequenceClassification"]}, "JinaBertForSequenceClassification"),
        ({"architectures": ["RobertaForSequenceClassification"]}, "RobertaForSequenceClassification"),
    ],
)
def test_weights_of_another_class_are_refused_as_they_are_and_reported_where_they_are_trained(
    tmp_path: Path, settings: dict[str, Any], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = saved(tmp_path, **settings)
    with pytest.raises(DataError, match=f"its model is {name}, which is not transformers' own bert"):
        built(source, NAMES)
    built(source, NAMES, FineTune())
    assert f"its model is {name}" in caplog.text


@pytest.mark.parametrize("name", ["classifier.dense.weight", "temperature", "score.weight"])
def test_parts_of_a_head_that_are_not_read_are_refused_as_they_are(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source, _ = saved(tmp_path)
    rewritten(tmp_path, lambda weights: weights | {name: torch.ones(2, 2)})
    with pytest.raises(DataError, match=f"no place in transformers' head: {name}; begin with"):
        built(source, NAMES)
    built(source, NAMES, FineTune())
    assert f"weights of the file are not read: {name}" in caplog.text


def test_heads_of_pre_training_that_stayed_in_the_file_do_not_matter(tmp_path: Path) -> None:
    source, expected = saved(tmp_path)
    rewritten(tmp_path, lambda weights: weights | {"cls.predictions.bias": torch.ones(2)})
    torch.testing.assert_close(logits(built(source, NAMES)), expected, atol=1e-5, rtol=0)


def test_a_modernbert_of_an_unknown_kind_is_refused_as_it_is(tmp_path: Path) -> None:
    """Its heads for texts and for tokens have the same names of weights."""
    source, _ = saved(tmp_path, family="modernbert", auto=AutoModelForTokenClassification, architectures=None)
    with pytest.raises(DataError, match="names no architecture, so the kind of its head is unknown"):
        built(source, NAMES)


def test_a_cross_encoders_sigmoid_under_its_older_name_is_refused_too(tmp_path: Path) -> None:
    sigmoid = "torch.nn.modules.activation.Sigmoid"
    source, _ = saved(tmp_path, ("LABEL_0",), sbert_ce_default_activation_function=sigmoid)
    with pytest.raises(DataError, match=f"the output after {re.escape(sigmoid)}"):
        built(source, ("score",), head="regression")


def test_attention_dropout_reaches_the_layers_where_a_config_has_both_names(tmp_path: Path) -> None:
    source, _ = saved(tmp_path, attention_dropout=0.3)
    model = built(source, NAMES, attention_dropout=0.0)
    assert [block.attention_dropout for block in model.view.blocks] == [0.0] * 3


def test_a_roberta_without_padding_is_refused_by_name(tmp_path: Path) -> None:
    source, _ = saved(tmp_path, family="roberta")
    changed(tmp_path, pad_token_id=None)
    with pytest.raises(DataError, match="no pad_token_id"):
        load_config(source)


@pytest.mark.parametrize("weight_decay", [-0.1, 1e9])
def test_a_weight_decay_that_makes_weights_grow_is_refused(weight_decay: float) -> None:
    for recipe in (FineTune, LengthDrop):
        with pytest.raises(StudyError, match="weight_decay must not be negative, and times the learning rate"):
            recipe(weight_decay=weight_decay)


def test_outputs_that_overflow_are_named_as_what_they_are(tmp_path: Path) -> None:
    source, _ = saved(tmp_path)
    rewritten(tmp_path, lambda weights: {name: weight * 1e30 for name, weight in weights.items()})
    with pytest.raises(DataError, match="of the unreduced model are not finite: weights are too large"):
        compare_with_stock(built(source, NAMES), source)
