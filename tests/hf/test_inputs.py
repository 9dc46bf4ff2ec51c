"""Inputs of shipped models: marks are those of the tasks, and what cannot be read is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from searchkit.errors import SearchkitError
from searchkit.hf.errors import InputError
from searchkit.hf.inputs import Special, marks_needed, pack
from searchkit.reduction.plan import ReductionPlan
from searchkit.tasks import Encoded, TextClassification, word_tokenizer
from searchkit.tasks.windows import encode_questions
from tests.hf.shipped import shipped
from tests.reduction.models import classifier, examples, padded, reader
from tests.tasks.questions import WORDS, questions

MARKS = ("sep", "question")


def like_roberta() -> Any:
    """<s> a </s></s> b </s>, without segments."""
    names = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    vocabulary = {name: number for number, name in enumerate(names)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"], **named)


def silent() -> Any:
    """[CLS] a [SEP] b [SEP], without segments."""
    tokenizer = word_tokenizer(WORDS)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


TOKENIZERS = {"segments": word_tokenizer(WORDS), "silent": silent(), "doubled": like_roberta()}


def special(tokenizer: Any) -> Special:
    return Special(tokenizer.pad_token_id, tokenizer.sep_token_id, tokenizer.sep_token == "</s>")


def batch(data: Encoded, tokenizer: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """The tensors of a tokenizer that pads."""
    texts = list(zip(data.offsets[:-1], data.offsets[1:], strict=True))
    rows = [{"input_ids": data.ids[a:b].tolist(), "token_type_ids": data.types[a:b].tolist()} for a, b in texts]
    if "token_type_ids" not in tokenizer.model_input_names:
        rows = [{"input_ids": row["input_ids"]} for row in rows]
    out = tokenizer.pad(rows, return_tensors="pt")
    return out["input_ids"], out["attention_mask"], out.get("token_type_ids")


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@settings(max_examples=40, deadline=None)
@given(table=questions())
def test_separators_and_questions_are_the_tokens_that_the_task_marks(name: str, table: pd.DataFrame) -> None:
    tokenizer = TOKENIZERS[name]
    data = encode_questions(table, tokenizer, max_length=18, stride=3, question_length=6)
    tokens = pack(*batch(data, tokenizer), special(tokenizer), limit=18, marks=MARKS)
    assert tokens.ids.tolist() == data.ids.tolist()
    for mark in MARKS:
        assert tokens.layout.marked(mark).tolist() == data.marks[mark].tolist()


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from([*WORDS, "[SEP]", "[PAD]"]), min_size=1, max_size=6))
def test_segments_tell_a_question_that_holds_separators_and_pads(words: list[str]) -> None:
    table = pd.DataFrame({"question": [" ".join(words)], "context": ["a [SEP] bb"], "answers": [("a",)], "start": [0]})
    tokenizer = TOKENIZERS["segments"]
    data = encode_questions(table, tokenizer, max_length=18, stride=3, question_length=6)
    tokens = pack(*batch(data, tokenizer), special(tokenizer), limit=18, marks=MARKS)
    for mark in MARKS:
        assert tokens.layout.marked(mark).tolist() == data.marks[mark].tolist()


def test_a_doubled_separator_ends_a_question_that_holds_single_ones() -> None:
    table = pd.DataFrame({"question": ["a </s> bb"], "context": ["ccc a"], "answers": [("a",)], "start": [4]})
    tokenizer = TOKENIZERS["doubled"]
    data = encode_questions(table, tokenizer, max_length=18, stride=3, question_length=6)
    tokens = pack(*batch(data, tokenizer), special(tokenizer), limit=18, marks=MARKS)
    assert (
        tokens.layout.marked("question").tolist()
        == data.marks["question"].tolist()
        == [False] + [True] * 3 + [False] * 5
    )


def test_separators_of_pairs_are_those_of_the_task() -> None:
    table = pd.DataFrame({"text": ["a bb", "ccc"], "text_pair": ["bb", "a a a"], "label": [0, 1]})
    data = TextClassification("./x", text=("a", "b")).encode(table, TOKENIZERS["segments"])
    tokens = pack(*batch(data, TOKENIZERS["segments"]), special(TOKENIZERS["segments"]), limit=64, marks=["sep"])
    assert tokens.layout.marked("sep").tolist() == data.marks["sep"].tolist()
    with pytest.raises(ValueError, match="no token is marked as 'question'"):
        tokens.layout.marked("question")


@pytest.mark.real
def test_marks_of_a_real_tokenizer_are_the_tasks(shared: Path) -> None:
    from searchkit.training.supernet import load_tokenizer

    tokenizer = load_tokenizer(str(shared / "models" / "minilm-l6"))
    contexts = ["Paris, the capital of France, lies on the Seine.", "It [SEP] rains; nobody's outside."]
    asked = ["What's the capital of [SEP] France?", "does it rain"]
    table = pd.DataFrame({"question": asked, "context": contexts, "answers": [("Paris",), ("",)], "start": [0, -1]})
    data = encode_questions(table, tokenizer, max_length=24, stride=4, question_length=16)
    tokens = pack(*batch(data, tokenizer), special(tokenizer), limit=24, marks=MARKS)
    assert int(tokens.layout.marked("question").sum()) > 10
    for mark in MARKS:
        assert tokens.layout.marked(mark).tolist() == data.marks[mark].tolist()


def test_a_plan_that_protects_the_question_keeps_it() -> None:
    plan = ReductionPlan.of_lengths((0.1, 0.1, 0.1), protect=("cls", "sep", "question"))
    assert marks_needed(plan) == {"sep", "question"}
    one = shipped(reader("bert"), {"half": plan})
    ids = torch.tensor([[2, *[7] * 5, 3, *[9] * 12, 3]])
    types = torch.tensor([[0] * 7 + [1] * 13])
    one(ids, token_type_ids=types)
    assert one.last_trace.feed_forward.tolist() == [[8, 8, 8]]
    one(ids)
    assert one.last_trace.feed_forward.tolist() == [[8, 8, 8]]


def test_a_classifiers_plan_keeps_separators_whose_id_the_config_has() -> None:
    plan = ReductionPlan.of_lengths((0.1, 0.1, 0.1), protect=("cls", "sep"))
    one = shipped(classifier("bert"), {"half": plan})
    ids = torch.tensor([[2, *[7] * 17, 3, 3]])
    one(ids)
    assert one.last_trace.attention.tolist() == [[20, 3, 3]]
    one.config.searchkit = {name: value for name, value in one.config.searchkit.items() if name != "sep_token_id"}
    with pytest.raises(InputError, match=r"the plan protects sep, and .* set config.searchkit\['sep_token_id'\]"):
        one(ids)


LEFT = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
HOLE = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]])
EMPTY = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
IDS = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 9]])


@pytest.mark.parametrize(
    ("given_inputs", "said"),
    [
        ((IDS, LEFT), "attention_mask has pads on the left: set tokenizer.padding_side = 'right'"),
        ((IDS, HOLE), "attention_mask must be ones followed by zeros in every row"),
        ((IDS, EMPTY), "example 1 has no tokens: its attention_mask is all zeros"),
        ((IDS * LEFT,), "attention_mask is missing, and input_ids hold the padding token 0: pass the tokenizer's mask"),
        ((None, LEFT), "input_ids of shape (examples, tokens) are needed, got none"),
        ((IDS[0],), "input_ids of shape (examples, tokens) are needed, got shape (4,)"),
        ((IDS[:0],), "input_ids of shape (examples, tokens) are needed, got shape (0, 4)"),
        ((IDS, LEFT[:, :3]), "attention_mask must have the shape of input_ids (2, 4): (2, 3)"),
        ((IDS, None, IDS[:1]), "token_type_ids must have the shape of input_ids (2, 4): (1, 4)"),
        ((torch.full((1, 65), 7),), "an example has 65 tokens, the encoder takes 64: call the tokenizer, or the"),
    ],
)
def test_a_batch_that_cannot_be_read_is_one_clear_line(given_inputs: tuple[Any, ...], said: str) -> None:
    one = shipped(classifier("bert"))
    with pytest.raises(InputError) as raised:
        one(*given_inputs)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, SearchkitError)


def test_masks_of_other_number_formats_and_no_mask_are_read() -> None:
    one, (ids, mask) = shipped(classifier("bert")), padded(examples(3))
    expected = one(ids, mask).logits
    for dtype in (torch.bool, torch.float32, torch.int32):
        assert torch.equal(one(ids, mask.to(dtype)).logits, expected)
    whole = torch.tensor(np.arange(1, 25).reshape(2, 12))
    assert torch.equal(one(whole).logits, one(whole, torch.ones_like(whole)).logits)
