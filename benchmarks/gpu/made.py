"""Models and data for checks: random weights of the real shapes, generated texts; no tokenizer and no download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch

from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.tasks import Generated
from searchkit.tasks.base import Encoded
from searchkit.testing.models import random_model

FIRST: Final = 5  # ids below are special
CLS, SEP = 2, 3


@dataclass(frozen=True)
class Size:
    """Sizes of the encoders, and (fewest, most, number) tokens of the texts that checks of passes take."""

    layers: int
    width: int
    heads: int
    feed_forward: int
    words: int
    texts: tuple[int, ...]
    examples: int  # of the generated data


SMOKE: Final = Size(2, 32, 2, 48, 300, (2, 9, 33, 5, 20), 48)
FULL: Final = Size(4, 256, 4, 1024, 2000, (2, 3, 17, 33, 64, 65, 100, 130, 200, 384), 2000)


@dataclass(frozen=True)
class Setting:
    """Where checks run and how large they are."""

    device: torch.device
    size: Size
    smoke: bool

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def families(size: Size) -> dict[str, Callable[..., Any]]:
    """Configs of the five families at these sizes, by name."""
    from transformers import BertConfig, DistilBertConfig, ElectraConfig, ModernBertConfig, RobertaConfig

    longest = max(*size.texts, 64)
    common: dict[str, Any] = {
        "vocab_size": size.words,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.feed_forward,
        "max_position_embeddings": longest,
    }
    special = {"pad_token_id": 0, "bos_token_id": CLS, "cls_token_id": CLS, "eos_token_id": SEP, "sep_token_id": SEP}
    return {
        "bert": lambda **more: BertConfig(**common, **more),
        "distilbert": lambda **more: DistilBertConfig(
            vocab_size=size.words,
            dim=size.width,
            n_layers=size.layers,
            n_heads=size.heads,
            hidden_dim=size.feed_forward,
            max_position_embeddings=longest,
            **more,
        ),
        "roberta": lambda **more: RobertaConfig(
            **{**common, "max_position_embeddings": longest + 2}, pad_token_id=1, type_vocab_size=1, **more
        ),
        "electra": lambda **more: ElectraConfig(**common, embedding_size=size.width // 2, **more),
        "modernbert": lambda **more: ModernBertConfig(
            **common, **special, local_attention=16, global_attn_every_n_layers=2, **more
        ),
    }


def model(family: str, head: str, size: Size, predictors: tuple[str, ...] = (), **settings: Any) -> AdaptiveModel:
    """A random model in float32 on the CPU, always the same one; attention is neither uniform nor on one token."""
    config = families(size)[family](num_labels=2, **settings)
    made = random_model(config, HEADS[head], scale=1.1 / size.width**0.5)
    torch.manual_seed(1)
    for name in predictors:
        made.attach(name, **({"bias": 0.0} if name == "gate" else {}))
    with torch.no_grad():
        for weight in made.predictors.parameters():
            if weight.dim() > 1:
                weight.normal_(0, weight[0].numel() ** -0.5)
    return made.eval()


def placed(made: AdaptiveModel, device: torch.device, dtype: torch.dtype) -> AdaptiveModel:
    """The model on the device, ready for inference."""
    return made.to(device, dtype).frozen()


@lru_cache(maxsize=4)
def texts(size: Size) -> Tokens:
    """Random texts of all sorts of lengths, the second half of each in another segment, and the first a question."""
    rng = np.random.default_rng(0)
    ids = [[CLS, *rng.integers(FIRST, size.words, length - 1).tolist()] for length in size.texts]
    types = [[int(2 * place >= len(text)) for place in range(len(text))] for text in ids]
    made = Tokens.of_examples(ids, types)
    whole = made.layout
    ends = whole.positions == whole.lengths[whole.examples] - 1
    marks = {"sep": ends, "question": (made.types == 0) & ~ends}
    return Tokens(made.ids, made.types, Layout(whole.offsets, whole.positions, marks))


@lru_cache(maxsize=8)
def documents(count: int, length: tuple[int, int] = (14, 26)) -> Encoded:
    """Generated documents with labels that a model can learn, a token per word."""
    task = Generated(train=count, search=2, report=2, length=length)
    number = {word: FIRST + place for place, word in enumerate(task.words())}
    table = task.tables(0).train
    ids = [np.array([CLS, *(number[word] for word in text.split()), SEP], np.int32) for text in table["text"]]
    flat = np.concatenate(ids)
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    labels = table["label"].to_numpy(np.int64)
    return Encoded(flat, np.zeros_like(flat), offsets, labels, {"sep": flat == SEP})


def words_of(length: tuple[int, int] = (14, 26)) -> int:
    """Size of the vocabulary of `documents`."""
    return FIRST + len(Generated(train=2, search=2, report=2, length=length).words())
