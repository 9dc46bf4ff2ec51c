"""The ways against which a search is timed: one candidate at a time, on padded batches, tokens dropped by gathering.

Axes: B examples, L places, H heads, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from searchkit.evaluate.bench import SupernetBench
from searchkit.records import Candidate

BATCH = 32
TOKENS = 4096
Batches = Sequence[np.ndarray[Any, Any]]


def in_order(bench: SupernetBench) -> Batches:
    """Batches of 32 examples in the order of the data, as the published code takes them."""
    return np.array_split(np.arange(len(bench.data)), -(-len(bench.data) // BATCH))


def by_length(bench: SupernetBench) -> Batches:
    """Batches of examples of similar length, of about 4,096 tokens."""
    return list(bench.data.batches(TOKENS))


def padded_search(bench: SupernetBench, candidate: Candidate, batches: Batches, padded_to: int | None) -> Tensor:
    """Logits of one candidate of lengths, batch by batch; `padded_to` None pads a batch to its own longest example.

    Every example of a batch keeps as many tokens as the ratio of the padded length says.
    """
    return torch.cat([_batch(bench, candidate, rows, padded_to) for rows in batches])


def _batch(bench: SupernetBench, candidate: Candidate, rows: np.ndarray[Any, Any], padded_to: int | None) -> Tensor:
    model, tokens = bench.model, bench.split.tokens(rows)
    layout, longest = tokens.layout, padded_to or tokens.layout.longest
    embedded = layout.pad(model.embed(tokens))
    hidden = torch.nn.functional.pad(embedded, (0, 0, 0, longest - embedded.shape[1]))  # (B, L, D)
    mask = torch.arange(longest, device=hidden.device) < layout.lengths[:, None]  # (B, L)
    for block, share in zip(model.view.blocks, candidate["lengths"], strict=True):  # type: ignore[arg-type]
        count, length, width = hidden.shape
        flat = hidden.flatten(0, 1)
        projected = block.projected(flat, torch.zeros(len(flat), dtype=torch.long, device=flat.device))
        query, key, value = projected.reshape(count, length, 3, block.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        logits = query @ key.transpose(-1, -2) / (width // block.heads) ** 0.5  # (B, H, L, L)
        shares = logits.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1, dtype=torch.float32)
        context = (shares.to(value.dtype) @ value).transpose(1, 2).reshape(count * length, width)
        hidden = block.attended(flat, context).reshape(hidden.shape)
        kept = min(length, int(np.ceil(float(share or 0) * longest - 1e-9)))
        if kept < length:
            received = shares.sum((1, 2)).masked_fill(~mask, -1.0)
            received[:, 0] = float("inf")
            chosen = received.topk(kept, dim=1).indices.sort(1).values
            hidden = hidden.gather(1, chosen[..., None].expand(-1, -1, width))
            mask = mask.gather(1, chosen)
        hidden = block.transformed(hidden.flatten(0, 1)).reshape(hidden.shape)
    return model.view.head(model.view.finish(hidden[:, 0]))
