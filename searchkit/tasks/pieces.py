"""Tokens of an example in the texts that they come from: characters and words. n tokens, special ones included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

COLUMNS: Final = (("question", "context"), ("text", "text_pair"), ("text",))  # of a table, the first that it has


@dataclass(frozen=True, eq=False)
class Pieces:
    """Tokens of one example in its one or two texts; -1 for special tokens, and for those that stand in no text.

    sides: (n,) the text of each token, 0 or 1; begins, ends: (n,) its first character there and the one after the
    last; words: (n,) the number of its word, which rises through both texts
    """

    texts: tuple[str, ...]
    sides: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    words: NDArray[np.int64]


def texts_of(table: pd.DataFrame, row: int) -> tuple[str, ...]:
    """Texts of a row: a text, a pair of texts, or a question and its context."""
    names = next((names for names in COLUMNS if all(name in table for name in names)), ())
    if not names:
        raise DataError(f"words are shown of tables with the column text, or question and context; got {list(table)}")
    return tuple(str(table[name].iloc[row]) for name in names)


def pieces(texts: tuple[str, ...], ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> Pieces:
    """Find the tokens of an example, made of these texts and cut to what the encoder takes, in the whole texts.

    DataError for a slow tokenizer, which does not know the characters of its tokens.
    """
    if not tokenizer.is_fast:
        raise DataError("words need a fast tokenizer, one that knows the characters of each token (tokenizer.json)")
    for cut in ({}, {"truncation": "longest_first", "max_length": len(ids)}):
        out = tokenizer(*texts, return_offsets_mapping=True, verbose=False, **cut)
        if out["input_ids"] == list(ids):
            return Pieces(texts, *_places(out, texts).T)
    out = tokenizer(*texts, return_offsets_mapping=True, verbose=False)
    whole, found = _places(out, texts), np.full((len(ids), 4), -1, dtype=np.int64)
    for run in SequenceMatcher(None, out["input_ids"], list(ids), autojunk=False).get_matching_blocks():
        found[run.b : run.b + run.size] = whole[run.a : run.a + run.size]
    return Pieces(texts, *found.T)


def _places(out: Any, texts: tuple[str, ...]) -> NDArray[np.int64]:
    """(m, 4) side, begin, end and word of every token; characters without the blanks around."""
    rows, number, last = [], -1, None
    for side, word, (begin, end) in zip(out.sequence_ids(0), out.word_ids(0), out["offset_mapping"], strict=True):
        text = "" if side is None else texts[side][begin:end]
        if not text.strip():  # special tokens, and blanks that are tokens
            rows.append((-1, -1, -1, -1))
            continue
        number, last = number + ((side, word) != last), (side, word)
        rows.append((side, begin + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip()), number))
    return np.array(rows, dtype=np.int64).reshape(-1, 4)
