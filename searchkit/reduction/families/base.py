"""What an encoder looks like to the forward pass: embeddings, blocks, and what its head reads.

Axes: B examples, T tokens in all, D width, C outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Reads = Literal["first", "mean", "tokens"]


class Block(Protocol):
    """One transformer layer on packed tokens, in the three parts between which tokens may be dropped."""

    @property
    def heads(self) -> int: ...

    @property
    def attention_dropout(self) -> float:
        """The probability with which training drops an attention probability."""

    @property
    def window(self) -> int | None:
        """A token sees those at most so many positions away; None sees all."""

    def projected(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Query, key and value side by side (T, 3 * D) of tokens (T, D) that stood at `positions` (T,)."""

    def projected_for(self, asking: Tensor, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The query (R, D) of the rows `asking` (R,) alone, key and value side by side (T, 2 * D) of all tokens."""

    def joined(self) -> Block:
        """The same block with weights that are multiplied together lying together, for inference."""

    def values(self, hidden: Tensor) -> Tensor:
        """The value (T, D) alone."""

    def attended(self, hidden: Tensor, context: Tensor) -> Tensor:
        """The attention part's output (T, D), residual included, from its input and the context (T, D)."""

    def transformed(self, hidden: Tensor) -> Tensor:
        """The feed-forward part's output (T, D), residual included."""


@dataclass(frozen=True, eq=False)
class View:
    """A stock model as embedding, blocks and head. It owns no weights: saving the model saves everything.

    embed: ids (T,), positions (T,), types (T,) -> (T, D); finish: the last block's output (T, D) -> what heads read;
    head: rows (R, D) -> (R, C), the rows being each example's first token, its mean, or every token, as `reads` says;
    limit: the most tokens an example may have
    """

    embed: Callable[[Tensor, Tensor, Tensor], Tensor]
    blocks: tuple[Block, ...]
    finish: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    reads: Reads
    limit: int
