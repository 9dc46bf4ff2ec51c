"""Recipes: how a model is trained so that many plans work on the same weights. One file each."""

from searchkit.training.finetune import FineTune
from searchkit.training.length_drop import LengthDrop

__all__ = ["RECIPES", "FineTune", "LengthDrop"]

RECIPES = {"finetune": FineTune, "length_drop": LengthDrop}
