"""Parts shared by all tasks on texts: their columns, their three splits, their description."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Protocol

import pandas as pd

from searchkit.tasks import columns
from searchkit.tasks.base import Labels, Tables
from searchkit.tasks.files import Part
from searchkit.tasks.rationales import COLUMN
from searchkit.tasks.rationales import rationales as read
from searchkit.tasks.source import Carve, Source

log = logging.getLogger(__name__)

MANY: Final = 8  # rows of one label that are hardly so by chance
SHORTEST: Final = 8  # tokens: a pair with its special tokens, and a word or two of each text


class Labelling(Protocol):
    """A reader of a label column, made from the train split."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs."""

    def of(self, part: Part) -> Labels:
        """(rows,) the labels. Raises DataError naming file, column and row."""
        ...

    def absent(self, parts: Sequence[Part]) -> bool:
        """Return whether a test split was published without its labels."""
        ...


def text_columns(
    text: str | tuple[str, str], label: str, max_length: int, rationales: str | None = None
) -> tuple[str, ...]:
    """One or two columns of text; ValueError for repeated columns and a `max_length` that is too small."""
    pair = isinstance(text, tuple) and len(text) == 2 and all(isinstance(column, str) for column in text)
    if not (isinstance(text, str) or pair):
        raise ValueError(f"text must be a column or a pair of columns, got {text=}")
    names = (text,) if isinstance(text, str) else text
    if len({*names, label}) < len(names) + 1:
        raise ValueError(f"text and label must be different columns, got {text=} {label=}")
    if rationales in (*names, label):
        raise ValueError(f"rationales must be a column of their own, got {rationales=} {text=} {label=}")
    if max_length < SHORTEST:
        raise ValueError(f"max_length must be at least {SHORTEST}, got {max_length=}")
    return names


def text_tables(
    source: Source,
    published: dict[str, list[Part]],
    texts: Sequence[str],
    labels: Labelling,
    carve: Carve,
    seed: int,
    rationales: str | None = None,
) -> Tables:
    """Check the rows, carve missing splits, apply limits; the same seed gives the same rows on every machine.

    rationales: a column of them, for a column `rationale` of the tables (see `tasks.rationales`)
    """
    if "test" in published and labels.absent(published["test"]):
        log.warning("%s: the test split has no labels and is left out", published["test"][0].origin)
        published = {split: parts for split, parts in published.items() if split != "test"}
    given = {split: _table(parts, texts, labels, rationales) for split, parts in published.items()}
    for split in set(given) - {"train"}:
        if len(given[split]) >= MANY and given[split]["label"].nunique() == 1:
            where = f"{published[split][0].origin} ({split} split)"
            log.warning("%s: all %d labels are the same: are they hidden?", where, len(given[split]))
    return Tables(**source.limited(source.three_splits(given, carve, seed), seed), labels=labels.outputs)


def described(kind: str, source: Source, texts: Sequence[str], label: str, max_length: int) -> dict[str, Any]:
    """The JSON that identifies the data of a text task in a fingerprint."""
    return {"kind": kind, **source.describe(), "text": list(texts), "label": label, "max_length": max_length}


def _table(parts: Sequence[Part], texts: Sequence[str], labels: Labelling, rationales: str | None) -> pd.DataFrame:
    return pd.concat([_rows(part, texts, labels, rationales) for part in parts], ignore_index=True)


def _rows(part: Part, texts: Sequence[str], labels: Labelling, rationales: str | None) -> pd.DataFrame:
    rows = columns.texts(part, texts)
    marked = {} if rationales is None else {COLUMN: pd.Series(read(part, rationales, rows, texts), dtype=object)}
    return rows.assign(label=labels.of(part), **marked)
