"""Tokens find their characters and words again, whole or cut, in one text, two texts or windows."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from searchkit.errors import DataError
from searchkit.tasks.encode import encode_table
from searchkit.tasks.pieces import pieces, texts_of
from searchkit.tasks.windows import encode_questions
from tests.tasks.questions import TOKENIZER, questions

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdé"


def word_pieces() -> Any:
    """A tokenizer in BERT's manner, whose words fall into letters."""
    vocabulary = {
        token: number for number, token in enumerate([*SPECIALS, *LETTERS, *(f"##{x}" for x in LETTERS), "."])
    }
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


PIECES = word_pieces()
TEXTS = st.lists(st.text(LETTERS, min_size=1, max_size=4), min_size=1, max_size=12).map(" ".join)


def test_pieces_of_a_word_share_its_number_and_have_characters_of_their_own() -> None:
    found = pieces(("ab  c.", "dé"), PIECES("ab  c.", "dé")["input_ids"], PIECES)
    assert found.words.tolist() == [-1, 0, 0, 1, 2, -1, 3, 3, -1]
    assert found.sides.tolist() == [-1, 0, 0, 0, 0, -1, 1, 1, -1]
    assert found.begins.tolist() == [-1, 0, 1, 4, 5, -1, 0, 1, -1]
    assert found.ends.tolist() == [-1, 1, 2, 5, 6, -1, 1, 2, -1]


@given(first=TEXTS, second=st.none() | TEXTS, longest=st.integers(8, 30), side=st.sampled_from(["right", "left"]))
@settings(max_examples=60)
def test_every_token_that_is_left_of_a_cut_text_stands_where_it_says(
    first: str, second: str | None, longest: int, side: str
) -> None:
    tokenizer = word_pieces()
    tokenizer.truncation_side = side
    columns = {"text": [first], "label": [0]} | ({} if second is None else {"text_pair": [second]})
    table = pd.DataFrame(columns)
    data = encode_table(table, tokenizer, longest)
    found = pieces(texts_of(table, 0), data.ids.tolist(), tokenizer)
    for token, number in enumerate(data.ids.tolist()):
        letter = tokenizer.convert_ids_to_tokens(number).removeprefix("##")
        if number in (2, 3):
            assert found.words[token] == -1
        else:
            begin, end = int(found.begins[token]), int(found.ends[token])
            assert found.texts[found.sides[token]][begin:end] == letter


@given(table=questions(most=2))
@settings(max_examples=40)
def test_tokens_of_windows_have_the_characters_that_answers_are_read_from(table: pd.DataFrame) -> None:
    data = encode_questions(table, TOKENIZER, 18, 4, 6)
    assert data.answers is not None
    for window, question in enumerate(data.units.tolist()):
        rows = slice(*data.offsets[window : window + 2])
        found = pieces(texts_of(table, question), data.ids[rows].tolist(), TOKENIZER)
        inside = data.answers.begins[rows] >= 0
        assert (found.sides[inside] == 1).all()
        words = [found.texts[1][begin:end] for begin, end in zip(found.begins[inside], found.ends[inside], strict=True)]
        there = zip(data.answers.begins[rows][inside], data.answers.ends[rows][inside], strict=True)
        assert words == [found.texts[1][begin:end] for begin, end in there]
        assert (found.sides[data.marks["question"][rows]] == 0).all()


def test_a_slow_tokenizer_and_a_table_without_texts_are_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match="fast tokenizer"):
        pieces(("a",), [1], Slow())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the column text"):
        texts_of(pd.DataFrame({"title": ["a"]}), 0)
