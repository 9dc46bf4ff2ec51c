"""Split of the data in batches on a device, and its random shards, which a race runs one after another.

Axes: N examples, B examples of a batch, U units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from searchkit.reduction.prefix_tree import Cache
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.training.packing import as_tokens

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True, eq=False)
class Split:
    """Encoded examples, with the token budget of a batch and the memory budget of cached prefixes."""

    data: Encoded
    device: torch.device
    token_budget: int
    cache_bytes: int = 0

    @cached_property
    def batches(self) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Example numbers (B,) and tokens of every batch, sorted by length; made once, kept on the device."""
        return [(rows, self.tokens(rows)) for rows in self.data.even_batches(self.token_budget)]

    @cached_property
    def caches(self) -> list[Cache]:
        """Cache for each batch, with memory in proportion to its tokens."""
        tokens = [len(batch.ids) for _, batch in self.batches]
        return [Cache(self.cache_bytes * count // sum(tokens)) for count in tokens]

    def forget(self) -> None:
        """Clear the caches, if any are there."""
        for cache in self.__dict__.get("caches", ()):
            cache.clear()

    @cached_property
    def whole(self) -> Layout:
        """Layout of all examples, on the CPU."""
        return as_tokens(self.data).layout

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        """Tokens of these examples, packed, on the device."""
        return as_tokens(self.data.take(rows)).to(self.device)

    def shards(self, parts: int) -> list[Shard]:
        """Random shards, `parts` of them, the same in every process; the windows of a question stay together.

        Fewer where a part would have less than a batch of tokens, but two: small passes cost more than early verdicts
        save.
        """
        units = self.data.units
        drawn = np.random.default_rng(0).permutation(units.max() + 1)
        worthwhile = max(2, len(self.data.ids) // self.token_budget)
        count = min(parts, worthwhile, len(drawn))
        if count == 1:
            return [Shard(self, np.arange(len(self.data)), np.sort(drawn))]
        return [self._shard(part, self.cache_bytes // count) for part in np.array_split(drawn, count)]

    def _shard(self, units: NDArray[np.int64], cache_bytes: int) -> Shard:
        rows = np.flatnonzero(np.isin(self.data.units, units))
        return Shard(replace(self, data=self.data.take(rows), cache_bytes=cache_bytes), rows, np.sort(units))


@dataclass(frozen=True, eq=False)
class Shard:
    """Part of a split: a split of its own, with the `rows` and `units` of its examples in the whole."""

    split: Split
    rows: NDArray[np.int64]
    units: NDArray[np.int64]
