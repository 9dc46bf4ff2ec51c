"""Trained scorers: small networks on a token's state.

Axes: T tokens, D width, F the predictor's own width.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from searchkit.reduction.matmul import product
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers.base import Scale, Seen


class Contribution(nn.Module):
    """AdapLeR's contribution predictor: D -> F, GELU, F -> 1, softmax over the living tokens (arXiv 2203.08991)."""

    scale: Final[Scale] = "relative"
    read: Final = None
    needs_values: Final = False

    def __init__(self, width: int, heads: int, hidden: int = 32) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, 1)

    def score(self, seen: Seen) -> Tensor:
        logits = product(self.down, nn.functional.gelu(product(self.up, seen.hidden)))  # (T, 1)
        return seen.softmax(logits.squeeze(1).float())

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return (self.up.weight.numel() + self.down.weight.numel()) * layout.lengths


class Gate(nn.Module):
    """Transkimmer's skim predictor: LayerNorm, D -> F, LayerNorm, GELU, F -> 2 (arXiv 2205.07324).

    Published with F = D. `logits` are (skim, keep); the score is the probability of keeping. The last bias starts
    around keep = +`bias`, skim = -`bias` (5 as published), so that a fresh gate keeps everything.
    """

    scale: Final[Scale] = "probability"
    read: Final = None
    needs_values: Final = False

    def __init__(self, width: int, heads: int, hidden: int | None = None, bias: float = 5.0) -> None:
        super().__init__()
        hidden = hidden or width
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, hidden)
        self.inner_norm, self.down = nn.LayerNorm(hidden), nn.Linear(hidden, 2)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.down.bias.copy_(torch.tensor([-bias, bias]) + 0.02 * torch.randn(2))

    def logits(self, hidden: Tensor) -> Tensor:
        """(T, 2) logits of states (T, D), for (skip, keep)."""
        grown = nn.functional.gelu(self.inner_norm(product(self.up, self.norm(hidden))))
        return product(self.down, grown).float()

    def score(self, seen: Seen) -> Tensor:
        return self.logits(seen.hidden).softmax(-1)[:, 1]

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return (self.up.weight.numel() + self.down.weight.numel()) * layout.lengths
