"""Attention over packed examples, bucket by bucket, and the statistics of its map that scorers read.

The map of a bucket is small enough for the processor's caches and is gone when the next bucket comes. On two cores this
is faster than torch's fused kernel from a few dozen tokens on, and far faster than one map of a whole batch.
Axes: B examples, T tokens in all, L pad slots of a padded example, H heads, E width of a head, D = H * E.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from searchkit.reduction import flash
from searchkit.reduction.matmul import compiles_per_shape
from searchkit.reduction.ragged import Layout

ABSENT: Final = 1e-30  # a key of no more weight than this is not there
PLACES: Final = 1 << 20  # elements of a bucket's map, on a CPU
FEW: Final = 4  # examples whose pads are hidden one by one, which touches pads alone
FUSED: Final = 1 << 16  # elements up to which the fused kernel is faster, on a CPU


class AttentionMap(Protocol):
    """The attention of a bucket for scorers, before dropout, whether the map was written or not.

    probabilities: (B, H, L, L) in the model's format, [b, h, i, j] from query i to key j; query_weights:
    (B, L), 0 for a pad, 1 for a token, in between in a relaxed pass
    """

    @property
    def probabilities(self) -> Tensor: ...
    @property
    def query_weights(self) -> Tensor: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def heads(self) -> int: ...

    def received(self) -> Tensor:
        """(T,) attention that each token received, summed over heads and over the example's own queries.

        The published codes score after dropout, which only adds noise in training, and let pad queries vote.
        """

    def diagonal(self) -> Tensor:
        """(T,) the part of `received` that each token gave itself."""


@dataclass(frozen=True, eq=False)
class WrittenMap:
    """An `AttentionMap` in memory."""

    probabilities: Tensor
    query_weights: Tensor
    layout: Layout

    @property
    def heads(self) -> int:
        return self.probabilities.shape[1]

    def received(self) -> Tensor:
        device = self.query_weights.device.type
        with torch.autocast(device, enabled=False):  # it would take a product of float32 to bfloat16
            by_head = self.query_weights[:, None, None, :] @ self.probabilities  # (B, H, 1, L)
        return self.layout.unpad(by_head.sum((1, 2), dtype=_precise(by_head)))

    def diagonal(self) -> Tensor:
        own = self.probabilities.diagonal(dim1=-2, dim2=-1)  # (B, H, L)
        own = own.sum(1, dtype=_precise(own))
        return self.layout.unpad(own * self.query_weights)


@dataclass(frozen=True, eq=False)
class UnwrittenMap:
    """An `AttentionMap` that a fused kernel left behind: query and key (T, H, E) and log-sum-exp (H, T).

    Sums are taken without the map; it is written only for who asks for the probabilities themselves.
    """

    query: Tensor
    key: Tensor
    lse: Tensor
    layout: Layout

    @property
    def heads(self) -> int:
        return self.query.shape[1]

    @property
    def query_weights(self) -> Tensor:
        return self.layout.mask.float()

    @cached_property
    def probabilities(self) -> Tensor:
        q, k = (self.layout.pad(tensor).transpose(1, 2).float() for tensor in (self.query, self.key))
        whole = self.layout.pad(self.lse.T, fill=math.inf).transpose(1, 2)  # (B, H, L)
        shares: Tensor = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5 - whole[..., None]).exp()
        return shares * self.layout.mask[:, None, None, :]

    def received(self) -> Tensor:
        return flash.column_sums(self.query, self.key, self.lse, self.layout)

    def diagonal(self) -> Tensor:
        own = (self.query.float() * self.key.float()).sum(-1) * self.query.shape[-1] ** -0.5  # (T, H)
        diagonal: Tensor = (own - self.lse.T).exp().sum(1)
        return diagonal


# What a scorer takes from the map of a bucket: (T, ...), a row per token
Read = Callable[[AttentionMap], Tensor]


# From states (T, D) and positions (T,) to query, key and value side by side (T, 3 * D)
Project = Callable[[Tensor, Tensor], Tensor]


def attend(
    rows: Tensor,
    layout: Layout,
    *,
    heads: int,
    window: int | None = None,
    dropout: float = 0.0,
    read: Read | None = None,
    weights: Tensor | None = None,
    project: Project | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Softmax attention within each example.

    rows: query, key and value side by side (T, 3 * D), or the states that `project` makes them from, which is best done
    bucket by bucket: what stays small stays in the caches. weights: (T,) in [0, 1], how much of each key is there: 1
    is the token, 0 its absence, to the last digit whatever the logits are (`weighted_softmax`); a query votes with the
    same weight. window: a query sees keys whose original positions are at most so far away. Returns the context (T, D)
    and what was `read`.
    """
    width = rows.shape[1] // (3 if project is None else 1)  # D
    windowed = window is not None and layout.farthest > window  # in positions, of which a kernel knows nothing
    if weights is None and not dropout and not windowed and flash.takes(rows, width // heads):
        return _flash(rows if project is None else project(rows, layout.positions), layout, heads, read)
    is_plain = read is None and weights is None
    if is_plain and (not rows.is_cpu or heads * len(layout.lengths) * layout.longest**2 <= FUSED):
        projected = rows if project is None else project(rows, layout.positions)
        q, k, v = _heads(layout.spread(projected), 3, heads)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=_mask(layout, window), dropout_p=dropout)
        return layout.unpad(_merged(context)), None
    buckets = layout.buckets(PLACES // heads, compiles_per_shape(rows)) if rows.is_cpu else [layout]
    sizes = [len(bucket.positions) for bucket in buckets]
    present = [None] * len(sizes) if weights is None else torch.split(weights, sizes)
    contexts, seen = [], []
    for bucket, part, weight in zip(buckets, torch.split(rows, sizes), present, strict=True):
        q, k, v = _heads(bucket.spread(part if project is None else project(part, bucket.positions)), 3, heads)
        attention = _attention(q, k, bucket, window, weight)
        if read is not None:
            seen.append(read(attention))
        kept = F.dropout(attention.probabilities, dropout) if dropout else attention.probabilities
        contexts.append(bucket.unpad(_merged(kept.to(v.dtype) @ v)))
    if len(buckets) == 1:
        return contexts[0], seen[0] if seen else None
    return torch.cat(contexts), torch.cat(seen) if seen else None


def _flash(projected: Tensor, layout: Layout, heads: int, read: Read | None) -> tuple[Tensor, Tensor | None]:
    """Run `attend` by the fused kernel."""
    q, k, v = projected.reshape(len(projected), 3, heads, -1).unbind(1)
    context, lse = flash.flash_attention(q, k, v, layout)
    seen = None
    if read is not None:
        with torch.no_grad(), torch.autocast(projected.device.type, enabled=False):  # as in `WrittenMap.received`
            seen = read(UnwrittenMap(q.detach(), k.detach(), lse.detach(), layout))
    return context.flatten(1), seen


def attend_from_first(
    query: Tensor,
    key_value: Tensor,
    layout: Layout,
    *,
    heads: int,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """`attend` for the first token of each example alone: query (B, D), key and value side by side (T, 2 * D).

    Returns the context (B, D).
    """
    mask = _mask(layout, window)
    (q,), (k, v) = _heads(query[:, None], 1, heads), _heads(layout.spread(key_value), 2, heads)
    mask = None if mask is None else mask[:, :, :1]
    return _merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)).squeeze(1)


