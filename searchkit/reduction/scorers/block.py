"""Block-Skim's scorer: how likely a block of tokens holds the answer, from its square of the attention map.

Axes: T tokens, H heads, L the longest example, N blocks of the batch, S = 32 tokens of a block.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from searchkit.reduction.attention import AttentionMap
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers.base import Scale, Seen

SIZE: Final = 32


class BlockScorer(nn.Module):
    """Two 3x3 convolutions with batch norm, ReLU and 2x average pooling, then a linear layer (arXiv 2112.08560).

    A block is `SIZE` neighbouring positions of the unreduced example, so that its score depends on the example alone;
    the published code needs lengths that are multiples of 32. Tokens that are gone, and pads, are zeros in the square.
    """

    scale: Final[Scale] = "probability"
    needs_attention: Final = True
    needs_values: Final = False

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()

        def convolution() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(heads, heads, 3, padding=1), nn.BatchNorm2d(heads), nn.ReLU(), nn.AvgPool2d(2)
            )

        self.convolutions = nn.Sequential(convolution(), convolution())
        self.out = nn.Linear(heads * (SIZE // 4) ** 2, 2)

    def logits(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(N, 2) for (no answer, answer), and (T,) the block of each token."""
        squares, block = diagonal_blocks(seen.map)
        dtype = self.out.weight.dtype
        return self.out(self.convolutions(squares.to(dtype)).flatten(1)).float(), block

    def score(self, seen: Seen) -> Tensor:
        logits, block = self.logits(seen)
        return logits.softmax(-1)[block, 1]

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        first, second = (9 * heads**2 * (SIZE // step) ** 2 for step in (1, 2))
        return (first + second + self.out.weight.numel()) * _blocks(layout)[1]


def diagonal_blocks(attention: AttentionMap) -> tuple[Tensor, Tensor]:
    """(N, H, S, S) the map's squares on the diagonal, one per block that has tokens, and (T,) the block of each token.

    Queries count with their weight, so that what a relaxed pass has removed is as absent as what is gone.
    """
    layout, heads = attention.layout, attention.probabilities.shape[1]
    block, _ = _blocks(layout)
    slot = layout.positions % SIZE
    longest = layout.longest
    column = torch.full((int(block.max()) + 1, SIZE), longest, device=slot.device)  # `longest` is the column of zeros
    column[block, slot] = layout.slots - layout.examples * longest
    voting = attention.probabilities * attention.voters[:, None, :, None]
    rows = layout.unpad(voting.transpose(1, 2))  # (T, H, L)
    rows = nn.functional.pad(rows, (0, 1))
    near = rows.gather(2, column[block][:, None, :].expand(-1, heads, -1))  # (T, H, S)
    squares = near.new_zeros(len(column), SIZE, heads, SIZE).index_put((block, slot), near)
    return squares.transpose(1, 2), block


def _blocks(layout: Layout) -> tuple[Tensor, Tensor]:
    """(T,) the number of each token's block, counted through the batch, and (B,) blocks of each example."""
    within = layout.positions // SIZE
    new = torch.ones_like(within, dtype=torch.bool)
    new[1:] = (within[1:] != within[:-1]) | (layout.examples[1:] != layout.examples[:-1])
    counts = torch.zeros_like(layout.lengths).index_add_(0, layout.examples, new.long())
    return new.cumsum(0) - 1, counts
