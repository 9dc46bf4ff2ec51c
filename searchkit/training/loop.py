"""Training loop of all recipes: a stage runs, is checked, and is saved; an interrupted one is resumed."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open

from searchkit.errors import DataError, StoreError
from searchkit.reduction.checkpoint import quiet_transformers
from searchkit.reduction.model import AdaptiveModel
from searchkit.training.one_process import one_process
from searchkit.training.stage import Losses, Stage, TrainingContext
from searchkit.training.trainer import trainer_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

log = logging.getLogger(__name__)

STATE = ("optimizer.pt", "scheduler.pt", "rng_state.pth")  # files of a training's state in a checkpoint
PARTS = {*STATE, "model.safetensors", "trainer_state.json", "training_args.bin"}


def fit(
    model: AdaptiveModel,
    data: Encoded,
    stage: Stage,
    losses: Losses,
    context: TrainingContext,
    finish: Callable[[AdaptiveModel], None] = lambda model: None,
) -> None:
    """Run one stage on `transformers.Trainer`; a stage that was interrupted goes on from its newest whole checkpoint.

    Predictors and other trained parts are attached before; `finish` runs on the trained model before it is saved.

    Up to the processor's arithmetic the result is a function of (data, stage, seed): batches depend on the epoch,
    dropout and random plans on the step, so a training that was killed and continued ends with the same weights as an
    undisturbed one.
    """
    folder = context.folder / stage.name
    finished = folder / "finished"
    if finished.is_dir():
        model.restore(finished)
        return
    folder.mkdir(parents=True, exist_ok=True)
    newest = _newest_checkpoint(folder)
    with quiet_transformers(), one_process():
        trainer = trainer_of(model, data, stage, losses, context, folder)
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
    """Newest checkpoint that is whole: its state file, written last, parses, and every part is what was written."""
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
