"""Attention on a GPU without pads and without a map in memory: torch's `varlen_attn`, and column sums of its map.

The kernel gives the context and, per query, the logarithm of the softmax's denominator. What a token received is the
sum of exp(q_i k_j / sqrt(E) - lse_i) over the queries i of its example, which a second pass takes block by block.
Axes: T tokens in all, H heads, E width of a head.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from typing import Any, Final

import torch
from torch import Tensor

from searchkit.reduction.ragged import Layout

BLOCK: Final = 64  # queries and keys that a program of the kernel looks at together
HEAD_WIDTHS: Final = (16, 32, 64, 128)  # head widths of the kernel's products; others are summed by torch
OLDEST: Final = (8, 0)  # compute capability of the fused kernel: Ampere


def takes(rows: Tensor, width: int) -> bool:
    """Return whether the fused kernel takes these states: half precision on a GPU that has it, heads of this width."""
    if not rows.is_cuda or width % 8 or width > 256:
        return False
    half = rows.element_size() == 2 or torch.is_autocast_enabled("cuda")
    return half and _is_on(rows.device)


@functools.cache
def _is_on(device: torch.device) -> bool:
    """Return whether the GPU has the fused kernel."""
    return torch.cuda.get_device_capability(device) >= OLDEST


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
        **_one_split(),
    )
    return context, lse


@functools.cache
def _one_split() -> dict[str, Any]:
    """Argument that asks for one split; older releases of torch know no such argument, and split no packed batch."""
    from torch.nn.attention.varlen import varlen_attn

    return {"num_splits": 1} if "num_splits" in inspect.signature(varlen_attn).parameters else {}


def column_sums(query: Tensor, key: Tensor, lse: Tensor, layout: Layout) -> Tensor:
    """(T,) attention that each token received, summed over heads and the example's queries, without writing the map."""
    width = query.shape[-1]
    if query.is_cuda and width in HEAD_WIDTHS and _has_triton():
        return kernel_sums(query, key, lse, layout)
    return plain_sums(query, key, lse, layout)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


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
    starts = _starts(layout)
    # Triton launches on the current device; nothing on a CPU
    with torch.cuda.device_of(query):  # type: ignore[no-untyped-call]
        sums[programs](query, key, lse, starts, received, tokens, width**-0.5, HEADS=heads, WIDTH=width, BLOCK=BLOCK)
    return received


def _starts(layout: Layout) -> Tensor:
    """(B + 1,) int32 cumulative lengths, as the kernels take them."""
    if "starts" not in layout.memo:
        layout.memo["starts"] = layout.offsets.to(torch.int32)
    starts: Tensor = layout.memo["starts"]
    return starts
