"""Text classification on a data set of the hub or a folder of files: single texts or pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from searchkit.errors import DataError, unknown
from searchkit.tasks import columns
from searchkit.tasks.base import SPLITS, Encoded, Tables
from searchkit.tasks.encode import encode_table
from searchkit.tasks.files import Part, digests, looks_local, read_folder
from searchkit.tasks.hub import read_hub
from searchkit.tasks.splits import carve, limited

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# every use of chance has its own stream, so that none shifts another
STREAMS: Final = {"carve report": 0, "carve search": 1, "train": 2, "search": 3, "report": 4}


@dataclass(frozen=True)
class TextClassification:
    """Texts, or pairs of texts, with a class each.

    `data` is a folder with train, validation and test files (parquet, csv, json or jsonl) or a name on the hub;
    `subset` and `revision` are for the hub. A split that is missing is carved out of train: `search` when there is no
    validation or no labelled test, and `report` too when there is neither. `limit` caps the rows of every split, or
    of those named (train, search, report), for smoke runs. Reading raises DataError, saying where and what.
    """

    data: str
    text: str | tuple[str, str] = "text"
    label: str = "label"
    max_length: int = 128  # tokens, special ones included
    limit: int | Mapping[str, int] | None = None
    search_fraction: float = 0.1  # of the train rows
    report_fraction: float = 0.1
    subset: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError(f"data must name a folder or a data set, got {self.data=}")
        pair = isinstance(self.text, tuple) and len(self.text) == 2
        if not (isinstance(self.text, str) or pair):
            raise ValueError(f"text must be a column or a pair of columns, got {self.text=}")
        if len({*self._columns, self.label}) < len(self._columns) + 1:
            raise ValueError(f"text and label must be different columns, got {self.text=} {self.label=}")
        if self.max_length < 8:
            raise ValueError(f"max_length must be at least 8, got {self.max_length=}")
        fractions = (self.search_fraction, self.report_fraction)
        if not (min(fractions) > 0 and sum(fractions) < 1):
            raise ValueError(
                f"the carved fractions must be positive and leave something to train on, "
                f"got {self.search_fraction=} {self.report_fraction=}"
            )
        for split, rows in self._limits.items():
            if split not in SPLITS:
                raise ValueError(f"limit: {unknown('split', split, SPLITS)}")
            if rows < 1:
                raise ValueError(f"a limit must be at least 1 row, got {self.limit=}")
        if looks_local(self.data) and (self.subset or self.revision):
            raise ValueError(f"subset and revision are for the hub, but {self.data} is a folder")

    @property
    def head(self) -> str:
        return "classification"

    @property
    def _columns(self) -> tuple[str, ...]:
        return (self.text,) if isinstance(self.text, str) else self.text

    @property
    def _limits(self) -> dict[str, int]:
        if self.limit is None:
            return {}
        return dict(self.limit) if isinstance(self.limit, Mapping) else dict.fromkeys(SPLITS, self.limit)

    def tables(self, seed: int) -> Tables:
        """Read, check, carve what is missing, limit. The same seed gives the same rows, on every machine."""
        found = self._read()
        if "train" not in found:
            raise DataError(f"{self.data} has no train split, only {', '.join(sorted(found)) or 'nothing'}")
        _check_filled(found)
        known = columns.classes(found["train"], self.label)
        if "test" in found and columns.unlabelled(found["test"], self.label, known):
            del found["test"]
        given = {split: self._table(parts, known) for split, parts in found.items()}
        tables = self._three(given, seed)
        names = tuple(str(name) for name in known)
        return Tables(**{split: self._limited(split, tables[split], seed) for split in SPLITS}, labels=names)

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table, at most `max_length` tokens an example; the longer text of a pair is cut first."""
        return encode_table(table, tokenizer, self.max_length)

    def describe(self) -> dict[str, Any]:
        """Local data by the hash of their bytes, so that a moved folder is the same data; hub data by their name."""
        if looks_local(self.data):
            data: dict[str, Any] = {"files": digests(Path(self.data).expanduser())}
        else:
            data = {"hub": self.data, "subset": self.subset, "revision": self.revision}
        return {
            "kind": "text-classification",
            "data": data,
            "text": list(self._columns),
            "label": self.label,
            "max_length": self.max_length,
            "limit": self._limits,
            "search_fraction": self.search_fraction,
            "report_fraction": self.report_fraction,
        }

    def _read(self) -> dict[str, list[Part]]:
        if looks_local(self.data):
            return read_folder(Path(self.data).expanduser())
        return read_hub(self.data, self.subset, self.revision)

    def _table(self, parts: Sequence[Part], known: Sequence[columns.Class]) -> pd.DataFrame:
        frames = [
            columns.texts(part, self._columns).assign(label=columns.indices(part, self.label, known)) for part in parts
        ]
        return pd.concat(frames, ignore_index=True)

    def _three(self, given: Mapping[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
        """train, search and report from the splits there are; no row in two of them."""
        if "validation" in given and "test" in given:
            return {"train": given["train"], "search": given["validation"], "report": given["test"]}
        rest, rows = given["train"], len(given["train"])
        report = given.get("validation", given.get("test"))
        if report is None:
            rest, report = carve(rest, round(self.report_fraction * rows), _rng(seed, "carve report"))
        rest, search = carve(rest, round(self.search_fraction * rows), _rng(seed, "carve search"))
        return {"train": rest, "search": search, "report": report}

    def _limited(self, split: str, table: pd.DataFrame, seed: int) -> pd.DataFrame:
        return limited(table, self._limits.get(split), _rng(seed, split))


def _check_filled(found: Mapping[str, Sequence[Part]]) -> None:
    for part in chain.from_iterable(found.values()):
        if len(part.rows) == 0:
            raise DataError(f"{part.where} ({part.split} split) holds no rows")


def _rng(seed: int, stream: str) -> np.random.Generator:
    return np.random.default_rng([seed, STREAMS[stream]])
