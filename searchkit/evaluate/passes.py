"""Passes of a model over a split, many plans at once: logits and traces in the order of the data.

Axes: N examples, C outputs, T tokens in all.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit._internal.progress import counted, step
from searchkit.evaluate.split import Shard, Split
from searchkit.evaluate.threads import parallel_map
from searchkit.reduction.device import give_back_memory
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.prefix_tree import Cache, Walk, can_share, prefixes
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.trace import Trace

log = logging.getLogger(__name__)


class Passes(NamedTuple):
    """Pass of one plan over a split, on the CPU: float32 logits (N, C), or (T, C) of every token, and the trace."""

    logits: Tensor
    trace: Trace


def passes_over(
    split: Split, model: AdaptiveModel, plans: Sequence[ReductionPlan], reducer_template: Reducer
) -> list[Passes]:
    """Run every plan over the split; plans that score as `reducer_template` does share their prefixes.

    A plan's result depends neither on the others nor on what the caches hold.
    """
    shared = [can_share(plan, reducer_template) for plan in plans]
    if not all(shared):
        alone = shared.count(False)
        log.info("%d of %d candidates do not score as the recipe does and are evaluated alone", alone, len(plans))
    together = [plan for plan, can in zip(plans, shared, strict=True) if can]
    wanted = prefixes(together)
    number = itertools.count(1)

    def on_batch(tokens: Tokens, cache: Cache) -> list[Passes]:
        step(f"{counted(len(plans), 'candidate')}: batch {next(number)} of {len(split.batches)}")
        with torch.inference_mode():  # the mode is set per thread
            cache.begin(wanted)
            walked = iter(Walk(model, tokens, together, reducer_template, cache).predicted())
            every = (
                next(walked) if can else model.packed(tokens, plan) for plan, can in zip(plans, shared, strict=True)
            )
            passes = [Passes(predicted.logits.float().cpu(), predicted.trace.cpu()) for predicted in every]
        if cache.budget and split.device.type == "cpu":
            give_back_memory()  # memory between the kept nodes, about half of theirs
        return passes

    batches = [(tokens, cache) for (_, tokens), cache in zip(split.batches, split.caches, strict=True)]
    if split.device.type == "cpu":
        by_batch = parallel_map(lambda batch: on_batch(*batch), batches)
    else:
        by_batch = [on_batch(*batch) for batch in batches]
    order = np.concatenate([rows for rows, _ in split.batches])
    return [in_order(order, parts, split.data.lengths) for parts in zip(*by_batch, strict=True)]


def joined(shards: Sequence[Shard], parts: Sequence[Passes], lengths: NDArray[np.int64]) -> Passes:
    """The passes over all shards as those over the split, whose examples have these `lengths`."""
    if len(parts) == 1:
        return parts[0]
    return in_order(np.concatenate([shard.rows for shard in shards]), parts, lengths)


def in_order(order: NDArray[np.int64], parts: Sequence[Passes], lengths: NDArray[np.int64]) -> Passes:
    """Join passes over parts, with examples in this order, into one in the order of the data with these `lengths`."""
    logits, back = torch.cat([part.logits for part in parts]), torch.as_tensor(order).argsort()
    rows = back if len(logits) == len(order) else _rows_of(lengths[order], back)
    return Passes(logits[rows], Trace.concatenated([part.trace for part in parts]).take(back))


def _rows_of(lengths: NDArray[np.int64], chosen: Tensor) -> Tensor:
    """(T,) rows of the chosen examples' tokens, where examples of these `lengths` are packed."""
    layout = Layout.of_lengths(torch.as_tensor(lengths))
    picked = Layout.of_lengths(layout.lengths[chosen])
    return picked.positions + layout.offsets[chosen][picked.examples]
