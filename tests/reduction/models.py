"""Small random stock models and batches for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.ragged import Tokens

VOCABULARY = 50
LAYERS = 3
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
# Padding is a token that no example has, because the stock model gives that no position of its own.
ROBERTA: dict[str, Any] = SIZES | {
    "vocab_size": VOCABULARY + 1,
    "pad_token_id": VOCABULARY,
    "max_position_embeddings": 64 + VOCABULARY + 1,
    "type_vocab_size": 1,
}
# Full, local, full attention; a window of 4 positions to either side is shorter than most examples.
MODERN: dict[str, Any] = SIZES | {
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "cls_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 2,
}
BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}

STOCK: dict[str, Callable[..., Any]] = {
    "bert": partial(BertConfig, **SIZES),
    "distilbert": partial(
        DistilBertConfig,
        vocab_size=VOCABULARY,
        dim=32,
        n_layers=LAYERS,
        n_heads=4,
        hidden_dim=48,
        max_position_embeddings=64,
    ),
    "roberta": partial(RobertaConfig, **ROBERTA),
    "electra": partial(ElectraConfig, **SIZES, embedding_size=16),
    "electra_wide": partial(ElectraConfig, **SIZES, embedding_size=32),
    "modernbert": partial(ModernBertConfig, **MODERN),
    "modernbert_mean": partial(ModernBertConfig, **MODERN, **BIASES, classifier_pooling="mean"),
}
READERS = [family for family in STOCK if family != "modernbert_mean"]  # a reader reads every token in any case


def classifier(family: str, scale: float = 0.2, seed: int = 0, **settings: Any) -> AdaptiveModel:
    """A random model of three classes whose weights are large enough for attention to be far from uniform."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(STOCK[family](num_labels=3, **settings))
    return _randomised(model, scale)


def reader(family: str, scale: float = 0.2, seed: int = 0, **settings: Any) -> AdaptiveModel:
    """The same, with a question answering head."""
    torch.manual_seed(seed)
    return _randomised(AutoModelForQuestionAnswering.from_config(STOCK[family](**settings)), scale)


def _randomised(model: Any, scale: float) -> AdaptiveModel:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, scale)
            elif name.endswith("bias"):
                weight.normal_(0, 0.1)
            elif model.config.model_type == "modernbert":  # whose LayerNorms have no bias to tell them apart
                weight.normal_(1, 0.2)
    return AdaptiveModel(model.eval())


MODELS: dict[str, Callable[[], AdaptiveModel]] = {family: partial(classifier, family) for family in STOCK} | {
    f"{family} reader": partial(reader, family) for family in READERS
}


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
