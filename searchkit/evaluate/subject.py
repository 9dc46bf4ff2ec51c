"""Subject of a supernet: one candidate under its plan on one split and device, with the passes already made.

Axes: N examples, C classes, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.passes import Passes
from searchkit.evaluate.split import Split
from searchkit.objective import Kept
from searchkit.records import Candidate, Scalar
from searchkit.reduction.cost import Shape
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.trace import Trace
from searchkit.tasks.spans import Spans, best_spans

if TYPE_CHECKING:
    from searchkit.evaluate.plan_runner import PlanRunner, Rival
    from searchkit.tasks.base import Encoded, Labels


class Holder(Protocol):
    """Protocol of the parts of a bench that its subjects use."""

    @property
    def model(self) -> AdaptiveModel: ...
    @property
    def environment(self) -> Mapping[str, Scalar]: ...
    @property
    def split(self) -> Split: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def padded_to(self) -> int: ...
    @property
    def tables(self) -> Mapping[str, Any]: ...
    @property
    def unreduced(self) -> SupernetSubject: ...
    @property
    def runner(self) -> PlanRunner: ...
    def passes(self, plans: Sequence[ReductionPlan]) -> list[Passes]: ...
    def remembered(self, key: Hashable, compute: Callable[[], Kept]) -> Kept: ...


@dataclass(frozen=True, eq=False)
class SupernetSubject:
    """`Subject` of one candidate on a bench.

    prepared: its passes, where they were made with those of others; part: the split that it is seen on, where that is
    only a part of the bench's; rival: the model, and its own encoding of the split, where it is not the bench's
    """

    bench: Holder
    candidate: Candidate
    plan: ReductionPlan
    prepared: Passes | None = None
    part: Split | None = None
    rival: Rival | None = None

    def on(self, part: Split, passes: Passes) -> SupernetSubject:
        """Subject of the same candidate on a part of the split, with these passes."""
        return replace(self, prepared=passes, part=part)

    @cached_property
    def static(self) -> SupernetSubject | None:
        """Subject with a trace and no logits; None where the trace depends on the content of the examples."""
        trace = self.runner.model.static_trace(self.split.whole, self.plan)
        return None if trace is None else replace(self, prepared=Passes(torch.empty(0), trace))

    @property
    def split(self) -> Split:
        return self.part or (self.rival or self.bench).split

    @property
    def runner(self) -> PlanRunner:
        return (self.rival or self.bench).runner

    @property
    def data(self) -> Encoded:
        return self.split.data

    @property
    def labels(self) -> Labels:
        return self.data.labels

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each example."""
        return self.data.lengths

    @property
    def units(self) -> NDArray[np.int64]:
        """(N,) the unit of each example."""
        return self.data.units

    @property
    def reference(self) -> SupernetSubject:
        """The unreduced supernet on the same examples, a rival's too."""
        return replace(self.bench.unreduced, part=self.part)

    @property
    def shape(self) -> Shape:
        return self.runner.model.shape

    @property
    def padded_to(self) -> int:
        return self.bench.padded_to

    @property
    def limit(self) -> int:
        return self.runner.model.view.limit

    @property
    def weights_bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.runner.model.parameters())

    @property
    def weights(self) -> Hashable:
        return self.runner.weights(self.plan)

    @property
    def device(self) -> torch.device:
        return self.bench.device

    @property
    def tables(self) -> Mapping[str, Any]:
        return self.bench.tables

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        return self.split.tokens(rows)

    def remembered(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        return self.bench.remembered(key, compute)

    def forward(self, tokens: Tokens) -> Tensor:
        """Run one pass over a batch alone, as deployed: float32 logits (B, C), or (T, C) of every token."""
        return self.runner.forward(tokens, self.plan)

    def trace_of(self, tokens: Tokens) -> Trace:
        with torch.inference_mode():
            trace: Trace = self.runner.model(tokens, self.plan).trace.cpu()
        return trace

    @cached_property
    def raw_passes(self) -> Passes:
        """Logits, finite or not, and trace of the whole split, in the order of the data."""
        if self.rival:
            return self.rival.runner.passes_over(self.rival.split, [self.plan])[0]
        return self.prepared or self.bench.passes([self.plan])[0]

    @cached_property
    def passes(self) -> Passes:
        """Logits and trace of the whole split, in the order of the data; TrialError if a logit is not finite."""
        if not torch.isfinite(self.raw_passes.logits).all():
            raise TrialError("the model's logits are not finite", kind="nan")
        return self.raw_passes

    @property
    def logits(self) -> NDArray[np.float32]:
        """Logits (N, C), or (T, C) where every token is read."""
        logits: NDArray[np.float32] = self.passes.logits.numpy()
        return logits

    def require(self, *heads: str, what: str) -> None:
        """Raise StudyError unless the model's head is one of `heads`: `what` makes no sense for others."""
        if self.bench.model.head.name not in heads:
            raise StudyError(f"{what} needs a task of {' or '.join(heads)}, this one is {self.bench.model.head.name}")

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) predicted classes."""
        return self.passes.logits.argmax(1).numpy()

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether each prediction is the label."""
        return np.equal(self.predictions, self.labels)

    @cached_property
    def spans(self) -> Spans:
        """Best answer of each question; StudyError for data without answers."""
        if self.data.answers is None:
            raise StudyError("answers need a task whose examples say which ones are right (Encoded.answers)")
        return best_spans(self.logits, self.data)

    @property
    def trace(self) -> Trace:
        """Tokens per example and layer that the passes computed."""
        return self.passes.trace
