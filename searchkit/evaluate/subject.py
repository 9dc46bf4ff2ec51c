"""What objectives see: the supernet under one plan on one split, on one device, with the passes already made.

Axes: N examples, C classes, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit.errors import TrialError
from searchkit.records import Candidate, Scalar
from searchkit.reduction.device import device_of, dtype_of, environment
from searchkit.reduction.encoder import Trace
from searchkit.reduction.heads import AdaptiveClassifier
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.training.base import Recipe, as_tokens

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


@dataclass(frozen=True, eq=False)
class SupernetWorkbench:
    """Weights, data and conditions, as plain arrays that travel between processes.

    config: the transformers config as a dict; weights: name -> float32 array; data: the split to measure on;
    padded_to: the length that the padded accounting of the papers assumes; threads: 0 leaves torch's choice
    """

    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[np.float32]]
    recipe: Recipe
    data: Encoded
    padded_to: int
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    token_budget: int = 4096

    @classmethod
    def of_folder(
        cls, folder: str, recipe: Recipe, data: Encoded, padded_to: int, **conditions: Any
    ) -> SupernetWorkbench:
        """From a trained supernet's folder."""
        model = AdaptiveClassifier.load(folder).model
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return cls(model.config.to_dict(), weights, recipe, data, padded_to, **conditions)

    def build(self) -> SupernetBench:
        """The bench in this process; sets torch's number of threads."""
        if self.threads:
            torch.set_num_threads(self.threads)
        device = device_of(self.device)
        classifier = _classifier(self.config, self.weights).to(device, dtype_of(self.dtype, device)).eval()
        return SupernetBench(classifier, self.recipe, self.data, self.padded_to, self.token_budget)


def _classifier(config: Mapping[str, Any], weights: Mapping[str, NDArray[np.float32]]) -> AdaptiveClassifier:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(**config), dtype=torch.float32, trust_remote_code=False
    )
    model.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    return AdaptiveClassifier(model)


@dataclass(frozen=True, eq=False)
class SupernetBench:
    """A supernet in evaluation mode with one split, ready to be seen under any plan."""

    classifier: AdaptiveClassifier
    recipe: Recipe
    data: Encoded
    padded_to: int
    token_budget: int

    @cached_property
    def device(self) -> torch.device:
        return next(self.classifier.parameters()).device

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        return environment(self.device, next(self.classifier.parameters()).dtype)

    @cached_property
    def batches(self) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Example numbers (B,) and tokens of every batch, sorted by length; made once, kept on the device."""
        return [(rows, self.tokens(rows)) for rows in self.data.batches(self.token_budget)]

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        """These examples, packed, on the device."""
        part = self.data.take(rows)
        return as_tokens(part.ids, part.types, part.lengths).to(self.device)

    def subject(self, candidate: Candidate) -> Subject:
        plan = self.recipe.plan(candidate, self.classifier.shape.layers)
        return Subject(self, candidate, plan)

    @cached_property
    def unreduced(self) -> Subject:
        """The supernet with nothing dropped: the baseline of every cost."""
        return Subject(self, Candidate.of(), ReductionPlan.unreduced(self.classifier.shape.layers))


@dataclass(frozen=True, eq=False)
class Subject:
    """One candidate on a bench."""

    bench: SupernetBench
    candidate: Candidate
    plan: ReductionPlan
    labels: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.bench.data.labels)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Trace]:
        """One pass over a batch: logits (B, C) float32 and the trace."""
        with torch.inference_mode():
            result = self.bench.classifier(tokens, self.plan)
        return result.logits.float(), result.trace

    @cached_property
    def passes(self) -> tuple[Tensor, Trace]:
        """logits (N, C) and trace of the whole split, in the order of the data, on the CPU."""
        done = [(rows, *self.forward(tokens)) for rows, tokens in self.bench.batches]
        back = torch.as_tensor(np.concatenate([rows for rows, _, _ in done])).argsort()
        logits = torch.cat([logits.cpu() for _, logits, _ in done])[back]
        if not torch.isfinite(logits).all():
            raise TrialError("the model's logits are not finite", kind="nan")
        return logits, Trace.concatenated([trace.cpu() for _, _, trace in done]).take(back)

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
