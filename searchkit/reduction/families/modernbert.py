"""ModernBERT: LayerNorm before each part, rotary positions, local attention, a gated feed-forward part.

Axes: T tokens, H heads, E width of a head, D = H * E.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from searchkit.reduction.families.base import Family, Pooling, View
from searchkit.reduction.heads import head_of
from searchkit.reduction.matmul import product

ROPE: Final = frozenset({"default", "linear", "yarn", "llama3"})  # angles that a position alone decides


@dataclass(frozen=True, eq=False)
class ModernBlock:
    """A stock layer, and the angles by which queries and keys turn.

    Queries and keys turn by the token's original position, whatever was dropped between two of them: so their distance
    in the text is what attention sees.
    """

    layer: Any
    rotary: Any
    heads: int
    attention_dropout: float
    window: int | None

    def projected(self, hidden: Tensor, positions: Tensor) -> Tensor:
        query, key, value = product(self.layer.attn.Wqkv, self.layer.attn_norm(hidden)).chunk(3, dim=-1)
        angles = self._angles(hidden, positions)
        return torch.cat([self._turned(query, *angles), self._turned(key, *angles), value], -1)

    def projected_for(self, query_rows: Tensor, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        normed, width = self.layer.attn_norm(hidden), hidden.shape[-1]
        key, value = self._part(normed, width, 3 * width).chunk(2, dim=-1)
        cosines, sines = self._angles(hidden, positions)
        query = self._turned(self._part(normed[query_rows], 0, width), cosines[query_rows], sines[query_rows])
        return query, torch.cat([self._turned(key, cosines, sines), value], -1)

    def joined(self) -> ModernBlock:
        return self  # they are in the stock model

    def values(self, hidden: Tensor) -> Tensor:
        return self._part(self.layer.attn_norm(hidden), 2 * hidden.shape[-1], None)

    def _part(self, normed: Tensor, start: int, stop: int | None) -> Tensor:
        """Slice of the fused projection to query, key and value."""
        fused = self.layer.attn.Wqkv
        bias = None if fused.bias is None else fused.bias[start:stop]
        return product(partial(functional.linear, weight=fused.weight[start:stop], bias=bias), normed)

    def attended(self, hidden: Tensor, context: Tensor) -> Tensor:
        attention = self.layer.attn
        return hidden + attention.out_drop(product(attention.Wo, context))  # type: ignore[no-any-return]

    def transformed(self, hidden: Tensor) -> Tensor:
        return hidden + product(self.layer.mlp, self.layer.mlp_norm(hidden))

    def _angles(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines (T, E); of a batch of one, since older transformers take no positions (T,)."""
        cosines, sines = self.rotary(hidden[None], positions[None], self.layer.attention_type)
        return cosines[0], sines[0]

    def _turned(self, rows: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Rotary position embedding (arXiv 2104.09864), in float32 or more: rotates pairs (i, i + E / 2) of a head."""
        precise = rows.to(torch.promote_types(rows.dtype, torch.float32))
        by_head = precise.reshape(rows.shape[0], self.heads, -1)  # (T, H, E)
        first, second = by_head.chunk(2, dim=-1)
        quarter = torch.cat((-second, first), dim=-1)  # every pair turned by 90 degrees
        turned = by_head * cosines[:, None] + quarter * sines[:, None]
        return turned.flatten(1).to(rows.dtype)


def modernbert(stock: Any) -> View:
    encoder, config = stock.model, stock.config

    def embed(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:  # no segments; positions turn in the layers
        return encoder.embeddings(input_ids=ids)  # type: ignore[no-any-return]

    def head(rows: Tensor) -> Tensor:
        return product(output, stock.drop(product(stock.head, rows)))

    def block(layer: Any) -> ModernBlock:
        return ModernBlock(
            layer=layer,
            rotary=encoder.rotary_emb,
            heads=config.num_attention_heads,
            attention_dropout=config.attention_dropout,
            window=config.local_attention // 2 if layer.attention_type == "sliding_attention" else None,
        )

    kind = head_of(config, type(stock).__name__)
    output = kind.output(stock) or stock.classifier
    return View(
        embed=embed,
        blocks=tuple(map(block, encoder.layers)),
        finish=encoder.final_norm,
        head=head,
        reads=kind.reads or _pooling(config),
        limit=config.max_position_embeddings,
        output=output,
    )


def _pooling(config: Any) -> Pooling:
    return "mean" if config.classifier_pooling == "mean" else "first"


def _refused(config: Any) -> str | None:
    """Refuse rotary angles that depend on the longest text of a batch: packed texts have no such length."""
    kinds = {config.rope_parameters[kind].get("rope_type", "default") for kind in set(config.layer_types)}
    odd = sorted(map(str, kinds - ROPE))
    return f"rope_type {odd[0]!r} is not supported; supported: {', '.join(sorted(ROPE))}" if odd else None


MODERNBERT: Final = Family(modernbert, gated=True, dense_reader=True, pooling=_pooling, refuse=_refused)
