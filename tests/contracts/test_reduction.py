"""Scorers, predictors, heads and families of searchkit under their contracts: a new entry is tested by existing."""

from __future__ import annotations

from searchkit.reduction.families import FAMILIES
from searchkit.reduction.heads import HEADS
from searchkit.reduction.scorers import PREDICTORS, SCORERS
from searchkit.testing import FamilyContract, HeadContract, PredictorContract, ScorerContract
from tests.contracts import suites
from tests.reduction.models import STOCK

globals().update(
    **suites(ScorerContract, {f"scorer {name}": {"scorer": name} for name in SCORERS.own}),
    **suites(
        PredictorContract,
        {f"predictor {name}": {"predictor": made} for name, made in PREDICTORS.own.items() if name != "input"},
    ),
    **suites(
        HeadContract,
        {
            f"head {name}": {"head": head, "outputs": 1 if name == "regression" else 2}
            for name, head in HEADS.own.items()
        },
    ),
    **suites(
        FamilyContract,
        {
            f"family {name}": {"family": FAMILIES.own[config().model_type], "config": config()}
            for name, config in STOCK.items()
        },
    ),
)
