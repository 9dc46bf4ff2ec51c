"""The forward pass: blocks and a plan give hidden states and the trace of what was computed.

Axes: B examples, T tokens in all, D width, N layers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from searchkit.reduction.attention import attend
from searchkit.reduction.families import Block
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import SCORERS, Scorer, Seen

# The trained scorer of a name at a layer; the input's has layer 0.
Predictors = Callable[[str, int], Scorer]


@dataclass(frozen=True, eq=False)
class Trace:
    """What a pass computed: int64, per example (B,) or per example and layer (B, N).

    tokens: (B,) tokens of the whole example; attention: tokens that entered attention; feed_forward: tokens that
    entered the feed-forward part; scoring: the multiply-accumulates spent on scores, 0 where a length drops nothing
    from the example; the input's stand in layer 0
    """

    tokens: Tensor
    attention: Tensor
    feed_forward: Tensor
    scoring: Tensor

    @classmethod
    def of_unreduced(cls, lengths: Tensor, layers: int) -> Trace:
        """The trace of examples of these (B,) lengths with nothing dropped."""
        full = lengths[:, None].expand(-1, layers)
        return cls(lengths, full, full, torch.zeros_like(full))

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
    """hidden (T', D) and layout of the tokens that reached the end, the trace, `restored` if asked for."""

    hidden: Tensor
    layout: Layout
    trace: Trace
    restored: Restored | None


def encode(
    blocks: Sequence[Block],
    hidden: Tensor,
    layout: Layout,
    plan: ReductionPlan,
    *,
    predictors: Predictors | None = None,
    training: bool = False,
    restore: bool = False,
    skip: Collection[int] = (),
) -> Encoding:
    """Run `hidden` (T, D), packed as `layout`, through the blocks, dropping tokens as the plan says.

    With `restore` the result carries the buffer: it starts as the embeddings, and survivors of each layer write their
    output to their original place. Layers in `skip` are left out (LayerDrop), with their reducers.
    """
    if len(plan.reducers) != len(blocks):
        raise ValueError(f"the plan has {len(plan.reducers)} layers, the encoder {len(blocks)}")
    run = _Pass(hidden, layout, predictors, restore)
    run.reduce(plan.input, 0, blocks[0])
    for number, (block, reducer) in enumerate(zip(blocks, plan.reducers, strict=True)):
        if number in skip:
            run.note(run.nothing, run.nothing)
            continue
        at = {reducer.site: reducer} if reducer is not None else {}
        run.values = None
        run.reduce(at.get("before_attention"), number, block)
        in_attention = run.layout.lengths
        later = at.get("between") or at.get("after_layer")
        attention = run.attend(block, training, later)
        run.reduce(at.get("between"), number, block, attention)
        run.note(in_attention, run.layout.lengths)
        run.hidden = block.transformed(run.hidden)
        run.remember()
        run.reduce(at.get("after_layer"), number, block, attention)
    return run.result()


class _Pass:
    """The tokens on their way through the layers: what is alive, what it cost so far, and the buffer."""

    def __init__(self, hidden: Tensor, layout: Layout, predictors: Predictors | None, restore: bool) -> None:
        self.hidden, self.layout, self.whole, self.predictors = hidden, layout, layout, predictors
        self.nothing = torch.zeros_like(layout.lengths)
        self.values: Tensor | None = None
        self.buffer = hidden if restore else None
        self.discarded = torch.zeros_like(layout.positions, dtype=torch.bool) if restore else None
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.scoring: dict[int, Tensor] = {}

    def attend(self, block: Block, training: bool, later: Reducer | None) -> Tensor | None:
        """The attention part; what a later reducer's scorer reads of the map, if it has to score."""
        scored = later is not None and later.may_drop(self.whole, self.layout)
        query, key, value = block.projected(self.hidden, self.layout.positions)
        context, attention = attend(
            query,
            key,
            value,
            self.layout,
            heads=block.heads,
            window=block.window,
            dropout=block.attention_dropout if training else 0.0,
            read=self.scorer(later, 0).read if later is not None and scored else None,
        )
        self.hidden, self.values = block.attended(self.hidden, context), value
        return attention

    def scorer(self, reducer: Reducer, layer: int) -> Scorer:
        if reducer.scorer in SCORERS:
            return SCORERS[reducer.scorer]
        if self.predictors is None:
            raise ValueError(f"the plan scores by {reducer.scorer!r}, but the model has no trained scorers")
        return self.predictors(reducer.scorer, layer)

    def reduce(self, reducer: Reducer | None, layer: int, block: Block, attention: Tensor | None = None) -> None:
        """Drop what the reducer drops, and charge its scores."""
        if reducer is None or not reducer.may_drop(self.whole, self.layout):
            return
        scorer, hidden, layout = self.scorer(reducer, layer), self.hidden, self.layout
        with torch.no_grad():  # selection is not differentiable
            values = self.values  # of this layer, or, before its attention, yet to be computed
            seen = Seen(
                hidden, layout, self.whole, lambda: block.values(hidden) if values is None else values, attention
            )
            scores = scorer.score(seen)
            kept = reducer.kept(scores, self.whole, layout)
        self._charge(reducer, scorer, layer, block)
        if self.discarded is not None and reducer.fate == "discard":
            self.discarded = self.discarded.index_fill(0, layout.rows_in(self.whole)[~kept], True)
        rows, self.layout = layout.select(kept)
        self.hidden = hidden[rows]

    def _charge(self, reducer: Reducer, scorer: Scorer, layer: int, block: Block) -> None:
        layout, width = self.layout, self.hidden.shape[-1]
        cost = scorer.macs(layout, width=width, heads=block.heads)
        if scorer.needs_values and self.values is None:
            cost = cost + width**2 * layout.lengths
        if reducer.threshold is None:  # a length that drops nothing from an example needs no scores of it
            cost = torch.where(reducer.counts(self.whole, layout) < layout.lengths, cost, self.nothing)
        self.scoring[layer] = self.scoring.get(layer, self.nothing) + cost

    def note(self, in_attention: Tensor, in_feed_forward: Tensor) -> None:
        self.seen.append((in_attention, in_feed_forward))

    def remember(self) -> None:
        """Survivors write their state to their place in the buffer."""
        if self.buffer is not None:
            self.buffer = self.buffer.index_copy(0, self.layout.rows_in(self.whole), self.hidden.to(self.buffer.dtype))

    def result(self) -> Encoding:
        restored = None
        if self.buffer is not None and self.discarded is not None:
            restored = Restored(self.buffer.masked_fill(self.discarded[:, None], 0.0), self.discarded)
        scoring = torch.stack([self.scoring.get(layer, self.nothing) for layer in range(len(self.seen))], 1)
        attention, feed_forward = (torch.stack(column, 1) for column in zip(*self.seen, strict=True))
        return Encoding(self.hidden, self.layout, Trace(self.whole.lengths, attention, feed_forward, scoring), restored)
