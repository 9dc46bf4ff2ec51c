"""Stages of training: conditions, batches, losses and the rules of a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from searchkit._internal.checks import check_fields
from searchkit._internal.progress import Progress
from searchkit.errors import StudyError
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.training.packing import as_tokens

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

WIDEST = 100_000  # hidden units of a predictor


@dataclass(frozen=True)
class TrainingContext:
    """Folder and conditions of a training.

    dtype: of the products in a step; float32 weights are kept in any case, and anything else is autocast
    """

    folder: Path
    device: torch.device
    seed: int
    progress: Progress
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed tokens of B examples, their labels in the head's format, and their numbers (B,) in the data."""

    tokens: Tokens
    labels: Tensor
    rows: Tensor

    @property
    def layout(self) -> Layout:
        return self.tokens.layout


@dataclass(frozen=True)
class Stage:
    """Stage of training with one optimiser and one schedule: AdamW, linear warm-up and decay.

    rates: name -> learning rate for parameters whose name starts so; they have no weight decay
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float  # fraction of all steps
    weight_decay: float
    rates: Mapping[str, float] = field(default_factory=dict)


class Scheduled(Protocol):
    """Protocol of a recipe's fields that define its main stage."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def stage_of(
    name: str, recipe: Scheduled, epochs: int | None = None, rates: Mapping[str, float] | None = None
) -> Stage:
    """Make a stage with the recipe's schedule, for `epochs` epochs instead of its own if given."""
    count = recipe.epochs if epochs is None else epochs
    return Stage(name, count, recipe.batch_size, recipe.learning_rate, recipe.warmup, recipe.weight_decay, rates or {})


# Yields the losses of one optimiser step; each is back-propagated and freed before the next one is computed.
Losses = Callable[[AdaptiveModel, Batch, int], Iterable[Tensor]]


TaskLoss = Callable[[AdaptiveModel, Tensor, Batch], Tensor]  # of logits for a batch, mean over its examples


def labelled(model: AdaptiveModel, logits: Tensor, batch: Batch) -> Tensor:
    """Loss of the task by the labels alone."""
    return model.head.loss(logits, batch.labels, batch.layout)


def task_loss(plan: ReductionPlan | None = None, task: TaskLoss = labelled) -> Losses:
    """Loss of the task under a plan, by default on whole inputs."""

    def losses(model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
        logits = model(batch.tokens, plan or ReductionPlan.unreduced(model.shape.layers)).logits
        yield task(model, logits, batch)

    return losses


def batch_of(data: Encoded, rows: Tensor, device: torch.device) -> Batch:
    """Batch of the examples of these numbers (B,), packed, on the device."""
    part = data.take(rows.numpy())
    return Batch(as_tokens(part).to(device), torch.as_tensor(part.labels).to(device), rows)


def check_scheduled(recipe: Scheduled, least_epochs: int = 1) -> None:
    """Raise StudyError for the first field that is not of its type or breaks a rule of schedules."""
    check_fields(recipe)
    if not 0 <= (distil := getattr(recipe, "distil", 0.0)) <= 1:
        raise StudyError(f"distil is a share of the loss in [0, 1], got {distil=}")
    check_schedule(recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.warmup, least_epochs)
    if not 0 <= recipe.weight_decay * recipe.learning_rate < 1:
        raise StudyError(
            f"weight_decay must not be negative, and times the learning rate {recipe.learning_rate} less than 1, or "
            f"weights change their sign, got weight_decay={recipe.weight_decay}"
        )


def check_schedule(epochs: int, batch_size: int, learning_rate: float, warmup: float, least_epochs: int = 1) -> None:
    """Check the rules of every recipe's schedule."""
    if epochs < least_epochs:
        raise StudyError(f"epochs must be at least {least_epochs}, got {epochs=}")
    if batch_size < 1:
        raise StudyError(f"batch_size must be at least 1, got {batch_size=}")
    if not 0 < learning_rate < 1:
        raise StudyError(f"learning_rate must be in (0, 1), got {learning_rate=}")
    if not 0 <= warmup < 1:
        raise StudyError(f"warmup is a fraction of the steps in [0, 1), got {warmup=}")
