"""Block-Skim's scorer: the probability that a block of tokens holds the answer, from its square of the attention map.

Axes: T tokens, H heads, L pad slots of a padded example, N blocks of the batch, S = 32 tokens of a block.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
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
    needs_values: Final = False
    placed: Final = True  # a block costs the same with one token in it as with 32

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()

        def convolution() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(heads, heads, 3, padding=1), nn.BatchNorm2d(heads), nn.ReLU(), nn.AvgPool2d(2)
            )

        self.convolutions = nn.Sequential(convolution(), convolution())
        self.out = nn.Linear(heads * (SIZE // 4) ** 2, 2)

    def read(self, attention: AttentionMap) -> Tensor:
        return own_blocks(attention)

    def logits(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """(N, 2) for (no answer, answer), and (T,) the block of each token."""
        squares, block = squares_of(seen)
        with exact_convolutions(squares):
            features = self.convolutions(squares.to(self.out.weight.dtype))
        return self.out(features.flatten(1)).float(), block

    def score(self, seen: Seen) -> Tensor:
        logits, block = self.logits(seen)
        return logits.softmax(-1)[block, 1]

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        first, second = (9 * heads**2 * (SIZE // step) ** 2 for step in (1, 2))
        return (first + second + self.out.weight.numel()) * layout.blocks(SIZE).counts


def exact_convolutions(rows: Tensor) -> AbstractContextManager[None]:
    """Convolve float32 on a GPU in float32, by an algorithm that repeats itself: cuDNN's default is neither."""
    if not rows.is_cuda:
        return nullcontext()
    cudnn = torch.backends.cudnn
    return cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)


def own_blocks(attention: AttentionMap) -> Tensor:
    """(T, H, S) attention that each token gives the tokens of its own block, 0 where there is none.

    Queries count with their weight, so that what a relaxed pass has removed is as absent as what is gone.
    """
    layout, heads = attention.layout, attention.heads
    blocks = layout.blocks(SIZE)
    block = blocks.numbers
    column = torch.full((blocks.total, SIZE), layout.width, device=block.device)  # a column of zeros
    column[block, layout.positions % SIZE] = layout.slots - layout.examples * layout.width
    rows = layout.unpad(attention.probabilities.transpose(1, 2))  # (T, H, L)
    near = nn.functional.pad(rows, (0, 1)).gather(2, column[block][:, None, :].expand(-1, heads, -1))
    return near * layout.unpad(attention.query_weights)[:, None, None]


def squares_of(seen: Seen) -> tuple[Tensor, Tensor]:
    """(N, H, S, S) the map's squares on the diagonal, one per block that has tokens; (T,) the block of each token."""
    near, layout = seen.of_map, seen.layout
    blocks = layout.blocks(SIZE)
    squares = near.new_zeros(blocks.total, SIZE, *near.shape[1:])
    return squares.index_put((blocks.numbers, layout.positions % SIZE), near).transpose(1, 2), blocks.numbers
