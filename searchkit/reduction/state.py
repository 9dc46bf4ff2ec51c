"""State of a batch between layers: the states of living tokens, their counts, and the buffer.

Axes: B examples, T tokens alive, D width.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from searchkit.reduction.attention import attend, attend_from_first
from searchkit.reduction.families import Block
from searchkit.reduction.matmul import piecewise, rowwise
from searchkit.reduction.plan import Ranked, Reducer
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import Predictors, Seen, scorer_of
from searchkit.reduction.trace import Counter, Tally, Trace


@dataclass(frozen=True, eq=False)
class Restored:
    """Drop-and-Restore's buffer (LAT sec. 3.3): hidden (T, D), every token with the last state it reached.

    discarded: (T,) True for tokens of a reducer whose fate is `discard`; their state is zero
    """

    hidden: Tensor
    discarded: Tensor


@dataclass(frozen=True, eq=False)
class Encoding:
    """Output of the encoder: hidden (T', D) and layout of the tokens at its end, the trace on demand, any buffer."""

    hidden: Tensor
    layout: Layout
    counter: Counter
    restored: Restored | None

    @functools.cached_property
    def trace(self) -> Trace:
        return self.counter.trace()


class State:
    """A batch between two steps of the encoder; each step replaces tensors and changes none in place.

    fewest: rows of a product; with 16 and more a row does not depend on the others
    """

    def __init__(
        self, hidden: Tensor, layout: Layout, predictors: Predictors | None, restore: bool, *, fewest: int = 0
    ) -> None:
        self._hidden, self._layout, self._whole = hidden, layout, layout
        self._predictors, self._fewest = predictors, fewest
        self._projected: Tensor | None = None  # query, key and value of the next attention, where they are known
        self._values: Tensor | None = None  # values of the last attention, where a scorer needs them
        self._read: Tensor | None = None  # the scorer's part of the last attention's map
        self._attended = torch.zeros_like(layout.lengths)  # (B,) tokens that entered the last attention
        self._buffer = hidden if restore else None
        self._discarded = torch.zeros_like(layout.positions, dtype=torch.bool) if restore else None
        self._tally = Tally(layout, hidden.shape[-1])

    @property
    def hidden(self) -> Tensor:
        """(T, D) states of the living tokens."""
        return self._hidden

    @property
    def layout(self) -> Layout:
        """Layout of the living tokens."""
        return self._layout

    @property
    def whole(self) -> Layout:
        """Layout of the unreduced examples."""
        return self._whole

    @property
    def restores(self) -> bool:
        """Return whether the state carries Drop-and-Restore's buffer."""
        return self._buffer is not None

    @property
    def layers(self) -> int:
        """Number of layers that are done."""
        return self._tally.layers

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that grow with the width."""
        held = (self._hidden, self._buffer, self._values)
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    def fork(self) -> State:
        """Copy that changes independently from here on; tensors are shared."""
        copied = copy.copy(self)
        copied._tally = self._tally.fork()
        return copied

    def with_hidden(self, hidden: Tensor) -> State:
        """Copy with other (T, D) states of its tokens, to which no gradient of the scores flows."""
        copied = self.fork()
        copied._hidden = hidden
        copied._read = None if self._read is None else self._read.detach()
        copied._values = None if self._values is None else self._values.detach()
        return copied

    def attend(self, block: Block, layer: int, scored_by: Reducer | None = None, training: bool = False) -> None:
        """Run the attention part, with the statistics that the scorer of a later reducer needs."""
        scorer = None if scored_by is None else scorer_of(scored_by.scorer, layer, self._predictors)
        needs_values = scorer is not None and scorer.needs_values
        project = functools.partial(rowwise, block.projected, fewest=self._fewest)
        if self._projected is None and (torch.is_grad_enabled() or needs_values):
            self._projected = project(self._hidden, self._layout.positions)
        context, self._read = attend(
            self._hidden if self._projected is None else self._projected,
            self._layout,
            project=project if self._projected is None else None,
            read=None if scorer is None else scorer.read,
            **_settings(block, training),
        )
        self._values = self._projected.chunk(3, -1)[2] if needs_values and self._projected is not None else None
        self._hidden = piecewise(block.attended, self._hidden, context)
        self._attended, self._projected = self._layout.lengths, None

    def finish_first(self, block: Block, training: bool = False) -> None:
        """Run the whole layer, for each example's first token alone."""
        first = self._layout.first
        query, others = block.projected_for(first, self._hidden, self._layout.positions)
        context = attend_from_first(query, others, self._layout, **_settings(block, training))
        self._tally.first_tokens(self._layout.lengths)
        self._hidden = block.transformed(block.attended(self._hidden[first], context))
        self._layout = Layout(torch.arange(len(first) + 1, device=first.device), torch.zeros_like(first))

    def transform(self, hidden: Tensor, projected: Tensor | None = None) -> None:
        """Accept the output (T, D) of the feed-forward part; survivors write it to the buffer.

        projected: query, key and value of the next layer, where they are known already
        """
        self._tally.layer(self._attended, self._layout)
        self._hidden, self._projected = hidden, projected
        if self._buffer is not None:
            self._buffer = self._buffer.index_copy(0, self._layout.rows_in(self._whole), hidden.to(self._buffer.dtype))

    def skip(self) -> None:
        """Skip a layer."""
        self._tally.skipped()

    def reduce(self, reducer: Reducer | None, layer: int, block: Block) -> None:
        """Drop the tokens that the reducer does not keep, and count the cost of its scores."""
        if reducer is None or not reducer.may_drop(self._whole, self._layout):
            return
        if len(self._whole.lengths) == 1 and reducer.threshold is None and self._discarded is None:
            self._charge(reducer, layer, block)
            rows = reducer.best(self._scores(reducer, layer, block), self._whole, self._layout)
            self._layout = Layout(self._layout.offsets.clamp(max=len(rows)), self._layout.positions[rows])
        else:
            rows = self.keep(reducer, layer, block, self.ranked(reducer, layer, block))
        self._hidden = self._hidden[rows]

    def _scores(self, reducer: Reducer, layer: int, block: Block) -> Tensor:
        """(T,) scores of the living tokens."""

        def values() -> Tensor:
            if reducer.site == "before_attention":
                return block.values(self._hidden)
            assert self._values is not None, "attention keeps them for the scorers that need them"
            return self._values

        with torch.no_grad():  # selection is not differentiable
            return scorer_of(reducer.scorer, layer, self._predictors).score(
                Seen(self._hidden, self._layout, self._whole, values, self._read)
            )

    def ranked(self, reducer: Reducer, layer: int, block: Block) -> Ranked:
        """Tokens in the order of their scores, shared by reducers that score and protect alike."""
        return reducer.ranked(self._scores(reducer, layer, block), self._whole, self._layout)

    def keep(self, reducer: Reducer, layer: int, block: Block, ranked: Ranked) -> Tensor:
        """Count the reducer's cost, set the layout of the tokens that it keeps, and return their rows (T',)."""
        self._charge(reducer, layer, block)
        kept = reducer.stays(ranked)
        if self._discarded is not None and reducer.fate == "discard":
            self._discarded = self._discarded.index_fill(0, self._layout.rows_in(self._whole)[~kept], True)
        rows, self._layout = self._layout.select(kept)
        return rows

    def _charge(self, reducer: Reducer, layer: int, block: Block) -> None:
        scorer = scorer_of(reducer.scorer, layer, self._predictors)
        self._tally.scoring(layer, reducer, scorer, self._layout, block.heads)

    def result(self) -> Encoding:
        restored = None
        if self._buffer is not None and self._discarded is not None:
            restored = Restored(self._buffer.masked_fill(self._discarded[:, None], 0.0), self._discarded)
        return Encoding(self._hidden, self._layout, self._tally, restored)


def _settings(block: Block, training: bool) -> dict[str, Any]:
    """Settings of the block's attention."""
    dropout = block.attention_dropout if training else 0.0
    return {"heads": block.heads, "window": block.window, "dropout": dropout}
