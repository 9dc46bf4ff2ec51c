"""The forward pass under one plan as a graph: padded inputs, and shapes that follow from theirs.

The twin of the packed pass (`encode`): the same blocks, scorers and kept tokens, for `torch.export`, ONNX and
`torch.compile`, which take neither lists of lengths nor branches on values. Every layer keeps as many slots as the
example with the most tokens needs; where an example needs fewer, its last slots are dead.

Axes: B examples, L slots of the input, K slots at a layer, D width, C outputs, P slots of the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from searchkit.reduction.attention import WrittenMap
from searchkit.reduction.families import Block
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.padded import Grid
from searchkit.reduction.plan import SLACK, Reducer, ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.scorers import Seen, scorer_of
from searchkit.reduction.state import Restored

# Scorers whose scores of two tokens are not equal but by accident, or keep their order at every layer: slots then need
# not go back in the order of positions, by which ties are decided.
UNTIED: Final = frozenset(
    ("attention_received", "attention_mean", "attention_off_diagonal", "value_norm", "position", "random")
)
Mark = Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor]]


class Twin(nn.Module):
    """A model under one plan, from (B, L) `input_ids`, `attention_mask` and `token_type_ids` to its logits.

    (B, C), or (B, L, C) where the head reads every token. Inference only; the mask pads on the right. mark: (ids, mask,
    types) -> (B, L) masks of tokens that the plan protects beside the first, by name; None where it protects no others.
    idle: reducers that can drop nothing are run all the same, so that one graph serves all lengths

    >>> Twin(model, plan)(ids, mask, types)  # doctest: +SKIP
    """

    def __init__(
        self, model: AdaptiveModel, plan: ReductionPlan, mark: Mark | None = None, *, idle: bool = False
    ) -> None:
        super().__init__()
        if len(plan.layers) != len(model.view.blocks):
            raise ValueError(f"the plan has {len(plan.layers)} layers, the encoder {len(model.view.blocks)}")
        self.stock, self.predictors = model.stock, model.predictors  # the parameters of the graph
        self._model, self._mark = [model], mark  # in a list: no module of this one
        self.plan = pattern(model, plan, idle=idle)
        self._numbers = numbers(plan)
        self.eval()

    @property
    def reads_tokens(self) -> bool:
        """Return whether its logits are (B, L, C)."""
        return self._model[0].view.reads == "tokens"

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        numbers: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Run the pass; `numbers` are another plan's, of the same `pattern`."""
        (model,) = self._model
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        marks = self._mark(input_ids, attention_mask, types) if self._mark else {}
        grid = Grid.of_mask(attention_mask, marks)
        tokens = Tokens(input_ids.reshape(-1), types.reshape(-1), grid)
        hidden = model.view.embed(tokens.ids, grid.positions, tokens.types)
        logits = _Pass(model, self.plan, self._numbers if numbers is None else numbers, hidden, grid).logits()
        return logits.reshape(*input_ids.shape, -1) if self.reads_tokens else logits


def pattern(model: AdaptiveModel, plan: ReductionPlan, *, idle: bool = False) -> ReductionPlan:
    """The plan without reducers that can drop nothing: of a length that a slot before has already cut to (unless `idle`
    ones stay), and after the last attention, where the last layer computes first tokens alone.

    One that may drop [CLS] stays: such plans read what was dropped, too (`AdaptiveModel.needs_buffer`).
    """
    shortest, slots = 1.0, list[Reducer | None]()
    for reducer in plan.slots:
        ratio = None if reducer is None or reducer.keep is None else reducer.keep.ratio
        restores = reducer is not None and "cls" not in reducer.protect
        drops = ratio is None or ratio < shortest or (reducer is not None and reducer.threshold is not None)
        slots.append(reducer if drops or restores or idle else None)
        shortest = shortest if ratio is None else min(shortest, ratio)
    if _first_only(model, plan) and plan.layers[-1].later is not None:
        slots[-1] = None
    return ReductionPlan(tuple(slots[1:]), slots[0])


def numbers(plan: ReductionPlan) -> dict[str, Tensor]:
    """The numbers of a plan, (P,) each: `ratios` of an example's tokens or `counts`, and `thresholds`; 0 is none."""
    keeps = [reducer and reducer.keep for reducer in plan.slots]
    thresholds = [(reducer and reducer.threshold) or 0.0 for reducer in plan.slots]
    return {
        "ratios": torch.tensor([(keep and keep.ratio) or 0.0 for keep in keeps], dtype=torch.float64),
        "counts": torch.tensor([(keep and keep.count) or 0 for keep in keeps]),
        "thresholds": torch.tensor(thresholds, dtype=torch.float32),
    }


