"""Workbench of a supernet: weights, data and settings as plain arrays, from which any process builds a bench."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner, Rival
from searchkit.evaluate.split import Split
from searchkit.reduction.device import alone_in_fp32, device_of, dtype_of
from searchkit.reduction.heads import HEADS
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plugins import PlugIn, registered, take_over
from searchkit.training.recipe import Recipe

if TYPE_CHECKING:
    from searchkit.objective import Constraint
    from searchkit.tasks.base import Encoded


Weights = Mapping[str, NDArray[np.float32]]  # by name
MakeRunner = Callable[[AdaptiveModel, Recipe], PlanRunner]


@dataclass(frozen=True, eq=False)
class RivalParts:
    """A rival as plain data: what differs from the supernet that it is measured beside; None: the same.

    config: the transformers config as a dict; weights: name -> float32 array, at least those of that model; data: the
    split as its own tokenizer encodes it; runner: its runtime
    """

    config: Mapping[str, Any] | None = None
    weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    data: Encoded | None = None
    runner: MakeRunner | None = None


@dataclass(frozen=True, eq=False)
class SupernetWorkbench:
    """Weights, data and conditions, as plain arrays that travel between processes.

    config: the transformers config as a dict; head: a name of `HEADS`; weights: name -> float32 array; data: the split;
    padded_to: the length that the padded accounting of the papers assumes; threads: 0 leaves torch's choice;
    cache_bytes: room for prefixes that later candidates may share; shards: parts of the split, for racing; constraints:
    limits on candidates; tables: calibration tables of modelled objectives, by name; plug_ins: what was registered
    where it was made; keeps_outputs: trials bring along what the model predicted; rivals: other models with the same
    head, by the key of the candidate that names each; runner: makes that of the supernet, in the runtime that is asked
    for
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
    cache_bytes: int = 1 << 30
    shards: int = 1
    constraints: tuple[Constraint, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    plug_ins: tuple[PlugIn, ...] = field(default_factory=registered)
    keeps_outputs: bool = False
    rivals: Mapping[str, RivalParts] = field(default_factory=dict)
    runner: MakeRunner = PlanRunner

    @classmethod
    def of_folder(
        cls, folder: str, recipe: Recipe, data: Encoded, padded_to: int, **conditions: Any
    ) -> SupernetWorkbench:
        """Read the workbench from a trained supernet's folder."""
        model = load_model(folder)
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return cls(model.stock.config.to_dict(), model.head.name, weights, recipe, data, padded_to, **conditions)

    def build(self) -> SupernetBench:
        """Build the bench in this process; sets torch's number of threads, and registers the plug-ins."""
        take_over(self.plug_ins)
        if self.threads:
            torch.set_num_threads(self.threads)
        model = self._model(self.config, self.weights)
        return SupernetBench(
            self._run_by(self.runner, model, self.config, self.weights),
            self.data,
            self.padded_to,
            self.token_budget,
            self.cache_bytes,
            self.shards,
            self.constraints,
            self.tables,
            self.keeps_outputs,
            {key: self._rival(parts, model) for key, parts in self.rivals.items()},
        )

    def _model(self, config: Mapping[str, Any], weights: Weights) -> AdaptiveModel:
        device = device_of(self.device)
        return _model(config, self.head, weights).to(device, dtype_of(self.dtype, device)).frozen()

    def _run_by(
        self, kind: MakeRunner, model: AdaptiveModel, config: Mapping[str, Any], weights: Weights
    ) -> PlanRunner:
        runner = kind(model, self.recipe)
        if kind is not PlanRunner or not alone_in_fp32(self.dtype, runner.device):
            return runner
        return replace(runner, alone=partial(_in_fp32, config, self.head, weights))

    def _rival(self, parts: RivalParts, supernet: AdaptiveModel) -> Rival:
        model = supernet if parts.config is None else self._model(parts.config, parts.weights)
        config, weights = (self.config, self.weights) if parts.config is None else (parts.config, parts.weights)
        runner = self._run_by(parts.runner or self.runner, model, config, weights)
        return Rival(runner, Split(parts.data or self.data, runner.device, self.token_budget))


def _in_fp32(config: Mapping[str, Any], head: str, weights: Weights) -> AdaptiveModel:
    return _model(config, head, weights).frozen()


def _model(config: Mapping[str, Any], head: str, weights: Weights) -> AdaptiveModel:
    import transformers

    stock = getattr(transformers, HEADS[head].auto_class).from_config(
        transformers.AutoConfig.for_model(**config), dtype=torch.float32, trust_remote_code=False
    )
    model = AdaptiveModel(stock)
    model.load_state_dict({name: torch.tensor(weights[name]) for name in model.state_dict()})
    return model
