"""The forward pass with reducers softened for training: nothing is dropped, tokens fade by weights in [0, 1].

The contract: with weights of exactly 0 and 1 the result is that of `encode` under the same decisions, to 1e-5 in
float32 at any scale of the logits. A faded token is a key of that weight in every later attention (`weighted_softmax`),
so a weight of 0 is its absence; multiplying states or probabilities alone, as the published codes do, is not.

Axes: B examples, T tokens in all, D width, P slots (the input, then the layers).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from searchkit.reduction.attention import attend
from searchkit.reduction.families import Block
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import Predictors, Scorer, Seen, scorer_of
from searchkit.reduction.state import Restored


@dataclass(frozen=True, eq=False)
class Decision:
    """Inputs of a relaxation at one slot: its number (the input is 0), the scorer, and its inputs and scores.

    scores: (T,) float32; protected: (T,) bool; alive: (T,) weights so far; layout: of the whole examples
    """

    slot: int
    reducer: Reducer
    scorer: Scorer
    seen: Seen
    scores: Tensor
    protected: Tensor

    @property
    def alive(self) -> Tensor:
        assert self.seen.alive is not None, "a relaxed pass always has weights"
        return self.seen.alive

    @property
    def layout(self) -> Layout:
        return self.seen.layout


class Relaxation(Protocol):
    """Protocol of a softened decision."""

    @property
    def fades_states(self) -> bool:
        """Return whether a token's state is multiplied by its weight where it fades (PoWER-BERT, LTP)."""

    def weights(self, decision: Decision) -> Tensor:
        """(T,) factors in [0, 1] of the weights so far; protected tokens stay at 1 whatever the factor."""


@dataclass(frozen=True)
class Hard:
    """Relaxation by the reducers' own decisions: the result of `encode` without dropping anything."""

    fades_states: bool = False

    def weights(self, decision: Decision) -> Tensor:
        rows, living = decision.layout.select(decision.alive > 0)
        kept = decision.reducer.kept(decision.scores[rows], decision.layout, living)
        return torch.zeros_like(decision.scores).index_fill(0, rows[kept], 1.0)


@dataclass(frozen=True, eq=False)
class Faded:
    """Result of a relaxed pass: hidden (T, D) of all tokens, alive (P, T) the weights after each slot, and the buffer.

    scores: slot -> (T,) what its scorer said, for the slots that have a reducer
    """

    hidden: Tensor
    alive: Tensor
    scores: dict[int, Tensor]
    restored: Restored


def fade(
    blocks: Sequence[Block],
    hidden: Tensor,
    layout: Layout,
    plan: ReductionPlan,
    relaxation: Relaxation,
    *,
    predictors: Predictors | None = None,
    training: bool = False,
    attention_dropout: bool = True,
    skip: Collection[int] = (),
) -> Faded:
    """Relaxed form of `encode`: `plan` has sites and scorers of the reducers, `relaxation` makes the decision."""
    run = _Pass(hidden, layout, relaxation, predictors)
    run.reduce(plan.input, 0, blocks[0])
    for number, (block, reducers) in enumerate(zip(blocks, plan.layers, strict=True)):
        run.values = None
        if number not in skip:
            run.reduce(reducers.before, number + 1, block)
            dropout = block.attention_dropout if training and attention_dropout else 0.0
            attention = run.attend(block, dropout, reducers.later)
            run.reduce(reducers.between, number + 1, block, attention)
            run.hidden = block.transformed(run.hidden)
            run.remember()
            run.reduce(reducers.after, number + 1, block, attention)
        run.history.append(run.alive)
    discarded = run.discarded
    restored = Restored(run.buffer.masked_fill(discarded[:, None], 0.0), discarded)
    return Faded(run.hidden, torch.stack(run.history), run.scores, restored)


class _Pass:
    """State of a relaxed pass: all tokens, with their weights."""

    def __init__(self, hidden: Tensor, layout: Layout, relaxation: Relaxation, predictors: Predictors | None) -> None:
        self.hidden, self.layout, self.relaxation, self.predictors = hidden, layout, relaxation, predictors
        self.alive = torch.ones(
            len(hidden), device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32)
        )
        self.buffer = hidden
        self.discarded = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device)
        self.values: Tensor | None = None
        self.history: list[Tensor] = []
        self.scores: dict[int, Tensor] = {}

    def attend(self, block: Block, dropout: float, later: Reducer | None) -> Tensor | None:
        projected = block.projected(self.hidden, self.layout.positions)
        context, attention = attend(
            projected,
            self.layout,
            heads=block.heads,
            window=block.window,
            dropout=dropout,
            read=None if later is None else self.scorer(later, 1).read,
            weights=self.alive,
        )
        self.hidden, self.values = block.attended(self.hidden, context), projected.chunk(3, -1)[2]
        return attention

    def scorer(self, reducer: Reducer, slot: int) -> Scorer:
        return scorer_of(reducer.scorer, max(slot - 1, 0), self.predictors)

    def reduce(self, reducer: Reducer | None, slot: int, block: Block, attention: Tensor | None = None) -> None:
        if slot == 0:
            self.history.append(self.alive)
        if reducer is None:
            return
        hidden, values = self.hidden, self.values
        scorer = self.scorer(reducer, slot)
        compute = lambda: block.values(hidden) if values is None else values  # noqa: E731
        seen = Seen(hidden, self.layout, self.layout, compute, attention, self.alive)
        self.scores[slot] = scores = scorer.score(seen)
        protected = reducer.protected(self.layout, self.layout)
        decision = Decision(slot, reducer, scorer, seen, scores, protected)
        weights = self.relaxation.weights(decision).masked_fill(protected, 1.0)
        before, self.alive = self.alive, self.alive * weights
        if self.relaxation.fades_states:
            self.hidden = hidden * weights[:, None].to(hidden.dtype)
        if reducer.fate == "discard":
            self.discarded = self.discarded | ((self.alive <= 0) & (before > 0))
        if slot == 0:
            self.history[0] = self.alive

    def remember(self) -> None:
        """Write the states of tokens to the buffer, by their weights (Transkimmer's forwarding)."""
        alive = self.alive[:, None].to(self.buffer.dtype)
        self.buffer = self.buffer * (1 - alive) + self.hidden.to(self.buffer.dtype) * alive
