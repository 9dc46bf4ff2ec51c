"""The fused path on GPUs, as far as a CPU can tell: sums without a map against the map, and the kernel interpreted."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from searchkit.reduction import attention, flash
from searchkit.reduction.attention import UnwrittenMap, attend
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import SCORERS
from searchkit.reduction.scorers.block import own_blocks

HEADS, WIDTH = 3, 16
LENGTHS = (5, 1, 130, 64, 17)


def packed(lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Layout]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sum(lengths), 3 * HEADS * WIDTH, generator=generator), Layout.of_lengths(torch.tensor(lengths))


def left_behind(projected: Tensor, layout: Layout) -> tuple[Tensor, UnwrittenMap]:
    """What a fused kernel returns, by plain arithmetic in float64, example by example."""
    q, k, v = projected.double().reshape(len(projected), 3, HEADS, WIDTH).unbind(1)
    contexts, sums = [], []
    for example in torch.arange(len(projected)).split(layout.lengths.tolist()):
        logits = torch.einsum("qhe,khe->hqk", q[example], k[example]) / WIDTH**0.5
        contexts.append(torch.einsum("hqk,khe->qhe", logits.softmax(-1), v[example]))
        sums.append(logits.logsumexp(-1))
    unwritten = UnwrittenMap(q.float(), k.float(), torch.cat(sums, 1).float(), layout)
    return torch.cat(contexts).flatten(1).float(), unwritten


@pytest.mark.parametrize("name", ["attention_received", "attention_mean", "attention_off_diagonal"])
def test_scores_of_an_unwritten_map_are_those_of_the_written_one(name: str) -> None:
    projected, layout = packed()
    read = SCORERS[name].read
    assert read is not None
    context, written = attend(projected, layout, heads=HEADS, read=read)
    fused, unwritten = left_behind(projected, layout)
    assert written is not None
    torch.testing.assert_close(read(unwritten), written, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fused, context, atol=1e-5, rtol=1e-4)


def test_the_attention_map_is_written_when_its_probabilities_are_read() -> None:
    projected, layout = packed()
    _, blocks = attend(projected, layout, heads=HEADS, read=own_blocks)
    assert blocks is not None
    torch.testing.assert_close(own_blocks(left_behind(projected, layout)[1]), blocks, atol=1e-5, rtol=1e-4)


def test_the_fused_path_is_taken_where_it_can_be_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU it never is; here it is said to be, to see what else decides."""
    projected, layout = packed((9, 4))
    assert not flash.takes(projected.bfloat16(), WIDTH)
    taken: list[Layout] = []
    monkeypatch.setattr(flash, "takes", lambda rows, width: True)

    def flash_attention(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        taken.append(layout)
        context, unwritten = left_behind(projected, layout)
        return context.reshape(query.shape), unwritten.lse

    monkeypatch.setattr(flash, "flash_attention", flash_attention)
    read = SCORERS["attention_received"].read
    context, seen = attend(projected, layout, heads=HEADS, read=read)
    monkeypatch.setattr(flash, "takes", lambda rows, width: False)
    plain, received = attend(projected, layout, heads=HEADS, read=read)
    assert seen is not None
    assert received is not None
    torch.testing.assert_close(context, plain)
    torch.testing.assert_close(seen, received)
    assert len(taken) == 1
    monkeypatch.setattr(flash, "takes", lambda rows, width: True)
    attend(projected, layout, heads=HEADS, weights=torch.ones(13))
    attend(projected, layout, heads=HEADS, dropout=0.1)
    attend(projected, layout, heads=HEADS, window=3)
    assert len(taken) == 1
    attend(projected, layout, heads=HEADS, window=8)
    assert len(taken) == 2
    assert attention.flash is flash


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed; it comes with CUDA builds"
)
def test_the_kernel_sums_what_torch_sums() -> None:
    """Triton interprets the kernel on a CPU, in a process that says so before it is imported."""
    code = """
import torch
from searchkit.reduction import flash
from tests.reduction.test_flash import left_behind, packed
projected, layout = packed()
unwritten = left_behind(projected, layout)[1]
given = (unwritten.query.half(), unwritten.key.half(), unwritten.lse, layout)
torch.testing.assert_close(flash.kernel_sums(*given), flash.plain_sums(*given), atol=2e-3, rtol=2e-3)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed; it comes with CUDA builds"
)
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(capability: int) -> None:
    code = f"""
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from searchkit.reduction.flash_kernel import sums
types = dict(query="*bf16", key="*bf16", lse="*fp32", starts="*i32", received="*fp32", tokens="i32", scale="fp32")
sizes = dict(HEADS=12, WIDTH=32, BLOCK=64)
source = ASTSource(sums, types | dict.fromkeys(sizes, "constexpr"), sizes)
assert triton.compile(source, target=GPUTarget("cuda", {capability}, 32)).asm["cubin"]
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
