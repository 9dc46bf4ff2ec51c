"""Recipes: how a model is trained so that many plans work on the same weights. One file each."""

from searchkit.training.adapler import AdapLeR
from searchkit.training.base import Recipe
from searchkit.training.block_skim import BlockSkim
from searchkit.training.finetune import FineTune
from searchkit.training.input_reducer import InputReducer
from searchkit.training.length_drop import LengthDrop
from searchkit.training.ltp import LTP
from searchkit.training.power_bert import PowerBert
from searchkit.training.transkimmer import Transkimmer

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

RECIPES = {
    "finetune": FineTune,
    "length_drop": LengthDrop,
    "power_bert": PowerBert,
    "ltp": LTP,
    "adapler": AdapLeR,
    "transkimmer": Transkimmer,
    "block_skim": BlockSkim,
}
