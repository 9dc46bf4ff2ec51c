"""Recipes: how a model is trained so that many plans work on the same weights; and the loop that all of them share."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.errors import DataError
from searchkit.progress import Progress
from searchkit.records import Candidate
from searchkit.reduction.device import native_bf16
from searchkit.reduction.heads import AdaptiveClassifier, quiet_transformers
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

log = logging.getLogger(__name__)

CHECKPOINTS_PER_STAGE = 10
STRETCH = 16  # batches that are sorted by length together


class Recipe(Protocol):
    """A way to train a supernet, and what a candidate means for a model trained that way."""

    def train(self, classifier: AdaptiveClassifier, data: Encoded, where: Where) -> None:
        """Train `classifier` in place; continue from whatever `where.folder` holds of an interrupted training."""
        ...

    def plan(self, candidate: Candidate, layers: int) -> ReductionPlan: ...

    def describe(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Where:
    """Where and under which conditions a training runs."""

    folder: Path
    device: torch.device
    seed: int
    progress: Progress


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed tokens of B examples and their labels (B,)."""

    tokens: Tokens
    labels: Tensor


@dataclass(frozen=True)
class Stage:
    """One stretch of training with one optimiser and one schedule (AdamW, linear warm-up and decay)."""

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float  # fraction of all steps
    weight_decay: float


# Yields the losses of one optimiser step; each is back-propagated and freed before the next one is computed.
Losses = Callable[[AdaptiveClassifier, Batch, int], Iterable[Tensor]]


def as_tokens(ids: NDArray[np.int32], types: NDArray[np.int32], lengths: NDArray[np.int64]) -> Tokens:
    """Packed numpy arrays (T,), (T,), (B,) as the encoder's input on the CPU."""
    return Tokens(
        torch.as_tensor(ids).long(), torch.as_tensor(types).long(), Layout.of_lengths(torch.as_tensor(lengths))
    )


def fit(classifier: AdaptiveClassifier, data: Encoded, stage: Stage, losses: Losses, where: Where) -> None:
    """Run one stage on `transformers.Trainer`; a stage that was interrupted goes on from its newest whole checkpoint.

    The result is a function of (data, stage, seed): batches depend on the epoch, dropout and random plans on the step,
    so a training that was killed and continued ends with the same weights as an undisturbed one.
    """
    folder = where.folder / stage.name
    finished = folder / "finished"
    if finished.is_dir():
        _load_weights(classifier, finished)
        return
    folder.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(classifier, data, stage, losses, where, folder)
    with quiet_transformers():
        trainer.train(resume_from_checkpoint=_newest_checkpoint(folder))
    if any(not torch.isfinite(weight).all() for weight in classifier.model.parameters()):
        raise DataError(
            f"training stage {stage.name!r} ended with weights that are not finite; lower its learning rate "
            f"(now {stage.learning_rate})"
        )
    partial = folder / "finished.partial"
    classifier.save(partial)
    partial.rename(finished)
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def _newest_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written whole: its state file, written last, parses."""
    by_step = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    for checkpoint in by_step:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
        except (OSError, ValueError):
            log.warning("%s is incomplete and is removed; training goes on from the one before", checkpoint)
            shutil.rmtree(checkpoint)
        else:
            return str(checkpoint)
    return None


def _load_weights(classifier: AdaptiveClassifier, folder: Path) -> None:
    from safetensors.torch import load_file

    classifier.model.load_state_dict(load_file(folder / "model.safetensors"))


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


def _trainer(
    classifier: AdaptiveClassifier, data: Encoded, stage: Stage, losses: Losses, where: Where, folder: Path
) -> Any:
    """A Trainer that takes `losses` as its step. The import is slow, so it happens only when something is trained."""
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer, TrainerCallback

    class Step(Trainer):
        def get_train_dataloader(self) -> Any:
            batches = EpochBatches(
                data.lengths, stage.batch_size, where.seed, epoch=lambda steps: self.state.global_step // steps
            )
            return DataLoader(range(len(data)), batch_sampler=batches, collate_fn=_collate)  # type: ignore[arg-type]

        def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
            classifier.train()
            step = self.state.global_step
            torch.manual_seed(int(np.random.SeedSequence((where.seed, step)).generate_state(1)[0]))
            batch = _batch(inputs, where.device)
            total = torch.zeros((), device=where.device)
            pending = iter(losses(classifier, batch, step))
            while True:
                # Trainer's own autocast wraps the stock model's forward, which the packed passes do not go through
                with torch.autocast(where.device.type, torch.bfloat16, enabled=native_bf16(where.device)):
                    loss = next(pending, None)
                if loss is None:
                    return total
                self.accelerator.backward(loss)
                total += loss.detach()

    def _collate(rows: list[int]) -> dict[str, Tensor]:
        part = data.take(np.asarray(rows))
        return {
            "ids": torch.as_tensor(part.ids),
            "types": torch.as_tensor(part.types),
            "lengths": torch.as_tensor(part.lengths),
            "labels": torch.as_tensor(part.labels),
        }

    class Tell(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            where.progress(f"train {stage.name}", state.global_step, state.max_steps)

    trainer = Step(model=classifier.model, args=_arguments(stage, where, folder), callbacks=[Tell()])
    trainer.remove_callback(PrinterCallback)
    return trainer


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


def _batch(inputs: dict[str, Tensor], device: torch.device) -> Batch:
    layout = Layout.of_lengths(inputs["lengths"])
    tokens = Tokens(inputs["ids"].long(), inputs["types"].long(), layout)
    return Batch(tokens.to(device), inputs["labels"].long().to(device))
