"""Tokenisation of a table of texts to packed tokens, with a transformers tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.progress import step
from searchkit.errors import DataError
from searchkit.tasks.base import Encoded, Labels

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

CHUNK: Final = 1024  # rows tokenised at once
LOSSY: Final = ("0.23.1", "0.23.2")  # releases of `tokenizers` that stop reading a text at `max_length`


def encode_table(table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Tokenise `text` (and `text_pair`), the longer of the two cut first. DataError: the tokenizer does not fit.

    A text loses its end, or its beginning where the tokenizer's `truncation_side` is "left".
    """
    check_tokenizer(tokenizer, max_length)
    texts = table["text"].tolist()
    pairs = table["text_pair"].tolist() if "text_pair" in table else None
    ids: list[list[int]] = []
    types: list[list[int]] = []
    for start in range(0, len(texts), CHUNK):
        chunk = slice(start, start + CHUNK)
        if len(texts) > CHUNK:
            step(f"tokenising: {start} of {len(texts)} texts")
        out = tokenizer(
            texts[chunk],
            pairs[chunk] if pairs is not None else None,
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
        )
        ids += out["input_ids"]
        types += segments(out)
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.int32)
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    check_first(flat, offsets, tokenizer)
    return Encoded(
        ids=flat,
        types=np.fromiter(chain.from_iterable(types), dtype=np.int32),
        offsets=offsets,
        labels=labels_of(table),
        marks={"sep": flat == tokenizer.sep_token_id},
    )


def labels_of(table: pd.DataFrame) -> Labels:
    """(N,) class indices, or numbers where the column holds fractions."""
    dtype = np.float32 if table["label"].dtype.kind == "f" else np.int64
    return table["label"].to_numpy(dtype=dtype, copy=True)


def segments(out: Mapping[str, Any]) -> list[list[int]]:
    """The segments of a tokenizer's texts; all 0 where its `model_input_names` leave them out, as in a stock model."""
    return out.get("token_type_ids") or [[0] * len(text) for text in out["input_ids"]]


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Raise DataError where it lacks a BERT-like encoder's special tokens, takes fewer than `max_length`, or comes
    from a release of `tokenizers` that cuts texts wrongly.
    """
    import tokenizers

    if tokenizers.__version__ in LOSSY:
        raise DataError(
            f"tokenizers {tokenizers.__version__} loses the windows of long contexts and cuts pairs of texts wrongly "
            "(huggingface/tokenizers#2091): install another release, such as 0.23.3"
        )
    for name in ("cls_token", "sep_token"):
        if getattr(tokenizer, name) is None:
            raise DataError(f"the tokenizer has no {name}; searchkit needs the tokenizer of a BERT-like encoder")
    if max_length > tokenizer.model_max_length:
        raise DataError(f"{max_length=} is more than the tokenizer allows ({tokenizer.model_max_length}); lower it")


def check_first(ids: NDArray[np.int32], offsets: NDArray[np.int64], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError where an example does not begin with [CLS]. ids: (T,), offsets: (N + 1,)."""
    if (np.diff(offsets) < 1).any() or (ids[offsets[:-1]] != tokenizer.cls_token_id).any():
        raise DataError(f"the tokenizer does not put {tokenizer.cls_token} first, so it has no place for the class")
