"""Texts, classes and numbers from the columns of a file; errors name the row of a missing or unknown value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from searchkit.errors import DataError, unknown
from searchkit.tasks.files import Part

Class = int | str
Row = tuple[Part, int]  # a file and a row of it
UNLABELLED: Final = -1  # GLUE's mark of unpublished labels
UNLABELLED_TEXTS: Final = ("-1", "-1.0")  # the same in csv
# numbers as they are usually written; others that can be read as one are codes: 007, 1e5, +1
PLAIN: Final = re.compile(r"(-?(?:0|[1-9]\d{0,99}))(\.\d+)?", re.ASCII)
NUMBER: Final = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf(inity)?)", re.ASCII | re.IGNORECASE)
CODE: Final = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# of the range of a column: closer numbers may become one, as the last digits of computed ones do
CLOSE: Final = 1e-6
WHOLE: Final = 2**24  # up to here every whole number is itself in float32
HINT: Final = "in float32, in which labels are learnt: subtract what they share, or scale them"


def texts(part: Part, columns: Sequence[str]) -> pd.DataFrame:
    """Columns `text` and, of two columns, `text_pair`; every value a string. Raises DataError naming file and row."""
    names = ("text", "text_pair")[: len(columns)]
    return pd.DataFrame(
        {name: pd.Series(strings(part, column), dtype="str") for name, column in zip(names, columns, strict=True)}
    )


def strings(part: Part, column: str) -> list[str]:
    """The column, every value a string. Raises DataError naming file and row."""
    values: list[Any] = present(part, column).tolist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{location(part, column, row)}: a text is needed, got {type(value).__name__} {value!r}")
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise DataError(f"{location(part, column, row)}: half of a character (a lone surrogate) in {value!a}")
    return values


def classes(parts: Sequence[Part], column: str) -> tuple[Class, ...]:
    """The classes of a split in index order: numbers by value, names by alphabet. Raises DataError."""
    first_rows: dict[Class, Row] = {}
    for part in parts:
        for row, label in enumerate(_labels(part, column)):
            first_rows.setdefault(label, (part, row))
    if all(part.as_text for part in parts):
        first_rows = _typed(first_rows, column)
    kinds = [type(label) for label in first_rows]
    if len(set(kinds)) > 1:
        part, row = list(first_rows.values())[next(at for at, kind in enumerate(kinds) if kind is not kinds[0])]
        listed = ", ".join(sorted(map(repr, first_rows)))
        raise DataError(f"{location(part, column, row)}: the column mixes numbers and names as labels: {listed}")
    if len(first_rows) < 2:
        raise DataError(f"{parts[0].origin}: the column {column!r} holds one class only: {list(first_rows)}")
    return tuple(sorted(first_rows))


def class_names(parts: Sequence[Part], column: str, known: Sequence[Class]) -> tuple[str, ...]:
    """The names of the classes of the train split: those in the file's metadata, or the labels themselves."""
    given = {part.class_names[column]: part.origin for part in parts if column in part.class_names}
    if len(given) > 1:
        raise DataError(f"{' and '.join(given.values())} give the classes of the column {column!r} different names")
    names = next(iter(given), ())
    distinct = tuple(str(_name(names, label)) for label in known)
    if len(set(distinct)) < len(distinct):
        raise DataError(f"{parts[0].origin}: two classes of the column {column!r} have one name: {list(distinct)}")
    return distinct


def indices(part: Part, column: str, known: Sequence[Class], names: Sequence[str]) -> NDArray[np.int64]:
    """(rows,) the class index of every row. Raises DataError for a label that the train split does not have.

    `known` and `names` are the labels of the train split and the names of its classes. Integers that a file gives names
    count by name where the train split has names too, so that files may number them differently.
    """
    named = isinstance(known[0], str) or tuple(map(str, known)) != tuple(names)
    own = part.class_names.get(column, ()) if named else ()
    index: dict[Class, int] = {label: number for number, label in enumerate(names if own else known)}
    labels = _labels(part, column)
    read = {label: str(_name(own, label)) if own else label for label in set(labels)}
    if part.as_text:
        read = {label: _as(known, label) for label in read}
    for row, label in enumerate(labels):
        if read[label] not in index:
            where = location(part, column, row)
            raise DataError(f"{where}: the label {read[label]!r} is not in the train split, which has {list(index)}")
    return np.array([index[read[label]] for label in labels], dtype=np.int64)


