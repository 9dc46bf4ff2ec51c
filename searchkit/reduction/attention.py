"""Attention over packed examples, with or without the attention that each token received.

Axes: B examples, T tokens in all, L the longest example, H heads, E width of a head, D = H * E.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from searchkit.reduction.ragged import Layout


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, *, heads: int, dropout: float, received: bool
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention within each example.

    query, key, value: (T, D). Returns the context (T, D) and, if `received`, (T,) float32: the attention probability
    that each token received, summed over heads and over the example's own queries, before dropout (the published code
    scores after dropout, which only adds noise in training). Without `received` the fused kernel is used.
    """
    q, k, v = (_heads(layout.pad(part), heads) for part in (query, key, value))  # (B, H, L, E)
    mask = None if layout.is_even else layout.mask
    if not received:
        context = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None if mask is None else mask[:, None, None, :], dropout_p=dropout
        )
        return layout.unpad(_merged(context)), None
    logits = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])  # (B, H, L, L): softmax in float32 always
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None, :], -math.inf)
    probabilities = logits.softmax(-1)
    votes = probabilities.detach()  # selection is not differentiable
    voters = torch.ones_like(votes[:, :1, :1, :]) if mask is None else mask[:, None, None, :].to(votes.dtype)
    column_sums = (voters @ votes).sum((1, 2))  # (B, L); a product with a 0/1 row leaves pad queries out
    if dropout:
        probabilities = F.dropout(probabilities, dropout)
    context = probabilities.to(v.dtype) @ v
    return layout.unpad(_merged(context)), layout.unpad(column_sums)


def _heads(padded: Tensor, heads: int) -> Tensor:
    """(B, L, D) -> (B, H, L, E)"""
    return padded.reshape(*padded.shape[:2], heads, -1).transpose(1, 2)


def _merged(context: Tensor) -> Tensor:
    """(B, H, L, E) -> (B, L, D)"""
    return context.transpose(1, 2).flatten(2)
