"""Views of stock encoders for the forward pass: embeddings, blocks, and the rows that the head reads.

Axes: B examples, T tokens in all, D width, C outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from searchkit.reduction.heads import Reads

__all__ = ["Block", "Family", "Reads", "View"]

Pooling = Literal["first", "mean"]


class Block(Protocol):
    """One transformer layer on packed tokens, in the three parts between which tokens may be dropped."""

    @property
    def heads(self) -> int: ...

    @property
    def attention_dropout(self) -> float:
        """The probability with which training drops an attention probability."""

    @property
    def window(self) -> int | None:
        """Largest distance in positions at which a token attends; None: no limit."""

    def projected(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Query, key and value side by side (T, 3 * D) of tokens (T, D) with original `positions` (T,)."""

    def projected_for(self, query_rows: Tensor, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Query (R, D) of the rows `query_rows` (R,) alone; key and value side by side (T, 2 * D) of all tokens."""

    def joined(self) -> Block:
        """Copy of the block for inference, with weights that are multiplied together contiguous in memory."""

    def values(self, hidden: Tensor) -> Tensor:
        """Value (T, D) alone."""

    def attended(self, hidden: Tensor, context: Tensor) -> Tensor:
        """The attention part's output (T, D), residual included, from its input and the context (T, D)."""

    def transformed(self, hidden: Tensor) -> Tensor:
        """The feed-forward part's output (T, D), residual included."""


@dataclass(frozen=True, eq=False)
class View:
    """A stock model as embedding, blocks and head. It owns no weights: saving the model saves everything.

    embed: ids (T,), positions (T,), types (T,) -> (T, D); finish: the last block's output (T, D) -> what heads read;
    head: rows (R, D) -> (R, C), the rows being each example's first token, its mean, or every token, as `reads` says;
    limit: the most tokens an example may have; output: the last product of the head, a row of weights per output;
    segments: how many token types are embedded, None where they are ignored
    """

    embed: Callable[[Tensor, Tensor, Tensor], Tensor]
    blocks: tuple[Block, ...]
    finish: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    reads: Reads
    limit: int
    output: nn.Linear
    segments: int | None = None


def _first(config: Any) -> Pooling:
    return "first"


def _nothing(config: Any) -> None:
    return None


@dataclass(frozen=True)
class Family:
    """A `model_type` of transformers: how its stock models are viewed, and which of its configs can be honoured.

    view: stock model -> View; gated: the feed-forward part has a third product (GeGLU); dense_reader: heads that read
    every token have a hidden layer; pooling: config -> the rows that other heads read; refuse: config -> why the packed
    pass cannot honour a setting of this family, or None
    """

    view: Callable[[Any], View]
    gated: bool = False
    dense_reader: bool = False
    pooling: Callable[[Any], Pooling] = _first
    refuse: Callable[[Any], str | None] = _nothing
