"""Routing of asks to workers: each gets the asks whose prefixes it caches deeper than any other worker.

Servers of language models route requests so (prefix-aware routing). Here a generation begins as one heap of asks, and
each worker that is free takes a share of it: first the asks whose prefixes it remembers, then others in the order of
the prefix tree.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from searchkit.evaluate.trial import layer_values
from searchkit.records import Ask

MOST_KNOWN: Final = 4096  # latest asks that count; workers have mostly forgotten older ones


@dataclass
class _Node:
    """Prefix, with the workers that were given an ask that begins with it."""

    workers: set[Hashable] = field(default_factory=set)
    longer: dict[Hashable, _Node] = field(default_factory=dict)


class Routes:
    """Prefixes that each worker was given recently."""

    def __init__(self) -> None:
        self._root = _Node()
        self._given: list[tuple[Hashable, Ask]] = []

    def split(self, worker: Hashable, asks: Sequence[Ask], count: int) -> tuple[tuple[Ask, ...], tuple[Ask, ...]]:
        """Split the asks into `count` for this worker and the others, both in the original order."""
        order = sorted(range(len(asks)), key=lambda index: -self.lead(worker, asks[index]))
        chosen = set(order[:count])
        parts = [tuple(ask for index, ask in enumerate(asks) if (index in chosen) is part) for part in (True, False)]
        self.give(worker, parts[0])
        return parts[0], parts[1]

    def lead(self, worker: Hashable, ask: Ask) -> int:
        """Layers by which the worker's longest cached prefix of the ask exceeds that of the others."""
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
        """Record that the worker gets these asks, and will cache their prefixes."""
        for ask in asks:
            self._given.append((worker, ask))
            self._note(worker, ask)
        if len(self._given) > 2 * MOST_KNOWN:
            self._rebuild(self._given[-MOST_KNOWN:])

    def forget(self, worker: Hashable) -> None:
        """Remove a worker that is gone, with its prefixes."""
        self._rebuild([(known_worker, ask) for known_worker, ask in self._given if known_worker != worker])

    def _rebuild(self, given: Iterable[tuple[Hashable, Ask]]) -> None:
        self._root, self._given = _Node(), list(given)
        for worker, ask in self._given:
            self._note(worker, ask)

    def _note(self, worker: Hashable, ask: Ask) -> None:
        node = self._root
        for values in layer_values(ask):
            node = node.longer.setdefault(values, _Node())
            node.workers.add(worker)
