"""Small random stock models and batches for the tests of this folder."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.ragged import Tokens

VOCABULARY = 50
LAYERS = 3


def _bert() -> Any:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def _distilbert() -> Any:
    config = DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=32,
        n_layers=LAYERS,
        n_heads=4,
        hidden_dim=48,
        max_position_embeddings=64,
        num_labels=3,
    )
    return DistilBertForSequenceClassification(config)


STOCK = {"bert": _bert, "distilbert": _distilbert}


def classifier(family: str, scale: float = 0.2, seed: int = 0) -> AdaptiveModel:
    """A random model whose weights are large enough for attention to be far from uniform."""
    torch.manual_seed(seed)
    model = STOCK[family]()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, scale)
            elif name.endswith("bias"):
                weight.normal_(0, 0.1)
    return AdaptiveModel(model.eval())


def examples(batch: int, seed: int = 0) -> list[list[int]]:
    """Token ids of `batch` examples of mixed lengths, from 2 tokens up."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 40, (batch,), generator=generator).tolist()
    return [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def padded(ids: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask as a tokenizer gives them."""
    longest = max(map(len, ids))
    rows = [example + [0] * (longest - len(example)) for example in ids]
    mask = [[1] * len(example) + [0] * (longest - len(example)) for example in ids]
    return torch.tensor(rows), torch.tensor(mask)


def tokens(ids: list[list[int]]) -> Tokens:
    return Tokens.of_examples(ids)
