"""Text regression on a data set of the hub or a folder of files: a number for each text, or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.checks import check_fields
from searchkit._internal.paths import located
from searchkit.errors import DataError
from searchkit.tasks import columns
from searchkit.tasks.base import Encoded, Tables
from searchkit.tasks.encode import encode_table
from searchkit.tasks.files import Part
from searchkit.tasks.source import Limit, Source
from searchkit.tasks.splits import carve
from searchkit.tasks.texts import described, text_columns, text_tables

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TextRegression:
    """Texts, or pairs of texts, with a number each; everything else is as in `TextClassification`.

    What is carved is a random choice of the train rows. The numbers are learnt as they are: scale them to a range of
    about one if a pretrained encoder has trouble with theirs. DataError for numbers that float32 cannot tell apart.

    >>> import tempfile
    >>> import pandas as pd
    >>> from searchkit.tasks import TextRegression
    >>> folder = tempfile.mkdtemp()
    >>> rows = pd.DataFrame({"text": [f"text {n}" for n in range(40)], "stars": [n % 5 / 4 for n in range(40)]})
    >>> rows.to_json(f"{folder}/train.jsonl", orient="records", lines=True)
    >>> tables = TextRegression(folder, label="stars").tables(seed=0)
    >>> tables.labels, len(tables.train), tables.train["label"].dtype
    (('stars',), 32, dtype('float32'))
    """

    data: str
    text: str | tuple[str, str] = "text"
    label: str = "label"
    max_length: int = 128  # tokens, special ones included
    limit: Limit = None
    search_fraction: float = 0.1  # share of the train rows
    report_fraction: float = 0.1
    subset: str | None = None
    revision: str | None = None
    rationales: str | None = None  # a column of what people marked as the reason for the label

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "data", located(self.data))
        _ = self._source, self._columns  # both check what they are made of

    @property
    def head(self) -> str:
        return "regression"

    @property
    def _columns(self) -> tuple[str, ...]:
        return text_columns(self.text, self.label, self.max_length, self.rationales)

    @property
    def _source(self) -> Source:
        return Source(self.data, self.limit, self.search_fraction, self.report_fraction, self.subset, self.revision)

    def tables(self, seed: int) -> Tables:
        """Read and check the rows, carve missing splits, apply limits."""
        published = self._source.read()
        numbers = Numbers.of_train(published["train"], self.label)
        by_chance = partial(carve, stratified=False)
        return text_tables(self._source, published, self._columns, numbers, by_chance, seed, self.rationales)

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table, at most `max_length` tokens an example; the longer text of a pair is cut first."""
        return encode_table(table, tokenizer, self.max_length)

    def describe(self) -> dict[str, Any]:
        return described("text-regression", self._source, self._columns, self.label, self.max_length)


@dataclass(frozen=True)
class Numbers:
    """Label column of numbers; `minus_one`: -1 is a number like any other, since the train split has it."""

    column: str
    minus_one: bool

    @classmethod
    def of_train(cls, parts: Sequence[Part], column: str) -> Numbers:
        """Raise DataError unless the train split has numbers that differ."""
        distinct = np.unique(np.concatenate([columns.numbers(part, column) for part in parts]))
        if len(distinct) < 2:
            raise DataError(f"{parts[0].origin}: the column {column!r} holds one number only: {distinct.tolist()}")
        return cls(column, bool((distinct == columns.UNLABELLED).any()))

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.column,)

    def of(self, part: Part) -> NDArray[np.float32]:
        """(rows,) numbers of the column."""
        return columns.numbers(part, self.column)

    def absent(self, parts: Sequence[Part]) -> bool:
        return columns.unlabelled(parts, self.column, (columns.UNLABELLED,) if self.minus_one else ())
