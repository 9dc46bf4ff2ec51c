"""Tiny random models and examples for contract suites."""

from __future__ import annotations

from typing import Any, Final

import torch

from searchkit.reduction.heads import HEADS, Head, set_head
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.ragged import Tokens

VOCABULARY: Final = 50
LAYERS: Final = 3


def random_model(config: Any, head: Head | None = None, scale: float = 0.2) -> AdaptiveModel:
    """A stock model of a transformers config with weights so large that attention is far from uniform."""
    import transformers

    torch.manual_seed(0)
    head = head or HEADS["classification"]
    set_head(config, head)
    stock = getattr(transformers, head.auto_class).from_config(config)
    with torch.no_grad():
        for name, weight in stock.named_parameters():
            if weight.dim() > 1 or name.endswith("bias"):
                weight.normal_(0, scale if weight.dim() > 1 else scale / 2)
    return AdaptiveModel(stock.eval())


def bert(labels: int = 3, head: Head | None = None) -> AdaptiveModel:
    """A random BERT of `LAYERS` layers."""
    from transformers import BertConfig

    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        num_labels=labels,
    )
    return random_model(config, head)


def examples(batch: int, seed: int = 0, first: int = 5) -> list[list[int]]:
    """Token ids of `batch` examples of 2 to 40 tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 40, (batch,), generator=generator).tolist()
    return [torch.randint(first, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def tokens(ids: list[list[int]]) -> Tokens:
    return Tokens.of_examples(ids)
