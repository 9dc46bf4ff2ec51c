"""What a token is worth at a layer. `SCORERS` need no training; `PREDICTORS` are built for an encoder and trained."""

from __future__ import annotations

from typing import Final

from searchkit.reduction.scorers.base import Scale, Scorer, Seen
from searchkit.reduction.scorers.block import BlockScorer
from searchkit.reduction.scorers.predictors import Contribution, Gate
from searchkit.reduction.scorers.untrained import AttentionReceived, Position, Random, ValueNorm

__all__ = ["PLACED", "PREDICTORS", "SCORERS", "Scale", "Scorer", "Seen", "scale_of"]

SCORERS: Final[dict[str, Scorer]] = {
    "attention_received": AttentionReceived(),
    "attention_mean": AttentionReceived(mean=True),
    "attention_off_diagonal": AttentionReceived(diagonal=False),
    "value_norm": ValueNorm(),
    "position": Position(),
    "random": Random(),
}

# One module per layer; "input" has a single one, before the first attention.
PREDICTORS: Final[dict[str, type[Contribution | Gate | BlockScorer]]] = {
    "contribution": Contribution,
    "gate": Gate,
    "block": BlockScorer,
    "input": Contribution,
}

# What these cost depends on which tokens are there, not on their number alone.
PLACED: Final = ("block",)


def scale_of(name: str) -> Scale | None:
    """What a threshold on the scores of this name means; None: they only rank."""
    return SCORERS[name].scale if name in SCORERS else PREDICTORS[name].scale
