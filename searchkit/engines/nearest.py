"""Choice among children by what their nearest known candidates had: losses of a child before it is measured.

N known candidates, C children, W numbers of a genome, M objectives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from searchkit.front import Array, nondominated
from searchkit.space import Genome

NEIGHBOURS: Final = 4
MOST: Final = 2_000  # known candidates: a search of more has evaluations so cheap that a choice would cost as much
TOGETHER: Final = 256  # children whose distances are in memory at once


class Nearest:
    """Known candidates, and the choice among children by them.

    A child's losses are those of its nearest known candidates, weighted by the inverse square of the distance, which
    counts steps of levels (Shepard 1968). It promises as much as the front of all known would have to be moved to reach
    it (the additive epsilon, Zitzler et al. 2003).
    """

    def __init__(self) -> None:
        self._genomes: list[Genome] = []
        self._losses: list[Array] = []

    @property
    def can_choose(self) -> bool:
        """Return whether candidates are known, and not too many."""
        return 0 < len(self._genomes) <= MOST

    def tell(self, genomes: Sequence[Genome], losses: Array) -> None:
        """Accept N measured candidates with their losses (N, M)."""
        if len(self._genomes) <= MOST:
            self._genomes.extend(genomes)
            self._losses.extend(losses)

    def promising(self, children: Genome, n: int) -> Genome:
        """(n, W) the most promising of the children (C, W), each beside those before it; all where they are fewer."""
        if len(children) <= n:
            return children
        known = np.array(self._losses)
        best, worst = known.min(axis=0), known.max(axis=0)
        scale = np.where(worst > best, worst - best, 1.0)
        expected = self._expected(children, known) / scale
        front = known[nondominated(known)] / scale
        promise = np.full(len(children), np.inf)
        for member in front:
            promise = _beside(promise, member, expected)
        chosen = np.zeros(n, dtype=np.int64)
        for place in range(n):
            chosen[place] = first = np.argmax(promise)
            promise = _beside(promise, expected[first], expected)
            promise[first] = -np.inf
        return children[chosen]

    def _expected(self, children: Genome, known: Array) -> Array:
        """(C, M) expected losses."""
        return np.concatenate(list(self._in_parts(children, known)))

    def _in_parts(self, children: Genome, known: Array) -> Iterator[Array]:
        genomes = np.array(self._genomes)
        count = min(NEIGHBOURS, len(genomes))
        for start in range(0, len(children), TOGETHER):
            part = children[start : start + TOGETHER]
            distances = sum(np.abs(part[:, None, place] - genomes[None, :, place]) for place in range(part.shape[1]))
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :count]
            weights = 1.0 / np.take_along_axis(np.maximum(distances, 1), nearest, axis=1) ** 2.0
            yield (known[nearest] * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)


def _beside(promise: Array, member: Array, expected: Array) -> Array:
    """(C,) promises with one more member (M,) of the front."""
    beside: Array = np.minimum(promise, (member - expected).max(axis=1))
    return beside
