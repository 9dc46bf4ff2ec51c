# mypy: ignore-errors
"""The Triton kernel of `flash.kernel_sums`; Triton comes with torch's builds for GPUs and with no other."""

import triton
import triton.language as tl


@triton.jit
def sums(
    query,  # (T, H, E), as are keys; half precision
    key,
    lse,  # (H, T) float32
    starts,  # (B + 1,) int32
    received,  # (T,) float32, written
    tokens,
    scale,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A block of one example's keys: the sum of exp(scale * q k - lse) over its queries and all heads."""
    start = tl.load(starts + tl.program_id(0)).to(tl.int64)  # a row times its width may be more than 31 bits hold
    count = (tl.load(starts + tl.program_id(0) + 1) - start).to(tl.int32)
    if tl.program_id(1) * BLOCK >= count:  # the grid is made for the longest example
        return
    keys = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    lanes = tl.arange(0, WIDTH)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for head in range(HEADS):
        columns = head * WIDTH + lanes
        there = (keys < count)[:, None]
        k = tl.load(key + (start + keys)[:, None] * (HEADS * WIDTH) + columns[None, :], mask=there, other=0.0)
        for first in range(0, count, BLOCK):
            queries = first + tl.arange(0, BLOCK)
            asks = queries < count
            rows = (start + queries)[:, None] * (HEADS * WIDTH) + columns[None, :]
            q = tl.load(query + rows, mask=asks[:, None], other=0.0)
            whole = tl.load(lse + head * tokens + start + queries, mask=asks, other=0.0)
            shares = tl.exp(tl.dot(q, tl.trans(k)) * scale - whole[:, None])
            total += tl.sum(tl.where(asks[:, None], shares, 0.0), 0)
    tl.store(received + start + keys, total, mask=keys < count)
