"""Fields that recipes share: the recipe they start from, and the schedule of their main stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from searchkit.reduction.scorers import Scale
from searchkit.training.finetune import FineTune
from searchkit.training.input_reducer import InputReducer


@dataclass(frozen=True)
class Schedule:
    """Fields of a recipe, without behaviour: a recipe adds its own, and overrides defaults.

    epochs: of the main stage, at least 1; start: the recipe that is run before, None to begin with the model as it is;
    input: the reducer before the first attention, trained after `start`; learning_rate: the highest one; warmup: share
    of the steps in which it rises, before it falls linearly; weight_decay: of matrices
    """

    scale: ClassVar[Scale | None] = None  # of its thresholds; None where no score is trained that one could turn

    epochs: int = 3
    start: FineTune | None = field(default_factory=FineTune)
    input: InputReducer | None = None
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Taught(Schedule):
    """Schedule whose main stages may imitate the model that they begin with.

    distil: share in [0, 1] of the task's loss that is the divergence from that model's outputs on whole texts; 0 learns
    from labels alone, as published
    """

    distil: float = 0.0
