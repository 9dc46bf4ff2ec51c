"""Questions and answers for the tests of windows, spans and objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from numpy.typing import NDArray

from searchkit.tasks import Encoded, word_tokenizer

WORDS = ("a", "bb", "ccc", "dd,d", "é")
TOKENIZER = word_tokenizer(WORDS)


@st.composite
def questions(draw: st.DrawFn, most: int = 5, without_answer: bool = True) -> pd.DataFrame:
    """A table of questions whose answers are whole words of their contexts, some without an answer."""
    return pd.DataFrame([draw(_question(without_answer)) for _ in range(draw(st.integers(1, most)))])


@st.composite
def _question(draw: st.DrawFn, without_answer: bool) -> dict[str, Any]:
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40))
    gaps = draw(st.lists(st.sampled_from([" ", "  ", "\n"]), min_size=len(words), max_size=len(words)))
    pieces = [word + gap for word, gap in zip(words, gaps, strict=True)]
    first = draw(st.integers(0, len(words) - 1))
    last = draw(st.integers(first, len(words) - 1))
    start = len("".join(pieces[:first]))
    answer = "".join([*pieces[first:last], words[last]])
    asked = " ".join(draw(st.lists(st.sampled_from(WORDS), max_size=8)))
    missing = without_answer and draw(st.booleans())
    return {
        "question": asked,
        "context": "".join(pieces),
        "answers": ("",) if missing else (answer,),
        "start": -1 if missing else start,
    }


def one_hot(data: Encoded) -> NDArray[np.float32]:
    """(T, 2) logits of a model that knows the labels: 1 at the first and last token, 0 elsewhere."""
    logits = np.zeros((len(data.ids), 2), dtype=np.float32)
    for end in (0, 1):
        logits[data.offsets[:-1] + data.labels[:, end], end] = 1
    return logits


def examples(data: Encoded, values: NDArray[Any]) -> list[Sequence[Any]]:
    """The values of each example's tokens."""
    return [values[a:b].tolist() for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)]
