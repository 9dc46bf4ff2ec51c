"""MACs of a pass, in closed form from the trace (1 MAC = 1 multiply-accumulate = 2 FLOPs).

What is counted: the matrix products of every layer on the tokens that really entered it, the scores where tokens are
dropped, and the head. What is not: LayerNorm, softmax, activations, embedding look-ups and the moving of survivors,
which multiply nothing or next to nothing; torch's FLOP counter leaves out the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from searchkit.reduction.families import FAMILIES, family_name
from searchkit.reduction.heads import Reads
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.trace import Trace


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder and its head that its cost depends on.

    gated: the feed-forward part has a third product (GeGLU); embedding: the width of the embeddings where they are
    projected to `width` (ELECTRA); reads: what the head reads: each example's first token (then the last layer computes
    no other), their mean, or every token, without a hidden layer unless `deep_head`
    """

    layers: int
    width: int
    feed_forward: int
    heads: int
    labels: int
    gated: bool = False
    embedding: int | None = None
    reads: Reads = "first"
    deep_head: bool = True

    @classmethod
    def of_config(cls, config: Any, *, reads: Reads = "first") -> Shape:
        """Read the sizes from a transformers config; the families spell the same sizes differently."""
        feed_forward = getattr(config, "intermediate_size", None) or config.hidden_dim
        embedding = getattr(config, "embedding_size", config.hidden_size)
        family = FAMILIES[family_name(config)]
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            feed_forward,
            config.num_attention_heads,
            config.num_labels,
            gated=family.gated,
            embedding=None if embedding == config.hidden_size else embedding,
            reads=reads,
            deep_head=family.dense_reader or reads != "tokens",
        )


def macs(trace: Trace, shape: Shape) -> Tensor:
    """(B,) float64 MACs of each example.

    Per layer with n tokens in attention, q of which ask, and m in the feed-forward part: 2 d^2 n for keys and values,
    2 d^2 q for queries and output, 2 d n q for QK^T and AV (in local attention too, which is computed whole and
    masked), 2 d f m for the feed-forward part (3 d f m if gated), and what the scores cost. q is n but for the last
    layer of a model that reads first tokens, where q = m = 1. The head reads one token, or all: d^2 + d * labels for
    each (d * labels for a reader's linear head).
    """
    head = shape.width * (shape.labels + (shape.width if shape.deep_head else 0))
    read = trace.tokens.double() if shape.reads == "tokens" else 1.0
    embedding = (shape.embedding or 0) * shape.width * trace.tokens
    return layer_macs(trace, shape).sum(1) + head * read + embedding


def layer_macs(trace: Trace, shape: Shape) -> Tensor:
    """(B, N) float64 MACs of each example in each layer: those of `macs` without head and embeddings."""
    attention, queries, feed_forward = (
        column.double() for column in (trace.attention, trace.queries, trace.feed_forward)
    )
    return (
        2 * shape.width**2 * (attention + queries)
        + 2 * shape.width * attention * queries
        + (3 if shape.gated else 2) * shape.width * shape.feed_forward * feed_forward
        + trace.scoring
    )


def unreduced_macs(lengths: Tensor, shape: Shape) -> Tensor:
    """(B,) float64 MACs of examples of these (B,) lengths with nothing dropped."""
    return macs(Trace.of_unreduced(lengths, shape.layers, first_only=shape.reads == "first"), shape)


def published_macs(counts: Sequence[tuple[int, int]], shape: Shape, *, head: int, norms_and_mask: bool = False) -> int:
    """Cost as LAT reports it: one pass, pads included, with these tokens in (attention, feed-forward) of each layer.

    `head` is the head's own MACs. With `norms_and_mask` the LayerNorm and mask terms are added that torchprofile
    counts; then the integers of the published protocol come out exactly (`reduction-methods`, T-LAT-3).
    """
    total = head
    for attention, feed_forward in counts:
        total += 4 * shape.width**2 * attention + 2 * shape.width * attention**2
        total += (3 if shape.gated else 2) * shape.width * shape.feed_forward * feed_forward
    if norms_and_mask:
        tokens = counts[0][0]
        total += shape.width * (tokens + sum(map(sum, counts))) + tokens
    return total


def ratio_as_published(plan: ReductionPlan, shape: Shape, tokens: int, reference: Shape | None = None) -> float:
    """LAT's accounting of a plan: the cost of one input of `tokens` tokens, pads and all, over that of the whole model.

    NaN where the example's content decides and there is no one length: with thresholds, for one. reference: the sizes
    of the whole model, where the plan runs on another one
    """
    counts = plan.counts_at(tokens)
    if counts is None:
        return math.nan
    whole = reference or shape
    unreduced = published_macs(((tokens, tokens),) * whole.layers, whole, head=_head_macs(whole, tokens))
    return published_macs(counts, shape, head=_head_macs(shape, tokens)) / unreduced


def _head_macs(shape: Shape, tokens: int) -> int:
    return int(macs(Trace.of_unreduced(torch.tensor([tokens]), 0), shape))
