"""Plain fine-tuning: the task's loss on whole inputs. Every other recipe starts from its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from searchkit.records import Candidate
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.training.base import Where, check_scheduled, fit, stage_of, task_loss
from searchkit.training.input import InputReducer
from searchkit.training.plans import plan_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class FineTune:
    """The task's loss for `epochs` epochs with AdamW, linear warm-up over `warmup` of the steps, then linear decay.

    input: a reducer before the first attention, trained afterwards; every recipe that starts here has it too.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06
    weight_decay: float = 0.01
    input: InputReducer | None = None

    heads = tuple(HEADS)
    scale = None  # nothing was trained under thresholds; lengths need no training

    def __post_init__(self) -> None:
        check_scheduled(self)

    def places(self, layers: int) -> int:
        return layers + (self.input is not None)

    @property
    def input_like(self) -> Reducer | None:
        """The input's reducer, its length and threshold aside."""
        return None if self.input is None else self.input.like

    def train(self, model: AdaptiveModel, data: Encoded, where: Where) -> None:
        fit(model, data, stage_of("finetune", self), task_loss(), where)
        if self.input is not None:
            self.input.train(model, data, where)

    def plan(self, candidate: Candidate, layers: int) -> ReductionPlan:
        """A fine-tuned model can be searched as it is: LAT's reducer needs no trained part."""
        return plan_of(candidate, layers, Reducer(TopK(ratio=1.0)), self)

    def describe(self) -> dict[str, Any]:
        return {"recipe": "FineTune", **asdict(self)}
