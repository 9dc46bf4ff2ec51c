from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from searchkit.tasks import word_tokenizer


def test_words_are_numbered_after_the_special_tokens() -> None:
    tokenizer = word_tokenizer(["bado", "don't", "x,y"])
    assert tokenizer("bado x,y nowhere don't")["input_ids"] == [2, 5, 7, 1, 6, 3]
    assert tokenizer.pad_token_id == 0
    assert tokenizer.mask_token_id == 4
    assert len(tokenizer) == 8


def test_a_saved_word_tokenizer_is_read_back_by_transformers(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(["bado", "kifu"])
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    pair = ("kifu bado", "zzz kifu")
    assert dict(again(*pair, return_token_type_ids=True)) == dict(tokenizer(*pair, return_token_type_ids=True))
    assert (again.cls_token, again.sep_token, again.pad_token) == ("[CLS]", "[SEP]", "[PAD]")


@pytest.mark.parametrize("words", [["a", "a"], ["[CLS]"], ["a b"], [""], [" a"]])
def test_words_that_cannot_be_told_apart_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"twice|whitespace"):
        word_tokenizer(words)
