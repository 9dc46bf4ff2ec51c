"""Times of shipped models, side by side in one process: the speed-up over the unreduced model in the same runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from searchkit.evaluate.timing import Protocol, in_turns, steady
from searchkit.reduction.ragged import Tokens
from searchkit.ship.onnx_runtime import OnnxModel

EXAMPLES: Final = 12  # texts of different lengths that are timed
PROTOCOL: Final = Protocol(width=0.02, budget_s=2.0, min_round_interval_s=0.2)

Prepare = Callable[[Tokens], Callable[[], Any]]  # from a batch to a pass over it, its inputs being ready


@dataclass(frozen=True)
class Speed:
    """Speed of a side over the first one, with its 95 % interval; `ms`: of a pass; `contended`: others disturbed it."""

    name: str
    ms: float
    speedup: float
    low: float
    high: float
    contended: bool


def timed(sides: dict[str, Prepare], inputs: Sequence[Tokens], protocol: Protocol = PROTOCOL) -> list[Speed]:
    """Time the sides in turns on batches; every speed-up is over the first side, on the same batches."""
    passes = [[prepare(tokens) for tokens in inputs] for prepare in sides.values()]

    def run(side: int, number: int) -> None:
        with torch.inference_mode():
            passes[side][number]()

    def visit(side: int, number: int) -> float:
        start = time.perf_counter()
        run(side, number)
        return time.perf_counter() - start

    measured = in_turns(steady(visit, run, int), len(passes), len(inputs), protocol)  # as if each had its own weights
    first, *others = sides
    own = [Speed(first, 1e3 * float(measured.typical[0]), 1.0, 1.0, 1.0, measured.contended)]
    for name, ratio in zip(others, measured.ratios, strict=True):
        ms = own[0].ms * ratio.value
        own.append(Speed(name, ms, 1 / ratio.value, 1 / ratio.high, 1 / ratio.low, measured.contended))
    return own


def of_transformers(model: Any, **chosen: Any) -> Prepare:
    """Calls of a transformers model, as a user makes them; `chosen` are further arguments, such as a plan's key."""
    typed = getattr(model.config, "type_vocab_size", 0) > 1

    def prepare(tokens: Tokens) -> Callable[[], Any]:
        given = tokens.padded(typed)
        return lambda: model(**given, **chosen)

    return prepare


def of_graph(model: OnnxModel) -> Prepare:
    """Passes in ONNX Runtime."""

    def prepare(tokens: Tokens) -> Callable[[], Any]:
        inputs = model.inputs_of(tokens)
        return lambda: model.run(inputs)

    return prepare


def spread(lengths: NDArray[np.int64], count: int = EXAMPLES) -> NDArray[np.int64]:
    """Numbers of `count` examples whose lengths are spread like those of all."""
    order = np.argsort(lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    chosen: NDArray[np.int64] = order[places]
    return chosen
