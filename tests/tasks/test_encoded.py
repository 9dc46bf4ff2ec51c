from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from searchkit.errors import DataError
from searchkit.tasks import Encoded, word_tokenizer
from searchkit.tasks.encode import CHUNK, encode_table

examples = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=12), min_size=1, max_size=30)


def packed(rows: list[list[int]]) -> Encoded:
    return Encoded(
        ids=np.array([token for row in rows for token in row], dtype=np.int32),
        types=np.array([token % 2 for row in rows for token in row], dtype=np.int32),
        offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        labels=np.arange(len(rows), dtype=np.int64) % 3,
    )


def unpacked(encoded: Encoded) -> list[list[int]]:
    return [encoded.ids[a:b].tolist() for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


@given(examples, st.integers(1, 60))
def test_batches_hold_every_example_once_within_the_budget(rows: list[list[int]], budget: int) -> None:
    batches = packed(rows).batches(budget)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(rows)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(rows[i]) for i in batch) <= budget


@given(examples, st.integers(1, 60))
def test_batches_are_cut_only_where_one_more_example_would_break_the_budget(rows: list[list[int]], budget: int) -> None:
    batches = packed(rows).batches(budget)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * len(rows[following[0]]) > budget


@given(examples)
def test_batches_are_in_stable_order_of_length(rows: list[list[int]]) -> None:
    order = [i for batch in packed(rows).batches(20) for i in batch.tolist()]
    assert order == sorted(range(len(rows)), key=lambda i: len(rows[i]))


@given(examples, st.data())
def test_take_gives_the_examples_in_the_order_asked(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=40))
    taken = packed(rows).take(chosen)
    assert unpacked(taken) == [rows[i] for i in chosen]
    assert taken.types.tolist() == [token % 2 for i in chosen for token in rows[i]]
    assert taken.labels.tolist() == [i % 3 for i in chosen]
    assert taken.lengths.tolist() == [len(rows[i]) for i in chosen]
    assert len(taken) == len(chosen)


@given(examples)
def test_the_digest_is_of_the_content(rows: list[list[int]]) -> None:
    encoded = packed(rows)
    assert encoded.digest() == packed(rows).digest()
    for name in ("ids", "types", "labels"):
        changed = {field: getattr(encoded, field).copy() for field in ("ids", "types", "offsets", "labels")}
        changed[name][-1] += 1
        assert Encoded(**changed).digest() != encoded.digest()


def test_the_digest_sees_where_an_example_ends() -> None:
    assert packed([[2, 4], [6]]).digest() != packed([[2], [4, 6]]).digest()


def test_a_budget_below_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="token_budget=0"):
        packed([[1]]).batches(0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ids", np.array([1, 2], dtype=np.int64), "ids must be one int32 axis, got int64"),
        ("offsets", np.array([0, 1], dtype=np.int64), "offsets must run from 0 to 2"),
        ("offsets", np.array([0, 2, 2], dtype=np.int64), "at least one token"),
        ("labels", np.array([0, 1], dtype=np.int64), "lengths disagree"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name: str, value: np.ndarray, message: str) -> None:
    good = packed([[3, 4]])
    fields = {field: getattr(good, field) for field in ("ids", "types", "offsets", "labels")} | {name: value}
    with pytest.raises(ValueError, match=message):
        Encoded(**fields)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(["a", "b", "c", "d"])  # ids 5 to 8; [UNK] 1, [CLS] 2, [SEP] 3


def test_single_texts_are_encoded_as_cls_text_sep(tokenizer: PreTrainedTokenizerFast) -> None:
    table = pd.DataFrame({"text": ["a b", "", "d zebra"], "label": [1, 0, 1]})
    encoded = encode_table(table, tokenizer, max_length=8)
    assert unpacked(encoded) == [[2, 5, 6, 3], [2, 3], [2, 8, 1, 3]]
    assert encoded.types.tolist() == [0] * 10
    assert encoded.labels.tolist() == [1, 0, 1]


def test_pairs_are_encoded_with_two_segments_and_the_longer_is_cut_first(tokenizer: PreTrainedTokenizerFast) -> None:
    table = pd.DataFrame({"text": ["a a a a a a", "b c"], "text_pair": ["b c", "a a a a a a"], "label": [0, 0]})
    encoded = encode_table(table, tokenizer, max_length=8)
    assert unpacked(encoded) == [[2, 5, 5, 5, 3, 6, 7, 3], [2, 6, 7, 3, 5, 5, 5, 3]]
    assert encoded.types.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1]


