"""The fused attention and the column sums of its map against maps that are written, in float64 on the CPU.

Axes: T tokens in all, H heads, E width of a head.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any, Final

import torch
from torch import Tensor

from benchmarks.gpu.checks import CannotRunError, Check, Figures
from benchmarks.gpu.made import Setting
from searchkit.reduction import flash
from searchkit.reduction.attention import UnwrittenMap
from searchkit.reduction.device import DTYPES
from searchkit.reduction.ragged import Layout

LENGTHS: Final = (5, 1, 130, 64, 17, 63, 65, 384, 128, 2)
FEW: Final = (5, 1, 70, 17)  # for the interpreter
WIDTHS: Final = (16, 24, 32, 64, 80, 128, 256)  # of heads; some are not the kernel's own
HEADS: Final = 3
CONTEXT: Final = {"fp16": 4e-3, "bf16": 3e-2}  # largest difference; the values are standard normal
LSE: Final = 2e-3
SUMS: Final = 5e-3  # share of the sum
OLD_INTERPRETER: Final = "only 0-dimensional arrays"  # Triton 3.6 with numpy 2.5


Given = tuple[Tensor, Tensor, Tensor]  # query, key and value, (T, H, E) each


def drawn(width: int, dtype: str, lengths: tuple[int, ...], device: torch.device) -> tuple[Given, Layout]:
    """Query, key and value (T, H, E) in the number format, and their layout, on the device."""
    generator = torch.Generator().manual_seed(width)
    values = torch.randn(3, sum(lengths), HEADS, width, generator=generator).to(device, DTYPES[dtype])
    return (values[0], values[1], values[2]), Layout.of_lengths(torch.tensor(lengths, device=device))


def written(given: Given, layout: Layout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Context (T, H, E), log-sum-exp (H, T), attention received (T,) and given to oneself (T,), in float64."""
    q, k, v = (part.double().cpu() for part in given)
    contexts, lse, received, own = [], [], [], []
    for rows in torch.split(torch.arange(len(q)), layout.lengths.tolist()):
        logits = torch.einsum("qhe,khe->hqk", q[rows], k[rows]) / q.shape[-1] ** 0.5
        shares = logits.softmax(-1)
        contexts.append(torch.einsum("hqk,khe->qhe", shares, v[rows]))
        lse.append(logits.logsumexp(-1))
        received.append(shares.sum((0, 1)))
        own.append(shares.diagonal(dim1=1, dim2=2).sum(0))
    return torch.cat(contexts), torch.cat(lse, 1), torch.cat(received), torch.cat(own)


def context(figures: Figures, setting: Setting, dtype: str) -> None:
    """Compare `varlen_attn` with the written map, and with itself on the same examples in another company."""
    if not setting.on_gpu:
        raise CannotRunError("varlen_attn is for GPUs")
    for width in WIDTHS:
        given, layout = drawn(width, dtype, LENGTHS, setting.device)
        if not flash.takes(given[0].flatten(1), width):
            raise CannotRunError(f"not taken for heads of {width}")
        expected, expected_lse, *_ = written(given, layout)
        made, lse = flash.flash_attention(*given, layout)
        figures.at_most("context", _worst(made, expected), CONTEXT[dtype])
        figures.at_most("lse", _worst(lse, expected_lse), LSE)
        again, _ = flash.flash_attention(*given, layout)
        figures.holds("same_digits_on_repeat", torch.equal(made, again))
        start = sum(LENGTHS[:3])  # the fourth example alone
        rows = slice(start, start + LENGTHS[3])
        alone = Layout.of_lengths(torch.tensor(LENGTHS[3:4], device=setting.device))
        query, key, value = (part[rows] for part in given)
        lone, _ = flash.flash_attention(query, key, value, alone)
        figures.holds("same_digits_alone", torch.equal(lone, made[rows]))


def sums(figures: Figures, setting: Setting, dtype: str) -> None:
    """Compare the Triton kernel's sums with those of the written map; interpreted where there is no GPU."""
    if importlib.util.find_spec("triton") is None:
        raise CannotRunError("triton is not installed; it comes with torch's builds for GPUs")
    if not setting.on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
        raise CannotRunError("on a CPU Triton needs TRITON_INTERPRET=1")
    if not setting.on_gpu and dtype == "bf16":
        raise CannotRunError("the interpreter has no bfloat16 products")
    for width in flash.HEAD_WIDTHS if setting.on_gpu else flash.HEAD_WIDTHS[:1]:
        given, layout = drawn(width, dtype, LENGTHS if setting.on_gpu else FEW, setting.device)
        _, lse, received, _ = written(given, layout)
        lse = lse.float().to(setting.device)
        try:
            made = flash.kernel_sums(given[0], given[1], lse, layout)
        except Exception as error:
            if not setting.on_gpu and OLD_INTERPRETER in str(error):
                raise CannotRunError("this release of Triton cannot interpret with this release of numpy") from error
            raise
        figures.at_most("sums", _worst_share(made, received), SUMS)
        again = flash.kernel_sums(given[0], given[1], lse, layout)
        figures.holds("same_digits_on_repeat", torch.equal(made, again))


def plain(figures: Figures, setting: Setting, dtype: str) -> None:
    """Compare torch's sums, the diagonal and the probabilities of an unwritten map with those of the written one."""
    for width in WIDTHS:
        given, layout = drawn(width, dtype, FEW, setting.device)
        _, lse, received, own = written(given, layout)
        lse = lse.float().to(setting.device)
        unwritten = UnwrittenMap(given[0], given[1], lse, layout)
        figures.at_most("sums", _worst_share(flash.plain_sums(given[0], given[1], lse, layout), received), SUMS)
        figures.at_most("diagonal", _worst_share(unwritten.diagonal(), own), SUMS)
        columns = layout.unpad(unwritten.probabilities.sum((1, 2)))
        figures.at_most("probabilities", _worst_share(columns, received), SUMS)


def _worst(made: Tensor, expected: Tensor) -> float:
    return float((made.double().cpu() - expected).abs().max())


def _worst_share(made: Tensor, expected: Tensor) -> float:
    return float(((made.double().cpu() - expected).abs() / expected).max())


def checks(setting: Setting) -> list[Check]:
    kinds: dict[str, Any] = {"varlen_attn": context, "column_sums": sums, "torch_sums": plain}
    return [
        Check(f"kernels.{name}.{dtype}", functools.partial(kind, setting=setting, dtype=dtype))
        for name, kind in kinds.items()
        for dtype in ("fp16", "bf16")
    ]
