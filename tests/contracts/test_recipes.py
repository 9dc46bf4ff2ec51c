"""Every recipe under its contract, for every kind of output it can train: a new entry is tested by existing."""

from __future__ import annotations

from searchkit.testing import RecipeContract
from tests.contracts import suites
from tests.training.recipes import PAIRINGS, RECIPES, SMALL

globals().update(
    suites(
        RecipeContract,
        {
            f"{name} {head}": {
                "recipe": SMALL[name](),
                "head": head,
                "interrupted": head == next(iter(RECIPES[name].heads)),
            }
            for name, head in PAIRINGS
        },
    )
)
