"""Scorers of tokens: `SCORERS` need no training, `PREDICTORS` are built for an encoder and trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from searchkit.reduction.scorers.base import Scale, Scorer, Seen
from searchkit.reduction.scorers.block import BlockScorer
from searchkit.reduction.scorers.predictors import Contribution, Gate
from searchkit.reduction.scorers.untrained import AttentionReceived, Position, Random, ValueNorm

__all__ = ["PLACED", "PREDICTORS", "SCORERS", "Predictors", "Scale", "Scorer", "Seen", "scale_of", "scorer_of"]

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


# The trained scorer of a name at a layer; the input's has layer 0.
Predictors = Callable[[str, int], Scorer]


def scorer_of(name: str, layer: int, predictors: Predictors | None) -> Scorer:
    """Scorer of this name at a layer; ValueError for a trained one that the model lacks."""
    if name in SCORERS:
        return SCORERS[name]
    if predictors is None:
        raise ValueError(f"the plan scores by {name!r}, but the model has no trained scorers")
    return predictors(name, layer)


def scale_of(name: str) -> Scale | None:
    """Scale of a threshold on the scores of this name; None: the scores only rank."""
    return SCORERS[name].scale if name in SCORERS else PREDICTORS[name].scale
