"""Untrained scorers: attention received, value norms, position, and random."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from searchkit.reduction.attention import AttentionMap
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers.base import Scale, Seen


@dataclass(frozen=True)
class AttentionReceived:
    """Score s_j = sum over heads h and real queries i of A[h, i, j] (LAT sec. 3.1; with the diagonal, as in its code).

    Without `diagonal` the tokens' attention to themselves is left out (PoWER-BERT). With `mean` the sum is
    divided by heads and queries, so that the scores of an example are shares (LTP, on real tokens only).
    """

    mean: bool = False
    diagonal: bool = True
    needs_values: bool = False

    @property
    def scale(self) -> Scale | None:
        return "relative" if self.mean else None

    def read(self, attention: AttentionMap) -> Tensor:
        received = attention.received() if self.diagonal else attention.received() - attention.diagonal()
        return received / attention.heads if self.mean else received

    def score(self, seen: Seen) -> Tensor:
        received = seen.of_map
        if not self.mean:
            return received
        shares = received / seen.counts.to(received.dtype)[seen.layout.examples]
        return shares if seen.alive is None else shares * (seen.alive > 0)

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return heads * layout.lengths**2


@dataclass(frozen=True)
class ValueNorm:
    """The Euclidean norm of the token's attention value, as a share; no attention map is needed."""

    scale: Scale = "relative"
    read: None = None
    needs_values: bool = True

    def score(self, seen: Seen) -> Tensor:
        return seen.shares(seen.values().float().norm(dim=-1))

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return width * layout.lengths


@dataclass(frozen=True)
class Position:
    """Scorer by position, earlier tokens first: a length then is a truncation."""

    scale: None = None
    read: None = None
    needs_values: bool = False

    def score(self, seen: Seen) -> Tensor:
        return -seen.layout.positions.float()

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return torch.zeros_like(layout.lengths)


@dataclass(frozen=True)
class Random:
    """Pseudo-random scorer: a function of the token's position and its example's length alone.

    So the same example loses the same tokens in any company and in every repetition.
    """

    scale: None = None
    read: None = None
    needs_values: bool = False

    def score(self, seen: Seen) -> Tensor:
        lengths = seen.whole.lengths[seen.layout.examples]
        mixed = (seen.layout.positions + 1) * 2654435761 + lengths * 40503  # Knuth's multiplicative hash
        for shift in (15, 13):
            mixed = ((mixed ^ (mixed >> shift)) * 73244475) % (1 << 32)
        return ((mixed ^ (mixed >> 16)) % (1 << 24)).float()

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return torch.zeros_like(layout.lengths)