def lookalikes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only by blanks or by capital letters."""
    first: dict[str, str] = {}
    same = [(first.setdefault("".join(name.split()).casefold(), name), name) for name in names]
    return [(name, lookalike) for name, lookalike in same if name != lookalike]


def numbers(part: Part, column: str) -> NDArray[np.float32]:
    """(rows,) the number of every row. Raises DataError for what is no number, or another one in float32."""
    values: list[Any] = present(part, column).tolist()
    if part.as_text:
        values = [_parsed(value) for value in values]
    largest = float(np.finfo(np.float32).max)
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{location(part, column, row)}: a number is needed, got {type(value).__name__} {value!r}")
        if not abs(value) <= largest:
            raise DataError(f"{location(part, column, row)}: the number {value!r} is not finite in float32")
    _check_float32(part, column, values)
    return np.array(values, dtype=np.float64).astype(np.float32)


def _check_float32(part: Part, column: str, values: list[int | float]) -> None:
    """Raise DataError where float32 changes a whole number, or makes two numbers equal, by more than a last digit."""
    distinct = sorted(set(values))
    rounded = np.array(distinct, dtype=np.float64).astype(np.float32)
    close = CLOSE * (distinct[-1] - distinct[0])
    for value, number in zip(distinct, rounded.tolist(), strict=True):
        if abs(value) > WHOLE and value == int(value) and abs(value - int(number)) > close:
            raise DataError(
                f"{location(part, column, values.index(value))}: the number {value!r} is {number:.0f} {HINT}"
            )
    for at in np.flatnonzero(rounded[1:] == rounded[:-1]).tolist():
        low, high = distinct[at : at + 2]
        if high - low > close:
            where = location(part, column, values.index(high))
            raise DataError(f"{where}: the numbers {low!r} and {high!r} are one number {HINT}")


def unlabelled(parts: Sequence[Part], column: str, known: Sequence[Class]) -> bool:
    """Return whether no row has a label: no column, or nothing in it but nulls and -1 (where -1 is not a class)."""

    def hidden(part: Part) -> bool:
        marks = () if UNLABELLED in known else (UNLABELLED, *(UNLABELLED_TEXTS if part.as_text else ()))
        return column not in part.rows or all(value in marks for value in part.rows[column].dropna().tolist())

    return all(map(hidden, parts))


def present(part: Part, column: str) -> pd.Series[Any]:
    """Column without missing values. Raises DataError naming file and row."""
    if column not in part.rows:
        raise DataError(f"{part.origin}: {unknown('column', column, map(str, part.rows.columns))}")
    values: pd.Series[Any] = part.rows[column]
    missing = values.isna().to_numpy()
    if missing.any():
        raise DataError(f"{location(part, column, int(np.argmax(missing)))}: the value is missing")
    return values


def location(part: Part, column: str, row: int) -> str:
    """Location of a bad value, for the message."""
    return f"{part.origin} ({part.split} split), column {column!r}, row {row} (the first is 0)"


def _labels(part: Part, column: str) -> list[Class]:
    """(rows,) the label of every row, 1 and 1.0 being the same one, True and 1 not."""
    plain: dict[tuple[type, Any], Class] = {}
    labels = []
    for row, value in enumerate(present(part, column).tolist()):
        try:
            label = plain.get((type(value), value))
        except TypeError as error:
            raise DataError(f"{location(part, column, row)}: a label is a number or a name, got {value!r}") from error
        if label is None:
            label = plain[type(value), value] = _plain(part, column, row, value)
        labels.append(label)
    return labels


def _plain(part: Part, column: str, row: int, value: object) -> Class:
    if isinstance(value, bool | np.bool_):
        return str(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    if isinstance(value, str):
        return value
    if isinstance(value, float | np.floating):
        raise DataError(
            f"{location(part, column, row)}: the label {value!r} is no class; TextRegression learns numbers"
        )
    raise DataError(f"{location(part, column, row)}: a label is a number or a name, got {value!r}")


def _typed(first_rows: dict[Class, Row], column: str) -> dict[Class, Row]:
    """Labels of csv, which has no types: integers if all are written as such, names if one is a code such as 007."""
    if any(CODE.fullmatch(str(label).strip()) and not PLAIN.fullmatch(str(label).strip()) for label in first_rows):
        return first_rows
    typed: dict[Class, Row] = {}
    for label, (part, row) in first_rows.items():
        if (match := PLAIN.fullmatch(str(label).strip())) and (match[2] or "").strip(".0"):
            raise DataError(
                f"{location(part, column, row)}: the label {match[0]} is no class; TextRegression learns numbers"
            )
        typed.setdefault(_as((0,), label), (part, row))
    return typed


def _as(known: Sequence[Class], label: Class) -> Class:
    """Label of csv as an integer, if the known ones are integers, and it is written as one."""
    match = PLAIN.fullmatch(label.strip()) if isinstance(label, str) and isinstance(known[0], int) else None
    return int(match[1]) if match and not (match[2] or "").strip(".0") else label


def _name(names: Sequence[str], label: Class) -> Class:
    """The name of an integer label, if it has one."""
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else label


def _parsed(text: str) -> int | float | str:
    """Number of csv; any other text stays as it is."""
    if not NUMBER.fullmatch(text.strip()):
        return text
    digits = text.strip()
    return int(digits) if digits.lstrip("+-").isdecimal() and len(digits) < 100 else float(digits)
