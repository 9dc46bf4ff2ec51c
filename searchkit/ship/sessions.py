"""Sessions of one model in ONNX Runtime: one for all plans of a pattern, whose numbers are inputs of its graph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from searchkit._internal.progress import step
from searchkit._internal.temporary import TemporaryFolder
from searchkit.hf.inputs import Special
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.twin import numbers, pattern
from searchkit.ship.graph import export, same_but_numbers, save
from searchkit.ship.onnx_runtime import OnnxModel
from searchkit.ship.quantize import quantized
from searchkit.ship.shipment import marks_of

KEPT: Final = 8  # sessions in memory, each with its own copy of the weights,
ROOM: Final = 1 << 31  # or more, if so many bytes hold their graphs
MODELS: Final = 4  # models whose graphs are kept for another bench: of the search, then of the report


class Exports:
    """Graphs of one model by pattern, as files in a temporary folder: an export takes seconds, and a graph has weights.

    special: the tokenizer's special tokens, by which a graph tells those that a plan protects
    """

    def __init__(self, special: Special) -> None:
        self.special = special
        self._own, self._patterns = TemporaryFolder("graphs"), list[ReductionPlan]()

    @classmethod
    def of(cls, model: AdaptiveModel, special: Special) -> Exports:
        """Exports of a model in this process: those of an earlier one with the same weights, where they are kept."""
        key = _identity(model), special
        exports = _EXPORTS.pop(key, None) or cls(special)
        _EXPORTS[key] = exports  # the last one now
        while len(_EXPORTS) > MODELS:
            del _EXPORTS[next(iter(_EXPORTS))]
        return exports

    def number(self, model: AdaptiveModel, plan: ReductionPlan, idle: bool) -> int:
        """Number of the plan's pattern, which is exported now if it is a new one."""
        own = pattern(model, plan, idle=idle)
        for number, known in enumerate(self._patterns):
            if same_but_numbers(own, known):
                return number
        step(f"exporting graph {len(self._patterns) + 1} to ONNX")
        proto = export(model, plan, marks_of(plan, self.special), idle=idle).proto
        self._patterns.append(own)
        save(proto, self.file(len(self._patterns) - 1, int8=False))
        return len(self._patterns) - 1

    def file(self, number: int, int8: bool) -> Path:
        """File of a graph, quantised now if it is not yet."""
        plain, small = (self._own.path / f"{kind}-{number}.onnx" for kind in ("fp32", "int8"))
        if int8 and not small.exists():
            import onnx

            step(f"quantising graph {number + 1}")
            save(quantized(onnx.load(str(plain))), small)
        return small if int8 else plain


_EXPORTS: Final[dict[tuple[str, Special], Exports]] = {}


def _identity(model: AdaptiveModel) -> str:
    """Digest of a model's config and weights."""
    content = hashlib.blake2b(json.dumps(model.stock.config.to_dict(), sort_keys=True, default=str).encode())
    for name, weight in model.state_dict().items():
        content.update(name.encode())
        content.update(weight.contiguous().view(torch.uint8).numpy())
    return content.hexdigest()


@dataclass(frozen=True, eq=False)
class Sessions:
    """Models by plan, made when they are asked for.

    special: the tokenizer's special tokens; int8: products with weights; idle: one graph for all lengths that begin at
    the same layer, in which later ones sort their tokens even where they drop none
    """

    model: AdaptiveModel
    special: Special
    threads: int = 1
    int8: bool = False
    idle: bool = False
    _known: dict[ReductionPlan, tuple[int, dict[str, Any]]] = field(default_factory=dict, init=False)
    _open: dict[int, OnnxModel] = field(default_factory=dict, init=False)

    def of(self, plan: ReductionPlan) -> OnnxModel:
        """Model under a plan; the sessions that were used last are kept."""
        number, values = self._look_up(plan)
        session = self._open.pop(number, None) or self._opened(number)
        self._open[number] = session  # the last one now
        return session.with_numbers(values)

    def number(self, plan: ReductionPlan) -> int:
        """Number of the graph that serves a plan, and others of its pattern."""
        return self._look_up(plan)[0]

    def _look_up(self, plan: ReductionPlan) -> tuple[int, dict[str, Any]]:
        if plan not in self._known:
            values = {name: tensor.numpy() for name, tensor in numbers(plan).items()}
            self._known[plan] = self._exports.number(self.model, plan, self.idle), values
        return self._known[plan]

    def _opened(self, number: int) -> OnnxModel:
        """Session of a graph; where there is no room for it, those that were not used for longest are closed."""
        file = self._exports.file(number, self.int8)
        while len(self._open) >= max(KEPT, ROOM // file.stat().st_size):
            del self._open[next(iter(self._open))]
        return OnnxModel(file, self.threads)

    @cached_property
    def _exports(self) -> Exports:
        return Exports.of(self.model, self.special)
