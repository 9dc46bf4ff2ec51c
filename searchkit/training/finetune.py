"""Plain fine-tuning: the task loss on whole inputs. Every other recipe starts from its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.heads import AdaptiveClassifier
from searchkit.reduction.plan import ReductionPlan
from searchkit.training.base import Batch, Stage, Where, fit

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True)
class FineTune:
    """Cross-entropy for `epochs` epochs with AdamW, linear warm-up over `warmup` of the steps, then linear decay."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        check_schedule(self.epochs, self.batch_size, self.learning_rate, self.warmup)

    def train(self, classifier: AdaptiveClassifier, data: Encoded, where: Where) -> None:
        stage = Stage("finetune", self.epochs, self.batch_size, self.learning_rate, self.warmup, self.weight_decay)
        fit(classifier, data, stage, _task_loss, where)

    def plan(self, candidate: Candidate, layers: int) -> ReductionPlan:
        """A fine-tuned model can be searched as it is: LAT's reducer needs no trained part."""
        return length_plan(candidate, layers)

    def describe(self) -> dict[str, Any]:
        return {"recipe": "FineTune", **asdict(self)}


def length_plan(candidate: Candidate, layers: int) -> ReductionPlan:
    """LAT's plan of a candidate that has `lengths`, one per layer."""
    lengths = candidate["lengths"]
    if not isinstance(lengths, tuple) or len(lengths) != layers:
        raise StudyError(f"the encoder has {layers} layers, the candidate's lengths are {lengths!r}")
    return ReductionPlan.of_lengths([float(item) if isinstance(item, float) else int(item or 0) for item in lengths])


def check_schedule(epochs: int, batch_size: int, learning_rate: float, warmup: float) -> None:
    """The rules that every recipe's schedule obeys."""
    if epochs < 1:
        raise StudyError(f"epochs must be at least 1, got {epochs=}")
    if batch_size < 1:
        raise StudyError(f"batch_size must be at least 1, got {batch_size=}")
    if not 0 < learning_rate < 1:
        raise StudyError(f"learning_rate must be in (0, 1), got {learning_rate=}")
    if not 0 <= warmup < 1:
        raise StudyError(f"warmup is a fraction of the steps in [0, 1), got {warmup=}")


def _task_loss(classifier: AdaptiveClassifier, batch: Batch, step: int) -> Iterator[Tensor]:
    plan = ReductionPlan.unreduced(classifier.shape.layers)
    yield F.cross_entropy(classifier(batch.tokens, plan).logits.float(), batch.labels)
