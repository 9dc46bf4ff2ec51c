"""ONNX Runtime as the runtime of a bench: every number is of what the exported graph computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from searchkit._internal.progress import step
from searchkit.evaluate.passes import Passes, in_order
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.predictions import instruction_set
from searchkit.records import Scalar
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.trace import Trace
from searchkit.ship.onnx_runtime import environment
from searchkit.ship.sessions import Sessions

if TYPE_CHECKING:
    from searchkit.evaluate.split import Split
    from searchkit.reduction.ragged import Tokens


@dataclass(frozen=True, eq=False)
class OnnxRunner(PlanRunner):
    """Runner whose logits are ONNX Runtime's; traces, and what follows from them, are the packed pass's.

    sessions: of the same model
    """

    sessions: Sessions

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        own = {**environment(), "isa": instruction_set(), "threads": self.sessions.threads}
        return {**super().environment, **own, "dtype": "int8" if self.sessions.int8 else "fp32"}

    def forward(self, tokens: Tokens, plan: ReductionPlan) -> Tensor:
        return self.sessions.of(plan).logits(tokens)

    def passes_over(self, split: Split, plans: Sequence[ReductionPlan]) -> list[Passes]:
        packed = super().passes_over(split, plans)
        return [Passes(self._logits(split, plan), own.trace) for plan, own in zip(plans, packed, strict=True)]

    def _logits(self, split: Split, plan: ReductionPlan) -> Tensor:
        """Logits of every example, in the order of the data."""
        model, parts = self.sessions.of(plan), []
        for number, (_, tokens) in enumerate(split.batches, start=1):
            step(f"predicting in ONNX Runtime: batch {number} of {len(split.batches)}")
            parts.append(model.logits(tokens))
        order = torch.cat([torch.as_tensor(rows) for rows, _ in split.batches])
        lengths = torch.as_tensor(split.data.lengths)
        passes = Passes(torch.cat(parts), Trace.of_unreduced(lengths[order], self.model.shape.layers))
        return in_order(order.numpy(), [passes], split.data.lengths).logits
