"""Optimiser loop of a stage: `transformers.Trainer` in this process alone, whatever the environment says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.reduction.model import AdaptiveModel
from searchkit.training.stage import Losses, Stage, TrainingContext, batch_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

CHECKPOINTS_PER_STAGE = 10
STRETCH = 16  # batches that are sorted by length together


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


def trainer_of(
    trained: AdaptiveModel, data: Encoded, stage: Stage, losses: Losses, context: TrainingContext, folder: Path
) -> Any:
    """Make a Trainer with `losses` as its step. The import is slow, so it happens only when something is trained."""
    from torch.utils.data import DataLoader
    from transformers import PrinterCallback, Trainer, TrainerCallback

    class Step(Trainer):
        def get_train_dataloader(self) -> Any:
            batches = EpochBatches(
                data.lengths, stage.batch_size, context.seed, epoch=lambda steps: self.state.global_step // steps
            )
            examples: Any = range(len(data))
            return DataLoader(examples, batch_sampler=batches, collate_fn=lambda rows: {"rows": torch.tensor(rows)})

        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = torch.optim.AdamW(_groups(trained, stage), lr=stage.learning_rate, fused=True)
            return self.optimizer

        def training_step(self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
            trained.train()
            step = self.state.global_step
            torch.manual_seed(int(np.random.SeedSequence((context.seed, step)).generate_state(1)[0]))
            batch = batch_of(data, inputs["rows"], context.device)
            total = torch.zeros((), device=context.device)
            pending = iter(losses(trained, batch, step))
            while True:
                # Trainer's own autocast wraps the stock model's forward, which the packed passes do not go through
                with torch.autocast(context.device.type, context.dtype, enabled=context.dtype != torch.float32):
                    loss = next(pending, None)
                if loss is None:
                    return total
                self.accelerator.backward(loss)
                total += loss.detach()

    class Report(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            context.progress(f"train {stage.name}", state.global_step, state.max_steps)

    trainer = Step(model=trained, args=_arguments(stage, context, folder), callbacks=[Report()])
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


def _arguments(stage: Stage, context: TrainingContext, folder: Path) -> Any:
    from transformers import TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=stage.epochs,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup,
        weight_decay=stage.weight_decay,
        lr_scheduler_type="linear",
        use_cpu=context.device.type == "cpu",
        seed=context.seed,
        save_strategy="steps",
        save_steps=1 / CHECKPOINTS_PER_STAGE,
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_nan_inf_filter=False,  # it waits for the GPU at every step, for a loss that nobody reads
    )
    if context.device.type == "cuda":
        torch.cuda.set_device(context.device)
        arguments._n_gpu = 1  # one device by choice: DataParallel would bypass the packed forward pass
        arguments._setup_devices = context.device  # without accelerate's launcher it is cuda:0, whatever was asked for
    return arguments
