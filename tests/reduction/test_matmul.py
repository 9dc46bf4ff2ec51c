"""Products of packed rows: rounding and pieces change no row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from searchkit.reduction import matmul as product
from searchkit.reduction.matmul import piecewise, rowwise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 15, 32, 33, 1024, 1025, 2500])
def test_a_function_applied_in_pieces_gives_the_rows_of_the_whole(rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(rows)
    up, down = nn.Linear(24, 96).to(dtype), nn.Linear(96, 24).to(dtype)
    seen: list[int] = []

    def function(one: Tensor, other: Tensor) -> Tensor:
        seen.append(len(one))
        return down(nn.functional.gelu(up(one))) + other  # type: ignore[no-any-return]

    given = torch.randn(rows, 24).to(dtype), torch.randn(rows, 24).to(dtype)
    with torch.inference_mode():
        whole = rowwise(function, *given, fewest=16)
        seen.clear()
        assert torch.equal(piecewise(function, *given, fewest=16), whole)
    assert max(seen) <= max(product.PIECE, 16)
    assert len(seen) == -(-rows // product.PIECE)


def test_with_a_gradient_the_whole_is_computed_at_once() -> None:
    seen: list[int] = []
    layer = nn.Linear(4, 4)
    piecewise(lambda rows: seen.append(len(rows)) or layer(rows), torch.randn(3000, 4))
    assert seen == [3000]
