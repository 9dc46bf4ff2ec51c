"""Recipes: how a model is trained so that many plans work on the same weights; and the loop that all of them share."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from searchkit._checks import check_fields
from searchkit._progress import Progress
from searchkit.errors import DataError, StoreError, StudyError
from searchkit.reduction.device import native_bf16
from searchkit.reduction.model import AdaptiveModel, quiet_transformers
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.training.packing import as_tokens

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

log = logging.getLogger(__name__)

CHECKPOINTS_PER_STAGE = 10
WIDEST = 100_000  # hidden units of a predictor
STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth")  # of a training, in a checkpoint
PARTS = {*STATE, "model.safetensors", "trainer_state.json", "training_args.bin"}
STRETCH = 16  # batches that are sorted by length together


@dataclass(frozen=True)
class Where:
    """Where and under which conditions a training runs."""

    folder: Path
    device: torch.device
    seed: int
    progress: Progress


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed tokens of B examples, their labels as the head wants them, and their numbers (B,) in the data."""

    tokens: Tokens
    labels: Tensor
    rows: Tensor

    @property
    def layout(self) -> Layout:
        return self.tokens.layout


@dataclass(frozen=True)
class Stage:
    """One stretch of training with one optimiser and one schedule (AdamW, linear warm-up and decay).

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
    """The fields that every recipe's main stage is made from."""

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
    """A stage with the recipe's schedule, for `epochs` epochs if they are not its own."""
    count = recipe.epochs if epochs is None else epochs
    return Stage(name, count, recipe.batch_size, recipe.learning_rate, recipe.warmup, recipe.weight_decay, rates or {})


# Yields the losses of one optimiser step; each is back-propagated and freed before the next one is computed.
Losses = Callable[[AdaptiveModel, Batch, int], Iterable[Tensor]]


def task_loss(plan: ReductionPlan | None = None) -> Losses:
    """The loss of the task under a plan, by default on whole inputs."""

    def losses(model: AdaptiveModel, batch: Batch, step: int) -> Iterator[Tensor]:
        logits = model(batch.tokens, plan or ReductionPlan.unreduced(model.shape.layers)).logits
        yield model.head.loss(logits, batch.labels, batch.layout)

    return losses


def batch_of(data: Encoded, rows: Tensor, device: torch.device) -> Batch:
    """These examples on the device."""
    part = data.take(rows.numpy())
    return Batch(as_tokens(part).to(device), torch.as_tensor(part.labels).to(device), rows)


