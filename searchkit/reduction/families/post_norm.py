"""BERT-like families: LayerNorm after every residual, absolute positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from searchkit.reduction.families.base import Block, Family, View
from searchkit.reduction.families.lean import LeanPostNorm, function_of, is_plain, norm_of, product_of, product_with
from searchkit.reduction.heads import head_of
from searchkit.reduction.matmul import product

Embed = Callable[[Tensor, Tensor, Tensor], Tensor]
Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PostNormBlock:
    """The modules of one post-LayerNorm layer, whatever a family calls them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Module
    attention_output_dropout: nn.Module
    attention_norm: nn.Module
    up: nn.Module
    activation: Callable[[Tensor], Tensor]
    down: nn.Module
    output_dropout: nn.Module
    output_norm: nn.Module
    attention_dropout: float
    heads: int
    window: int | None = None
    fused: tuple[Tensor, Tensor] | None = None  # weight (3 * D, D) and bias (3 * D,) of query, key and value

    def projected(self, hidden: Tensor, positions: Tensor) -> Tensor:
        return product(self._part(0), hidden)

    def projected_for(self, query_rows: Tensor, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        return product(self.query, hidden[query_rows]), product(self._part(1), hidden)

    def joined(self) -> PostNormBlock:
        return replace(self, fused=self._weights(0))

    def lean(self) -> Block:
        return _lean(self, *(self.fused or self._weights(0))) or self

    def _part(self, start: int) -> Callable[[Tensor], Tensor]:
        """Fused linear layer of the query, key and value weights, from number `start` on."""
        if self.fused is None:
            weight, bias = self._weights(start)
        else:
            weight, bias = (part[start * (len(part) // 3) :] for part in self.fused)
        return partial(functional.linear, weight=weight, bias=bias)

    def _weights(self, start: int) -> tuple[Tensor, Tensor]:
        parts = (self.query, self.key, self.value)[start:]
        return torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])

    def values(self, hidden: Tensor) -> Tensor:
        return product(self.value, hidden)

    def attended(self, hidden: Tensor, context: Tensor) -> Tensor:
        mixed = self.attention_output_dropout(product(self.attention_output, context))
        return self.attention_norm(mixed + hidden)  # type: ignore[no-any-return]

    def transformed(self, hidden: Tensor) -> Tensor:
        grown = self.activation(product(self.up, hidden))
        return self.output_norm(self.output_dropout(product(self.down, grown)) + hidden)  # type: ignore[no-any-return]


def _lean(block: PostNormBlock, weight: Tensor, bias: Tensor) -> LeanPostNorm | None:
    """The block without its modules, whose query, key and value have this weight (3 * D, D) and bias (3 * D,) together.

    None where a module is not of the plain kind, or has hooks.
    """
    products = (block.query, block.key, block.value, block.attention_output, block.up, block.down)
    norms = (block.attention_norm, block.output_norm)
    dropouts = (block.attention_output_dropout, block.output_dropout)
    plain = (
        all(is_plain(part, nn.Linear) and part.bias is not None for part in products)
        and all(is_plain(part, nn.LayerNorm) for part in norms)
        and all(is_plain(part, nn.Dropout) or is_plain(part, nn.Identity) for part in dropouts)
    )
    if not plain:
        return None
    width = len(bias) // 3
    return LeanPostNorm(
        heads=block.heads,
        window=block.window,
        projection=product_with(weight, bias),
        query=product_with(weight[:width], bias[:width]),
        key_value=product_with(weight[width:], bias[width:]),
        value=product_with(weight[2 * width :], bias[2 * width :]),
        output=product_of(block.attention_output),
        attention_norm=norm_of(block.attention_norm),
        up=product_of(block.up),
        activation=function_of(block.activation),
        down=product_of(block.down),
        output_norm=norm_of(block.output_norm),
    )


def bert(stock: Any) -> View:
    pooler = stock.bert.pooler  # a reader has none

    def classify(first: Tensor) -> Tensor:
        return stock.classifier(stock.dropout(pooler.activation(pooler.dense(first))))  # type: ignore[no-any-return]

    return _bert_like(stock, stock.bert, _embeddings(stock.bert), classify, "classifier")


def roberta(stock: Any) -> View:
    """View of RoBERTa: BERT whose position ids begin after that of the padding token."""
    first = stock.config.pad_token_id + 1
    embed, classify = _embeddings(stock.roberta, first), _dense_head(stock, torch.tanh)
    return _bert_like(stock, stock.roberta, embed, classify, "classifier.out_proj", first)


def electra(stock: Any) -> View:
    """View of ELECTRA: BERT whose embeddings may be narrower than its layers."""
    embed = _embeddings(stock.electra)
    project = getattr(stock.electra, "embeddings_project", None)

    def embed_and_project(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        narrow = embed(ids, positions, types)
        return narrow if project is None else product(project, narrow)

    classify = _dense_head(stock, functional.gelu)
    return _bert_like(stock, stock.electra, embed_and_project, classify, "classifier.out_proj")


def _bert_like(stock: Any, encoder: Any, embed: Embed, classify: Head, output: str, first_position: int = 0) -> View:
    """View of BERT, or of a family with its encoder."""
    blocks = tuple(_bert_block(layer, stock.config) for layer in encoder.encoder.layer)
    segments = encoder.embeddings.token_type_embeddings.num_embeddings
    limit = stock.config.max_position_embeddings - first_position
    return _view(stock, embed, blocks, classify, output, limit, segments if segments > 1 else None)


def _view(
    stock: Any,
    embed: Embed,
    blocks: tuple[PostNormBlock, ...],
    classify: Head,
    output: str,
    limit: int,
    segments: int | None = None,
) -> View:
    """View with the stock model's head over every token, where it has one, else with the family's own, `classify`."""
    kind = head_of(stock.config, type(stock).__name__)
    reader = kind.output(stock)
    dropout = getattr(stock, "dropout", nn.Identity())  # DistilBERT's reader has one
    return View(
        embed=embed,
        blocks=blocks,
        finish=_as_it_is,
        head=classify if reader is None else lambda rows: product(reader, dropout(rows)),
        reads=kind.reads or "first",
        limit=limit,
        output=reader or stock.get_submodule(output),
        segments=segments,
    )


def _embeddings(encoder: Any, first_position: int = 0) -> Embed:
    """Words, positions and segments, summed and normed; `first_position` is the position id of the first token."""
    parts = encoder.embeddings
    has_segments = parts.token_type_embeddings.num_embeddings > 1  # tokenizers mark them for RoBERTa too

    def embed(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        segments = parts.token_type_embeddings(types if has_segments else torch.zeros_like(types))
        summed = parts.word_embeddings(ids) + segments + parts.position_embeddings(positions + first_position)
        return parts.dropout(parts.LayerNorm(summed))  # type: ignore[no-any-return]

    return embed


def _bert_block(layer: Any, config: Any) -> PostNormBlock:
    attention = layer.attention
    return PostNormBlock(
        query=attention.self.query,
        key=attention.self.key,
        value=attention.self.value,
        attention_output=attention.output.dense,
        attention_output_dropout=attention.output.dropout,
        attention_norm=attention.output.LayerNorm,
        up=layer.intermediate.dense,
        activation=layer.intermediate.intermediate_act_fn,
        down=layer.output.dense,
        output_dropout=layer.output.dropout,
        output_norm=layer.output.LayerNorm,
        attention_dropout=config.attention_probs_dropout_prob,
        heads=config.num_attention_heads,
    )


def distilbert(stock: Any) -> View:
    embeddings, config = stock.distilbert.embeddings, stock.config

    def embed(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:  # DistilBERT has no segments
        summed = embeddings.word_embeddings(ids) + embeddings.position_embeddings(positions)
        return embeddings.dropout(embeddings.LayerNorm(summed))  # type: ignore[no-any-return]

    def classify(first: Tensor) -> Tensor:
        return stock.classifier(stock.dropout(stock.pre_classifier(first).relu()))  # type: ignore[no-any-return]

    blocks = tuple(_distilbert_block(layer, config) for layer in stock.distilbert.transformer.layer)
    return _view(stock, embed, blocks, classify, "classifier", config.max_position_embeddings)


def _distilbert_block(layer: Any, config: Any) -> PostNormBlock:
    attention = layer.attention
    return PostNormBlock(
        query=attention.q_lin,
        key=attention.k_lin,
        value=attention.v_lin,
        attention_output=attention.out_lin,
        attention_output_dropout=nn.Identity(),
        attention_norm=layer.sa_layer_norm,
        up=layer.ffn.lin1,
        activation=layer.ffn.activation,
        down=layer.ffn.lin2,
        output_dropout=layer.ffn.dropout,
        output_norm=layer.output_layer_norm,
        attention_dropout=config.attention_dropout,
        heads=config.n_heads,
    )


def _dense_head(stock: Any, activation: Callable[[Tensor], Tensor]) -> Head:
    """The two-layer classifier of RoBERTa and ELECTRA, which differ in its activation."""

    def classify(first: Tensor) -> Tensor:
        parts = stock.classifier
        return parts.out_proj(parts.dropout(activation(parts.dense(parts.dropout(first)))))  # type: ignore[no-any-return]

    return classify


def _no_padding(config: Any) -> str | None:
    """RoBERTa's position ids begin after that of the padding token."""
    return None if config.pad_token_id is not None else "its config has no pad_token_id, from which positions count"


def _as_it_is(hidden: Tensor) -> Tensor:
    return hidden


BERT: Final = Family(bert)
DISTILBERT: Final = Family(distilbert)
ROBERTA: Final = Family(roberta, refuse=_no_padding)
ELECTRA: Final = Family(electra)
