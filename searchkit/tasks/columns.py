"""From the columns of a file to texts, classes and numbers: what is missing, of the wrong type or unknown is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from searchkit.errors import DataError, unknown
from searchkit.tasks.files import Part

Class = int | str
UNLABELLED: Final = -1  # how GLUE marks the labels it keeps to itself


def texts(part: Part, columns: Sequence[str]) -> pd.DataFrame:
    """Columns `text` and, for two columns, `text_pair`; every value a string. Raises DataError naming file and row."""
    names = ("text", "text_pair")[: len(columns)]
    return pd.DataFrame(
        {name: pd.Series(strings(part, column), dtype="str") for name, column in zip(names, columns, strict=True)}
    )


def strings(part: Part, column: str) -> list[str]:
    """The column, every value a string. Raises DataError naming file and row."""
    values: list[Any] = present(part, column).tolist()
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{place(part, column, row)}: a text is needed, got {type(value).__name__} {value!r}")
    return values


def classes(parts: Sequence[Part], column: str) -> tuple[Class, ...]:
    """The classes of a split in index order: numbers by value, names by alphabet. Raises DataError."""
    found = {value for part in parts for value in _distinct(part, column)[1]}
    if len({type(value) for value in found}) > 1:
        listed = ", ".join(sorted(map(repr, found)))
        raise DataError(f"{parts[0].where}: the column {column!r} mixes numbers and names as labels: {listed}")
    if len(found) < 2:
        raise DataError(f"{parts[0].where}: the column {column!r} holds one class only: {sorted(found)}")
    return tuple(sorted(found))


def indices(part: Part, column: str, known: Sequence[Class]) -> NDArray[np.int64]:
    """(rows,) the class index of every row. Raises DataError for a label that the train split does not have."""
    codes, distinct = _distinct(part, column)
    index = {name: number for number, name in enumerate(known)}
    for code, value in enumerate(distinct):
        if value not in index:
            where = place(part, column, int(np.argmax(codes == code)))
            raise DataError(f"{where}: the label {value!r} is not in the train split, which has {list(known)}")
    return np.array([index[value] for value in distinct], dtype=np.int64)[codes]


def numbers(part: Part, column: str) -> NDArray[np.float32]:
    """(rows,) the number of every row. Raises DataError for what is no finite number."""
    values: list[Any] = present(part, column).tolist()
    largest = float(np.finfo(np.float32).max)
    for row, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{place(part, column, row)}: a number is needed, got {type(value).__name__} {value!r}")
        if not abs(value) <= largest:
            raise DataError(f"{place(part, column, row)}: the number {value!r} is not finite in float32")
    return np.array(values, dtype=np.float32)


def unlabelled(parts: Sequence[Part], column: str, known: Sequence[Class]) -> bool:
    """Whether no row has a label: no column, or nothing in it but nulls and -1 (where -1 is not a class)."""
    nothing = set() if UNLABELLED in known else {UNLABELLED}
    return all(column not in part.rows or set(part.rows[column].dropna().tolist()) <= nothing for part in parts)


def _distinct(part: Part, column: str) -> tuple[NDArray[np.int64], list[Class]]:
    """The distinct labels in order of appearance, and (rows,) which of them each row has."""
    values = present(part, column)
    try:
        codes, distinct = pd.factorize(values.astype(object))
    except TypeError as error:
        raise DataError(f"{place(part, column, 0)}: a label is a number or a name, got {values.iloc[0]!r}") from error
    plain = [_plain(part, column, int(np.argmax(codes == code)), value) for code, value in enumerate(distinct)]
    # 1 and 1.0, and the like, are one class
    unique = list(dict.fromkeys(plain))
    return np.array([unique.index(value) for value in plain], dtype=np.int64)[codes], unique


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
        raise DataError(f"{place(part, column, row)}: the label {value!r} is no class; TextRegression learns numbers")
    raise DataError(f"{place(part, column, row)}: a label is a number or a name, got {value!r}")


def present(part: Part, column: str) -> pd.Series[Any]:
    """The column, if it is there and no value is missing. Raises DataError naming file and row."""
    if column not in part.rows:
        raise DataError(f"{part.where}: {unknown('column', column, map(str, part.rows.columns))}")
    values: pd.Series[Any] = part.rows[column]
    missing = values.isna().to_numpy()
    if missing.any():
        raise DataError(f"{place(part, column, int(np.argmax(missing)))}: the value is missing")
    return values


def place(part: Part, column: str, row: int) -> str:
    """Where a bad value stands, for the message."""
    return f"{part.where} ({part.split} split), column {column!r}, row {row} (the first is 0)"
