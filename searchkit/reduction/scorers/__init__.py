"""Scorers of tokens: `SCORERS` need no training, `PREDICTORS` are built for an encoder and trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeGuard

from torch import nn

from searchkit.errors import StudyError, unknown
from searchkit.reduction.plugins import Registry
from searchkit.reduction.scorers.base import Scale, Scorer, Seen
from searchkit.reduction.scorers.block import BlockScorer
from searchkit.reduction.scorers.predictors import Contribution, Gate
from searchkit.reduction.scorers.untrained import AttentionReceived, Position, Random, ValueNorm

__all__ = [
    "PREDICTORS",
    "SCORERS",
    "Predictors",
    "Scale",
    "Scorer",
    "Seen",
    "check_scorer",
    "cost_is_placed",
    "is_trained",
    "reads_nothing",
    "scale_of",
    "scorer_of",
    "settings_of",
]

_PARTS: Final = ("scale", "read", "needs_values", "score", "macs")  # parts of a scorer

SCORERS: Final[Registry[Scorer]] = Registry(
    "scorer",
    {
        "attention_received": AttentionReceived(),
        "attention_mean": AttentionReceived(mean=True),
        "attention_off_diagonal": AttentionReceived(diagonal=False),
        "value_norm": ValueNorm(),
        "position": Position(),
        "random": Random(),
    },
    group="searchkit.scorers",
    needs=_PARTS,
)

# One module per layer, made from (width, heads, **settings); "input" has a single one, before the first attention.
PREDICTORS: Final[Registry[type[Any]]] = Registry(
    "predictor",
    {"contribution": Contribution, "gate": Gate, "block": BlockScorer, "input": Contribution},
    group="searchkit.predictors",
    needs=(*_PARTS, "state_dict"),
)

# The trained scorer of a name at a layer; the input's has layer 0.
Predictors = Callable[[str, int], Scorer]


def check_scorer(scorer: str | Scorer) -> None:
    """ValueError for a name that is neither registry's, StudyError for an object that is no scorer."""
    if isinstance(scorer, str):
        if scorer not in SCORERS and scorer not in PREDICTORS:
            raise ValueError(unknown("scorer", scorer, (*SCORERS, *PREDICTORS)))
        return
    lacking = [part for part in _PARTS if not hasattr(scorer, part)]
    if isinstance(scorer, type) or lacking:
        raise StudyError(f"a scorer is a name or an object with {', '.join(_PARTS)}, got {scorer!r}")
    if isinstance(scorer, nn.Module):
        raise StudyError(
            f"a trained scorer is saved with its model, so it has a name: register('predictor', NAME, "
            f"{type(scorer).__name__}), then scorer=NAME"
        )
    try:
        hash(scorer)
    except TypeError:
        raise StudyError(f"a scorer must be hashable, such as a frozen dataclass, got {scorer!r}") from None


def scorer_of(scorer: str | Scorer, layer: int, predictors: Predictors | None) -> Scorer:
    """The scorer of this name, or this one, at a layer; ValueError for a trained one that the model lacks."""
    if not isinstance(scorer, str):
        return scorer
    if scorer in SCORERS:
        return SCORERS[scorer]
    if predictors is None:
        raise ValueError(f"the plan scores by {scorer!r}, but the model has no trained scorers")
    return predictors(scorer, layer)


def is_trained(scorer: str | Scorer) -> TypeGuard[str]:
    """Return whether it is the name of a predictor."""
    return isinstance(scorer, str) and scorer not in SCORERS and scorer in PREDICTORS


def scale_of(scorer: str | Scorer) -> Scale | None:
    """Meaning of a threshold on its scores; None: they only rank."""
    scale: Scale | None = settings_of(scorer).scale
    return scale


def reads_nothing(scorer: str | Scorer) -> bool:
    """Return whether it needs neither the attention map, nor values, nor training."""
    return not is_trained(scorer) and settings_of(scorer).read is None and not settings_of(scorer).needs_values


def cost_is_placed(scorer: str | Scorer) -> bool:
    """Return whether its cost depends on which tokens are there, not on their number alone: its attribute `placed`."""
    return bool(getattr(settings_of(scorer), "placed", False))


def settings_of(scorer: str | Scorer) -> Any:
    """The scorer, or the class of a trained one, which have the same settings."""
    if not isinstance(scorer, str):
        return scorer
    return SCORERS[scorer] if scorer in SCORERS else PREDICTORS[scorer]
