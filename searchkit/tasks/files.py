"""Reading a local folder of parquet, csv or json files that are named by split."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from searchkit.errors import DataError

ALIASES: Final = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
}
# train, train-00000-of-00002, train-00000-of-00002-0123456789abcdef (the names the hub writes)
NAME: Final = re.compile(rf"({'|'.join(ALIASES)})(?:-(\d{{5}})-of-(\d{{5}})(?:-[0-9a-f]+)?)?")


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one file (or of one split of the hub) as they were read, and where they came from."""

    where: str
    split: str  # train, validation or test
    rows: pd.DataFrame


def looks_local(data: str) -> bool:
    """Whether `data` means a folder rather than a hub name: it exists, or is written like a path."""
    return data.startswith((".", "~")) or Path(data).is_absolute() or Path(data).exists()


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Split (train, validation, test) -> its files in shard order. Raises DataError if the names are ambiguous."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder with train.parquet (or csv, json, jsonl)")
    files = sorted(path for path in folder.iterdir() if path.suffix in READERS and not path.name.startswith("."))
    named = [path for path in files if re.split(r"[^a-z]", path.stem)[0] in ALIASES]
    if odd := [path.name for path in named if not NAME.fullmatch(path.stem)]:
        raise DataError(f"{folder}: not the name of a split: {', '.join(odd)}; rename to train, validation or test")
    if not named:
        raise DataError(f"{folder}: no file is named by its split, like train.parquet; it holds {_listing(folder)}")
    formats = sorted({path.suffix for path in named})
    if len(formats) > 1:
        raise DataError(f"{folder}: several formats ({', '.join(formats)}); keep the files of one of them")
    splits: dict[str, list[Path]] = {}
    for path in named:
        splits.setdefault(ALIASES[path.stem.split("-")[0]], []).append(path)
    for split, paths in splits.items():
        _check_shards(folder, split, paths)
    return splits


def _check_shards(folder: Path, split: str, paths: list[Path]) -> None:
    """One file, or the shards 0 to n - 1 of n under one name."""
    names = [match.groups() for path in paths if (match := NAME.fullmatch(path.stem))]
    if names == [(names[0][0], None, None)]:
        return
    total = names[0][2]
    if names != [(names[0][0], f"{number:05d}", total) for number in range(int(total or 0))]:
        found = ", ".join(path.name for path in paths)
        raise DataError(f"{folder}: the {split} split is ambiguous or a shard is missing: {found}")


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"


def read_folder(folder: Path) -> dict[str, list[Part]]:
    """Split -> its parts. Raises DataError naming the file that cannot be read."""
    return {
        split: [Part(str(path), split, _read(path)) for path in paths] for split, paths in split_files(folder).items()
    }


def digests(folder: Path) -> dict[str, str]:
    """File name -> blake2b of its bytes, for the files that are read."""
    hashes = {}
    for path in sorted(path for paths in split_files(folder).values() for path in paths):
        with path.open("rb") as stream:
            hashes[path.name] = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    return hashes


def _read(path: Path) -> pd.DataFrame:
    try:
        table = READERS[path.suffix](path)
    except Exception as error:  # whatever pandas, pyarrow, csv and json make of bytes, the user acts the same way
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error or type(error).__name__}") from error
    if (twice := table.columns[table.columns.duplicated()]).size:
        raise DataError(f"{path}: the column {twice[0]!r} is there twice")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    header = pd.read_csv(path, header=None, nrows=1, dtype="str", keep_default_na=False)  # pandas would rename doubles
    if (twice := header.T[header.T.duplicated()]).size:
        raise ValueError(f"the column {twice.iloc[0, 0]!r} is there twice")
    # only an empty field is missing: "NA", "null" and "None" are words that texts and labels may hold
    return pd.read_csv(path, keep_default_na=False, na_values=[""], low_memory=False)


def _read_json(path: Path) -> pd.DataFrame:
    """A list of objects, or one object per line (which the hub also calls .json). No value is converted."""
    text = path.read_text(encoding="utf-8")
    rows = json.loads(text, object_pairs_hook=_object) if text.lstrip().startswith("[") else _json_lines(text)
    if odd := [number for number, row in enumerate(rows) if not isinstance(row, dict)]:
        raise ValueError(f"row {odd[0]} is not an object of column: value")
    return pd.DataFrame(rows)


def _json_lines(text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            rows += [json.loads(line, object_pairs_hook=_object)] if line.strip() else []
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
    return rows


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; json would keep the last of two values of one name."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name stands twice in {list(found)}")
    return found


READERS: Final[dict[str, Callable[[Path], pd.DataFrame]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json,
    ".parquet": pd.read_parquet,
}
