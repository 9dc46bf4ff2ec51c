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
from searchkit.evaluate.timing import steady
from searchkit.reduction.cost import macs, unreduced_macs
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens

Pass = Callable[[Tokens, ReductionPlan], Any]


def compared(
    ours: AdaptiveModel, stock: Any, inputs: Sequence[Tokens], plan: ReductionPlan, rounds: int, passed: Pass
) -> dict[str, float]:
    """Medians over rounds, averaged over inputs; the three sides take turns at being first.

    On a CPU each as in a process that runs nothing else, its weights in the caches: `searchkit.evaluate.timing.steady`.
    """
    whole = ReductionPlan.unreduced(ours.shape.layers)
    padded = [_padded(tokens) for tokens in inputs]
    with torch.inference_mode():
        needed = sum(float(macs(ours(tokens, plan).trace, ours.shape).sum()) for tokens in inputs)
        unreduced = sum(float(unreduced_macs(tokens.layout.lengths, ours.shape).sum()) for tokens in inputs)
    sides: list[Callable[[int], Any]] = [
        lambda number: passed(inputs[number], plan),
        lambda number: passed(inputs[number], whole),
        lambda number: stock(**padded[number]),
    ]

    @torch.inference_mode()
    def run(side: int, number: int) -> Any:
        return sides[side](number)

    def timed(side: int, number: int) -> float:
        return seconds(lambda: run(side, number), inputs[number].ids.device)

    on_cpu = inputs[0].ids.is_cpu
    visit = steady(timed, run, lambda side: side if on_cpu else 0)
    times = np.zeros((len(sides), rounds + 1, len(inputs)))
    for turn, number, place in np.ndindex(rounds + 1, len(inputs), len(sides)):
        side = (turn + place) % len(sides)
        times[side, turn, number] = visit(side, number)
    typical = np.median(times[:, 1:], axis=1).mean(1)  # without the first round
    spent = dict(zip(("reduced", "unreduced", "stock"), typical.tolist(), strict=True))
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
