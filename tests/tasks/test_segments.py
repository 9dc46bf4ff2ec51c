"""Segments of pairs: those that a stock model gets from its tokenizer, which may leave them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit.tasks import TextClassification, word_tokenizer
from searchkit.tasks.windows import encode_questions
from searchkit.training.pretrained import load_tokenizer

WORDS = ["what", "is", "red", "blue"]
SILENT = ["input_ids", "attention_mask"]


@pytest.fixture(params=[True, False])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = word_tokenizer(WORDS)
    if not request.param:
        made.model_input_names = SILENT
    made.save_pretrained(tmp_path)
    return load_tokenizer(str(tmp_path))


def stock_segments(tokenizer: Any, *texts: str) -> list[int]:
    out = tokenizer(*texts)
    return list(out.get("token_type_ids", [0] * len(out["input_ids"])))


def test_pairs_have_the_segments_of_the_tokenizers_own_call(tokenizer: Any) -> None:
    table = pd.DataFrame({"text": ["what is", "red"], "text_pair": ["blue", "is red"], "label": [0, 1]})
    encoded = TextClassification("./x", text=("a", "b")).encode(table, tokenizer)
    pairs = zip(table["text"], table["text_pair"], strict=True)
    assert encoded.types.tolist() == [number for pair in pairs for number in stock_segments(tokenizer, *pair)]


def test_windows_have_the_segments_of_the_tokenizers_own_call(tokenizer: Any) -> None:
    table = pd.DataFrame({"question": ["what is"], "context": ["red blue"], "answers": [("red",)], "start": [0]})
    encoded = encode_questions(table, tokenizer, 16, 2, 4)
    assert encoded.types.tolist() == stock_segments(tokenizer, "what is", "red blue")


def test_a_word_level_tokenizer_tells_pairs_apart_after_it_was_saved(tmp_path: Path) -> None:
    word_tokenizer(WORDS).save_pretrained(tmp_path)
    assert stock_segments(load_tokenizer(str(tmp_path)), "red", "blue") == [0, 0, 0, 1, 1]
