"""A pass over one example in few operators, for inference on a CPU.

A short text costs each layer's weights once through the caches and a handful of small operators, and there every
operator that is not a product counts. So this pass knows of one example alone: no offsets, no pads, counts are plain
ints, and layouts are made only for scorers and traces that ask. It shares blocks, scorers and the rules of reducers
with the packed pass (`encoder.encode`). Where a reducer between attention and feed-forward part reads the map alone,
the tokens that go do not enter the attention's output product.

Which pass makes which numbers: docs/decisions/lean-pass.md.
Axes: n tokens alive, H heads, E width of a head, D = H * E.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from searchkit.reduction.families import Block
from searchkit.reduction.plan import LayerReducers, Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.scorers import Predictors, Scorer, Seen, scale_of, scorer_of
from searchkit.reduction.scorers.untrained import AttentionReceived, Position, Random
from searchkit.reduction.state import Encoding, Restored
from searchkit.reduction.survivors import Survivors

MAP: Final = 1 << 18  # elements of the attention map that are made at once: they stay in a core's cache
DTYPES: Final = (torch.float32, torch.float64)  # in others products are compiled for a number of rows
SIGHTLESS: Final = (AttentionReceived, Position, Random)  # scorers that read no states
_FIRST: Final = torch.tensor([0])
_ONE: Final = Layout.of_lengths(torch.tensor([1]))


@dataclass(frozen=True, eq=False)
class LoneMap:
    """An `AttentionMap` of one example: probabilities (1, H, n, n)."""

    probabilities: Tensor
    alive: Survivors

    @property
    def layout(self) -> Layout:
        return self.alive.layout

    @property
    def heads(self) -> int:
        return self.probabilities.shape[1]

    @cached_property
    def query_weights(self) -> Tensor:
        return self.probabilities.new_ones(1, self.probabilities.shape[-1])

    def received(self) -> Tensor:
        return self.probabilities.sum((0, 1, 2))

    def diagonal(self) -> Tensor:
        return self.probabilities[0].diagonal(dim1=-2, dim2=-1).sum(0)


def goes_alone(tokens: Tokens, dtype: torch.dtype) -> bool:
    """Return whether the pass is for these tokens: one example on a CPU, in a format of weights that it knows."""
    if torch.is_grad_enabled() or not tokens.layout.only or not tokens.ids.is_cpu:
        return False
    return dtype in DTYPES and not torch.is_autocast_enabled("cpu")


def encode_alone(
    blocks: Sequence[Block],
    hidden: Tensor,
    whole: Layout,
    plan: ReductionPlan,
    *,
    predictors: Predictors | None = None,
    restore: bool = False,
    first_only: bool = False,
) -> Encoding:
    """`encoder.encode` of one example: states (n, D) without a gradient, on a CPU; `whole` is its layout."""
    if len(plan.layers) != len(blocks):
        raise ValueError(f"the plan has {len(plan.layers)} layers, the encoder {len(blocks)}")
    lone = Lone(hidden, whole, predictors, restore)
    lone.drop(plan.input, 0, blocks[0])
    last = len(blocks) - 1 if first_only else len(blocks)
    for number, (block, reducers) in enumerate(zip(blocks, plan.layers, strict=True)):
        lone.drop(reducers.before, number, block)
        if number == last:
            lone.finish_first(block)
        else:
            lone.layer(block, number, reducers)
    return lone.result()


class Lone:
    """One example on its way through the blocks."""

    def __init__(self, hidden: Tensor, whole: Layout, predictors: Predictors | None, restore: bool) -> None:
        self.hidden, self.alive = hidden, Survivors(whole, hidden.shape[1])
        self._predictors = predictors
        self._buffer = hidden if restore else None  # Drop-and-Restore's; not ours to write in before the first copy
        self._discarded: Tensor | None = None  # (n,) of the whole example, None as long as nothing is
        self._scratch: Tensor | None = None

    def layer(self, block: Block, number: int, reducers: LayerReducers) -> None:
        """Run a layer with the reducers after its attention."""
        attended = self.alive.count
        reducer = reducers.later if self._may_drop(reducers.later) else None
        scorer = None if reducer is None else scorer_of(reducer.scorer, number, self._predictors)
        projected = block.projected(self.hidden, self._positions_for(block))
        context, seen = self._attention(projected, block, scorer)
        values = projected.chunk(3, -1)[2] if scorer is not None and scorer.needs_values else None
        scores = rows = None
        if reducer is not None and scorer is not None and type(scorer) in SIGHTLESS:
            scores = self._scores(scorer, values, seen)
            if reducer.site == "between":
                rows = self._keep(reducer, number, scorer, block, scores)
                context = context if rows is None else context.index_select(1, rows)
                self._select(rows)
        merged = context.transpose(0, 1).reshape(-1, projected.shape[1] // 3)  # (H, n, E) -> (n, D)
        self.hidden = block.attended(self.hidden, merged)
        if reducer is not None and scorer is not None and scores is None and reducer.site == "between":
            self._select(self._keep(reducer, number, scorer, block, self._scores(scorer, values, seen)))
        self.hidden = block.transformed(self.hidden)
        self.alive.tally(attended)
        self._restore()
        if reducer is not None and scorer is not None and reducer.site != "between":
            scores = self._scores(scorer, values, seen) if scores is None else scores
            self._select(self._keep(reducer, number, scorer, block, scores))

    def drop(self, reducer: Reducer | None, number: int, block: Block) -> None:
        """Drop the tokens that a reducer before the attention does not keep."""
        if reducer is None or not self._may_drop(reducer):
            return
        scorer = scorer_of(reducer.scorer, number, self._predictors)
        values = block.values(self.hidden) if scorer.needs_values else None
        self._select(self._keep(reducer, number, scorer, block, self._scores(scorer, values, None)))

    def finish_first(self, block: Block) -> None:
        """Run the whole layer, for the first token alone."""
        query, key_value = block.projected_for(_FIRST, self.hidden, self._positions_for(block))
        key, value = key_value.view(len(key_value), 2, block.heads, -1).permute(1, 2, 0, 3).unbind(0)  # (H, n, E)
        near = self._near(block.window)
        context = F.scaled_dot_product_attention(
            query.view(1, block.heads, 1, -1), key[None], value[None], attn_mask=None if near is None else near[:1]
        )
        self.alive.tally_first()
        self.hidden = block.transformed(block.attended(self.hidden[:1], context.reshape(1, -1)))

    def result(self) -> Encoding:
        restored = None
        if self._buffer is not None:
            discarded = self.alive.none() if self._discarded is None else self._discarded
            kept = self._buffer if self._discarded is None else self._buffer.masked_fill(discarded[:, None], 0.0)
            restored = Restored(kept, discarded)
        layout = _ONE if self.alive.is_first else self.alive.layout
        return Encoding(self.hidden, layout, self.alive, restored)

    def _may_drop(self, reducer: Reducer | None) -> bool:
        """`Reducer.may_drop`, by ints where a length protects [CLS] alone."""
        if reducer is None or reducer.threshold is not None:
            return reducer is not None
        if reducer.protect == ("cls",) and reducer.keep is not None:
            return reducer.keep.wanted_of(self.alive.whole.only) < self.alive.count > 1
        return reducer.may_drop(self.alive.whole, self.alive.layout)

    def _positions_for(self, block: Block) -> Tensor:
        """Places of the tokens; those of the example where the block does not read them."""
        return self.alive.positions if getattr(block, "reads_positions", True) else self.alive.whole.positions

    def _near(self, window: int | None) -> Tensor | None:
        """(n, n) True where a query may look; None: everywhere."""
        if window is None or self.alive.whole.only - 1 <= window:
            return None
        positions = self.alive.positions
        return (positions[:, None] - positions).abs() <= window

    def _attention(self, projected: Tensor, block: Block, scorer: Scorer | None) -> tuple[Tensor, Tensor | None]:
        """Context (H, n, E), and what the scorer reads of the map."""
        query, key, value = projected.view(len(projected), 3, block.heads, -1).permute(1, 2, 0, 3).unbind(0)
        near = self._near(block.window)
        if scorer is None or scorer.read is None:
            context = F.scaled_dot_product_attention(query[None], key[None], value[None], attn_mask=near)
            return context[0], None
        count, scale = len(projected), query.shape[-1] ** -0.5
        nothing, turned = query.new_empty(()), key.transpose(1, 2)
        if type(scorer) is AttentionReceived and block.heads * count**2 > MAP:
            return self._by_parts(query, turned, value, near, scorer)
        logits = torch.baddbmm(nothing, query, turned, beta=0, alpha=scale)
        shares = (logits if near is None else logits.masked_fill_(~near, -torch.inf)).softmax(-1)
        lone = LoneMap(shares[None], self.alive)
        return torch.bmm(shares, value), scorer.read(lone)

    def _by_parts(
        self, query: Tensor, key: Tensor, value: Tensor, near: Tensor | None, scorer: AttentionReceived
    ) -> tuple[Tensor, Tensor]:
        """Run `_attention` a few heads at a time, in memory that the pass uses again: fresh pages are dear."""
        (heads, count, width), read = query.shape, query.new_zeros(query.shape[1])
        at_once = max(1, min(heads, MAP // count**2))
        if self._scratch is None:
            self._scratch = query.new_empty(max(MAP, count**2))
        shares = self._scratch[: at_once * count**2].view(at_once, count, count)
        context, nothing = query.new_empty(query.shape), query.new_empty(())
        for first in range(0, heads, at_once):
            part = slice(first, min(first + at_once, heads))
            own = shares[: part.stop - first]
            torch.baddbmm(nothing, query[part], key[part], beta=0, alpha=width**-0.5, out=own)
            if near is not None:
                own.masked_fill_(~near, -torch.inf)
            torch.softmax(own, -1, out=own)
            torch.bmm(own, value[part], out=context[part])
            read += own.sum((0, 1))
            if not scorer.diagonal:
                read -= own.diagonal(dim1=-2, dim2=-1).sum(0)
        return context, read / heads if scorer.mean else read

    def _scores(self, scorer: Scorer, values: Tensor | None, seen: Tensor | None) -> Tensor:
        """(n,) scores of the living tokens."""
        if type(scorer) is AttentionReceived and seen is not None:
            return seen / self.alive.count if scorer.mean else seen
        alive = self.alive
        return scorer.score(Seen(self.hidden, alive.layout, alive.whole, functools.partial(_given, values), seen))

    def _keep(self, reducer: Reducer, number: int, scorer: Scorer, block: Block, scores: Tensor) -> Tensor | None:
        """Rows (n',) that stay, None for all; what the scores cost is counted."""
        alive = self.alive
        alive.tally_scoring(number, reducer, scorer, block.heads)
        if reducer.protect != ("cls",):
            rows = reducer.kept(scores, alive.whole, alive.layout).nonzero().squeeze(1)
        else:
            rows = _stay(reducer, scores, alive)
        if len(rows) == alive.count:
            return None
        if self._buffer is not None and reducer.fate == "discard":
            gone = torch.ones(alive.count, dtype=torch.bool).index_fill_(0, rows, False)
            discarded = alive.none() if self._discarded is None else self._discarded
            self._discarded = discarded.index_fill_(0, alive.positions[gone], True)
        return rows

    def _select(self, rows: Tensor | None) -> None:
        if rows is not None:
            self.hidden = self.hidden.index_select(0, rows)
            self.alive.select(rows)

    def _restore(self) -> None:
        """Survivors write to the buffer."""
        if self._buffer is None:
            return
        if self.alive.count == self.alive.whole.only:
            self._buffer = self.hidden
        else:
            self._buffer = self._buffer.index_copy(0, self.alive.positions, self.hidden)


def _stay(reducer: Reducer, scores: Tensor, alive: Survivors) -> Tensor:
    """Rows that stay where [CLS], the first one, is protected: `Reducer.stays` for one example."""
    ranking = scores.float().clone()
    ranking[0] = torch.inf
    wanted = alive.count
    if reducer.keep is not None:
        wanted = min(max(reducer.keep.wanted_of(alive.whole.only), 1), alive.count)
    if reducer.threshold is None:
        return best(ranking, wanted)
    shares = scores * alive.count if scale_of(reducer.scorer) == "relative" else scores
    passes = shares >= reducer.threshold
    passes[0] = True
    if wanted == alive.count:
        return passes.nonzero().squeeze(1)
    rows = best(ranking, wanted)
    return rows[passes[rows]]


def best(scores: Tensor, count: int) -> Tensor:
    """(count,) rows of the highest scores (n,) in ascending order; the earlier of equals goes first."""
    lowest = scores.topk(count, sorted=False).values.min()
    rows = (scores >= lowest).nonzero().squeeze(1)
    if len(rows) == count:
        return rows
    return scores.argsort(descending=True, stable=True)[:count].sort().values  # equals at the border, or not a number


def _given(values: Tensor | None) -> Tensor:
    assert values is not None, "the pass keeps them for the scorers that need them"
    return values
