"""Attention on a GPU without pads and without a map in memory: torch's `varlen_attn`, and column sums of its map.

The kernel gives the context and, per query, the logarithm of the softmax's denominator. What a token received is the
sum of exp(q_i k_j / sqrt(E) - lse_i) over the queries i of its example, which a second pass takes block by block.
Axes: T tokens in all, H heads, E width of a head.
"""

from __future__ import annotations

import importlib.util
from typing import Final

import torch
from torch import Tensor

from searchkit.reduction.ragged import Layout

BLOCK: Final = 64  # queries and keys that a program of the kernel looks at together
HEAD_WIDTHS: Final = (16, 32, 64, 128)  # head widths of the kernel's products; others are summed by torch


def takes(rows: Tensor, width: int) -> bool:
    """Return whether the fused kernel takes these states: half precision on a GPU, heads of this width."""
    if width % 8 or width > 256:
        return False
    return rows.is_cuda and (rows.element_size() == 2 or torch.is_autocast_enabled("cuda"))


def flash_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Context (T, H, E) of every token within its example, and the log-sum-exp (H, T) of its logits, float32.

    One split per query block: an example's numbers do not depend on its batch.
    """
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    starts = _starts(layout)
    context, lse = varlen_attn(
        query,
        key,
        value,
        starts,
        starts,
        layout.longest,
        layout.longest,
        return_aux=AuxRequest(lse=True),
        num_splits=1,
    )
    return context, lse


def column_sums(query: Tensor, key: Tensor, lse: Tensor, layout: Layout) -> Tensor:
    """(T,) attention that each token received, summed over heads and the example's queries, without writing the map."""
    width = query.shape[-1]
    if query.is_cuda and width in HEAD_WIDTHS and importlib.util.find_spec("triton") is not None:
        return kernel_sums(query, key, lse, layout)
    return plain_sums(query, key, lse, layout)


def plain_sums(query: Tensor, key: Tensor, lse: Tensor, layout: Layout) -> Tensor:
    """Compute `column_sums` by torch, example by example."""
    lengths, scale = layout.lengths.tolist(), query.shape[-1] ** -0.5
    parts = zip(
        torch.split(query.float(), lengths),
        torch.split(key.float(), lengths),
        torch.split(lse, lengths, 1),
        strict=True,
    )
    sums = [(torch.einsum("qhe,khe->hqk", q, k) * scale - z[:, :, None]).exp().sum((0, 1)) for q, k, z in parts]
    return torch.cat(sums)


def kernel_sums(query: Tensor, key: Tensor, lse: Tensor, layout: Layout) -> Tensor:
    """Compute `column_sums` by Triton: a program per example and block of keys visits all heads and queries."""
    from searchkit.reduction.flash_kernel import sums

    tokens, heads, width = query.shape
    query, key, lse = query.contiguous(), key.contiguous(), lse.contiguous()
    received = torch.empty(tokens, dtype=torch.float32, device=query.device)
    programs = (len(layout.lengths), -(-layout.longest // BLOCK))
    sums[programs](
        query, key, lse, _starts(layout), received, tokens, width**-0.5, HEADS=heads, WIDTH=width, BLOCK=BLOCK
    )
    return received


def _starts(layout: Layout) -> Tensor:
    """(B + 1,) int32 cumulative lengths, as the kernels take them."""
    if "starts" not in layout.memo:
        layout.memo["starts"] = layout.offsets.to(torch.int32)
    starts: Tensor = layout.memo["starts"]
    return starts
