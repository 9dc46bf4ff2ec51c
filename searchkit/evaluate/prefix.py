"""Many plans on one batch: the tree of their reducers, walked depth first, so that a common prefix is computed once.

A node is the batch after the attention of a layer, as all reducers before it have left it; its children are what the
different reducers of that layer make of it. The feed-forward part runs once for every token that any child keeps, which
is possible because a token's row of a product does not depend on the other rows (`tests/evaluate/test_prefix.py`
asserts it to the last digit). So a node's values follow from its prefix and the batch alone, whoever else is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from searchkit.reduction.encoder import State
from searchkit.reduction.families import Block
from searchkit.reduction.model import AdaptiveModel, Predicted
from searchkit.reduction.plan import Ranked, Reducer, ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.scorers import SCORERS

FEWEST: Final = 16  # rows of a product
Prefix = tuple[Reducer | None, ...]


@dataclass
class Work:
    """Tokens that entered a layer, counted once per node, and as often as separate passes would have computed them."""

    shared: int = 0
    separate: int = 0


class Node:
    """A batch after one layer's attention; `whole` is its feed-forward part for every token, once that is computed."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.whole: Tensor | None = None
        self._ranked: dict[Hashable, Ranked] = {}

    def ranked(self, reducer: Reducer, layer: int, block: Block) -> Ranked:
        """The order that the reducer needs, computed once for all that score and protect alike."""
        key = (reducer.scorer, reducer.protect)
        if key not in self._ranked:
            self._ranked[key] = self.state.ranked(reducer, layer, block)
        return self._ranked[key]

    @property
    def bytes(self) -> int:
        """About what it holds in memory."""
        held = (self.state.hidden, self.whole, self.state.buffer, self.state.values, self.state.layout.positions)
        return sum(tensor.nbytes for tensor in held if tensor is not None)


@dataclass
class Cache:
    """Nodes that later generations may need again, within `budget` bytes; the longest unused go first, deep ones first.

    A prefix is kept from the second generation on that asks for it, those of the first layer at once.
    """

    budget: int
    nodes: dict[tuple[int, bool, Prefix], Node] = field(default_factory=dict)  # by batch, restoring or not, prefix
    held: int = 0
    generation: int = 0
    seen: dict[Prefix, int] = field(default_factory=dict)  # in how many generations
    used: dict[Prefix, int] = field(default_factory=dict)  # in which generation last

    def begin(self, plans: Iterable[ReductionPlan]) -> None:
        """A new generation, of these plans."""
        self.generation += 1
        for prefix in {prefix_of(plan, layer) for plan in plans for layer in range(len(plan.reducers))}:
            self.seen[prefix] = self.seen.get(prefix, 0) + 1
            self.used[prefix] = self.generation

    def wants(self, prefix: Prefix) -> bool:
        return self.budget > 0 and (len(prefix) <= 2 or self.seen.get(prefix, 0) > 1)

    def keep(self, key: tuple[int, bool, Prefix], node: Node) -> None:
        """Hold the node if there is room, or room can be made of nodes that are worth less."""
        worth = self._worth(key[-1])
        while self.held + node.bytes > self.budget:
            least = min(self.nodes, key=lambda held: self._worth(held[-1]), default=None)
            if least is None or self._worth(least[-1]) >= worth:
                return
            self.held -= self.nodes.pop(least).bytes
        self.nodes[key] = node
        self.held += node.bytes

    def _worth(self, prefix: Prefix) -> tuple[int, int]:
        return self.used.get(prefix, 0), -len(prefix)


def prefix_of(plan: ReductionPlan, layer: int) -> Prefix:
    """What decides the state after this layer's attention: the reducers until then, the input's first."""
    here = plan.reducers[layer]
    return (*plan.places[: layer + 1], here if here is not None and here.site == "before_attention" else None)


def can_share(plan: ReductionPlan, like: Reducer) -> bool:
    """Whether the plan reads the attention map as `like` does, or not at all."""
    return all(
        reducer is None or reducer.scorer in (like.scorer, *(name for name in SCORERS if SCORERS[name].read is None))
        for reducer in plan.reducers
    )


