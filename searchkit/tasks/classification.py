"""Text classification on a data set of the hub or a folder of files: single texts or pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.checks import check_fields
from searchkit._internal.paths import located
from searchkit._internal.progress import step
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

log = logging.getLogger(__name__)

SHOWN: Final = 50  # classes that the log lists


@dataclass(frozen=True)
class TextClassification:
    """Texts, or pairs of texts, with a class each.

    `data` is a folder with train, validation and test files (parquet, arrow, csv, tsv, json) or a name on the hub;
    `subset` and `revision` are for the hub. A split that is missing is carved out of train: `search` when there is no
    validation or no labelled test, and `report` too when there is neither. `limit` caps the rows of every split, or
    of those named (train, search, report), for smoke runs. `rationales` names a column of spans that people marked
    as the reason for the label, which `searchkit words` compares with the words that survive; nothing is trained or
    searched by it, and it is no part of a study's identity. Reading raises DataError, naming file, column and row.

    >>> import tempfile
    >>> import pandas as pd
    >>> from searchkit.tasks import TextClassification
    >>> folder = tempfile.mkdtemp()
    >>> rows = pd.DataFrame({"text": [f"text {n}" for n in range(40)], "label": ["no", "yes"] * 20})
    >>> rows.to_csv(f"{folder}/train.csv", index=False)
    >>> tables = TextClassification(folder, search_fraction=0.2).tables(seed=0)
    >>> tables.labels, len(tables.train), len(tables.search), len(tables.report)
    (('no', 'yes'), 28, 8, 4)
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
        return "classification"

    @property
    def _columns(self) -> tuple[str, ...]:
        return text_columns(self.text, self.label, self.max_length, self.rationales)

    @property
    def _source(self) -> Source:
        return Source(self.data, self.limit, self.search_fraction, self.report_fraction, self.subset, self.revision)

    def tables(self, seed: int) -> Tables:
        """Read and check the rows, carve missing splits label by label, apply limits."""
        published = self._source.read()
        classes = Classes.of_train(published["train"], self.label)
        return text_tables(self._source, published, self._columns, classes, carve, seed, self.rationales)

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table, at most `max_length` tokens an example; the longer text of a pair is cut first."""
        return encode_table(table, tokenizer, self.max_length)

    def describe(self) -> dict[str, Any]:
        return described("text-classification", self._source, self._columns, self.label, self.max_length)


@dataclass(frozen=True)
class Classes:
    """Label column of classes: those of the train split, with the names they have there."""

    column: str
    known: tuple[columns.Class, ...]
    names: tuple[str, ...]

    @classmethod
    def of_train(cls, parts: Sequence[Part], column: str) -> Classes:
        """Find and log the classes, with a warning for names that differ by blanks or case alone. Raises DataError."""
        known = columns.classes(parts, column)
        names = columns.class_names(parts, column, known)
        listed = f"{len(names)} classes in the column {column!r}: {', '.join(map(repr, names[:SHOWN]))}"
        log.info("%s", listed)
        step(listed)
        for name, lookalike in columns.lookalikes(names):
            log.warning("two classes differ by blanks or capital letters only: %r and %r", name, lookalike)
        return cls(column, known, names)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.names

    def of(self, part: Part) -> NDArray[np.int64]:
        """(rows,) class indices."""
        return columns.indices(part, self.column, self.known, self.names)

    def absent(self, parts: Sequence[Part]) -> bool:
        return columns.unlabelled(parts, self.column, self.known)
