"""Extractive question answering in the format of SQuAD: the answer is a piece of the context."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from searchkit._internal.checks import check_fields
from searchkit._internal.paths import located
from searchkit.errors import DataError
from searchkit.tasks import columns
from searchkit.tasks.base import Encoded, Tables
from searchkit.tasks.files import Part
from searchkit.tasks.source import Limit, Source
from searchkit.tasks.splits import carve_groups
from searchkit.tasks.windows import SPECIALS, encode_questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

GUESSED: Final = "heuristic"  # value of the column start_source: the position of the answer is a guess
NO_ANSWER: Final = ("",)


@dataclass(frozen=True)
class QuestionAnswering:
    """Questions, each with a context that contains its answer, or with no answer (as in SQuAD 2).

    `data` is a folder or a name on the hub, as in `TextClassification`, with the columns `question`, `context` and
    `answers`: {"text": [...], "answer_start": [...]}. A split that is missing is carved out of train by whole values
    of the column `group`, so that no article is on both sides (by contexts where there is no column `title`). Rows of
    train whose `start_source` is "heuristic" are left out. A context that is too long for one window of `max_length`
    tokens is cut into several, which share `stride` tokens. Reading raises DataError, naming file, column and row.

    >>> import tempfile
    >>> import pandas as pd
    >>> from searchkit.tasks import QuestionAnswering
    >>> folder = tempfile.mkdtemp()
    >>> answers = {"text": ["red"], "answer_start": [0]}
    >>> rows = [{"question": "what is it", "context": f"red {n}", "answers": answers} for n in range(40)]
    >>> pd.DataFrame(rows).to_parquet(f"{folder}/train.parquet")
    >>> tables = QuestionAnswering(folder).tables(seed=0)
    >>> tables.labels, tables.train["answers"][0], len(tables.train)
    (('start', 'end'), ('red',), 32)
    """

    data: str = "rajpurkar/squad"
    max_length: int = 384  # tokens of a window, question and special ones included
    stride: int = 128  # tokens of the context that neighbouring windows share
    question_length: int = 64  # tokens of the longest question
    limit: Limit = None
    search_fraction: float = 0.1  # share of the train rows
    report_fraction: float = 0.1
    subset: str | None = None
    revision: str | None = None
    group: str = "title"

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "data", located(self.data))
        _ = self._source  # checks what it is made of
        if self.stride < 0 or self.question_length < 1:
            raise ValueError(f"stride and question_length must not be less, got {self.stride=} {self.question_length=}")
        if self.question_length + SPECIALS + self.stride >= self.max_length:
            raise ValueError(
                f"max_length must leave more than stride={self.stride} tokens for the context beside a question of "
                f"{self.question_length} tokens and {SPECIALS} special ones, got {self.max_length=}"
            )

    @property
    def head(self) -> str:
        return "question_answering"

    @property
    def _source(self) -> Source:
        return Source(self.data, self.limit, self.search_fraction, self.report_fraction, self.subset, self.revision)

    def tables(self, seed: int) -> Tables:
        """Read and check the rows, carve missing splits, leave guessed answers out of train, apply limits."""
        published = self._source.read()
        for split in sorted({*published} - {"train"}):
            if all(map(_is_hidden, published[split])):
                where = f"{published[split][0].origin} ({split} split)"
                if split != "test":
                    raise DataError(f"{where}: the column 'answers' holds no answer")
                log.warning("%s: it has no answers and is left out", where)
                del published[split]
        given = {split: _table(parts, self.group) for split, parts in published.items()}
        three = self._source.three_splits(given, partial(carve_groups, column="group"), seed)
        three["train"] = three["train"][~three["train"]["guessed"]].reset_index(drop=True)
        if not len(three["train"]):
            raise DataError(f"{self.data}: nothing is left to train on, as every start_source is {GUESSED!r}")
        tables = self._source.limited(three, seed)
        return Tables(
            **{split: table.drop(columns=["group", "guessed"]) for split, table in tables.items()},
            labels=("start", "end"),
        )

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table; an example is a window, of at most `max_length` tokens, of one question's context."""
        return encode_questions(table, tokenizer, self.max_length, self.stride, self.question_length)

    def describe(self) -> dict[str, Any]:
        names = ("max_length", "stride", "question_length", "group")
        return {
            "kind": "question-answering",
            **self._source.describe(),
            **{name: getattr(self, name) for name in names},
        }


def _is_hidden(part: Part) -> bool:
    """Whether no row has an answer: no column, nothing in it, or empty lists, as some publishers hide them."""
    values = part.rows["answers"].dropna().tolist() if "answers" in part.rows else []
    try:
        return all(_pairs(value, part.origin)[0] == [] for value in values)
    except DataError:  # said with its row, when the answers are read
        return False


def _table(parts: Sequence[Part], group: str) -> pd.DataFrame:
    """Table of the columns question, context, answers, start, and for carving group and guessed."""
    return pd.concat([_rows(part, group) for part in parts], ignore_index=True)


def _rows(part: Part, group: str) -> pd.DataFrame:
    contexts = columns.strings(part, "context")
    answers = [
        _answers(value, context, columns.location(part, "answers", row))
        for row, (value, context) in enumerate(zip(columns.present(part, "answers"), contexts, strict=True))
    ]
    by = group if group in part.rows or group != "title" else "context"
    return pd.DataFrame(
        {
            "question": pd.Series(columns.strings(part, "question"), dtype="str"),
            "context": pd.Series(contexts, dtype="str"),
            "answers": pd.Series([texts for texts, _ in answers], dtype=object),
            "start": np.array([start for _, start in answers], dtype=np.int64),
            "group": columns.present(part, by).astype("str").to_numpy(),
            "guessed": [_is_guessed(value) for value in part.rows.get("start_source", [None] * len(part.rows))],
        }
    )


def _answers(value: Any, context: str, location: str) -> tuple[tuple[str, ...], int]:
    """Gold answers, and the first character of the first of them; ("",) and -1 where there is none."""
    texts, starts = _pairs(value, location)
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{location}: an answer is a text that is not empty, got {text!r}; no answer is two empty lists"
            )
        if isinstance(start, bool) or not isinstance(start, int):
            raise DataError(f"{location}: answer_start is a whole number, got {start!r}")
        if start < 0 or context[start : start + len(text)] != text:
            stands = context[max(start, 0) : max(start, 0) + len(text)]
            raise DataError(f"{location}: the answer {text!r} does not stand at character {start}, but {stands!r}")
    return (tuple(texts), starts[0]) if texts else (NO_ANSWER, -1)


def _pairs(value: Any, location: str) -> tuple[list[Any], list[Any]]:
    """Lists `text` and `answer_start` of a cell, which csv files hold as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{location}: not JSON ({error}): {value[:80]!r}") from error
    if not isinstance(value, Mapping) or not {"text", "answer_start"} <= set(value):
        raise DataError(f"{location}: answers are {{'text': [...], 'answer_start': [...]}}, got {str(value)[:80]!r}")
    texts, starts = (_listed(value[name]) for name in ("text", "answer_start"))
    if texts is None or starts is None or len(texts) != len(starts):
        raise DataError(f"{location}: text and answer_start must be lists of one length, got {str(value)[:80]!r}")
    return texts, starts


def _listed(values: Any) -> list[Any] | None:
    if isinstance(values, np.ndarray):
        return list(values.tolist())
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str | Mapping) else None


def _is_guessed(source: Any) -> bool:
    """Return whether the position of the first answer, which training uses, is a guess."""
    listed = _listed(source) or []
    return GUESSED in ([source] if isinstance(source, str) else listed[:1])
