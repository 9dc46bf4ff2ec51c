"""Recipes: how a model is trained so that many plans work on the same weights. The names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from searchkit._internal.checks import lazy_names

if TYPE_CHECKING:
    from searchkit.training.adapler import AdapLeR
    from searchkit.training.block_skim import BlockSkim
    from searchkit.training.finetune import FineTune
    from searchkit.training.input_reducer import InputReducer
    from searchkit.training.length_drop import LengthDrop
    from searchkit.training.ltp import LTP
    from searchkit.training.power_bert import PowerBert
    from searchkit.training.recipe import Recipe
    from searchkit.training.transkimmer import Transkimmer

RECIPES: Final[dict[str, str]] = {
    "AdapLeR": "adapler",
    "BlockSkim": "block_skim",
    "FineTune": "finetune",
    "LTP": "ltp",
    "LengthDrop": "length_drop",
    "PowerBert": "power_bert",
    "Transkimmer": "transkimmer",
}
_HOME: Final[dict[str, str]] = {**RECIPES, "InputReducer": "input_reducer", "Recipe": "recipe"}
__all__ = [
    "LTP",
    "RECIPES",
    "AdapLeR",
    "BlockSkim",
    "FineTune",
    "InputReducer",
    "LengthDrop",
    "PowerBert",
    "Recipe",
    "Transkimmer",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