class Walk:
    """One batch under many plans that can share with `like`, the reducer of the model's recipe."""

    def __init__(
        self,
        model: AdaptiveModel,
        tokens: Tokens,
        plans: Sequence[ReductionPlan],
        like: Reducer,
        cache: Cache | None = None,
        batch: int = 0,
        work: Work | None = None,
    ) -> None:
        self._model, self._tokens, self._plans, self._like = model, tokens, plans, like
        self._cache, self._batch, self._work = cache or Cache(0), batch, work or Work()
        self._results: dict[int, Predicted] = {}

    def predicted(self) -> list[Predicted]:
        """In the order of the plans."""
        members = list(range(len(self._plans)))
        for restore, group in _split(members, lambda one: self._model.needs_buffer(self._plans[one])):
            embedded = self._model.embed(self._tokens)
            root = State(embedded, self._tokens.layout, self._model.predictor, restore)
            first = self._model.view.blocks[0]
            for reducer, part in _split(group, lambda one: self._plans[one].input):
                branch = root.fork()
                branch.reduce(reducer, 0, first)
                self._layer(branch, 0, part)
        return [self._results[one] for one in members]

    def _layer(self, state: State, layer: int, group: Sequence[int]) -> None:
        """Layers from `layer` on, for plans that agree on all before."""
        blocks = self._model.view.blocks
        if layer == len(blocks):
            self._finish(state, group)
            return
        first_only = layer == len(blocks) - 1 and self._model.reads_first_only and state.buffer is None
        for before, part in _split(group, lambda one: self._at(one, layer, later=False)):
            self._work.separate += len(part) * len(state.hidden)
            if first_only:
                branch = state.fork()
                branch.reduce(before, layer, blocks[layer])
                self._work.shared += len(branch.hidden)
                branch.finish_first(blocks[layer])
                self._finish(branch, part)
            else:
                self._children(self._node(state, layer, before, part), layer, part)

    def _node(self, state: State, layer: int, before: Reducer | None, part: Sequence[int]) -> Node:
        """The layer's attention, computed or remembered."""
        prefix = prefix_of(self._plans[part[0]], layer)
        key = (self._batch, state.buffer is not None, prefix)
        known = self._cache.nodes.get(key)
        if known is not None:
            return known
        block, branch = self._model.view.blocks[layer], state.fork()
        branch.reduce(before, layer, block)
        branch.attend(block, layer, self._like)
        if not branch.scorer(self._like, layer).needs_values:
            branch.values = None
        self._work.shared += len(branch.hidden)
        node = Node(branch)
        if self._cache.wants(prefix):
            node.whole = _rowwise(block, branch.hidden)
            self._cache.keep(key, node)
        return node

    def _children(self, node: Node, layer: int, part: Sequence[int]) -> None:
        """What the reducers after attention make of a node."""
        block, state = self._model.view.blocks[layer], node.state
        branches: list[tuple[State, Tensor | None, Reducer | None, list[int]]] = []
        for reducer, members in _split(part, lambda one: self._at(one, layer, later=True)):
            branch, rows = state.fork(), None
            if reducer is not None and reducer.site == "between" and reducer.may_drop(state.whole, state.layout):
                rows = branch.keep(reducer, layer, block, node.ranked(reducer, layer, block))
            branches.append((branch, rows, reducer, members))
        transformed = _transformed(node, block, [rows for _, rows, _, _ in branches])
        for (branch, _, reducer, members), hidden in zip(branches, transformed, strict=True):
            branch.transform(hidden)
            if reducer is not None and reducer.site == "after_layer":
                branch.reduce(reducer, layer, block)
            self._layer(branch, layer + 1, members)

    def _at(self, one: int, layer: int, *, later: bool) -> Reducer | None:
        """The plan's reducer at a layer, if it stands before attention (or later)."""
        reducer = self._plans[one].reducers[layer]
        return reducer if reducer is not None and (reducer.site != "before_attention") == later else None

    def _finish(self, state: State, group: Sequence[int]) -> None:
        predicted = self._model.read(state.result(), self._tokens.layout)
        self._results.update(dict.fromkeys(group, predicted))


def _transformed(node: Node, block: Block, wanted: Sequence[Tensor | None]) -> list[Tensor]:
    """The feed-forward part of the rows that each child keeps (None: all), computed once for a row."""
    hidden = node.state.hidden
    if node.whole is None and any(rows is None for rows in wanted):
        node.whole = _rowwise(block, hidden)
    if node.whole is not None:
        return [node.whole if rows is None else node.whole[rows] for rows in wanted]
    kept = [rows for rows in wanted if rows is not None]
    if len(kept) == 1:
        return [_rowwise(block, hidden[kept[0]])]
    union = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device).index_fill(0, torch.cat(kept), True)
    places = union.cumsum(0) - 1
    made = _rowwise(block, hidden[union])
    return [made[places[rows]] for rows in kept]


def _rowwise(block: Block, hidden: Tensor) -> Tensor:
    """The feed-forward part; below `FEWEST` rows libraries take other ways to multiply, with other roundings."""
    missing = max(FEWEST - len(hidden), 0)
    return block.transformed(F.pad(hidden, (0, 0, 0, missing)))[: len(hidden)] if missing else block.transformed(hidden)


def _split(group: Sequence[int], key: Callable[[int], Reducer | bool | None]) -> Iterable[tuple[Any, list[int]]]:
    """Members by key, in the order in which the keys come."""
    parts: dict[Any, list[int]] = {}
    for one in group:
        parts.setdefault(key(one), []).append(one)
    return parts.items()
