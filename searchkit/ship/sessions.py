"""Sessions of one model in ONNX Runtime, one for each plan; plans of one pattern share an export."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from searchkit._internal.progress import step
from searchkit.hf.inputs import Special
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.ship.graph import Graph, export
from searchkit.ship.onnx_runtime import OnnxModel
from searchkit.ship.quantize import quantized
from searchkit.ship.shipment import marks_of

KEPT: Final = 8  # sessions in memory, each with its own copy of the weights


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions by plan, made when they are asked for.

    special: the tokenizer's special tokens, by which a graph tells those that a plan protects; int8: products with
    weights
    """

    model: AdaptiveModel
    special: Special
    threads: int = 1
    int8: bool = False
    _graphs: list[Graph] = field(default_factory=list, init=False)
    _sessions: dict[ReductionPlan, OnnxModel] = field(default_factory=dict, init=False)

    def of(self, plan: ReductionPlan) -> OnnxModel:
        """Session of a plan; those that were used last are kept."""
        model = self._sessions.pop(plan, None)
        if model is None:
            proto = self._graph(plan).bound(plan)
            model = OnnxModel(quantized(proto) if self.int8 else proto, self.threads)
        self._sessions[plan] = model
        while len(self._sessions) > KEPT:
            del self._sessions[next(iter(self._sessions))]
        return model

    def _graph(self, plan: ReductionPlan) -> Graph:
        for graph in self._graphs:
            if graph.serves(plan):
                return graph
        step(f"exporting graph {len(self._graphs) + 1} to ONNX")
        self._graphs.append(export(self.model, plan, marks_of(plan, self.special)))
        return self._graphs[-1]
