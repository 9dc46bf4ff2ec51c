"""Matrix products of packed tokens, in shapes that recur.

In bf16 a CPU's library compiles a kernel for every new shape and keeps it, and a packed batch brings a new number of
rows almost every time. Rounding that number up by at most a sixteenth makes shapes recur. The extra rows are zeros that
no example sees; batches below 32 rows stay as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def product(layer: nn.Module, rows: Tensor) -> Tensor:
    """`layer(rows)` for a layer that treats every row of (T, D) alone."""
    extra = _rounded(len(rows)) - len(rows) if compiles_per_shape(rows) else 0
    if not extra:
        return layer(rows)  # type: ignore[no-any-return]
    return layer(F.pad(rows, (0, 0, 0, extra)))[: len(rows)]  # type: ignore[no-any-return]


def compiles_per_shape(rows: Tensor) -> bool:
    """Whether a product with `rows` pays for a shape that is new."""
    return rows.is_cpu and (rows.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu"))


def _rounded(rows: int) -> int:
    """Up to the next of 16 steps per power of two."""
    step = 1 << max(rows.bit_length() - 5, 0)
    return -(-rows // step) * step
