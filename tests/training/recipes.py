"""Every recipe at smoke size, and data of both kinds for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from searchkit import training
from searchkit.reduction.device import dtype_of
from searchkit.reduction.model import AdaptiveModel
from searchkit.tasks import Encoded, Generated, word_tokenizer
from searchkit.training import (
    LTP,
    AdapLeR,
    BlockSkim,
    FineTune,
    InputReducer,
    LengthDrop,
    PowerBert,
    Transkimmer,
)
from searchkit.training.stage import Where
from searchkit.training.supernet import Scratch, Supernet

RECIPES = {file: getattr(training, name) for name, file in training.RECIPES.items()}

TASK = Generated(train=160, search=40, report=40)
SCRATCH = Scratch(layers=2, width=16, heads=2, feed_forward=16)
START = FineTune(epochs=1, learning_rate=1e-3, batch_size=16)

SMALL: dict[str, Callable[[], Any]] = {
    "finetune": lambda: FineTune(epochs=2, learning_rate=1e-3, batch_size=16, input=InputReducer(batch_size=16)),
    "length_drop": lambda: LengthDrop(
        epochs=2, learning_rate=1e-3, batch_size=16, start=START, layer_drop=0.2, thresholds=1.5, input=InputReducer()
    ),
    "power_bert": lambda: PowerBert(
        epochs=2, retrain_epochs=1, learning_rate=1e-3, batch_size=16, start=START, soft_rate=2e-2, penalty=1e-2
    ),
    "ltp": lambda: LTP(epochs=2, hard_epochs=1, learning_rate=1e-3, batch_size=16, start=START, threshold_rate=1e-2),
    "adapler": lambda: AdapLeR(epochs=3, learning_rate=1e-3, batch_size=16, start=START, threshold_rate=1e-2),
    "transkimmer": lambda: Transkimmer(
        epochs=2, learning_rate=1e-3, batch_size=16, start=START, width=8, bias=1.0, gate_rate=1e-2, target=0.5
    ),
    "block_skim": lambda: BlockSkim(epochs=2, learning_rate=1e-3, batch_size=16, start=START),
}
assert set(SMALL) == set(RECIPES), "every recipe has a smoke size"

# every pairing of a recipe with a kind of output that it can train
PAIRINGS = [(name, head) for name in sorted(RECIPES) for head in RECIPES[name].heads]


def data_for(head: str, count: int = 160) -> Encoded:
    """Generated documents with classes or numbers, or random texts in which an answer is marked by its neighbours."""
    if head == "question_answering":
        return _questions(count)
    data = TASK.encode(TASK.tables(0).train, word_tokenizer(TASK.words())).take(np.arange(count))
    if head == "regression":
        return Encoded(data.ids, data.types, data.offsets, (data.labels * 2.0 - 1.0).astype(np.float32), data.marks)
    return data


def _questions(count: int) -> Encoded:
    """[CLS] question [SEP] text [SEP]; the answer is the word after token 7; some texts are longer than a block."""
    rng = np.random.default_rng(0)
    ids, types, labels, question, lengths = [], [], [], [], []
    for _ in range(count):
        words = rng.integers(10, 40, rng.integers(12, 60))
        answer = int(rng.integers(1, len(words)))
        words[answer - 1] = 7
        example = [2, 8, 9, 3, *words.tolist(), 3]
        ids += example
        types += [0] * 4 + [1] * (len(words) + 1)
        question += [False, True, True] + [False] * (len(words) + 2)
        labels.append((answer + 4, answer + 4))
        lengths.append(len(example))
    flat = np.array(ids, dtype=np.int32)
    marks = {"sep": flat == 3, "question": np.array(question)}
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return Encoded(flat, np.array(types, dtype=np.int32), offsets, np.array(labels, dtype=np.int64), marks)


def untrained(head: str = "classification", seed: int = 0, max_length: int = 80) -> AdaptiveModel:
    labels = ("score",) if head == "regression" else ("a", "b")
    supernet = Supernet(SCRATCH, FineTune())
    return supernet.build(word_tokenizer(TASK.words()), labels, max_length, seed, head)


def where(folder: Path, seed: int = 0, progress: Any = lambda *_: None) -> Where:
    device = torch.device("cpu")
    return Where(folder, device, seed, progress, dtype_of("auto", device))


def trained(recipe: str, head: str, folder: Path, seed: int = 0, progress: Any = lambda *_: None) -> AdaptiveModel:
    model = untrained(head)
    SMALL[recipe]().train(model, data_for(head), where(folder, seed, progress))
    return model


def weights(model: AdaptiveModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])
