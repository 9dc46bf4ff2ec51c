"""Saliency of the training examples' tokens: gradient x input at the embeddings, streamed to disk once.

N examples, T tokens in all, D width.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.errors import QUOTED, StoreError, one_line
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.training.stage import Batch, TrainingContext, batch_of

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

TOKEN_BUDGET = 4096


def stored_saliency(
    model: AdaptiveModel, data: Encoded, context: TrainingContext, *, gold: bool
) -> NDArray[np.float32]:
    """(T,) saliency of every token, memory-mapped from `context.folder`, where it is written if it is missing.

    Example i's tokens stand where `data` has them, so nothing depends on the order of batches; a dump that was
    interrupted is made again. With `gold` the right output is explained, otherwise the predicted one.
    """
    path = context.folder / "saliency.npy"
    if not path.is_file():
        _write(model, data, context, gold, path)
    return mapped(path)


def mapped(path: Path) -> NDArray[np.float32]:
    """Array of a file that an earlier part of the training wrote; StoreError where it is damaged."""
    try:
        values: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StoreError(f"{path} is damaged, remove it and it is made again: {one_line(error, QUOTED)}") from error
    return values


def _write(model: AdaptiveModel, data: Encoded, context: TrainingContext, gold: bool, path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    written = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=(len(data.ids),))
    _reserve(partial)
    batches = data.batches(TOKEN_BUDGET)
    model.eval()
    for number, rows in enumerate(batches, start=1):
        batch = batch_of(data, torch.as_tensor(rows), context.device)
        values = saliency(model, batch, gold=gold).cpu().numpy()
        written[token_rows(data, rows)] = values
        context.progress("train saliency", number, len(batches))
    written.flush()
    partial.rename(path)


def _reserve(file: Path) -> None:
    """Reserve its bytes on disk now: OSError where there is no room, not a signal when a mapped page is written."""
    with file.open("r+b") as sparse:
        os.posix_fallocate(sparse.fileno(), 0, file.stat().st_size)


def saliency(model: AdaptiveModel, batch: Batch, *, gold: bool) -> Tensor:
    """(T,) || gradient x embedding || over the width, of the output explained (AdapLeR)."""
    embedded = model.embed(batch.tokens).detach().requires_grad_()
    with torch.enable_grad():
        logits = model(batch.tokens, ReductionPlan.unreduced(model.shape.layers), embedded=embedded).logits
        explained = model.head.evidence(logits, batch.labels if gold else None, batch.layout).sum()
        (gradient,) = torch.autograd.grad(explained, embedded)
    norms: Tensor = torch.linalg.vector_norm((gradient * embedded.detach()).float(), dim=1)
    return norms


def token_rows(data: Encoded, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices in `data` of the tokens of these examples, packed."""
    lengths = data.lengths[rows]
    ends = np.cumsum(lengths)
    indices: NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(data.offsets[rows] - (ends - lengths), lengths)
    return indices
