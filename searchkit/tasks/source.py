"""Sources of rows, and the mapping of published splits to train, search and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from searchkit._internal.checks import check
from searchkit.errors import DataError, unknown
from searchkit.tasks.base import SPLITS
from searchkit.tasks.files import Part, digests, looks_local, read_folder
from searchkit.tasks.hub import read_hub
from searchkit.tasks.splits import limited

# every use of chance has its own stream, so that none shifts another
STREAMS: Final = {"carve report": 0, "carve search": 1, "train": 2, "search": 3, "report": 4}

Limit = int | Mapping[str, int] | None
# (table, rows wanted, chance) -> (the rest, the carved)
Carve = Callable[[pd.DataFrame, int, np.random.Generator], tuple[pd.DataFrame, pd.DataFrame]]


@dataclass(frozen=True)
class Source:
    """A folder with train, validation and test files (see `formats.READERS`), or a data set of the hub.

    `subset` and `revision` are for the hub. `limit` caps the rows of every split, or of those named.
    """

    data: str
    limit: Limit
    search_fraction: float  # share of the train rows
    report_fraction: float
    subset: str | None
    revision: str | None

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError(f"data must name a folder or a data set, got {self.data=}")
        fractions = (self.search_fraction, self.report_fraction)
        if not (min(fractions) > 0 and sum(fractions) < 1):
            raise ValueError(
                f"the carved fractions must be positive and leave something to train on, "
                f"got {self.search_fraction=} {self.report_fraction=}"
            )
        for split, rows in self.limits.items():
            if split not in SPLITS:
                raise ValueError(f"limit: {unknown('split', split, SPLITS)}")
            check(f"limit: the rows of {split}", "int", rows)
            if rows < 1:
                raise ValueError(f"a limit must be at least 1 row, got {self.limit=}")
        if looks_local(self.data) and (self.subset or self.revision):
            raise ValueError(f"subset and revision are for the hub, but {self.data} is a folder")

    @property
    def limits(self) -> dict[str, int]:
        if self.limit is None:
            return {}
        return dict(self.limit) if isinstance(self.limit, Mapping) else dict.fromkeys(SPLITS, self.limit)

    def read(self) -> dict[str, list[Part]]:
        """Read the parts of each split (train, validation, test), none empty, train among them. Raises DataError."""
        if looks_local(self.data):
            published = read_folder(Path(self.data).expanduser())
        else:
            published = read_hub(self.data, self.subset, self.revision)
        if "train" not in published:
            raise DataError(f"{self.data} has no train split, only {', '.join(sorted(published)) or 'nothing'}")
        for part in chain.from_iterable(published.values()):
            if len(part.rows) == 0:
                raise DataError(f"{part.origin} ({part.split} split) holds no rows")
        return published

    def three_splits(self, given: Mapping[str, pd.DataFrame], carve: Carve, seed: int) -> dict[str, pd.DataFrame]:
        """Map the published splits to train, search and report; no row is in two of them."""
        if "validation" in given and "test" in given:
            return {"train": given["train"], "search": given["validation"], "report": given["test"]}
        rest, rows = given["train"], len(given["train"])
        report = given.get("validation", given.get("test"))
        if report is None:
            rest, report = carve(rest, round(self.report_fraction * rows), _rng(seed, "carve report"))
        rest, search = carve(rest, round(self.search_fraction * rows), _rng(seed, "carve search"))
        return {"train": rest, "search": search, "report": report}

    def limited(self, tables: Mapping[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
        """Apply its limit to each of the three splits."""
        return {split: limited(tables[split], self.limits.get(split), _rng(seed, split)) for split in SPLITS}

    def describe(self) -> dict[str, Any]:
        """The JSON that identifies the data: local files by the hash of their bytes, so that a folder may move."""
        if looks_local(self.data):
            data: dict[str, Any] = {"files": digests(Path(self.data).expanduser())}
        else:
            data = {"hub": self.data, "subset": self.subset, "revision": self.revision}
        return {
            "data": data,
            "limit": self.limits,
            "search_fraction": self.search_fraction,
            "report_fraction": self.report_fraction,
        }


def _rng(seed: int, stream: str) -> np.random.Generator:
    return np.random.default_rng([seed, STREAMS[stream]])
