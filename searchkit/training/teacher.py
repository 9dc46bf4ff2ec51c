"""Loss of a task by its labels, and by the outputs that the model had before a recipe's own stage, written once.

Knowledge distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531), at temperature 1: the fine-tuned model, whole,
teaches the reduced one. N examples, T tokens in all, B examples of a batch, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.training.saliency import TOKEN_BUDGET, mapped, token_rows
from searchkit.training.stage import Batch, TaskLoss, TrainingContext, batch_of, labelled

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


def taught(model: AdaptiveModel, data: Encoded, context: TrainingContext, share: float) -> TaskLoss:
    """Loss of the task, of which `share` is the divergence from the model's outputs as they are now.

    The outputs on all examples are written to `context.folder`, or read where an interrupted training wrote them.
    """
    path = context.folder / "teacher.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, _outputs(model, data, context), allow_pickle=False)
        partial.rename(path)
    outputs = mapped(path)

    def loss(model: AdaptiveModel, logits: Tensor, batch: Batch) -> Tensor:
        teacher = torch.as_tensor(outputs[_places(model, data, batch)].copy()).to(logits.device)
        divergence = model.head.divergence(logits, teacher, batch.layout, "teacher-student")
        return (1 - share) * labelled(model, logits, batch) + share * divergence

    return loss


def _outputs(model: AdaptiveModel, data: Encoded, context: TrainingContext) -> NDArray[np.float32]:
    """(N, C) outputs of the whole model, or (T, 2) where the head reads every token."""
    whole = ReductionPlan.unreduced(model.shape.layers)
    batches = data.batches(TOKEN_BUDGET)
    parts: list[NDArray[np.float32]] = []
    places: list[NDArray[np.int64]] = []
    model.eval()
    for number, rows in enumerate(batches, start=1):
        batch = batch_of(data, torch.as_tensor(rows), context.device)
        in_half = context.dtype != torch.float32
        with torch.no_grad(), torch.autocast(context.device.type, context.dtype, enabled=in_half):
            parts.append(model(batch.tokens, whole).logits.float().cpu().numpy())
        places.append(_places(model, data, batch))
        context.progress("train teacher", number, len(batches))
    together = np.concatenate(parts)
    outputs = np.empty_like(together)
    outputs[np.concatenate(places)] = together
    return outputs


def _places(model: AdaptiveModel, data: Encoded, batch: Batch) -> NDArray[np.int64]:
    """Rows of the outputs that are of this batch."""
    rows: NDArray[np.int64] = batch.rows.numpy()
    return token_rows(data, rows) if model.head.reads == "tokens" else rows
