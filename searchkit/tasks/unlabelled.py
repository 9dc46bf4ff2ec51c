"""Texts without labels from a file of the user's own, as a table that a task encodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from searchkit.errors import DataError, unknown
from searchkit.tasks import columns
from searchkit.tasks.base import Task
from searchkit.tasks.files import READ, Part
from searchkit.tasks.formats import format_of, read
from searchkit.tasks.question_answering import NO_ANSWER

MOST: Final = 10_000  # rows of a file that are used, drawn at random: lengths are known well enough by then
CONTENT: Final = ("text", "text_pair", "question", "context")


def unlabelled(path: Path, task: Task, example: pd.DataFrame) -> pd.DataFrame:
    """Table of the texts of a file, at most `MOST` rows, that `task` encodes as it does the table `example`.

    Columns of the file: those of the study (`TextClassification(text=...)`), or `text`, `text_pair`, `question` and
    `context` as far as the task has them. Labels and all else are the first row's of `example` and mean nothing.
    DataError in one line for a file that cannot be read, lacks a column or rows, or has an empty text.
    """
    part = _part(path)
    wanted = [name for name in CONTENT if name in example]
    names = _columns(part, wanted, getattr(task, "text", None))
    table = table_of({name: _texts(part, column) for name, column in zip(wanted, names, strict=True)}, example)
    if len(table) <= MOST:
        return table
    drawn = np.random.default_rng(0).permutation(len(table))[:MOST]
    return table.iloc[np.sort(drawn)].reset_index(drop=True)


def table_of(texts: Mapping[str, Sequence[str]], example: pd.DataFrame) -> pd.DataFrame:
    """Table of these texts, by column; labels and all else are the first row's of `example` and mean nothing."""
    own = {name: pd.Series(list(column), dtype="str") for name, column in texts.items()}
    count = len(next(iter(own.values())))
    rows = pd.DataFrame({name: [example[name].iloc[0]] * count for name in example if name not in own})
    rows = rows.astype({name: example[name].dtype for name in rows})
    table = pd.DataFrame(own).join(rows)[list(example)]
    if "answers" in table:
        table["answers"], table["start"] = [NO_ANSWER] * len(table), -1
    return table


def _part(path: Path) -> Part:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if format_of(path) is None:
        raise DataError(f"{path}: its format is not known; {READ}")
    content = read(path)
    if not len(content.rows):
        raise DataError(f"{path}: it holds no texts")
    return Part(str(path), "unlabelled", content.rows, content.as_text)


def _columns(part: Part, wanted: list[str], named: object) -> list[str]:
    """Columns of the file for those that are `wanted`: the study's own where the file has them all."""
    own = [named] if isinstance(named, str) else list(named) if isinstance(named, tuple) else wanted
    for names in (own, wanted):
        if len(names) == len(wanted) and all(name in part.rows for name in names):
            return names
    missing = next(name for name in own if name not in part.rows)
    raise DataError(
        f"{part.origin}: {unknown('column', missing, map(str, part.rows.columns))}; needed: {', '.join(own)}"
    )


def _texts(part: Part, column: str) -> list[str]:
    texts = columns.strings(part, column)
    for row, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"{columns.location(part, column, row)}: the text is empty")
    return texts
