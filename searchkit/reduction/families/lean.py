"""A post-LayerNorm layer in as few operators as it has products, for a few rows at a time.

The modules are read once: their weights must not change any more. Axes: T tokens, D width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Product:
    """A linear layer: weight (in, out), contiguous or a view, and bias (out,)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.addmm(self.bias, rows, self.weight)


@dataclass(frozen=True, eq=False)
class Norm:
    """A LayerNorm over the last axis."""

    shape: tuple[int, ...]
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def __call__(self, rows: Tensor) -> Tensor:
        return torch.layer_norm(rows, self.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True, eq=False)
class LeanPostNorm:
    """The parts of a `Block` for inference, by functions on the weights."""

    heads: int
    window: int | None
    projection: Product  # to query, key and value
    query: Product
    key_value: Product
    value: Product
    output: Product
    attention_norm: Norm
    up: Product
    activation: Callable[[Tensor], Tensor]
    down: Product
    output_norm: Norm
    attention_dropout: float = 0.0
    reads_positions: bool = False

    def projected(self, hidden: Tensor, positions: Tensor) -> Tensor:
        return self.projection(hidden)

    def projected_for(self, query_rows: Tensor, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.query(hidden.index_select(0, query_rows)), self.key_value(hidden)

    def joined(self) -> LeanPostNorm:
        return self

    def values(self, hidden: Tensor) -> Tensor:
        return self.value(hidden)

    def attended(self, hidden: Tensor, context: Tensor) -> Tensor:
        return self.attention_norm(self.output(context).add_(hidden))

    def transformed(self, hidden: Tensor) -> Tensor:
        return self.output_norm(self.down(self.activation(self.up(hidden))).add_(hidden))


def is_plain(part: Any, kind: type[nn.Module]) -> bool:
    """Return whether it is a module of exactly this kind that nobody listens to."""
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return type(part) is kind and "forward" not in vars(part) and not any(getattr(part, name) for name in hooks)


def product_of(layer: Any) -> Product:
    """Product of a linear module."""
    return product_with(layer.weight, layer.bias)


def product_with(weight: Tensor, bias: Tensor) -> Product:
    """Product with a weight (out, in), without a gradient."""
    return Product(weight.detach().t(), bias.detach())


def norm_of(norm: Any) -> Norm:
    """Norm of a LayerNorm module."""
    return Norm(tuple(norm.normalized_shape), norm.weight, norm.bias, norm.eps)


def function_of(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The exact GELU as a function, where it is one."""
    inner = getattr(activation, "act", None)  # transformers' module around it
    is_gelu = (is_plain(activation, nn.GELU) and activation.approximate == "none") or inner is functional.gelu  # type: ignore[attr-defined]
    return functional.gelu if is_gelu else activation
