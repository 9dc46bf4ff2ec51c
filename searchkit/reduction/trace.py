"""Traces: the tokens that each layer of a pass computed, counted while it runs or from the plan alone.

Axes: B examples, N layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from searchkit.reduction.families import Block
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import Predictors, Scorer, scorer_of


@dataclass(frozen=True, eq=False)
class Trace:
    """Counts of the tokens that a pass computed: int64, per example (B,) or per example and layer (B, N).

    tokens: (B,) tokens of the whole example; attention: tokens that entered attention, as keys and values; queries:
    those of them that asked; feed_forward: tokens that entered the feed-forward part; scoring: the multiply-accumulates
    spent on scores, 0 where a length drops nothing from the example; the input's stand in layer 0
    """

    tokens: Tensor
    attention: Tensor
    queries: Tensor
    feed_forward: Tensor
    scoring: Tensor

    @classmethod
    def of_unreduced(cls, lengths: Tensor, layers: int, *, first_only: bool = False) -> Trace:
        """The trace of examples of these (B,) lengths with nothing dropped."""
        full = lengths[:, None].expand(-1, layers)
        return cls.of_kept(lengths, full, torch.zeros_like(full), first_only=first_only)

    @classmethod
    def of_kept(cls, lengths: Tensor, kept: Tensor, scoring: Tensor, *, first_only: bool = False) -> Trace:
        """The trace where `kept` (B, N) tokens enter both parts of a layer."""
        queries = torch.cat([kept[:, :-1], torch.ones_like(kept[:, -1:])], 1) if first_only else kept
        return cls(lengths, kept, queries, queries, scoring)

    @classmethod
    def concatenated(cls, traces: Sequence[Trace]) -> Trace:
        columns = ([getattr(trace, field.name) for trace in traces] for field in fields(cls))
        return cls(*map(torch.cat, columns))

    def each(self, change: Callable[[Tensor], Tensor]) -> Trace:
        """Apply the same change to every column."""
        return Trace(*(change(getattr(self, field.name)) for field in fields(self)))

    def take(self, rows: Tensor) -> Trace:
        return self.each(lambda column: column[rows])

    def cpu(self) -> Trace:
        return self.each(Tensor.cpu)


class Counter(Protocol):
    """What a pass has counted. Its trace, with the cost of scores, is made on demand."""

    def trace(self) -> Trace: ...

    def tokens(self) -> Tensor:
        """(1 + 2 * N,) tokens of all examples: as they came, in each layer's attention, in each feed-forward part.

        Far cheaper than the trace.
        """


class Tally:
    """Counter of a pass, layer by layer; the trace is made from it on demand."""

    def __init__(self, whole: Layout, width: int) -> None:
        self._whole, self._width = whole, width
        self._nothing = torch.zeros_like(whole.lengths)
        self._layers: list[tuple[Tensor, Tensor, Tensor]] = []  # (B,) in attention, asking, in the feed-forward part
        self._scorings: list[_Scoring] = []

    def fork(self) -> Tally:
        """Copy that counts independently from here on."""
        copied = Tally(self._whole, self._width)
        copied._layers, copied._scorings = list(self._layers), list(self._scorings)
        return copied

    @property
    def layers(self) -> int:
        """Number of layers counted."""
        return len(self._layers)

    def layer(self, attended: Tensor, layout: Layout) -> None:
        """Count a layer: (B,) `attended` tokens entered its attention, those of `layout` its feed-forward part."""
        self._layers.append((attended, attended, layout.lengths))

    def first_tokens(self, attended: Tensor) -> None:
        """Count a layer that is computed for each example's first token alone."""
        ones = torch.ones_like(self._nothing)
        self._layers.append((attended, ones, ones))

    def skipped(self) -> None:
        """Count a layer that is not computed."""
        self._layers.append((self._nothing, self._nothing, self._nothing))

    def scoring(self, layer: int, reducer: Reducer, scorer: Scorer, layout: Layout, heads: int) -> None:
        """Count the scoring of the tokens of `layout`; its cost is computed with the trace."""
        self._scorings.append(_Scoring(layer, reducer, scorer, self._whole, layout, self._width, heads))

    def tokens(self) -> Tensor:
        attention, _, feed_forward = zip(*self._layers, strict=True)
        return torch.stack([self._whole.lengths, *attention, *feed_forward]).sum(1)

    def trace(self) -> Trace:
        attention, queries, feed_forward = (torch.stack(column, 1) for column in zip(*self._layers, strict=True))
        scoring = torch.zeros_like(attention)
        for scored in self._scorings:
            scoring[:, scored.layer] += scored.macs()
        return Trace(self._whole.lengths, attention, queries, feed_forward, scoring)


@dataclass(frozen=True, eq=False)
class _Scoring:
    """Tokens that a reducer scored at a layer."""

    layer: int
    reducer: Reducer
    scorer: Scorer
    whole: Layout
    layout: Layout
    width: int
    heads: int

    def macs(self) -> Tensor:
        """(B,) the cost of the scores; a length that drops nothing from an example needs no scores of it."""
        cost = self.scorer.macs(self.layout, width=self.width, heads=self.heads)
        if self.scorer.needs_values and self.reducer.site == "before_attention":
            cost = cost + self.width**2 * self.layout.lengths
        if self.reducer.threshold is not None:
            return cost
        shorter = self.reducer.counts(self.whole, self.layout) < self.layout.lengths
        return torch.where(shorter, cost, torch.zeros_like(cost))


def static_trace(
    blocks: Sequence[Block],
    whole: Layout,
    plan: ReductionPlan,
    *,
    width: int,
    predictors: Predictors | None = None,
    first_only: bool = False,
) -> Trace | None:
    """Trace of `encode` without a pass; None where it depends on the content of the examples.

    whole: their layout; width: D.
    """
    if not plan.cost_is_static:
        return None
    tally, layout = Tally(whole, width), whole

    def reduced(reducer: Reducer | None, layer: int, layout: Layout) -> Layout:
        if reducer is None or not reducer.may_drop(whole, layout):
            return layout
        tally.scoring(layer, reducer, scorer_of(reducer.scorer, layer, predictors), layout, blocks[layer].heads)
        return Layout.of_counts(reducer.counts(whole, layout))

    layout = reduced(plan.input, 0, layout)
    for number, reducers in enumerate(plan.layers):
        layout = reduced(reducers.before, number, layout)
        attended = layout.lengths
        if first_only and number == len(blocks) - 1:
            tally.first_tokens(attended)
            break
        layout = reduced(reducers.between, number, layout)
        tally.layer(attended, layout)
        layout = reduced(reducers.after, number, layout)
    return tally.trace()
