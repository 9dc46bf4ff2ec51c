"""Rationales: the parts of a text that people marked as the reason for its label, as spans of characters.

A table holds them in the column `rationale`: a tuple of (side, begin, end) per row, side 0 being the text (of questions
the question) and 1 the second text (the context), the end exclusive; None where nobody marked the row.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from searchkit.errors import DataError, unknown
from searchkit.tasks import columns
from searchkit.tasks.files import Part

COLUMN: Final = "rationale"
FORMS: Final = (
    "a list of [first character, character after the last], of marks 0 and 1 for the words between blanks, of texts "
    "that stand in it, or of ERASER's {start_token, end_token}"
)
Span = tuple[int, int]
Rationale = tuple[tuple[int, int, int], ...]


def rationales(part: Part, column: str, texts: pd.DataFrame, names: Sequence[str]) -> list[Rationale | None]:
    """Rationales of the rows, in any of `FORMS`; for two texts an object with a list for each of the columns `names`.

    texts: the texts of the rows, a column for each of `names`. DataError naming file, column and row.
    """
    if column not in part.rows:
        raise DataError(f"{part.origin}: {unknown('column', column, map(str, part.rows.columns))}")
    given = part.rows[column].tolist()
    rows = texts.itertuples(index=False, name=None)
    return [
        _rationale(value, text, names, columns.location(part, column, row))
        for row, (value, text) in enumerate(zip(given, rows, strict=True))
    ]


def _rationale(value: Any, texts: Sequence[str], names: Sequence[str], location: str) -> Rationale | None:
    value = _parsed(value, location)
    if value is None:
        return None
    if len(names) == 1:
        lists = [value]
    elif isinstance(value, Mapping) and set(value) <= set(names):
        lists = [_parsed(value.get(name), location) or [] for name in names]
    else:
        raise DataError(f"{location}: rationales of two texts are an object with {' and '.join(names)}, got {value!r}")
    spans = [_spans(each, text, location) for each, text in zip(lists, texts, strict=True)]
    return tuple((side, *span) for side, each in enumerate(spans) for span in each)


def _parsed(value: Any, location: str) -> Any:
    """Plain lists of a cell; JSON where a file holds texts; None for a missing one."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return None
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{location}: a rationale is {FORMS}, in JSON; got {value[:80]!r} ({error})") from error
    return value.tolist() if isinstance(value, np.ndarray) else value


def _spans(value: Any, text: str, location: str) -> list[Span]:
    """Spans of characters of a text, in order, of a list in one of `FORMS`."""
    listed = list(value) if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else None
    if listed is None:
        raise DataError(f"{location}: a rationale is {FORMS}; got {str(value)[:80]!r}")
    if listed and all(_is_count(item) for item in listed):
        words = _words(text)
        if len(listed) != len(words) or set(listed) - {0, 1}:
            raise DataError(
                f"{location}: marks are 0 or 1 for each of the {len(words)} words between blanks, got {len(listed)}"
            )
        return [word for word, mark in zip(words, listed, strict=True) if mark]
    return sorted(itertools.chain.from_iterable(_one(item, text, location) for item in listed))


def _one(item: Any, text: str, location: str) -> list[Span]:
    if isinstance(item, str):
        return [_found(item, text, location)]
    if isinstance(item, Mapping) and {"start_token", "end_token"} <= set(item):
        return [_within(_words(text), item["start_token"], item["end_token"], "words between blanks", location)]
    if isinstance(item, Sequence | np.ndarray) and len(item) == 2:
        letters = [(number, number + 1) for number in range(len(text))]
        return [_within(letters, item[0], item[1], "characters", location)]
    raise DataError(f"{location}: a rationale is {FORMS}; got {str(item)[:80]!r}")


def _within(units: Sequence[Span], begin: Any, end: Any, what: str, location: str) -> Span:
    if not (_is_count(begin) and _is_count(end) and begin < end <= len(units)):
        raise DataError(f"{location}: a span is 0 <= first < end <= {len(units)} {what}, got {begin!r} to {end!r}")
    return units[int(begin)][0], units[int(end) - 1][1]


def _found(piece: str, text: str, location: str) -> Span:
    """First place of a piece in a text, whatever the blanks between its words."""
    words = piece.split()
    match = re.search(r"\s+".join(map(re.escape, words)), text) if words else None
    if match is None:
        raise DataError(f"{location}: the rationale {piece[:80]!r} does not stand in the text")
    return match.span()


def _words(text: str) -> list[Span]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)
