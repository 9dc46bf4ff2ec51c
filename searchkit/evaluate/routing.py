"""Which worker gets which asks: those of whose prefixes it remembers more than any other worker does.

Servers of language models route requests so (prefix-aware routing). Here a generation begins as one heap of asks, and
each worker that is free takes a share of it; what it does not remember, it takes in the order of the tree.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from searchkit.evaluate.trial import layer_values
from searchkit.records import Ask

MOST_KNOWN: Final = 4096  # asks that are looked back on; what workers remember of older ones is gone, mostly


@dataclass
class _Node:
    """A prefix, and the workers that were given an ask that begins with it."""

    workers: set[Hashable] = field(default_factory=set)
    longer: dict[Hashable, _Node] = field(default_factory=dict)


class Routes:
    """The prefixes that each worker was given of late."""

    def __init__(self) -> None:
        self._root = _Node()
        self._given: list[tuple[Hashable, Ask]] = []

    def taken(self, worker: Hashable, asks: Sequence[Ask], count: int) -> tuple[tuple[Ask, ...], tuple[Ask, ...]]:
        """So many of the asks for this worker, and the others, both in the order in which the asks came."""
        order = sorted(range(len(asks)), key=lambda one: -self.lead(worker, asks[one]))
        chosen = set(order[:count])
        parts = [tuple(ask for one, ask in enumerate(asks) if (one in chosen) is part) for part in (True, False)]
        self.give(worker, parts[0])
        return parts[0], parts[1]

    def lead(self, worker: Hashable, ask: Ask) -> int:
        """By how many layers the longest prefix that the worker knows is longer than what any other one knows."""
        own = others = 0
        node: _Node | None = self._root
        for values in layer_values(ask):
            node = node.longer.get(values) if node else None
            if node is None:
                break
            knows = worker in node.workers
            own, others = own + knows, others + (len(node.workers) > knows)
        return own - others

    def give(self, worker: Hashable, asks: Iterable[Ask]) -> None:
        """The worker will remember the prefixes of these asks."""
        for ask in asks:
            self._given.append((worker, ask))
            self._note(worker, ask)
        if len(self._given) > 2 * MOST_KNOWN:
            self._again(self._given[-MOST_KNOWN:])

    def forget(self, worker: Hashable) -> None:
        """The worker is gone, with all that it remembered."""
        self._again([(one, ask) for one, ask in self._given if one != worker])

    def _again(self, given: Iterable[tuple[Hashable, Ask]]) -> None:
        self._root, self._given = _Node(), list(given)
        for worker, ask in self._given:
            self._note(worker, ask)

    def _note(self, worker: Hashable, ask: Ask) -> None:
        node = self._root
        for values in layer_values(ask):
            node = node.longer.setdefault(values, _Node())
            node.workers.add(worker)
