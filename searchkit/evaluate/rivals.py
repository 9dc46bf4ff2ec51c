"""Rivals on a bench: other models that are measured beside the supernet, on the same examples and in the same turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.split import Split

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True, eq=False)
class RivalParts:
    """A rival as plain arrays: what differs from the supernet that it is measured beside.

    config: the transformers config as a dict; weights: name -> float32 array, at least those of the model; data: the
    split as its own tokenizer encodes it
    """

    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[np.float32]]
    data: Encoded


@dataclass(frozen=True, eq=False)
class Rival:
    """Model of a rival, always run unreduced, with the split as its tokenizer encodes it."""

    runner: PlanRunner
    split: Split

    def smaller(self, token_budget: int) -> Rival:
        """The rival with batches of so many tokens."""
        return replace(self, split=replace(self.split, token_budget=token_budget))
