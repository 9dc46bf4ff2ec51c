"""What objectives see: the supernet under one plan on one split, on one device, with the passes already made.

Axes: N examples, C classes, B examples of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.baselines import baseline_plan
from searchkit.evaluate.prefix import Cache, Walk, can_share
from searchkit.records import Candidate, Scalar
from searchkit.reduction.device import device_of, dtype_of, environment
from searchkit.reduction.encoder import Trace
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.training.base import Recipe, as_tokens
from searchkit.training.plans import plan

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded, Labels


log = logging.getLogger(__name__)

# logits (N, C), or (T, C) where every token is read, and trace of a whole split, in the data's order, on the CPU
Passes = tuple[Tensor, Trace]


@dataclass(frozen=True, eq=False)
class SupernetWorkbench:
    """Weights, data and conditions, as plain arrays that travel between processes.

    config: the transformers config as a dict; head: a name of `HEADS`; weights: name -> float32 array; data: the split;
    padded_to: the length that the padded accounting of the papers assumes; threads: 0 leaves torch's choice;
    cache_bytes: what may be kept of prefixes that later candidates may share
    """

    config: Mapping[str, Any]
    head: str
    weights: Mapping[str, NDArray[np.float32]]
    recipe: Recipe
    data: Encoded
    padded_to: int
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    token_budget: int = 4096
    cache_bytes: int = 1 << 29

    @classmethod
    def of_folder(
        cls, folder: str, recipe: Recipe, data: Encoded, padded_to: int, **conditions: Any
    ) -> SupernetWorkbench:
        """From a trained supernet's folder."""
        model = AdaptiveModel.load(folder)
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return cls(model.stock.config.to_dict(), model.head.name, weights, recipe, data, padded_to, **conditions)

    def build(self) -> SupernetBench:
        """The bench in this process; sets torch's number of threads."""
        if self.threads:
            torch.set_num_threads(self.threads)
        device = device_of(self.device)
        model = _model(self.config, self.head, self.weights).to(device, dtype_of(self.dtype, device)).eval()
        return SupernetBench(model, self.recipe, self.data, self.padded_to, self.token_budget, Cache(self.cache_bytes))


def _model(config: Mapping[str, Any], head: str, weights: Mapping[str, NDArray[np.float32]]) -> AdaptiveModel:
    import transformers

    stock = getattr(transformers, HEADS[head].auto_class).from_config(
        transformers.AutoConfig.for_model(**config), dtype=torch.float32, trust_remote_code=False
    )
    model = AdaptiveModel(stock)
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return model