class _Pass:
    """State of a pass over slots: hidden (B * K, D)."""

    def __init__(
        self, model: AdaptiveModel, plan: ReductionPlan, numbers: Mapping[str, Tensor], hidden: Tensor, grid: Grid
    ) -> None:
        self.model, self.plan, self.numbers = model, plan, numbers
        self.hidden, self.grid, self.whole = hidden, grid, grid
        self.values: Tensor | None = None
        self.read: Tensor | None = None
        self.ties = any(reducer is not None and reducer.scorer not in UNTIED for reducer in plan.slots)
        self.restores = model.needs_buffer(self.plan)
        if self.restores:
            self.buffer = torch.cat([hidden, torch.zeros_like(hidden[:1])])  # a spare row for dead slots
            self.discarded = torch.cat([~grid.present.reshape(-1), grid.present.new_ones(1)])  # pads are nowhere

    @cached_property
    def of_ratios(self) -> tuple[Tensor, ...]:
        """By slot, the (B,) tokens that a ratio keeps, at least one."""
        lengths = self.whole.lengths
        wanted = (self.numbers["ratios"][:, None] * lengths.double() - SLACK).ceil().to(lengths.dtype)
        return wanted.clamp(min=1).unbind(0)

    @cached_property
    def counts(self) -> tuple[Tensor, ...]:
        """By slot, the tokens (1,) that a count keeps."""
        return self.numbers["counts"][:, None].unbind(0)

    def logits(self) -> Tensor:
        model, blocks = self.model, self.model.view.blocks
        first_only = _first_only(model, self.plan)
        self.reduce(self.plan.input, 0, blocks[0], slot=0)
        for number, (block, reducers) in enumerate(zip(blocks, self.plan.layers, strict=True)):
            self.reduce(reducers.before, number, block)
            if first_only and number == len(blocks) - 1:
                self.finish_first(block)
                break
            self.attend(block, number, reducers.later)
            self.reduce(reducers.between, number, block)
            self.hidden = block.transformed(self.hidden)
            if self.restores:
                self.remember(number)
            self.reduce(reducers.after, number, block)
        if self.restores:
            discarded = self.discarded[:-1]
            return model.read_buffer(
                Restored(self.buffer[:-1].masked_fill(discarded[:, None], 0.0), discarded), self.whole
            )
        if first_only:
            return model.view.head(model.view.finish(self.hidden))
        return model.pooled(self.hidden, self.grid, self.grid.alive)

    def attend(self, block: Block, layer: int, later: Reducer | None) -> None:
        """Run the attention part, with the statistics that the scorer of a later reducer needs."""
        scorer = None if later is None else scorer_of(later.scorer, layer, self.model.predictor)
        rows = block.projected(self.hidden, self.grid.positions)  # (B * K, 3 * D)
        parts = rows.reshape(self.grid.height, self.grid.width, 3, block.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, K, E)
        probabilities = self.shares(query, key, block.window)
        if scorer is not None and scorer.read is not None:
            query_weights = self.grid.present.to(probabilities.dtype)
            self.read = scorer.read(WrittenMap(probabilities, query_weights, self.grid))
        if scorer is not None and scorer.needs_values:
            self.values = rows.chunk(3, -1)[2]
        context = (probabilities @ value).transpose(1, 2).reshape(rows.shape[0], -1)
        self.hidden = block.attended(self.hidden, context)

    def shares(self, query: Tensor, key: Tensor, window: int | None, queries: int | None = None) -> Tensor:
        """(B, H, Q, K) attention of queries (B, H, Q, E), the first `queries` slots or all, to keys (B, H, K, E)."""
        grid = self.grid
        logits: Tensor = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
        if window is None:
            logits = logits + grid.bias.to(logits.dtype)
            return logits.softmax(-1)
        positions = grid.positions.reshape(grid.height, grid.width)
        apart = (positions[:, :queries, None] - positions[:, None, :]).abs()
        seen = ((apart <= window) & grid.present[:, None, :]) | (apart == 0)  # a dead slot sees itself: no row is empty
        logits = logits.masked_fill(~seen[:, None], -torch.inf)
        return logits.softmax(-1)

    def finish_first(self, block: Block) -> None:
        """Run the last layer for each example's first token alone."""
        grid = self.grid
        query, others = block.projected_for(grid.first, self.hidden, grid.positions)
        key, value = others.reshape(grid.height, grid.width, 2, block.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        asking = query.reshape(grid.height, block.heads, 1, -1)
        context = (self.shares(asking, key, block.window, queries=1) @ value).reshape(grid.height, -1)
        self.hidden = block.transformed(block.attended(self.hidden[grid.first], context))

    def remember(self, layer: int) -> None:
        """Write the states of living tokens to the buffer, where something may change before they are written again."""
        last = layer == len(self.plan.layers) - 1
        if last or self.plan.layers[layer].after is not None or self.plan.reducers[layer + 1] is not None:
            self.buffer = self.buffer.index_copy(0, self.input_rows(), self.hidden.to(self.buffer.dtype))

    def input_rows(self) -> Tensor:
        """(B * K,) the row of each slot's token in the input; the spare last row for dead slots."""
        rows = self.grid.rows_in(self.whole)
        return torch.where(self.grid.present.reshape(-1), rows, self.whole.height * self.whole.width)

    def reduce(self, reducer: Reducer | None, layer: int, block: Block, slot: int | None = None) -> None:
        """Drop the tokens that the reducer does not keep."""
        if reducer is None:
            return
        grid, shape = self.grid, self.grid.present.shape
        number = layer + 1 if slot is None else slot
        scores = self.scores(reducer, layer, block).float().reshape(shape)
        protected = reducer.protected(self.whole, grid).reshape(shape) & grid.present
        ranked = torch.where(protected, torch.inf, scores).masked_fill(~grid.present, -torch.inf)
        best, order = ranked.sort(dim=1, descending=True, stable=True)  # of equal scores the earlier first
        ranks = torch.arange(shape[1], device=order.device)
        kept = grid.lengths if reducer.keep is None else self.wanted(reducer, number).minimum(grid.lengths)
        if reducer.threshold is not None:
            scale = grid.lengths[:, None] if reducer.is_relative else 1
            passes = (best * scale >= self.numbers["thresholds"][number]) | (ranks == 0)
            kept = (passes & (ranks < kept[:, None])).sum(1)  # the best of them
        width = _at_most(kept.amax(0), shape[1])
        stays, order = ranks[:width] < kept[:, None], order[:, :width]
        if self.ties:
            later = torch.where(stays, order, order + shape[1]).sort(dim=1, stable=True).values
            order = torch.where(stays, later, later - shape[1])
        before = self.input_rows() if self.restores else None
        rows, self.grid = grid.gathered(order, stays)
        self.hidden = self.hidden.index_select(0, rows)
        if before is not None and reducer.fate == "discard":
            self.discarded = self.discarded.index_fill(0, before, True).index_fill(0, self.input_rows(), False)
            self.discarded[-1] = True

    def wanted(self, reducer: Reducer, slot: int) -> Tensor:
        """(B,) tokens that the length lets through: at least the protected ones, and at least one."""
        assert reducer.keep is not None
        wanted = self.counts[slot] if reducer.keep.ratio is None else self.of_ratios[slot]
        if reducer.protect == ("cls",):  # one token
            return wanted
        return wanted.maximum(self.whole.summed(reducer.protected(self.whole, self.whole).long()))

    def scores(self, reducer: Reducer, layer: int, block: Block) -> Tensor:
        """(B * K,) scores; those of dead slots mean nothing."""
        scorer = scorer_of(reducer.scorer, layer, self.model.predictor)
        hidden, values = self.hidden, self.values
        compute = lambda: block.values(hidden) if reducer.site == "before_attention" or values is None else values  # noqa: E731
        return scorer.score(Seen(hidden, self.grid, self.whole, compute, self.read, self.grid.alive))


def _first_only(model: AdaptiveModel, plan: ReductionPlan) -> bool:
    """Return whether the last layer computes each example's first token alone."""
    return model.reads_first_only and not model.needs_buffer(plan)


def _at_most(count: Tensor, slots: int) -> int:
    """The number of slots in a tensor, as a size that a graph knows to be from 1 to `slots`."""
    size: Any = count.item()
    torch._check(size >= 1)  # type: ignore[no-untyped-call]
    torch._check(size <= slots)  # type: ignore[no-untyped-call]
    return size  # type: ignore[no-any-return]
