"""Seeded carving of splits, with equal texts (or whole groups) on one side, and counts of texts that splits share.

The content of a row is its text, its pair of texts, or its question with the context.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from searchkit.errors import DataError

if TYPE_CHECKING:
    from searchkit.tasks.base import Tables

CONTENT: Final = ("text", "text_pair", "question", "context")


def carve(
    table: pd.DataFrame, count: int, rng: np.random.Generator, stratified: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Carve about `count` rows, each label in proportion, at least one of each left: (the rest, the carved).

    Not `stratified`, for labels that are numbers: a random choice, whatever the labels are.

    Rows with the same text go to the same side, or the model would be scored on what it was trained on; the first of
    them counts, so repeated texts make the carved split a little larger. Both sides keep the order of the rows.
    """
    group, first = _groups(table)
    labels = table["label"].to_numpy()[first] if stratified else np.zeros(len(first), dtype=np.int64)  # (groups,)
    carved = np.zeros(len(labels), dtype=bool)
    carved[_stratified(labels, count, rng)] = True
    if not carved.any():
        raise DataError(f"{len(table)} rows are too few to carve {count} of them for another split")
    chosen = carved[group]
    return table[~chosen].reset_index(drop=True), table[chosen].reset_index(drop=True)


def carve_groups(
    table: pd.DataFrame, count: int, rng: np.random.Generator, column: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Carve whole groups of rows with one value of `column`, until `count` rows are out: (the rest, the carved).

    The groups are taken in random order and one at least is left. Groups that share a text, or a question with its
    context, count as one. Both sides keep the order of the rows.
    """
    group = _joined(table.groupby(column, sort=False).ngroup(), _content(table))  # (rows,)
    sizes = np.bincount(group)
    order = rng.permutation(len(sizes))[:-1]
    before = np.cumsum(sizes[order]) - sizes[order]  # rows carved before each group
    chosen = np.isin(group, order[before < count])
    if not chosen.any():
        raise DataError(
            f"{len(table)} rows in {len(sizes)} group(s) are too few to carve {count} by whole groups; choose another "
            f"column to group by"
        )
    return table[~chosen].reset_index(drop=True), table[chosen].reset_index(drop=True)


def limited(table: pd.DataFrame, limit: int | None, rng: np.random.Generator) -> pd.DataFrame:
    """Sample at most `limit` rows, in random order."""
    if limit is None or len(table) <= limit:
        return table
    return table.iloc[rng.permutation(len(table))[:limit]].reset_index(drop=True)


def duplicates(tables: Tables) -> dict[str, int]:
    """Number of distinct contents that two splits share: `search/report`, `train/report` and `train/search`.

    By hashes of 64 bits: texts that differ in one character are different.
    """
    hashed = {split: _hashes(tables[split]) for split in ("train", "search", "report")}
    pairs = reversed(list(combinations(hashed, 2)))
    return {f"{first}/{second}": len(np.intersect1d(hashed[first], hashed[second])) for first, second in pairs}


def _hashes(table: pd.DataFrame) -> NDArray[np.uint64]:
    """(rows,) hash of the content, the same in every process."""
    columns = [name for name in CONTENT if name in table]
    return pd.util.hash_pandas_object(table[columns], index=False).to_numpy().astype(np.uint64)


def _content(table: pd.DataFrame) -> pd.Series[int]:
    """(rows,) number of each row's distinct content, in order of appearance."""
    return table.groupby([name for name in CONTENT if name in table], sort=False).ngroup()


def _joined(group: pd.Series[int], content: pd.Series[int]) -> NDArray[np.int64]:
    """(rows,) groups, merged where they share content, numbered in order of appearance."""
    while True:
        lowest = group.groupby(content).transform("min")
        lowest = lowest.groupby(group).transform("min")
        if (lowest == group).all():
            return np.unique(group, return_inverse=True)[1].astype(np.int64)
        group = lowest


def _groups(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows,) number of each row's distinct content, and (groups,) the first row of each."""
    group = _content(table).to_numpy().astype(np.int64)
    return group, np.unique(group, return_index=True)[1].astype(np.int64)


def _stratified(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` positions, shared among the labels by largest remainder (ties to the lower label)."""
    present, sizes = np.unique(labels, return_counts=True)
    share = min(count, len(labels)) * sizes / len(labels)
    quota = np.floor(share).astype(np.int64)
    most = np.argsort(quota - share, kind="stable")[: min(count, len(labels)) - int(quota.sum())]
    quota[most] += 1
    quota = np.minimum(quota, sizes - 1)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:wanted] for label, wanted in zip(present, quota, strict=True)
    ]
    return np.concatenate(chosen)
