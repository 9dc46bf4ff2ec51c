"""Shared prefixes, bit-identical to separate evaluation: many plans on one batch, as a tree that is walked depth first.

A node is the batch after the attention of a layer, as all reducers before it have left it; its children are what the
different reducers of that layer make of it. The feed-forward part runs once for every token that any child keeps, which
is possible because a token's row of a product does not depend on the other rows (`tests/reduction/test_prefix_tree.py`
asserts it to the last digit). So a node's values follow from its prefix and the batch alone, whoever else is evaluated.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from searchkit.reduction.families import Block
from searchkit.reduction.matmul import piecewise, rowwise
from searchkit.reduction.model import AdaptiveModel, Predicted
from searchkit.reduction.plan import Ranked, Reducer, ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.scorers import reads_nothing
from searchkit.reduction.state import State

FEWEST: Final = 16  # rows of a product, so that a row does not depend on how many there are
INDICES: Final = 64  # bytes that a token takes in layouts and orders, about
# Scorers that need nothing of the attention, and so go with any other.
Prefix = tuple[Reducer | None, ...]
Key = tuple[bool, Prefix]  # restoring or not, prefix


@dataclass
class Work:
    """Tokens that entered a layer, counted once per node, and as often as separate passes would have computed them."""

    shared: int = 0
    separate: int = 0


class Node:
    """A batch after one layer's attention; the feed-forward part of a token is made when a child first needs it.

    In a node that is `kept` it then takes the token's place, so that one tensor serves the children to come.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.used = 0  # generation that last used the node
        self.kept = False
        self._made = torch.zeros_like(state.layout.positions, dtype=torch.bool)  # (T,)
        self._ranked: dict[Hashable, Ranked] = {}

    def ranked(self, reducer: Reducer, layer: int, block: Block) -> Ranked:
        """Order that the reducer needs, computed once for all reducers that score and protect alike."""
        key = (reducer.scorer, reducer.protect)
        if key not in self._ranked:
            self._ranked[key] = self.state.ranked(reducer, layer, block)
        return self._ranked[key]

    def serves(self, reducers: Iterable[Reducer | None]) -> bool:
        """Return whether the node has the orders that these reducers need, computed before the feed-forward part."""
        needed = {
            (reducer.scorer, reducer.protect)
            for reducer in reducers
            if reducer is not None and reducer.site == "between"
        }
        return needed <= set(self._ranked) or not self._made.any()

    def transformed(self, block: Block, rows: Tensor | None) -> Tensor:
        """(T', D) the feed-forward output of these rows (T',), of all for None."""
        hidden = self.state.hidden
        if not self.kept:
            return piecewise(block.transformed, hidden if rows is None else hidden[rows], fewest=FEWEST)
        missing = ~self._made
        if rows is not None:
            missing &= torch.zeros_like(missing).index_fill(0, rows, True)
        new = missing.nonzero().squeeze(1)
        if len(new):
            hidden.index_copy_(0, new, piecewise(block.transformed, hidden[new], fewest=FEWEST))
            self._made |= missing
        return hidden if rows is None else hidden[rows]

    @property
    def bytes(self) -> int:
        """Approximate size in memory."""
        return self.state.nbytes + INDICES * len(self._made)


@dataclass
class Cache:
    """Nodes of one batch that later generations may need again, within `budget` bytes.

    Those that were asked for long ago or stand deep go first: a layer counts as much as two generations. (The best of
    eight rules in searches on a formula; with all that is ever asked for in memory it saves three quarters as much.)
    """

    budget: int
    nodes: dict[Key, Node] = field(default_factory=dict)
    held: int = 0
    generation: int = 0
    _least: list[tuple[int, int, Key]] = field(default_factory=list)  # a heap, by worth and then age
    _number: Iterator[int] = field(default_factory=itertools.count)

    def begin(self, prefixes: Collection[Prefix]) -> None:
        """Begin a generation that needs these prefixes."""
        self.generation += 1
        for key, node in self.nodes.items():
            if key[-1] in prefixes:
                node.used = self.generation
        self._least = [(self._worth(key, node), next(self._number), key) for key, node in self.nodes.items()]
        heapq.heapify(self._least)

    def find(self, key: Key, reducers: Iterable[Reducer | None]) -> Node | None:
        """Find the node of a prefix that serves these reducers of its layer; None where it is not kept."""
        node = self.nodes.get(key)
        return node if node is not None and node.serves(reducers) else None

    def keep(self, key: Key, node: Node) -> None:
        """Keep the node if there is room, or if less valuable nodes can be evicted for it."""
        self._drop(key)
        node.used = self.generation
        worth, needed = self._worth(key, node), node.bytes
        while self.held + needed > self.budget:
            if not self._least or self._least[0][0] >= worth:
                return
            self._drop(heapq.heappop(self._least)[-1])
        node.kept, self.nodes[key] = True, node
        self.held += needed
        heapq.heappush(self._least, (worth, next(self._number), key))

    def clear(self) -> None:
        """Forget all nodes."""
        self.nodes, self.held, self._least = {}, 0, []

    def _drop(self, key: Key) -> None:
        if key in self.nodes:
            self.held -= self.nodes.pop(key).bytes

    @staticmethod
    def _worth(key: Key, node: Node) -> int:
        return node.used - 2 * len(key[-1])