def _attention(query: Tensor, key: Tensor, layout: Layout, window: int | None, weights: Tensor | None) -> WrittenMap:
    """The map of one bucket, from query and key (B, H, L, E); softmax works in float32 or more inside."""
    mask = _mask(layout, window)
    logits = _scaled_products(query, key)
    if weights is None:
        if mask is not None and mask.shape[2] == 1 and layout.height <= FEW and logits.is_cpu:
            for example, length in enumerate(layout.lengths.tolist()):
                logits[example, ..., length:] = -math.inf
        elif mask is not None:
            logits.masked_fill_(~mask, -math.inf)
        shares = logits.softmax(-1)
        return WrittenMap(shares, layout.mask.to(shares.dtype), layout)
    dtype = _precise(logits)
    present = layout.pad(weights.to(dtype))  # (B, L)
    if layout.height > len(layout.lengths):
        present = present + layout.vacant
    seen = present[:, None, None, :]
    weighted = weighted_softmax(logits.to(dtype), seen if mask is None else seen * mask, layout.mask[:, None, None, :])
    return WrittenMap(weighted, present, layout)


def _precise(values: Tensor) -> torch.dtype:
    """The format for sums of these values: float32 or more."""
    return torch.promote_types(values.dtype, torch.float32)


def _scaled_products(query: Tensor, key: Tensor) -> Tensor:
    """(B, H, L, L) q k / sqrt(E), scaled before it is rounded to half precision."""
    scale, shape = query.shape[-1] ** -0.5, query.shape[:-1]
    q, k = query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2)
    halved = q.element_size() < 4
    products = torch.baddbmm(q.new_zeros(()), q, k, beta=0, alpha=scale) if halved else torch.bmm(q, k) * scale
    return products.reshape(*shape, -1)


