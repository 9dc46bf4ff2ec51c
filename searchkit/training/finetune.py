"""Plain fine-tuning: the task's loss on whole inputs; every other recipe starts from its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, TopK
from searchkit.training.input_reducer import InputReducer
from searchkit.training.loop import fit
from searchkit.training.stage import TrainingContext, check_scheduled, stage_of, task_loss

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class FineTune:
    """Train with the task's loss for `epochs` epochs: AdamW, linear warm-up over `warmup` of the steps, linear decay.

    epochs=0 trains nothing: a model that is fine-tuned already is searched as it is; lengths need no trained part.

    >>> FineTune(epochs=0).scale is None  # lengths alone can be searched
    True
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06
    weight_decay: float = 0.01
    input: InputReducer | None = None

    heads = HEADS
    scale = None  # nothing was trained under thresholds; lengths need no training

    def __post_init__(self) -> None:
        check_scheduled(self, least_epochs=0)

    @property
    def trains_head(self) -> bool:
        """Return whether a checkpoint may come without a head."""
        return self.epochs > 0

    @property
    def start(self) -> None:
        return None

    @property
    def reducer_template(self) -> Reducer:
        return Reducer(TopK(ratio=1.0))

    def train(self, model: AdaptiveModel, data: Encoded, context: TrainingContext) -> None:
        if self.epochs:
            fit(model, data, stage_of("finetune", self), task_loss(), context)
        if self.input is not None:
            self.input.train(model, data, context)
