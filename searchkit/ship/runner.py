"""Other runtimes as that of a bench: its numbers are of what ONNX Runtime, or transformers' own class, computes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from searchkit._internal.progress import step
from searchkit.evaluate.passes import Passes, in_order
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.predictions import instruction_set
from searchkit.hf.inputs import Special
from searchkit.records import Scalar
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.trace import Trace
from searchkit.ship.onnx_runtime import environment
from searchkit.ship.sessions import Sessions

if TYPE_CHECKING:
    from searchkit.evaluate.split import Split
    from searchkit.training.recipe import Recipe


@dataclass(frozen=True)
class InOnnxRuntime:
    """Maker of runners in ONNX Runtime, which travels to workers.

    special: tokens of the supernet's tokenizer; threads: 0 for as many as torch has; timed_only: quality is that of the
    packed pass, and a graph serves all lengths that begin at the same layer
    """

    special: Special
    threads: int = 0
    int8: bool = False
    timed_only: bool = False

    def __call__(self, model: AdaptiveModel, recipe: Recipe) -> OnnxRunner:
        threads = self.threads or torch.get_num_threads()
        sessions = Sessions(model, self.special, threads, self.int8, idle=self.timed_only)
        return OnnxRunner(model, recipe, sessions, self.timed_only)


@dataclass(frozen=True, eq=False)
class OnnxRunner(PlanRunner):
    """Runner whose passes are ONNX Runtime's; traces, and what follows from them, are the packed pass's.

    sessions: of the same model; timed_only: logits of a split are the packed pass's too
    """

    sessions: Sessions
    timed_only: bool = False

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        dtype = "int8" if self.sessions.int8 else "fp32"
        own: dict[str, Scalar] = {**environment(), "isa": instruction_set(), "threads": self.sessions.threads}
        if self.timed_only:
            return {**super().environment, **own, "runtime": f"{own['runtime']}, for times alone", "timed_dtype": dtype}
        return {**super().environment, **own, "dtype": dtype}

    def forward(self, tokens: Tokens, plan: ReductionPlan) -> Tensor:
        model, memo = self.sessions.of(plan), tokens.layout.memo
        if "onnx" not in memo:  # as a tokenizer hands them over: no part of the pass
            memo["onnx"] = model.inputs_of(tokens)
        return model.logits(tokens, memo["onnx"])

    def weights(self, plan: ReductionPlan) -> Hashable:
        return id(self.sessions), self.sessions.number(plan)

    def passes_over(self, split: Split, plans: Sequence[ReductionPlan]) -> list[Passes]:
        packed = super().passes_over(split, plans)
        if self.timed_only:
            return packed
        logits = (_logits(split, self.sessions.of(plan).logits, "ONNX Runtime") for plan in plans)
        return [Passes(values, own.trace) for values, own in zip(logits, packed, strict=True)]


@dataclass(frozen=True, eq=False)
class StockRunner(PlanRunner):
    """Runner of the unreduced model as transformers' own class runs it, padded, with its fused attention.

    Its last layer computes every token, as the trace says.
    """

    def forward(self, tokens: Tokens, plan: ReductionPlan) -> Tensor:
        memo, typed = tokens.layout.memo, self.model.view.segments is not None
        if "stock" not in memo:
            memo["stock"] = tokens.padded(typed)
        return self._logits(tokens, memo["stock"])

    def weights(self, plan: ReductionPlan) -> Hashable:
        return "stock", id(self.model)

    def passes_over(self, split: Split, plans: Sequence[ReductionPlan]) -> list[Passes]:
        typed = self.model.view.segments is not None
        logits = _logits(split, lambda tokens: self._logits(tokens, tokens.padded(typed)), "transformers")
        trace = Trace.of_unreduced(torch.as_tensor(split.data.lengths), self.model.shape.layers)
        return [Passes(logits, trace) for _ in plans]

    def _logits(self, tokens: Tokens, given: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            out = self.model.stock(**given)
        if self.model.view.reads != "tokens":
            return out.logits.float()  # type: ignore[no-any-return]
        return tokens.layout.unpad(torch.stack([out.start_logits, out.end_logits], -1)).float()


def _logits(split: Split, forward: Callable[[Tokens], Tensor], runtime: str) -> Tensor:
    """Logits of every example, in the order of the data."""
    parts = []
    for number, (_, tokens) in enumerate(split.batches, start=1):
        step(f"predicting in {runtime}: batch {number} of {len(split.batches)}")
        parts.append(forward(tokens).cpu())
    order = np.concatenate([rows for rows, _ in split.batches])
    lengths = torch.as_tensor(split.data.lengths)[torch.as_tensor(order)]
    passes = Passes(torch.cat(parts), Trace.of_unreduced(lengths, 1))
    return in_order(order, [passes], split.data.lengths).logits