def test_texts_are_cut_at_the_longest_length_and_keep_the_separator(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_table(pd.DataFrame({"text": ["a " * 50], "label": [0]}), tokenizer, max_length=8)
    assert unpacked(encoded) == [[2, 5, 5, 5, 5, 5, 5, 3]]


def test_encoding_in_chunks_loses_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["abcd"[i % 4] for i in range(2 * CHUNK + 1)]
    encoded = encode_table(pd.DataFrame({"text": texts, "label": [0] * len(texts)}), tokenizer, max_length=8)
    assert encoded.ids.reshape(-1, 3)[:, 1].tolist() == [5 + i % 4 for i in range(len(texts))]


def test_an_empty_table_is_encoded_as_no_examples(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_table(pd.DataFrame({"text": [], "label": []}), tokenizer, max_length=8)
    assert len(encoded) == 0
    assert encoded.batches(100) == []


def test_a_tokenizer_without_a_class_token_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, sep_token="[SEP]")
    with pytest.raises(DataError, match="no cls_token"):
        encode_table(pd.DataFrame({"text": ["a"], "label": [0]}), bare, max_length=8)


def test_a_tokenizer_that_puts_the_class_token_elsewhere_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    turned = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, cls_token="[SEP]", sep_token="[CLS]", unk_token="[UNK]"
    )
    with pytest.raises(DataError, match=r"does not put \[SEP\] first"):
        encode_table(pd.DataFrame({"text": ["a"], "label": [0]}), turned, max_length=8)


def test_more_tokens_than_the_tokenizer_allows_are_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    short = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, cls_token="[CLS]", sep_token="[SEP]", model_max_length=16
    )
    with pytest.raises(DataError, match="max_length=32 is more than the tokenizer allows"):
        encode_table(pd.DataFrame({"text": ["a"], "label": [0]}), short, max_length=32)


@pytest.mark.parametrize(("side", "kept"), [("right", [5, 6, 7]), ("left", [6, 7, 8])])
def test_the_side_of_the_tokenizer_decides_which_end_of_a_text_is_kept(
    tokenizer: PreTrainedTokenizerFast, side: str, kept: list[int]
) -> None:
    cut = copy.deepcopy(tokenizer)
    cut.truncation_side, cut.padding_side = side, side
    encoded = encode_table(pd.DataFrame({"text": ["a b c d", "a"], "label": [0, 1]}), cut, max_length=5)
    assert unpacked(encoded) == [[2, *kept, 3], [2, 5, 3]]


def test_truncation_and_padding_that_a_tokenizer_file_holds_do_not_matter(tokenizer: PreTrainedTokenizerFast) -> None:
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.enable_truncation(3)
    backend.enable_padding(length=12)
    padded = PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )
    encoded = encode_table(pd.DataFrame({"text": ["a b c d a b c d", "a"], "label": [0, 1]}), padded, max_length=8)
    assert unpacked(encoded) == [[2, 5, 6, 7, 8, 5, 6, 3], [2, 5, 3]]


def test_an_example_that_does_not_begin_with_the_class_token_is_refused_wherever_it_stands(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    for template in ("[SEP] [CLS] $A", "$A [SEP]", "$A"):
        backend.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        bare = PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]")
        for texts in (["a", "b"], ["[CLS] a", "b"], ["[CLS] a", ""]):
            with pytest.raises(DataError, match=r"does not put \[CLS\] first"):
                encode_table(pd.DataFrame({"text": texts, "label": [0, 1]}), bare, max_length=8)


@given(examples, st.integers(1, 60))
@example([[0], [0], [0], [0], [0], [0] * 4], 4)
def test_even_batches_are_batches_of_a_lower_budget_in_an_even_number(rows: list[list[int]], budget: int) -> None:
    encoded = packed(rows)
    plain, even = encoded.batches(budget), encoded.even_batches(budget)
    assert sorted(i for batch in even for i in batch.tolist()) == list(range(len(rows)))
    assert len(even) <= max(len(plain) + len(plain) % 2, len(plain))
    room = [len(batch) * max(len(rows[i]) for i in batch) for batch in even if len(batch) > 1]
    assert max(room, default=0) <= budget
    lower = max(room, default=0) - 1
    if lower >= max(map(len, rows)):  # any lower budget that holds the longest example would need more
        assert len(encoded.batches(lower)) > len(even)


def test_even_batches_share_the_work() -> None:
    encoded = packed([[1] * 10] * 90)
    assert [len(batch) for batch in encoded.batches(400)] == [40, 40, 10]
    assert [len(batch) for batch in encoded.even_batches(400)] == [23, 23, 23, 21]
