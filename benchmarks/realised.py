"""Comparison of a plan's measured speed-up with the MACs that it saves: realised = measured / MACs ratio; 1 is perfect.

The unreduced side is the faster of two: ours by the same pass, and the stock transformers model on a padded batch of
the same token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.timed import seconds
from searchkit.reduction.cost import macs, unreduced_macs
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens

Pass = Callable[[Tokens, ReductionPlan], Any]


def compared(
    ours: AdaptiveModel, stock: Any, inputs: Sequence[Tokens], plan: ReductionPlan, rounds: int, passed: Pass
) -> dict[str, float]:
    """Medians over rounds, averaged over inputs; the three sides take turns at being first."""
    whole = ReductionPlan.unreduced(ours.shape.layers)
    padded = [_padded(tokens) for tokens in inputs]
    with torch.inference_mode():
        needed = sum(float(macs(ours(tokens, plan).trace, ours.shape).sum()) for tokens in inputs)
        unreduced = sum(float(unreduced_macs(tokens.layout.lengths, ours.shape).sum()) for tokens in inputs)
        times = {name: np.zeros((rounds, len(inputs))) for name in ("reduced", "unreduced", "stock")}
        for turn in range(-1, rounds):
            for number, tokens in enumerate(inputs):
                sides: list[tuple[str, Callable[[], Any]]] = [
                    ("reduced", lambda: passed(tokens, plan)),  # noqa: B023
                    ("unreduced", lambda: passed(tokens, whole)),  # noqa: B023
                    ("stock", lambda: stock(**padded[number])),  # noqa: B023
                ]
                for name, side in sides[turn % 3 :] + sides[: turn % 3]:
                    took = seconds(side, tokens.ids.device)
                    if turn >= 0:
                        times[name][turn, number] = took
    spent = {name: float(np.median(each, axis=0).mean()) for name, each in times.items()}
    speedup = min(spent["unreduced"], spent["stock"]) / spent["reduced"]
    return {
        "macs_speedup": round(unreduced / needed, 3),
        "latency_speedup": round(speedup, 3),
        "realised": round(speedup / (unreduced / needed), 3),
        **{f"{name}_ms": round(1e3 * value, 2) for name, value in spent.items()},
    }


def _padded(tokens: Tokens) -> dict[str, Tensor]:
    layout = tokens.layout
    given = {"input_ids": layout.pad(tokens.ids), "token_type_ids": layout.pad(tokens.types)}
    return given if layout.is_even else {**given, "attention_mask": layout.mask.long()}
