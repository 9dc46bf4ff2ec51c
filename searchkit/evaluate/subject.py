"""What objectives see: the supernet under one plan on one split, on one device, with the passes already made.

Axes: N examples, C classes, B examples of a batch.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit._progress import step
from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.baselines import baseline_plan
from searchkit.evaluate.energy import meter
from searchkit.evaluate.racing import RaceState, SequentialTest
from searchkit.evaluate.threads import side_by_side
from searchkit.objective import Kept
from searchkit.records import Candidate, Pruned, Scalar
from searchkit.reduction.cost import Shape
from searchkit.reduction.device import device_of, dtype_of, environment, give_back_memory
from searchkit.reduction.encoder import Trace
from searchkit.reduction.heads import HEADS
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.prefix_tree import Cache, Walk, can_share, prefixes
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.training.packing import as_tokens
from searchkit.training.plans import plan
from searchkit.training.recipe import Recipe

if TYPE_CHECKING:
    from searchkit.objective import Constraint
    from searchkit.tasks.base import Encoded, Labels


log = logging.getLogger(__name__)

LESS: Final = 4  # times fewer tokens in a batch, once memory ran out

# logits (N, C), or (T, C) where every token is read, and trace of a whole split, in the data's order, on the CPU
Passes = tuple[Tensor, Trace]


@dataclass(frozen=True, eq=False)
class SupernetWorkbench:
    """Weights, data and conditions, as plain arrays that travel between processes.

    config: the transformers config as a dict; head: a name of `HEADS`; weights: name -> float32 array; data: the split;
    padded_to: the length that the padded accounting of the papers assumes; threads: 0 leaves torch's choice;
    cache_bytes: what may be kept of prefixes that later candidates may share; shards: parts of the split, for racing;
    constraints: what candidates may not exceed; tables: what modelled objectives know of the device, by name
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
        model = _model(self.config, self.head, self.weights).to(device, dtype_of(self.dtype, device)).frozen()
        return SupernetBench(
            model,
            self.recipe,
            self.data,
            self.padded_to,
            self.token_budget,
            self.cache_bytes,
            self.shards,
            self.constraints,
            self.tables,
        )


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
    """A supernet in evaluation mode with one split, ready to be seen under any plan; `limits` are the constraints as
    the study gives them."""

    model: AdaptiveModel
    recipe: Recipe
    data: Encoded
    padded_to: int
    token_budget: int
    cache_bytes: int = 0
    parts: int = 1
    limits: tuple[Constraint, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    _prepared: dict[str, Passes] = field(default_factory=dict, init=False)
    _remembered: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @cached_property
    def caches(self) -> list[Cache]:
        """One for each batch, with room by its number of tokens."""
        tokens = [len(batch.ids) for _, batch in self.batches]
        return [Cache(self.cache_bytes * count // sum(tokens)) for count in tokens]

    @cached_property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def constraints(self) -> tuple[Constraint, ...]:
        """The limits as numbers: where one is relative, the unreduced model is measured, once."""
        unreduced = self.unreduced
        return tuple(
            limit if limit.within is None else limit.against(limit.objective.measure(unreduced).value)
            for limit in self.limits
        )

    @cached_property
    def environment(self) -> Mapping[str, Scalar]:
        own = environment(self.device, next(self.model.parameters()).dtype)
        return {**own, "energy": meter(self.device).why}

    @cached_property
    def batches(self) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Example numbers (B,) and tokens of every batch, sorted by length; made once, kept on the device."""
        return [(rows, self.tokens(rows)) for rows in self.data.even_batches(self.token_budget)]

    @cached_property
    def whole(self) -> Layout:
        """The layout of all examples, on the CPU."""
        return as_tokens(self.data).layout

    @cached_property
    def shards(self) -> list[Shard]:
        """The split in `parts` parts drawn at random, the same in every process; whole questions together.

        Fewer where a part would have less than a batch of tokens, but two: small passes cost more than early verdicts
        save.
        """
        units = self.data.units
        drawn = np.random.default_rng(0).permutation(units.max() + 1)
        worthwhile = max(2, len(self.data.ids) // self.token_budget)
        parts = np.array_split(drawn, min(self.parts, worthwhile, len(drawn)))
        room = self.cache_bytes // len(parts)
        shards = []
        for part in parts:
            rows = np.flatnonzero(np.isin(units, part))
            bench = replace(self, data=self.data.take(rows), cache_bytes=room, parts=1)
            shards.append(Shard(bench, rows, np.sort(part)))
        return shards

    def smaller(self) -> SupernetBench:
        """In less memory: batches of a quarter of the tokens, no prefixes kept; a race has the same parts."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._prepared.clear()
        budget = max(1, self.token_budget // LESS)
        return replace(self, token_budget=budget, cache_bytes=0, parts=len(self.shards))

    def remembered(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """The result of the first `compute` under this key: a reference that later measurements share."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        return self._remembered[key]  # type: ignore[no-any-return]

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        """These examples, packed, on the device."""
        return as_tokens(self.data.take(rows)).to(self.device)

    def subject(self, candidate: Candidate) -> SupernetSubject:
        return SupernetSubject(self, candidate, self.plan(candidate), self._prepared.pop(candidate.key, None))

    def plan(self, candidate: Candidate) -> ReductionPlan:
        """What the candidate, or the baseline it names, means here."""
        layers = self.model.shape.layers
        if "baseline" in candidate:
            return baseline_plan(candidate, layers, self.data.marks, self.model.head.name)
        return plan(self.recipe, candidate, layers)

    def prepare(self, candidates: Sequence[Candidate], race: RaceState | None = None) -> dict[str, Pruned]:
        """Make the passes of these candidates together; their subjects then have them. The verdict on others, by key:
        a constraint turns them down beforehand, or they lose the race."""
        turned_down = {one.key: broken for one in candidates if (broken := self._breaks(one, self.plan(one)))}
        return turned_down | self._raced([one for one in candidates if one.key not in turned_down], race)

    def _breaks(self, candidate: Candidate, plan: ReductionPlan) -> Pruned | None:
        """The verdict of a constraint that the plan breaks whatever the model says; None if there is none."""
        traced = [one for one in self.constraints if one.objective.traced]
        static = self._static_subject(candidate, plan) if traced else None
        if static is None:
            return None
        return next(filter(None, (one.verdict(one.objective.measure(static).value, 0) for one in traced)), None)

    def _raced(self, candidates: Sequence[Candidate], race: RaceState | None) -> dict[str, Pruned]:
        plans = [self.plan(candidate) for candidate in candidates]
        heats = (
            [SequentialTest(race, self._costs(race, *pair)) for pair in zip(candidates, plans, strict=True)]
            if race and race.rivals
            else []
        )
        lost: dict[str, Pruned] = {}
        going, done = list(range(len(plans))), [[] for _ in plans]  # type: list[int], list[list[Passes]]
        for shard in self.shards:
            for one, made in zip(going, shard.bench.walked([plans[one] for one in going]), strict=True):
                done[one].append(made)
            if not heats or shard is self.shards[-1]:
                continue
            for one in list(going):
                subject = SupernetSubject(shard.bench, candidates[one], plans[one], done[one][-1])
                verdict = heats[one].stops(subject, shard.units, shard.rows)
                if verdict is not None:
                    lost[candidates[one].key] = verdict
                    going.remove(one)
            if not going:
                break
        for one in going:
            self._prepared[candidates[one].key] = self._joined(done[one])
        return lost

    def _costs(self, race: RaceState, candidate: Candidate, plan: ReductionPlan) -> NDArray[np.float64] | None:
        """(N,) what each example will cost; None where its content decides."""
        assert race.cost.examples is not None
        static = self._static_subject(candidate, plan) if race.cost.traced else None
        return None if static is None else race.cost.examples(static)

    def _static_subject(self, candidate: Candidate, plan: ReductionPlan) -> SupernetSubject | None:
        """A subject with a trace and no logits, where the plan alone decides what is computed."""
        trace = self.model.static_trace(self.whole, plan)
        return None if trace is None else SupernetSubject(self, candidate, plan, (torch.empty(0), trace))

    def passes(self, plans: Sequence[ReductionPlan]) -> list[Passes]:
        """Every plan on the whole split. What a plan gets does not depend on the others, nor on what was kept."""
        by_shard = [shard.bench.walked(plans) for shard in self.shards]
        return [self._joined(parts) for parts in zip(*by_shard, strict=True)]

    def _joined(self, parts: Sequence[Passes]) -> Passes:
        """The passes of all shards as those of the split."""
        if len(parts) == 1:
            return parts[0]
        return self._in_order(np.concatenate([shard.rows for shard in self.shards]), parts)

    def walked(self, plans: Sequence[ReductionPlan]) -> list[Passes]:
        """Every plan on the data as one shard."""
        like = self.recipe.reducer_template
        shared = [can_share(plan, like) for plan in plans]
        if not all(shared):
            alone = shared.count(False)
            log.info("%d of %d candidates do not score as the recipe does and are evaluated alone", alone, len(plans))
        together = [plan for plan, can in zip(plans, shared, strict=True) if can]
        asked = prefixes(together)
        number = itertools.count(1)

        def on_batch(tokens: Tokens, cache: Cache) -> list[Passes]:
            step(f"{len(plans)} candidates: batch {next(number)} of {len(self.batches)}")
            with torch.inference_mode():  # which is the thread's own
                cache.begin(asked)
                walked = iter(Walk(self.model, tokens, together, like, cache).predicted())
                every = (
                    next(walked) if can else self.model(tokens, plan) for plan, can in zip(plans, shared, strict=True)
                )
                found = [(predicted.logits.float().cpu(), predicted.trace.cpu()) for predicted in every]
            if cache.budget and self.device.type == "cpu":
                give_back_memory()  # from between the nodes that are kept, half as much as these take
            return found

        batches = [(tokens, cache) for (_, tokens), cache in zip(self.batches, self.caches, strict=True)]
        if self.device.type == "cpu":
            by_batch = side_by_side(lambda batch: on_batch(*batch), batches)
        else:
            by_batch = [on_batch(*batch) for batch in batches]
        order = np.concatenate([rows for rows, _ in self.batches])
        return [self._in_order(order, parts) for parts in zip(*by_batch, strict=True)]

    def _in_order(self, order: NDArray[np.int64], parts: Sequence[Passes]) -> Passes:
        """Passes that come in this order of examples, in the data's order."""
        logits, back = torch.cat([logits for logits, _ in parts]), torch.as_tensor(order).argsort()
        rows = back if len(logits) == len(order) else _rows_of(self.data.lengths[order], back)
        return logits[rows], Trace.concatenated([trace for _, trace in parts]).take(back)

    @property
    def unreduced(self) -> SupernetSubject:
        """The supernet with nothing dropped: the baseline of every cost. Not kept: a bench and all it holds would be
        garbage only once Python looks for cycles."""
        return SupernetSubject(self, Candidate.of(), ReductionPlan.unreduced(self.model.shape.layers))


@dataclass(frozen=True, eq=False)
class Shard:
    """A part of a split: a bench of its own, its examples' `rows` in the split, its `units` (examples or questions)."""

    bench: SupernetBench
    rows: NDArray[np.int64]
    units: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SupernetSubject:
    """One candidate on a bench; `prepared` are its passes, where they were made with those of others."""

    bench: SupernetBench
    candidate: Candidate
    plan: ReductionPlan
    prepared: Passes | None = None

    @property
    def data(self) -> Encoded:
        return self.bench.data

    @property
    def labels(self) -> Labels:
        return self.bench.data.labels

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each example."""
        return self.bench.data.lengths

    @property
    def units(self) -> NDArray[np.int64]:
        """(N,) the unit of each example."""
        return self.bench.data.units

    @property
    def reference(self) -> SupernetSubject:
        return self.bench.unreduced

    @property
    def shape(self) -> Shape:
        return self.bench.model.shape

    @property
    def padded_to(self) -> int:
        return self.bench.padded_to

    @property
    def limit(self) -> int:
        return self.bench.model.view.limit

    @property
    def weights_bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.bench.model.parameters())

    @property
    def device(self) -> torch.device:
        return self.bench.device

    @property
    def tables(self) -> Mapping[str, Any]:
        return self.bench.tables

    def tokens(self, rows: NDArray[np.int64]) -> Tokens:
        return self.bench.tokens(rows)

    def remembered(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        return self.bench.remembered(key, compute)

    def forward(self, tokens: Tokens) -> Tensor:
        """One pass over a batch alone, as it would be deployed: logits (B, C), or (T, C) of every token, float32."""
        with torch.inference_mode():
            return self.bench.model(tokens, self.plan).logits.float()  # type: ignore[no-any-return]

    def trace_of(self, tokens: Tokens) -> Trace:
        with torch.inference_mode():
            trace: Trace = self.bench.model(tokens, self.plan).trace.cpu()
        return trace

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
