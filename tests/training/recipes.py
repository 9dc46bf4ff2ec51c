"""Every recipe at smoke size, and data of both kinds for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from searchkit import training
from searchkit.reduction.model import AdaptiveModel
from searchkit.testing.recipes import SCRATCH, TASK, context_in, data_for, untrained, weights
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

__all__ = [
    "PAIRINGS",
    "RECIPES",
    "SCRATCH",
    "SMALL",
    "TASK",
    "context_in",
    "data_for",
    "trained",
    "untrained",
    "weights",
]

RECIPES = {file: getattr(training, name) for name, file in training.RECIPES.items()}

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


def trained(recipe: str, head: str, folder: Path, seed: int = 0, progress: Any = lambda *_: None) -> AdaptiveModel:
    model = untrained(head)
    SMALL[recipe]().train(model, data_for(head), context_in(folder, seed, progress))
    return model
