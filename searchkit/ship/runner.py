"""ONNX Runtime as the runtime of a bench: every number is of what the exported graph computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from searchkit._internal.progress import step
from searchkit.evaluate.passes import Passes, in_order
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.predictions import instruction_set
from searchkit.hf.inputs import Special
from searchkit.records import Scalar
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.trace import Trace
from searchkit.ship.graph import Graph, export
from searchkit.ship.onnx_runtime import OnnxModel, environment
from searchkit.ship.quantize import quantized
from searchkit.ship.shipment import marks_of

if TYPE_CHECKING:
    from searchkit.evaluate.split import Split
    from searchkit.reduction.ragged import Tokens

SESSIONS: Final = 8  # kept in memory, each with its own copy of the weights


@dataclass(frozen=True, eq=False)
class OnnxRunner(PlanRunner):
    """Runner whose logits are ONNX Runtime's; traces, and what follows from them, are the packed pass's.

    special: the tokenizer's special tokens, which the graph tells protected tokens by; int8: products with weights
    """

    special: Special
    threads: int = 1
    int8: bool = False
    _graphs: list[Graph] = field(default_factory=list, init=False)
    _sessions: dict[ReductionPlan, OnnxModel] = field(default_factory=dict, init=False)

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        own = {**environment(), "isa": instruction_set(), "threads": self.threads}
        return {**super().environment, **own, "dtype": "int8" if self.int8 else "fp32"}

    def forward(self, tokens: Tokens, plan: ReductionPlan) -> Tensor:
        return self.session(plan).logits(tokens)

    def passes_over(self, split: Split, plans: Sequence[ReductionPlan]) -> list[Passes]:
        packed = super().passes_over(split, plans)
        return [Passes(self._logits(split, plan), own.trace) for plan, own in zip(plans, packed, strict=True)]

    def session(self, plan: ReductionPlan) -> OnnxModel:
        """Session of a plan; those that were used last are kept."""
        model = self._sessions.pop(plan, None)
        if model is None:
            proto = self._graph(plan).bound(plan)
            model = OnnxModel(quantized(proto) if self.int8 else proto, self.threads)
        self._sessions[plan] = model
        while len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return model

    def _graph(self, plan: ReductionPlan) -> Graph:
        for graph in self._graphs:
            if graph.serves(plan):
                return graph
        step(f"exporting graph {len(self._graphs) + 1} to ONNX")
        self._graphs.append(export(self.model, plan, marks_of(plan, self.special)))
        return self._graphs[-1]

    def _logits(self, split: Split, plan: ReductionPlan) -> Tensor:
        """Logits of every example, in the order of the data."""
        model, parts = self.session(plan), []
        for number, (_, tokens) in enumerate(split.batches, start=1):
            step(f"predicting in ONNX Runtime: batch {number} of {len(split.batches)}")
            parts.append(model.logits(tokens))
        order = torch.cat([torch.as_tensor(rows) for rows, _ in split.batches])
        lengths = torch.as_tensor(split.data.lengths)
        passes = Passes(torch.cat(parts), Trace.of_unreduced(lengths[order], self.model.shape.layers))
        return in_order(order.numpy(), [passes], split.data.lengths).logits
