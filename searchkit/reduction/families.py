"""Encoders of different families seen as the same blocks: post-LayerNorm BERT and DistilBERT.

A view refers to the modules of a stock transformers model; it owns no weights, so saving the model saves everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from searchkit.errors import DataError


@dataclass(frozen=True, eq=False)
class Block:
    """One post-LayerNorm transformer layer; calling conventions are those of torch modules on (T, D)."""

    query: nn.Module
    key: nn.Module
    value: nn.Module
    attention_output: nn.Module
    attention_norm: nn.Module
    up: nn.Module
    activation: Callable[[Tensor], Tensor]
    down: nn.Module
    output_norm: nn.Module
    dropout: nn.Module
    attention_dropout: float
    heads: int


@dataclass(frozen=True, eq=False)
class View:
    """A stock sequence classifier as embedding, blocks and head.

    embed: ids (T,), positions (T,), types (T,) -> (T, D); classify: the first token's state (B, D) -> logits (B, C)
    """

    embed: Callable[[Tensor, Tensor, Tensor], Tensor]
    blocks: tuple[Block, ...]
    classify: Callable[[Tensor], Tensor]


def _bert(model: Any) -> View:
    embeddings, config = model.bert.embeddings, model.config

    def embed(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:
        summed = embeddings.word_embeddings(ids) + embeddings.token_type_embeddings(types)
        return embeddings.dropout(embeddings.LayerNorm(summed + embeddings.position_embeddings(positions)))  # type: ignore[no-any-return]

    def block(layer: Any) -> Block:
        attention = layer.attention
        return Block(
            query=attention.self.query,
            key=attention.self.key,
            value=attention.self.value,
            attention_output=attention.output.dense,
            attention_norm=attention.output.LayerNorm,
            up=layer.intermediate.dense,
            activation=layer.intermediate.intermediate_act_fn,
            down=layer.output.dense,
            output_norm=layer.output.LayerNorm,
            dropout=layer.output.dropout,
            attention_dropout=config.attention_probs_dropout_prob,
            heads=config.num_attention_heads,
        )

    def classify(first: Tensor) -> Tensor:
        pooled = model.bert.pooler.activation(model.bert.pooler.dense(first))
        return model.classifier(model.dropout(pooled))  # type: ignore[no-any-return]

    return View(embed, tuple(block(layer) for layer in model.bert.encoder.layer), classify)


def _distilbert(model: Any) -> View:
    embeddings, config = model.distilbert.embeddings, model.config

    def embed(ids: Tensor, positions: Tensor, types: Tensor) -> Tensor:  # DistilBERT has no segments
        summed = embeddings.word_embeddings(ids) + embeddings.position_embeddings(positions)
        return embeddings.dropout(embeddings.LayerNorm(summed))  # type: ignore[no-any-return]

    def block(layer: Any) -> Block:
        return Block(
            query=layer.attention.q_lin,
            key=layer.attention.k_lin,
            value=layer.attention.v_lin,
            attention_output=layer.attention.out_lin,
            attention_norm=layer.sa_layer_norm,
            up=layer.ffn.lin1,
            activation=layer.ffn.activation,
            down=layer.ffn.lin2,
            output_norm=layer.output_layer_norm,
            dropout=layer.ffn.dropout,
            attention_dropout=config.attention_dropout,
            heads=config.n_heads,
        )

    def classify(first: Tensor) -> Tensor:
        return model.classifier(model.dropout(model.pre_classifier(first).relu()))  # type: ignore[no-any-return]

    return View(embed, tuple(block(layer) for layer in model.distilbert.transformer.layer), classify)


FAMILIES: Final[dict[str, Callable[[Any], View]]] = {"bert": _bert, "distilbert": _distilbert}


def check_supported(model_type: str, where: str) -> None:
    """Refuse a model family that has no view here."""
    if model_type not in FAMILIES:
        raise DataError(
            f"{where}: model_type {model_type!r} is not supported; supported families: {', '.join(FAMILIES)}"
        )


def view_of(model: Any) -> View:
    """The view of a stock `AutoModelForSequenceClassification`."""
    check_supported(model.config.model_type, type(model).__name__)
    return FAMILIES[model.config.model_type](model)
