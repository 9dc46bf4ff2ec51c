"""MACs of a pass, in closed form from the trace (1 MAC = 1 multiply-accumulate = 2 FLOPs).

What is counted: the matrix products of every layer on the tokens that really entered it, the scores where tokens are
dropped, and the head. What is not: LayerNorm, softmax, activations, embedding look-ups and the moving of survivors,
which multiply nothing or next to nothing; torch's FLOP counter leaves out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from searchkit.reduction.encoder import Trace


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder and its head that its cost depends on."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    labels: int

    @classmethod
    def of_config(cls, config: Any) -> Shape:
        """From a transformers config; BERT and DistilBERT spell the same sizes differently."""
        feed_forward = getattr(config, "intermediate_size", None) or config.hidden_dim
        return cls(
            config.num_hidden_layers, config.hidden_size, feed_forward, config.num_attention_heads, config.num_labels
        )


def macs(trace: Trace, shape: Shape) -> Tensor:
    """(B,) float64 MACs of each example.

    Per layer with n tokens in attention and m in the feed-forward part: 4 d^2 n for the projections, 2 d n^2 for QK^T
    and AV, H n^2 for summing the attention received if anything is dropped, 2 d f m for the feed-forward part. The head
    reads one token: d^2 + d * labels.
    """
    attention, feed_forward, scored = (part.double() for part in (trace.attention, trace.feed_forward, trace.scored))
    per_layer = (
        4 * shape.width**2 * attention
        + 2 * shape.width * attention**2
        + shape.heads * scored**2
        + 2 * shape.width * shape.feed_forward * feed_forward
    )
    return per_layer.sum(1) + shape.width**2 + shape.width * shape.labels


def published_macs(
    lengths: Sequence[int], tokens: int, shape: Shape, *, head: int, norms_and_mask: bool = False
) -> int:
    """The cost that LAT reports: one pass over `tokens` tokens, pads included, keeping `lengths` after each attention.

    `head` is the head's own MACs. With `norms_and_mask` the LayerNorm and mask terms are added that torchprofile
    counts; then the integers of the published protocol come out exactly (`reduction-methods`, T-LAT-3).
    """
    before = (tokens, *lengths[:-1])
    total = head
    for entering, kept in zip(before, lengths, strict=True):
        total += 4 * shape.width**2 * entering + 2 * shape.width * entering**2
        total += 2 * shape.width * shape.feed_forward * kept
    if norms_and_mask:
        total += shape.width * (tokens + sum(before) + sum(lengths)) + tokens
    return total