def weighted_softmax(logits: Tensor, weights: Tensor, real: Tensor | None = None) -> Tensor:
    """Softmax w_j exp(z_j) / sum_k w_k exp(z_k) over the last axis, for weights in [0, 1] that broadcast to the logits.

    A key of weight 0 gets exactly 0 at any scale of the logits, and still a finite gradient with respect to its weight
    (straight-through estimators need it): its exponential is cut at that of the strongest present key. Rows without any
    weight are 0. real: False where a key is a pad, whose weight needs no gradient.
    """
    return _WeightedSoftmax.apply(logits, weights, real)  # type: ignore[no-any-return, no-untyped-call]


class _WeightedSoftmax(torch.autograd.Function):
    """Autograd function of `weighted_softmax`: it keeps two maps of (B, H, L, L) where autograd would keep a dozen."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, weights: Tensor, real: Tensor | None) -> Tensor:
        absent = weights <= ABSENT
        shares = (logits + weights.clamp(min=ABSENT).log().masked_fill(absent, -math.inf)).softmax(-1)
        empty = absent.all(-1, keepdim=True)
        if not empty.is_cpu or empty.any():  # a GPU would have to be waited for to ask
            shares = shares.masked_fill(empty, 0.0)
        ctx.save_for_backward(logits, weights, shares, real)
        return shares

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (grad,), (logits, weights, shares, real) = grads, ctx.saved_tensors
        to_logits = torch.ops.aten._softmax_backward_data(grad, shares, -1, shares.dtype)
        if not ctx.needs_input_grad[1]:
            return to_logits, None, None
        absent = weights <= ABSENT
        to_weights = to_logits.sum_to_size(weights.shape) / weights.clamp(min=ABSENT)  # log w moves like z
        returning = absent if real is None else absent & real
        if returning.any():
            peak = logits.masked_fill(absent, -math.inf).amax(-1, keepdim=True)
            peak = peak.masked_fill(peak == -math.inf, 0.0)
            raised = (logits - peak).clamp(max=0.0).exp()
            whole = (weights * raised).sum(-1, keepdim=True).clamp(min=ABSENT)
            change = raised / whole * (grad - (grad * shares).sum(-1, keepdim=True))
            to_weights = torch.where(absent, change.sum_to_size(weights.shape), to_weights)
        return to_logits, to_weights, None


def _mask(layout: Layout, window: int | None) -> Tensor | None:
    """(B, 1, 1 or L, L) True where a query may look, None where it may look everywhere."""
    mask = None if layout.is_even else layout.mask[:, None, None, :]
    if window is None or layout.farthest <= window:
        return mask
    positions = layout.pad(layout.positions)  # (B, L)
    near = (positions[:, :, None] - positions[:, None, :]).abs() <= window
    near |= torch.eye(near.shape[-1], dtype=torch.bool, device=near.device)  # a pad sees itself: no row is empty
    return near[:, None] if mask is None else near[:, None] & (mask | ~layout.mask[:, None, :, None])


def _heads(padded: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, L, parts * D) -> as many (B, H, L, E)"""
    return padded.reshape(*padded.shape[:2], parts, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _merged(context: Tensor) -> Tensor:
    """(B, H, L, E) -> (B, L, D)"""
    return context.transpose(1, 2).flatten(2)
