"""The forward pass: blocks and a plan give hidden states and the trace of what was computed.

Axes: B examples, T tokens in all, D width, N layers.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from searchkit.reduction.attention import attend, attend_from_first
from searchkit.reduction.families import Block
from searchkit.reduction.matmul import piecewise, rowwise
from searchkit.reduction.plan import Ranked, Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import SCORERS, Scorer, Seen

# The trained scorer of a name at a layer; the input's has layer 0.
Predictors = Callable[[str, int], Scorer]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a pass computed: int64, per example (B,) or per example and layer (B, N).

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
        asked = torch.cat([kept[:, :-1], torch.ones_like(kept[:, -1:])], 1) if first_only else kept
        return cls(lengths, kept, asked, asked, scoring)

    @classmethod
    def concatenated(cls, traces: Sequence[Trace]) -> Trace:
        columns = ([getattr(trace, field.name) for trace in traces] for field in fields(cls))
        return cls(*map(torch.cat, columns))

    def each(self, change: Callable[[Tensor], Tensor]) -> Trace:
        """The same change to every column."""
        return Trace(*(change(getattr(self, field.name)) for field in fields(self)))

    def take(self, rows: Tensor) -> Trace:
        return self.each(lambda column: column[rows])

    def cpu(self) -> Trace:
        return self.each(Tensor.cpu)


@dataclass(frozen=True, eq=False)
class Restored:
    """Drop-and-Restore's buffer (LAT sec. 3.3): hidden (T, D), every token with the last state it reached.

    discarded: (T,) True for tokens of a reducer whose fate is `discard`; their state is zero
    """

    hidden: Tensor
    discarded: Tensor


@dataclass(frozen=True, eq=False)
class Encoding:
    """hidden (T', D) and layout of the tokens that reached the end, the trace on demand, `restored` if asked for."""

    hidden: Tensor
    layout: Layout
    traced: Callable[[], Trace]
    restored: Restored | None

    @functools.cached_property
    def trace(self) -> Trace:
        return self.traced()


def encode(
    blocks: Sequence[Block],
    hidden: Tensor,
    layout: Layout,
    plan: ReductionPlan,
    *,
    predictors: Predictors | None = None,
    training: bool = False,
    restore: bool = False,
    first_only: bool = False,
    skip: Collection[int] = (),
    after_first_attention: State | None = None,
) -> Encoding:
    """Run `hidden` (T, D), packed as `layout`, through the blocks, dropping tokens as the plan says.

    With `restore` the result carries the buffer: it starts as the embeddings, and survivors of each layer write their
    output to their original place. With `first_only` the last layer computes each example's first token and no other.
    Layers in `skip` are left out (LayerDrop), with their reducers. `after_first_attention` is the state of these tokens
    after the first attention, which is then not computed again; nothing may be dropped before it.
    """
    if len(plan.reducers) != len(blocks):
        raise ValueError(f"the plan has {len(plan.reducers)} layers, the encoder {len(blocks)}")
    state = (
        State(hidden, layout, predictors, restore) if after_first_attention is None else after_first_attention.fork()
    )
    state.reduce(plan.input, 0, blocks[0])
    for number, (block, reducer) in enumerate(zip(blocks, plan.reducers, strict=True)):
        if number in skip:
            state.leave_out()
            continue
        at = {reducer.site: reducer} if reducer is not None else {}
        state.reduce(at.get("before_attention"), number, block)
        if first_only and number == len(blocks) - 1:
            state.finish_first(block, training)
            continue
        later = at.get("between") or at.get("after_layer")
        scores = later is not None and later.may_drop(state.whole, state.layout)
        if number or after_first_attention is None:
            state.attend(block, number, later if scores else None, training)
        state.reduce(at.get("between"), number, block)
        state.transform(piecewise(block.transformed, state.hidden))
        state.reduce(at.get("after_layer"), number, block)
    return state.result()


class State:
    """The tokens on their way through the layers: what is alive, what it cost so far, and the buffer."""

    fewest = 0  # rows of a product; with 16 and more a row does not depend on the others

    def __init__(self, hidden: Tensor, layout: Layout, predictors: Predictors | None, restore: bool) -> None:
        self.hidden, self.layout, self.whole, self.predictors = hidden, layout, layout, predictors
        self.nothing = torch.zeros_like(layout.lengths)
        self.projected: Tensor | None = None  # query, key and value of the current layer, where they are known already
        self.values: Tensor | None = None  # of the current layer, once it has attended, where a scorer asks for them
        self.read: Tensor | None = None  # what a scorer took from its map
        self.attended = self.nothing  # (B,) tokens that entered its attention
        self.buffer = hidden if restore else None
        self.discarded = torch.zeros_like(layout.positions, dtype=torch.bool) if restore else None
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self.scoring: list[_Scoring] = []

    def fork(self) -> State:
        """A state that goes its own way from here; tensors are shared, none is ever changed in place."""
        other = copy.copy(self)
        other.seen, other.scoring = list(self.seen), list(self.scoring)
        return other

    def attend(self, block: Block, layer: int, scored_by: Reducer | None = None, training: bool = False) -> None:
        """The attention part, with what the scorer of a later reducer reads of the map."""
        scorer = None if scored_by is None else self.scorer(scored_by, layer)
        project = functools.partial(rowwise, block.projected, fewest=self.fewest)
        if self.projected is None and (torch.is_grad_enabled() or (scorer is not None and scorer.needs_values)):
            self.projected = project(self.hidden, self.layout.positions)
        context, self.read = attend(
            self.hidden if self.projected is None else self.projected,
            self.layout,
            project=project if self.projected is None else None,
            read=None if scorer is None else scorer.read,
            **_settings(block, training),
        )
        self.values = None if self.projected is None else self.projected.chunk(3, -1)[2]
        self.hidden = piecewise(block.attended, self.hidden, context)
        self.attended, self.projected = self.layout.lengths, None

    def finish_first(self, block: Block, training: bool = False) -> None:
        """The whole layer, for each example's first token alone."""
        first = self.layout.first
        query, others = block.projected_for(first, self.hidden, self.layout.positions)
        context = attend_from_first(query, others, self.layout, **_settings(block, training))
        self.attended = self.layout.lengths
        self.saw_first()
        self.hidden = block.transformed(block.attended(self.hidden[first], context))
        self.layout = Layout.of_lengths(torch.ones_like(self.nothing))

    def transform(self, hidden: Tensor) -> None:
        """`hidden` (T', D) is what the feed-forward part made of the survivors; they write it to their buffer."""
        self.saw()
        self.hidden = hidden
        if self.buffer is not None:
            self.buffer = self.buffer.index_copy(0, self.layout.rows_in(self.whole), hidden.to(self.buffer.dtype))

    def leave_out(self) -> None:
        """A layer that is not computed."""
        self.seen.append((self.nothing, self.nothing, self.nothing))

    def saw(self) -> None:
        """Note the tokens of a layer whose feed-forward part is for what is alive now."""
        self.seen.append((self.attended, self.attended, self.layout.lengths))

    def saw_first(self) -> None:
        """Note those of a layer that is computed for first tokens alone."""
        one = torch.ones_like(self.nothing)
        self.seen.append((self.attended, one, one))

    def scorer(self, reducer: Reducer, layer: int) -> Scorer:
        if reducer.scorer in SCORERS:
            return SCORERS[reducer.scorer]
        if self.predictors is None:
            raise ValueError(f"the plan scores by {reducer.scorer!r}, but the model has no trained scorers")
        return self.predictors(reducer.scorer, layer)

    def reduce(self, reducer: Reducer | None, layer: int, block: Block) -> None:
        """Drop what the reducer drops, and charge its scores."""
        if reducer is None or not reducer.may_drop(self.whole, self.layout):
            return
        if len(self.nothing) == 1 and reducer.threshold is None and self.discarded is None:
            self.charge(reducer, layer, block)
            rows = reducer.best(self.scores(reducer, layer, block), self.whole, self.layout)
            self.layout = Layout(self.layout.offsets.clamp(max=len(rows)), self.layout.positions[rows])
        else:
            rows = self.keep(reducer, layer, block, self.ranked(reducer, layer, block))
        self.hidden = self.hidden[rows]

    def scores(self, reducer: Reducer, layer: int, block: Block) -> Tensor:
        """(T,) what the reducer's scorer says."""

        def values() -> Tensor:
            if reducer.site == "before_attention":
                return block.values(self.hidden)
            assert self.values is not None, "attention keeps them for the scorers that ask for them"
            return self.values

        with torch.no_grad():  # selection is not differentiable
            return self.scorer(reducer, layer).score(Seen(self.hidden, self.layout, self.whole, values, self.read))

    def ranked(self, reducer: Reducer, layer: int, block: Block) -> Ranked:
        """The tokens in the order of their scores; for other reducers too that score and protect alike."""
        return reducer.ranked(self.scores(reducer, layer, block), self.whole, self.layout)

    def keep(self, reducer: Reducer, layer: int, block: Block, ranked: Ranked) -> Tensor:
        """Charge the reducer and leave the layout of what it keeps; the rows (T',) of that."""
        self.charge(reducer, layer, block)
        kept = reducer.stays(ranked)
        if self.discarded is not None and reducer.fate == "discard":
            self.discarded = self.discarded.index_fill(0, self.layout.rows_in(self.whole)[~kept], True)
        rows, self.layout = self.layout.select(kept)
        return rows

    def charge(self, reducer: Reducer, layer: int, block: Block) -> None:
        """Note what is scored; how much that costs is computed if someone asks."""
        scorer, width = self.scorer(reducer, layer), self.hidden.shape[-1]
        self.scoring.append(_Scoring(layer, reducer, scorer, self.whole, self.layout, width, block.heads))

    def result(self) -> Encoding:
        restored = None
        if self.buffer is not None and self.discarded is not None:
            restored = Restored(self.buffer.masked_fill(self.discarded[:, None], 0.0), self.discarded)
        trace = functools.partial(_trace, self.whole.lengths, self.seen, self.scoring)  # which does not hold on to self
        return Encoding(self.hidden, self.layout, trace, restored)


def static_trace(
    blocks: Sequence[Block],
    whole: Layout,
    plan: ReductionPlan,
    *,
    width: int,
    predictors: Predictors | None = None,
    first_only: bool = False,
) -> Trace | None:
    """The trace that `encode` would give, without a pass; None where the content of the examples decides.

    whole: their layout; width: D.
    """
    if not plan.cost_is_static:
        return None
    state = State(torch.empty(0, width), whole, predictors, restore=False)

    def reduce(reducer: Reducer | None, layer: int, block: Block) -> None:
        if reducer is not None and reducer.may_drop(whole, state.layout):
            state.charge(reducer, layer, block)
            state.layout = Layout.of_counts(reducer.counts(whole, state.layout))

    reduce(plan.input, 0, blocks[0])
    for number, (block, reducer) in enumerate(zip(blocks, plan.reducers, strict=True)):
        at = {reducer.site: reducer} if reducer is not None else {}
        reduce(at.get("before_attention"), number, block)
        state.attended = state.layout.lengths
        if first_only and number == len(blocks) - 1:
            state.saw_first()
            break
        reduce(at.get("between"), number, block)
        state.saw()
        reduce(at.get("after_layer"), number, block)
    return _trace(whole.lengths, state.seen, state.scoring)


def _settings(block: Block, training: bool) -> dict[str, Any]:
    """What the block says of its attention."""
    dropout = block.attention_dropout if training else 0.0
    return {"heads": block.heads, "window": block.window, "dropout": dropout}


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
        """(B,) what that cost; a length that drops nothing from an example needs no scores of it."""
        cost = self.scorer.macs(self.layout, width=self.width, heads=self.heads)
        if self.scorer.needs_values and self.reducer.site == "before_attention":
            cost = cost + self.width**2 * self.layout.lengths
        if self.reducer.threshold is not None:
            return cost
        shorter = self.reducer.counts(self.whole, self.layout) < self.layout.lengths
        return torch.where(shorter, cost, torch.zeros_like(cost))


def _trace(lengths: Tensor, seen: Sequence[tuple[Tensor, Tensor, Tensor]], scorings: Sequence[_Scoring]) -> Trace:
    attention, queries, feed_forward = (torch.stack(column, 1) for column in zip(*seen, strict=True))
    scoring = torch.zeros_like(attention)
    for one in scorings:
        scoring[:, one.layer] += one.macs()
    return Trace(lengths, attention, queries, feed_forward, scoring)