@dataclass(frozen=True, eq=False)
class SupernetBench:
    """A supernet in evaluation mode with one split, ready to be seen under any plan."""

    model: AdaptiveModel
    recipe: Recipe
    data: Encoded
    padded_to: int
    token_budget: int
    cache: Cache = field(default_factory=lambda: Cache(0))
    _prepared: dict[str, Passes] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        return environment(self.device, next(self.model.parameters()).dtype)

    @cached_property
    def batches(self) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Example numbers (B,) and tokens of every batch, sorted by length; made once, kept on the device."""
        return [(rows, self.tokens(rows)) for rows in self.data.batches(self.token_budget)]

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        """These examples, packed, on the device."""
        return as_tokens(self.data.take(rows)).to(self.device)

    def subject(self, candidate: Candidate) -> Subject:
        return Subject(self, candidate, self.plan(candidate), self._prepared.pop(candidate.key, None))

    def plan(self, candidate: Candidate) -> ReductionPlan:
        """What the candidate, or the baseline it names, means here."""
        layers = self.model.shape.layers
        if "baseline" in candidate:
            return baseline_plan(candidate, layers, self.data.marks, self.model.head.name)
        return plan(self.recipe, candidate, layers)

    def prepare(self, candidates: Sequence[Candidate]) -> None:
        """Make the passes of these candidates together; their subjects then have them."""
        passes = self.passes([self.plan(candidate) for candidate in candidates])
        self._prepared.update(zip((candidate.key for candidate in candidates), passes, strict=True))

    def passes(self, plans: Sequence[ReductionPlan]) -> list[Passes]:
        """Every plan on the whole split. What a plan gets does not depend on the others, nor on what was kept."""
        like = self.recipe.like
        shared = [can_share(plan, like) for plan in plans]
        if not all(shared):
            log.info(
                "%d of %d candidates score in another way than the recipe and are evaluated alone",
                shared.count(False),
                len(plans),
            )
        together = [plan for plan, can in zip(plans, shared, strict=True) if can]
        self.cache.begin(together)
        done: list[list[tuple[Tensor, Trace]]] = [[] for _ in plans]
        with torch.inference_mode():
            for number, (_, tokens) in enumerate(self.batches):
                walked = iter(Walk(self.model, tokens, together, like, self.cache, number).predicted())
                for plan, can, parts in zip(plans, shared, done, strict=True):
                    predicted = next(walked) if can else self.model(tokens, plan)
                    parts.append((predicted.logits.float().cpu(), predicted.trace.cpu()))
        return [self._in_order(parts) for parts in done]

    def _in_order(self, parts: Sequence[tuple[Tensor, Trace]]) -> Passes:
        """Logits and trace of all batches in the data's order."""
        order = np.concatenate([rows for rows, _ in self.batches])
        logits = torch.cat([logits for logits, _ in parts])
        back = torch.as_tensor(order).argsort()
        rows = back if len(logits) == len(order) else _rows_of(self.data.lengths[order], back)
        return logits[rows], Trace.concatenated([trace for _, trace in parts]).take(back)

    @property
    def unreduced(self) -> Subject:
        """The supernet with nothing dropped: the baseline of every cost. Not kept: a bench and all it holds would be
        garbage only once Python looks for cycles."""
        return Subject(self, Candidate.of(), ReductionPlan.unreduced(self.model.shape.layers))


@dataclass(frozen=True, eq=False)
class Subject:
    """One candidate on a bench; `prepared` are its passes, where they were made with those of others."""

    bench: SupernetBench
    candidate: Candidate
    plan: ReductionPlan
    prepared: Passes | None = None

    @property
    def labels(self) -> Labels:
        return self.bench.data.labels

    def forward(self, tokens: Tokens) -> Tensor:
        """One pass over a batch alone, as it would be deployed: logits (B, C), or (T, C) of every token, float32."""
        with torch.inference_mode():
            return self.bench.model(tokens, self.plan).logits.float()  # type: ignore[no-any-return]

    @cached_property
    def passes(self) -> Passes:
        """logits (N, C), or (T, C) of every token, and trace of the whole split, in the data's order, on the CPU."""
        (made,) = [self.prepared] if self.prepared is not None else self.bench.passes([self.plan])
        if not torch.isfinite(made[0]).all():
            raise TrialError("the model's logits are not finite", kind="nan")
        return made

    @property
    def logits(self) -> NDArray[np.float32]:
        """(N, C), or (T, C) where every token is read."""
        logits: NDArray[np.float32] = self.passes[0].numpy()
        return logits

    def require(self, *heads: str, what: str) -> None:
        """StudyError unless the model's head is one of `heads`: `what` makes no sense for others."""
        if self.bench.model.head.name not in heads:
            raise StudyError(f"{what} needs a task of {' or '.join(heads)}, this one is {self.bench.model.head.name}")

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) predicted classes."""
        return self.passes[0].argmax(1).numpy()

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether each prediction is the label."""
        return np.equal(self.predictions, self.labels)

    @property
    def trace(self) -> Trace:
        """Tokens per example and layer that the passes computed."""
        return self.passes[1]


def _rows_of(lengths: NDArray[np.int64], chosen: Tensor) -> Tensor:
    """(T,) the rows of the chosen examples' tokens, packed in examples of `lengths`."""
    layout = Layout.of_lengths(torch.as_tensor(lengths))
    picked = Layout.of_lengths(layout.lengths[chosen])
    return picked.positions + layout.offsets[chosen][picked.examples]