def prefixes(plans: Iterable[ReductionPlan]) -> set[Prefix]:
    """Prefixes of these plans."""
    return {prefix_of(plan, layer) for plan in plans for layer in range(len(plan.reducers))}


def prefix_of(plan: ReductionPlan, layer: int) -> Prefix:
    """Reducers that decide the state after this layer's attention, the input's first."""
    return (*plan.slots[: layer + 1], plan.layers[layer].before)


def can_share(plan: ReductionPlan, template: Reducer) -> bool:
    """Return whether the plan reads the attention map as `template` does, or not at all."""
    return all(
        reducer is None or reducer.scorer == template.scorer or reads_nothing(reducer.scorer)
        for reducer in plan.reducers
    )


class Walk:
    """Depth-first evaluation of one batch under many plans that share with `template`, the recipe's reducer."""

    def __init__(
        self,
        model: AdaptiveModel,
        tokens: Tokens,
        plans: Sequence[ReductionPlan],
        template: Reducer,
        cache: Cache | None = None,
        work: Work | None = None,
    ) -> None:
        self._model, self._tokens, self._plans, self._template = model, tokens, plans, template
        self._cache, self._work = cache or Cache(0), work or Work()
        self._results: dict[int, Predicted] = {}

    def predicted(self) -> list[Predicted]:
        """Predictions in the order of the plans."""
        members = list(range(len(self._plans)))
        for restore, group in _split(members, lambda plan: self._model.needs_buffer(self._plans[plan])):
            embedded = self._model.embed(self._tokens)
            root = State(embedded, self._tokens.layout, self._model.predictor, restore, fewest=FEWEST)
            first = self._model.view.blocks[0]
            for reducer, part in _split(group, lambda plan: self._plans[plan].input):
                branch = root.fork()
                branch.reduce(reducer, 0, first)
                self._layer(branch, 0, part)
        return [self._results[plan] for plan in members]

    def _layer(self, state: State, layer: int, group: Sequence[int]) -> None:
        """Evaluate the layers from `layer` on, for plans that agree on all before."""
        blocks = self._model.view.blocks
        if layer == len(blocks):
            self._finish(state, group)
            return
        first_only = layer == len(blocks) - 1 and self._model.reads_first_only and not state.restores
        for before, part in _split(group, lambda plan: self._plans[plan].layers[layer].before):
            self._work.separate += len(part) * len(state.layout.positions)
            if first_only:
                branch = state.fork()
                branch.reduce(before, layer, blocks[layer])
                self._work.shared += len(branch.hidden)
                branch.finish_first(blocks[layer])
                self._finish(branch, part)
            else:
                self._children(self._node(state, layer, before, part), layer, part)

    def _node(self, state: State, layer: int, before: Reducer | None, part: Sequence[int]) -> Node:
        """Node of the layer's attention, computed or from the cache."""
        key = self._key(state, layer, part[0])
        known = self._cache.find(key, (self._plans[plan].layers[layer].later for plan in part))
        if known is not None:
            return known
        assert state.layers == layer, "a node that was remembered a moment ago is gone"
        block, branch = self._model.view.blocks[layer], state.fork()
        branch.reduce(before, layer, block)
        branch.attend(block, layer, self._template)
        self._work.shared += len(branch.hidden)
        node = Node(branch)
        self._cache.keep(key, node)
        if node.kept and self._template.site == "between":
            node.ranked(self._template, layer, block)
        return node

    def _children(self, node: Node, layer: int, part: Sequence[int]) -> None:
        """Visit a branch for each reducer after the node's attention."""
        block, state = self._model.view.blocks[layer], node.state
        branches: list[tuple[State, Tensor | None, Reducer | None, list[int]]] = []
        for reducer, members in _split(part, lambda plan: self._plans[plan].layers[layer].later):
            branch, rows = state.fork(), None
            if reducer is not None and reducer.site == "between" and reducer.may_drop(state.whole, state.layout):
                rows = branch.keep(reducer, layer, block, node.ranked(reducer, layer, block))
            branches.append((branch, rows, reducer, members))
        known = [self._known(branch, layer + 1, members) for branch, _, _, members in branches]
        fresh = [plan for plan, remembered in zip(branches, known, strict=True) if not remembered]
        after = self._model.view.blocks[layer + 1] if self._attend_next(fresh, layer) else None
        made = iter(_made(node, block, after, [rows for _, rows, _, _ in fresh]) if fresh else ())
        for (branch, _, reducer, members), remembered in zip(branches, known, strict=True):
            if not remembered:
                branch.transform(*next(made))
                if reducer is not None and reducer.site == "after_layer":
                    branch.reduce(reducer, layer, block)
            self._layer(branch, layer + 1, members)

    def _key(self, state: State, layer: int, plan: int) -> Key:
        return state.restores, prefix_of(self._plans[plan], layer)

    def _known(self, state: State, layer: int, members: Sequence[int]) -> bool:
        """Return whether the layer's nodes of all these plans are cached, so that nothing before them is needed.

        They stay until they are used: what is kept meanwhile is deeper, and so worth less.
        """
        if layer >= len(self._model.view.blocks) - 1:
            return False
        parts: dict[Key, list[int]] = {}
        for plan in members:
            parts.setdefault(self._key(state, layer, plan), []).append(plan)
        return all(
            self._cache.find(key, (self._plans[plan].layers[layer].later for plan in part)) is not None
            for key, part in parts.items()
        )

    def _attend_next(self, branches: Sequence[tuple[State, Any, Reducer | None, list[int]]], layer: int) -> bool:
        """Return whether the next layer projects all tokens that leave this one, for all branches."""
        if len(branches) < 2 or layer + 1 >= len(self._model.view.blocks) - self._model.reads_first_only:
            return False
        return not any(
            (reducer is not None and reducer.site == "after_layer")
            or any(self._plans[plan].layers[layer + 1].before for plan in members)
            for _, _, reducer, members in branches
        )

    def _finish(self, state: State, group: Sequence[int]) -> None:
        predicted = self._model.read(state.result(), self._tokens.layout)
        self._results.update(dict.fromkeys(group, predicted))