def fit(
    model: AdaptiveModel,
    data: Encoded,
    stage: Stage,
    losses: Losses,
    where: Where,
    finish: Callable[[AdaptiveModel], None] = lambda model: None,
) -> None:
    """Run one stage on `transformers.Trainer`; a stage that was interrupted goes on from its newest whole checkpoint.

    Predictors and other trained parts are attached before; `finish` runs on the trained model before it is saved.

    The result is a function of (data, stage, seed): batches depend on the epoch, dropout and random plans on the step,
    so a training that was killed and continued ends with the same weights as an undisturbed one.
    """
    folder = where.folder / stage.name
    finished = folder / "finished"
    if finished.is_dir():
        model.restore(finished)
        return
    folder.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(model, data, stage, losses, where, folder)
    newest = _newest_checkpoint(folder)
    with quiet_transformers():
        try:
            trainer.train(resume_from_checkpoint=newest)
        except pickle.UnpicklingError as error:  # torch reads tensors and plain values alone
            raise StoreError(f"{newest} holds what is no state of a training; remove it: {error}") from error
    if any(not torch.isfinite(weight).all() for weight in model.parameters()):
        raise DataError(
            f"training stage {stage.name!r} ended with weights that are not finite; lower its learning rate "
            f"(now {stage.learning_rate})"
        )
    finish(model)
    partial = folder / "finished.partial"
    model.save(partial)
    partial.rename(finished)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def _newest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole: its state file, written last, parses, and every part is what was written."""
    steps = {path: path.name.rsplit("-", 1)[1] for path in folder.glob("checkpoint-*")}
    by_step = sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda path: int(steps[path]))
    for checkpoint in reversed(by_step):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
            with safe_open(checkpoint / "model.safetensors", framework="pt"):
                pass
            if odd := {path.name for path in checkpoint.iterdir()} - PARTS:
                raise ValueError(f"{min(odd)} is no part of it")
            for part in STATE:
                if (torn := zipfile.ZipFile(checkpoint / part).testzip()) is not None:
                    raise ValueError(f"{part} is damaged at {torn}")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
            log.warning("%s is not whole and is removed; training goes on from the one before: %s", checkpoint, error)
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None


class EpochBatches:
    """Shuffled batches of example numbers, of similar length within a batch; a function of (seed, epoch) alone.

    Examples are shuffled, sorted by length within stretches of `STRETCH` batches, and the batches shuffled again:
    attention works on padded buckets inside, and the square of the longest example is what a mixed batch would pay for.
    """

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: Callable[[int], int]) -> None:
        self._lengths, self._batch_size, self._seed, self._epoch = lengths, batch_size, seed, epoch

    def __len__(self) -> int:
        return -(-len(self._lengths) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self._seed, self._epoch(len(self))))
        order = rng.permutation(len(self._lengths))
        stretch = STRETCH * self._batch_size
        for start in range(0, len(order), stretch):
            part = order[start : start + stretch]
            order[start : start + stretch] = part[np.argsort(self._lengths[part], kind="stable")]
        for number in rng.permutation(len(self)):
            yield order[number * self._batch_size : (number + 1) * self._batch_size].tolist()


def _trainer(trained: AdaptiveModel, data: Encoded, stage: Stage, losses: Losses, where: Where, folder: Path) -> Any:
    """A Trainer that takes `losses` as its step. The import is slow, so it happens only when something is trained."""
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer, TrainerCallback

    class Step(Trainer):
        def get_train_dataloader(self) -> Any:
            batches = EpochBatches(
                data.lengths, stage.batch_size, where.seed, epoch=lambda steps: self.state.global_step // steps
            )
            examples: Any = range(len(data))
            return DataLoader(examples, batch_sampler=batches, collate_fn=lambda rows: {"rows": torch.tensor(rows)})

        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = torch.optim.AdamW(_groups(trained, stage), lr=stage.learning_rate, fused=True)
            return self.optimizer

        def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
            trained.train()
            step = self.state.global_step
            torch.manual_seed(int(np.random.SeedSequence((where.seed, step)).generate_state(1)[0]))
            batch = batch_of(data, inputs["rows"], where.device)
            total = torch.zeros((), device=where.device)
            pending = iter(losses(trained, batch, step))
            while True:
                # Trainer's own autocast wraps the stock model's forward, which the packed passes do not go through
                with torch.autocast(where.device.type, torch.bfloat16, enabled=native_bf16(where.device)):
                    loss = next(pending, None)
                if loss is None:
                    return total
                self.accelerator.backward(loss)
                total += loss.detach()

    class Tell(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            where.progress(f"train {stage.name}", state.global_step, state.max_steps)

    trainer = Step(model=trained, args=_arguments(stage, where, folder), callbacks=[Tell()])
    trainer.remove_callback(PrinterCallback)
    return trainer


def _groups(model: AdaptiveModel, stage: Stage) -> list[dict[str, Any]]:
    """Parameter groups: matrices decay, vectors do not, and those with their own learning rate."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            own = next((rate for start, rate in stage.rates.items() if name.startswith(start)), None)
            decay = stage.weight_decay if own is None and weight.dim() > 1 else 0.0
            groups.setdefault((own or stage.learning_rate, decay), []).append(weight)
    return [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]


def _arguments(stage: Stage, where: Where, folder: Path) -> Any:
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        lr_scheduler_type="linear",
        use_cpu=where.device.type == "cpu",
        seed=where.seed,
        save_strategy="steps",
        save_steps=1 / CHECKPOINTS_PER_STAGE,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    if where.device.type == "cuda":
        torch.cuda.set_device(where.device)
        arguments._n_gpu = 1  # one device by choice: DataParallel would bypass the packed forward pass
    return arguments


def check_scheduled(recipe: Scheduled) -> None:
    check_fields(recipe)
    check_schedule(recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.warmup)


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
