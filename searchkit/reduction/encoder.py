"""The forward pass: blocks and a plan give hidden states and the trace of what was computed.

Axes: B examples, T tokens in all, D width, N layers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from searchkit.reduction.attention import attend
from searchkit.reduction.families import Block
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.product import product
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import SCORERS, Seen


@dataclass(frozen=True, eq=False)
class Trace:
    """What a pass computed: per example and layer, (B, N) int64 each.

    attention: tokens that entered attention; feed_forward: tokens that entered the feed-forward part; scored: tokens
    whose score was needed, 0 where the layer dropped nothing from the example.
    """

    attention: Tensor
    feed_forward: Tensor
    scored: Tensor

    @classmethod
    def of_unreduced(cls, lengths: Tensor, layers: int) -> Trace:
        """The trace of examples of these (B,) lengths with nothing dropped."""
        full = lengths[:, None].expand(-1, layers)
        return cls(full, full, torch.zeros_like(full))

    @classmethod
    def concatenated(cls, traces: Sequence[Trace]) -> Trace:
        return cls(
            torch.cat([trace.attention for trace in traces]),
            torch.cat([trace.feed_forward for trace in traces]),
            torch.cat([trace.scored for trace in traces]),
        )

    def take(self, rows: Tensor) -> Trace:
        return Trace(self.attention[rows], self.feed_forward[rows], self.scored[rows])

    def cpu(self) -> Trace:
        return Trace(self.attention.cpu(), self.feed_forward.cpu(), self.scored.cpu())


@dataclass(frozen=True, eq=False)
class Encoding:
    """hidden (T', D) and layout of the tokens that reached the end, the trace, `restored` (T, D) if asked for."""

    hidden: Tensor
    layout: Layout
    trace: Trace
    restored: Tensor | None


def encode(
    blocks: Sequence[Block],
    hidden: Tensor,
    layout: Layout,
    plan: ReductionPlan,
    *,
    training: bool = False,
    restore: bool = False,
    skip: Collection[int] = (),
) -> Encoding:
    """Run `hidden` (T, D), packed as `layout`, through the blocks, dropping tokens as the plan says.

    With `restore` the result carries Drop-and-Restore's buffer (LAT sec. 3.3): it starts as the embeddings, survivors
    of each layer write their output to their original place, and so every token ends with the output of the last layer
    whose feed-forward part it passed; tokens of a reducer whose fate is `discard` end as zeros. Layers in `skip` are
    left out (LayerDrop), with their reducers.
    """
    if len(plan.reducers) != len(blocks):
        raise ValueError(f"the plan has {len(plan.reducers)} layers, the encoder {len(blocks)}")
    whole, buffer = layout, hidden if restore else None
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for number, (block, reducer) in enumerate(zip(blocks, plan.reducers, strict=True)):
        nothing = torch.zeros_like(layout.lengths)
        if number in skip:
            seen.append((nothing, nothing, nothing))
            continue
        entering = layout.lengths
        counts = None if reducer is None else reducer.counts(whole, layout)
        drops = counts is not None and bool((counts < entering).any())
        hidden, received = _attention_part(block, hidden, layout, training, drops and _needs_attention(reducer))
        if drops:
            assert reducer is not None
            assert counts is not None
            hidden, layout, buffer = _drop(reducer, counts, hidden, received, layout, whole, buffer)
        hidden = _feed_forward_part(block, hidden)
        if buffer is not None:
            buffer = buffer.index_copy(0, layout.rows_in(whole), hidden.to(buffer.dtype))
        scored = nothing if counts is None else torch.where(counts < entering, entering, nothing)
        seen.append((entering, layout.lengths, scored))
    return Encoding(hidden, layout, Trace(*(torch.stack(column, 1) for column in zip(*seen, strict=True))), buffer)


def _needs_attention(reducer: Reducer | None) -> bool:
    return reducer is not None and SCORERS[reducer.scorer].needs_attention


def _attention_part(
    block: Block, hidden: Tensor, layout: Layout, training: bool, received: bool
) -> tuple[Tensor, Tensor | None]:
    context, scores = attend(
        product(block.query, hidden),
        product(block.key, hidden),
        product(block.value, hidden),
        layout,
        heads=block.heads,
        dropout=block.attention_dropout if training else 0.0,
        received=received,
    )
    return block.attention_norm(block.dropout(product(block.attention_output, context)) + hidden), scores


def _feed_forward_part(block: Block, hidden: Tensor) -> Tensor:
    grown = block.activation(product(block.up, hidden))
    return block.output_norm(block.dropout(product(block.down, grown)) + hidden)  # type: ignore[no-any-return]


def _drop(
    reducer: Reducer,
    counts: Tensor,
    hidden: Tensor,
    received: Tensor | None,
    layout: Layout,
    whole: Layout,
    buffer: Tensor | None,
) -> tuple[Tensor, Layout, Tensor | None]:
    scores = SCORERS[reducer.scorer].score(Seen(hidden, received))
    keep = reducer.keep.keep(scores, reducer.protected(layout), layout, counts)
    if buffer is not None and reducer.fate == "discard":
        buffer = buffer.index_fill(0, layout.rows_in(whole)[~keep], 0.0)
    rows, remaining = layout.select(keep)
    return hidden[rows], remaining, buffer
