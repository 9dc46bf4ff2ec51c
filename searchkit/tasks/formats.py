"""Readers of parquet, arrow, csv, tsv and json files: every value as it is written, none converted."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from searchkit.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


ROWS_AT_ONCE: Final = 128  # fewer lists than start a garbage collection


@dataclass(frozen=True, eq=False)
class Content:
    """The rows of a file. `as_text`: every value is a text, as csv has no types, and an empty one is missing.

    `class_names`: integer column -> the names of its classes 0, 1, ..., where the file's own metadata hold them.
    """

    rows: pd.DataFrame
    as_text: bool = False
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def format_of(path: Path) -> str | None:
    """File ending that names the format, such as ".csv.gz"; None for a format that is not read."""
    name = path.name.lower()
    return next((ending for ending in sorted(READERS, key=len, reverse=True) if name.endswith(ending)), None)


def read(path: Path) -> Content:
    """The content of a file of one of the formats in `READERS`. Raises DataError naming the file and the reason."""
    ending = format_of(path) or path.suffix
    try:
        content = READERS[ending](path)
        _check_once(content.rows.columns.tolist())
    except Exception as error:  # whatever pandas, pyarrow, csv and json make of bytes, the user acts the same way
        raise DataError(f"{path} cannot be read as {ending[1:]}: {error or type(error).__name__}") from error
    return content


def _check_once(names: list[Any]) -> None:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise ValueError(f"the column {twice[0]!r} is there twice")


def _text(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark, compressed by gzip or not."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        content = gzip.decompress(content)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise ValueError("it is utf-16 or utf-32, not utf-8: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"the byte {content[error.start]:#04x} in line {line} is not utf-8: save it as UTF-8"
        ) from error


def _read_delimited(path: Path, delimiter: str) -> Content:
    with _endless_fields():
        text = _text(path)
        _, header = next(_rows(text, delimiter), (0, []))
        if not header:
            raise ValueError("No columns to parse from file")
        _check_delimiter(header, delimiter)
        columns = _columns(text, delimiter, header)
    # columns without a name, such as the index of pandas, cannot be meant
    named = [(name, column) for name, column in zip(header, columns, strict=True) if name]
    _check_once([name for name, _ in named])
    frame = {name: pd.Series([value or None for value in column], dtype="str") for name, column in named}
    return Content(pd.DataFrame(frame), as_text=True)


def _columns(text: str, delimiter: str, header: list[str]) -> list[list[str]]:
    """Values of each column below the header; ValueError names the line of a row that does not fit it.

    Rows are lists for a moment only: hundreds of thousands of lists would be walked by each garbage collection.
    """
    columns: list[list[str]] = [[] for _ in header]
    rows = filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    with suppress(csv.Error):  # which is raised below, with its line
        next(rows)
        while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
            if set(map(len, some)) != {len(header)}:
                break
            for column, values in zip(columns, zip(*some, strict=True), strict=True):
                column += values
        else:
            return columns
    for line, row in _rows(text, delimiter):  # read again, one by one, up to the row that does not fit
        _check_row(line, row, header)
    raise AssertionError("the row that does not fit was not found again")


@contextmanager
def _endless_fields() -> Iterator[None]:
    """Allow csv fields of more than the module's 131,072 characters."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row that is not blank; a quoted field may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"line {line}: {error}; a quote within a quoted field is doubled") from error
        if row is None:
            return
        if row:
            yield line, row


def _check_row(line: int, row: list[str], header: list[str]) -> None:
    if len(row) != len(header):
        listed = ", ".join(map(repr, header[:8]))
        raise ValueError(
            f"Expected {len(header)} fields ({listed}) in line {line}, got {len(row)}: {row[0][:40]!r}...; put a field "
            "that holds the separator in quotes"
        )


def _check_delimiter(header: list[str], delimiter: str) -> None:
    """Raise ValueError for a header of one field that holds another separator."""
    for separator, ending in {",": ".csv", "\t": ".tsv", ";": None, "|": None}.items():
        if len(header) == 1 and separator != delimiter and separator in header[0]:
            way = f"rename the file to {ending}" if ending else "save it with commas"
            raise ValueError(f"fields are separated by {delimiter!r}, but the header is {header[0][:80]!r}: {way}")


def _read_json(path: Path) -> Content:
    """Read a list of objects, or one object per line (which the hub also calls .json)."""
    text = _text(path)
    rows = json.loads(text, object_pairs_hook=_object) if text.lstrip().startswith("[") else _json_lines(text)
    if odd := [number for number, row in enumerate(rows) if not isinstance(row, dict)]:
        raise ValueError(f"row {odd[0]} is not an object of column: value")
    return Content(pd.DataFrame(rows, dtype=object))


def _json_lines(text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [json.loads(line, object_pairs_hook=_object)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}; read is a list of objects, or an object per line") from error
    return rows


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, and refuse two values of one name, of which json would keep the last."""
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        raise ValueError(f"a name stands twice in {list(parsed)}")
    return parsed


def _read_parquet(path: Path) -> Content:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return _of_arrow(file.read())


def _read_arrow(path: Path) -> Content:
    """Read Arrow's file format, or its stream format, which `datasets` writes."""
    import pyarrow as pa

    with path.open("rb") as file:
        whole = file.read(6) == b"ARROW1"
        file.seek(0)
        with (pa.ipc.open_file if whole else pa.ipc.open_stream)(file) as reader:
            return _of_arrow(reader.read_all())


def _of_arrow(table: pa.Table) -> Content:
    """Convert an Arrow table: index columns of pandas are kept, and integers stay whole beside missing values."""
    rows: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    return Content(rows, class_names=_class_names(table.schema.metadata or {}))


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Column -> its names, for columns that `datasets` wrote as ClassLabel."""
    info = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
    named = {
        column: tuple(feature["names"])
        for column, feature in info.get("features", {}).items()
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }
    for column, names in named.items():
        if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"the classes of the column {column!r} need names that differ, got {list(names)}")
    return named


_TEXT: Final[dict[str, Callable[[Path], Content]]] = {
    ".csv": partial(_read_delimited, delimiter=","),
    ".tsv": partial(_read_delimited, delimiter="\t"),
    ".json": _read_json,
    ".jsonl": _read_json,
}
READERS: Final[dict[str, Callable[[Path], Content]]] = {
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    **_TEXT,
    **{f"{ending}.gz": reader for ending, reader in _TEXT.items()},
}
