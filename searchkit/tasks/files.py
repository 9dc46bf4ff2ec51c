"""Local folders of files named by their split, and the layouts of `datasets` and the hub."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from searchkit._internal.paths import looked_in
from searchkit.errors import DataError
from searchkit.tasks.formats import format_of, read

logger = logging.getLogger(__name__)

ALIASES: Final = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
# train, train-00000-of-00002, train-00000-of-00002-0123456789abcdef (the names the hub writes)
NAME: Final = re.compile(rf"({'|'.join(ALIASES)})(?:-(\d{{5}})-of-(\d{{5}})(?:-[0-9a-f]+)?)?")
SAVED: Final = re.compile(r"dataset|data-(\d{5})-of-(\d{5})")  # the files of a split that `save_to_disk` wrote
# endings of files that hold data in other ways; a split in one of them is never passed over
OTHER_DATA: Final = re.compile(
    r"\.(te?xt|ndjson|xlsx?|ods|xml|ya?ml|zip|gz|bz2|xz|zst|7z|tar|feather|ftr|orc|avro|h5|hdf5|pkl|pickle|np[yz]|db)"
)
LISTED: Final = 8  # names in a warning
READ: Final = "read are parquet, arrow, and csv, tsv, json or jsonl (also .gz)"


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one file (or of one split of the hub) as they were read, with their origin.

    `as_text` and `class_names` are as in `formats.Content`.
    """

    origin: str
    split: str  # train, validation or test
    rows: pd.DataFrame
    as_text: bool = False
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def looks_local(data: str) -> bool:
    """Return whether `data` means a folder rather than a hub name: it exists, or is written like a path."""
    return data.startswith((".", "~")) or Path(data).is_absolute() or Path(data).exists()


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Split (train, validation, test) -> its files in shard order. Raises DataError if the names are ambiguous.

    The files lie in the folder itself, in its sub-folder `data` (a repository of the hub), or in a sub-folder for each
    split (`save_to_disk` of a DatasetDict).
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder{looked_in(folder)}; give a folder with train.parquet (or arrow, csv, tsv, json, "
            "jsonl)"
        )
    splits = _named(folder) or _saved(folder) or _named(folder / "data")
    if not splits:
        raise DataError(f"{folder}: no file is named by its split, like train.parquet; {_reason(folder)}")
    return splits


def read_folder(folder: Path) -> dict[str, list[Part]]:
    """Split -> its parts. Raises DataError naming the file that cannot be read."""
    splits = split_files(folder)
    _tell_passed_over(folder, [path for paths in splits.values() for path in paths])
    return {split: [_part(path, split) for path in paths] for split, paths in splits.items()}


def _tell_passed_over(folder: Path, read: list[Path]) -> None:
    """Warn of data files whose names mean no split, or that lie beside the layout which is read."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    files = [path for place in (folder, *inside) for path in _files(place) if format_of(path) and path not in read]
    # json may hold settings, and saved splits of other names are warned of by these
    others = [path for path in files if format_of(path) != ".json" and not SAVED.fullmatch(path.stem)]
    if others:
        listed = ", ".join(path.relative_to(folder).as_posix() for path in others[:LISTED])
        more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
        logger.warning("%s: files that are not read, as their names mean no split: %s%s", folder, listed, more)


def digests(folder: Path) -> dict[str, str]:
    """File name (with its sub-folder) -> blake2b of its bytes, for the files that are read."""
    hashes = {}
    for path in sorted(path for paths in split_files(folder).values() for path in paths):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        hashes[path.relative_to(folder).as_posix()] = digest
    return hashes


def _part(path: Path, split: str) -> Part:
    content = read(path)
    return Part(str(path), split, content.rows, content.as_text, content.class_names)


def _stem(path: Path) -> str:
    """File name without the ending of its format, in small letters."""
    return path.name.lower().removesuffix(format_of(path) or path.suffix.lower())


def _named(folder: Path) -> dict[str, list[Path]]:
    """Split -> the files in this folder that are named by it."""
    files = [path for path in _files(folder) if re.split(r"[^a-z]", _stem(path))[0] in ALIASES]
    named = [path for path in files if format_of(path)]
    if odd := [path.name for path in named if not NAME.fullmatch(_stem(path))]:
        raise DataError(f"{folder}: not the name of a split: {', '.join(odd)}; rename to train, validation or test")
    if unread := [path.name for path in files if not format_of(path) and OTHER_DATA.fullmatch(path.suffix.lower())]:
        raise DataError(f"{folder}: the format of {', '.join(unread)} is not read; {READ}")
    formats = sorted({format_of(path) or "" for path in named})
    if len(formats) > 1:
        raise DataError(f"{folder}: several formats ({', '.join(formats)}); keep the files of one of them")
    splits: dict[str, list[Path]] = {}
    for path in named:
        splits.setdefault(ALIASES[_stem(path).split("-")[0]], []).append(path)
    for split, paths in splits.items():
        _check_shards(folder, split, paths)
    return splits


def _check_shards(folder: Path, split: str, paths: list[Path]) -> None:
    """Check that there is one file, or the shards 0 to n - 1 of n under one name."""
    names = [match.groups() for path in paths if (match := NAME.fullmatch(_stem(path)))]
    if names == [(names[0][0], None, None)]:
        return
    total = names[0][2]
    if names != [(names[0][0], f"{number:05d}", total) for number in range(int(total or 0))]:
        listed = ", ".join(path.name for path in paths)
        raise DataError(f"{folder}: the {split} split is ambiguous or a shard is missing: {listed}")


def _saved(folder: Path) -> dict[str, list[Path]]:
    """Split -> its arrow files, where `DatasetDict.save_to_disk` wrote a sub-folder for each split."""
    splits: dict[str, list[Path]] = {}
    for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [path for path in _files(inside) if format_of(path) == ".arrow" and SAVED.fullmatch(path.stem)]
        split = ALIASES.get(inside.name.lower())
        if files and split is None:
            logger.warning("%s: ignoring the split %s", folder, inside.name)
        elif files and split is not None:
            if split in splits:
                raise DataError(f"{folder}: two sub-folders mean the {split} split, one is {inside.name}")
            _check_saved(inside, files)
            splits[split] = files
    return splits


def _check_saved(folder: Path, files: list[Path]) -> None:
    """Raise DataError where a shard is missing, or some rows of the files do not belong to the data."""
    names = [path.stem for path in files]
    if names not in (["dataset"], [f"data-{number:05d}-of-{len(names):05d}" for number in range(len(names))]):
        raise DataError(f"{folder}: a shard is missing, or there is one too many: {', '.join(names)}")
    state = folder / "state.json"
    try:
        indices = state.exists() and json.loads(state.read_text(encoding="utf-8")).get("_indices_data_files")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{state} cannot be read: {error}") from error
    if indices:
        raise DataError(f"{folder} holds a choice of the rows of its files; save it again after flatten_indices()")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _reason(folder: Path) -> str:
    """Reason for the error: the files in the folder, and the names that would be read."""
    below = [path.name for path in folder.iterdir() if path.is_dir() and _holds_splits(path)]
    if below:
        return f"its sub-folder {below[0]} holds such files: give {folder / below[0]}"
    if (folder / "state.json").exists():
        return "it is one data set of `save_to_disk`, without splits: save a DatasetDict whose splits have names"
    names = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
    return f"it holds {listed}; {READ}"


def _holds_splits(folder: Path) -> bool:
    return any(format_of(path) and NAME.fullmatch(_stem(path)) for path in _files(folder))
