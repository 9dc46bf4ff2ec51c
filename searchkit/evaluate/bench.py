"""Bench of a supernet: model and split in memory, to run under any plan."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import torch

from searchkit.evaluate.base import Prepared
from searchkit.evaluate.passes import Passes, joined
from searchkit.evaluate.plan_runner import PlanRunner, Rival
from searchkit.evaluate.racing import RaceState
from searchkit.evaluate.screening import resolved, screened
from searchkit.evaluate.split import Shard, Split
from searchkit.evaluate.subject import SupernetSubject
from searchkit.records import Candidate, Scalar
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan

if TYPE_CHECKING:
    from searchkit.objective import Constraint, Kept
    from searchkit.tasks.base import Encoded

LESS: Final = 4  # times fewer tokens in a batch, once memory ran out


@dataclass(frozen=True, eq=False)
class SupernetBench:
    """Model and recipe with one split.

    limits: the constraints as the study gives them; keeps_outputs: trials bring along what the model predicted; rivals:
    other models, by the key of the candidate that names each
    """

    runner: PlanRunner
    data: Encoded
    padded_to: int
    token_budget: int
    cache_bytes: int = 0
    parts: int = 1
    limits: tuple[Constraint, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    keeps_outputs: bool = False
    rivals: Mapping[str, Rival] = field(default_factory=dict)
    _remembered: dict[Hashable, Any] = field(default_factory=dict, init=False)

    @property
    def model(self) -> AdaptiveModel:
        return self.runner.model

    @property
    def device(self) -> torch.device:
        return self.runner.device

    @property
    def environment(self) -> Mapping[str, Scalar]:
        return self.runner.environment

    @cached_property
    def split(self) -> Split:
        return Split(self.data, self.device, self.token_budget, self.cache_bytes)

    @cached_property
    def shards(self) -> list[Shard]:
        """Parts of the split that candidates run through one after another."""
        return self.split.shards(self.parts)

    def resolved_constraints(self) -> tuple[Constraint, ...]:
        """Limits as numbers; where one is relative, the first call measures the unreduced model."""
        return self.remembered("constraints", lambda: resolved(self.limits, self.unreduced))

    def smaller(self) -> SupernetBench:
        """Bench of less memory: smaller batches, no prefixes kept, in this bench neither, the same parts."""
        for shard in self.shards:
            shard.split.forget()
        gc.collect()  # tracebacks of the failure may hold tensors in circles
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        budget = max(1, self.token_budget // LESS)
        rivals = {key: rival.smaller(budget) for key, rival in self.rivals.items()}
        return replace(self, token_budget=budget, cache_bytes=0, parts=len(self.shards), rivals=rivals)

    def remembered(self, key: Hashable, compute: Callable[[], Kept]) -> Kept:
        """Result of the first `compute` under this key, which later measurements share."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        return self._remembered[key]  # type: ignore[no-any-return]

    def subject(self, candidate: Candidate) -> SupernetSubject:
        if "rival" in candidate:
            rival = self.rivals[candidate.key]
            return SupernetSubject(self, candidate, rival.runner.unreduced, rival=rival)
        return SupernetSubject(self, candidate, self.plan(candidate))

    @property
    def unreduced(self) -> SupernetSubject:
        """The supernet with nothing dropped: the baseline of every cost. Not kept: a bench and all it holds would be
        garbage only once Python looks for cycles."""
        return SupernetSubject(self, Candidate.of(), self.runner.unreduced)

    def plan(self, candidate: Candidate) -> ReductionPlan:
        """Plan of a candidate, or of the baseline that it names."""
        return self.runner.plan(candidate, self.data.marks)

    def prepare(self, candidates: Sequence[Candidate], race: RaceState | None = None) -> Prepared:
        """The passes of these candidates, made together; verdicts on those that need no measurement.

        Rivals share nothing: their passes are made when they are measured.
        """
        own = (candidate for candidate in candidates if candidate.key not in self.rivals)
        subjects = {candidate.key: self.subject(candidate) for candidate in own}
        if not subjects:
            return Prepared()
        return screened(
            subjects.values(),
            self.resolved_constraints(),
            self.shards,
            race,
            self.runner.passes_over,
            keeps_outputs=self.keeps_outputs,
        )

    def passes(self, plans: Sequence[ReductionPlan]) -> list[Passes]:
        """Passes of every plan over the whole split; a plan's result depends neither on the others nor on the cache."""
        by_shard = [self.runner.passes_over(shard.split, plans) for shard in self.shards]
        return [joined(self.shards, parts, self.data.lengths) for parts in zip(*by_shard, strict=True)]