def _made(
    node: Node, block: Block, after: Block | None, wanted: Sequence[Tensor | None]
) -> list[tuple[Tensor, Tensor | None]]:
    """Feed-forward output of the rows that each child keeps (None: all), and their projections by the next layer.

    Each row is computed once for all children.
    """
    hidden, positions = node.state.hidden, node.state.layout.positions
    rows, indices = _union(wanted, hidden)
    made = node.transformed(block, rows)
    projected = None if after is None else _projected(after, made, positions if rows is None else positions[rows])

    def of(index: Tensor | None, part: Tensor) -> Tensor:
        return part if index is None or index is rows else part[index if indices is None else indices[index]]

    return [
        (of(wanted_rows, made), None if projected is None else of(wanted_rows, projected)) for wanted_rows in wanted
    ]


def _union(wanted: Sequence[Tensor | None], hidden: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Rows that any child keeps, and the index of each row among them; None for all rows in their own order."""
    kept = [rows for rows in wanted if rows is not None]
    if len(kept) < len(wanted):
        return None, None
    if len(kept) == 1:
        return kept[0], None
    union = torch.zeros(len(hidden), dtype=torch.bool, device=hidden.device).index_fill(0, torch.cat(kept), True)
    return union.nonzero().squeeze(1), union.cumsum(0) - 1


def _projected(block: Block, hidden: Tensor, positions: Tensor) -> Tensor:
    return rowwise(block.projected, hidden, positions, fewest=FEWEST)


def _split(group: Sequence[int], key: Callable[[int], Reducer | bool | None]) -> Iterable[tuple[Any, list[int]]]:
    """Group members by key, in the order of the keys' first appearance."""
    parts: dict[Any, list[int]] = {}
    for member in group:
        parts.setdefault(key(member), []).append(member)
    return parts.items()
