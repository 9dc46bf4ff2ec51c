"""The living tokens of one example, by their number; which they are, and what they cost, only for who asks.

Axes: n tokens alive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from searchkit.reduction.plan import Reducer
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import Scorer, cost_is_placed
from searchkit.reduction.trace import Tally, Trace


class Survivors:
    """Living tokens of the example whose layout is `whole`, and the counts of a pass over it; width: D."""

    def __init__(self, whole: Layout, width: int) -> None:
        self.whole, self.count, self.is_first = whole, whole.only, False
        self._width = width
        self._positions, self._pending = whole.positions, list[Tensor]()
        self._layout: Layout | None = whole
        self._layers: list[tuple[int, int | None]] = []  # in attention, in the feed-forward part (None: the first only)
        self._scorings: list[tuple[int, Reducer, Scorer, int | Layout, int]] = []

    @property
    def positions(self) -> Tensor:
        """(n,) places in the unreduced example."""
        for rows in self._pending:
            self._positions = self._positions.index_select(0, rows)
        self._pending.clear()
        return self._positions

    @property
    def layout(self) -> Layout:
        """Layout of the living tokens, for scorers and rules that read one."""
        if self._layout is None:
            self._layout = Layout(torch.tensor([0, self.count]), self.positions)
        return self._layout

    def none(self) -> Tensor:
        """(n,) False for every token of the whole example."""
        return torch.zeros_like(self.whole.positions, dtype=torch.bool)

    def select(self, rows: Tensor) -> None:
        """Let these rows (n',) live on."""
        self.count, self._layout = len(rows), None
        self._pending.append(rows)

    def tally(self, attended: int) -> None:
        """Count a layer: `attended` tokens entered its attention, those alive its feed-forward part."""
        self._layers.append((attended, self.count))

    def tally_first(self) -> None:
        """Count a layer that is computed for the first token alone."""
        self._layers.append((self.count, None))
        self.is_first = True

    def tally_scoring(self, layer: int, reducer: Reducer, scorer: Scorer, heads: int) -> None:
        """Count the scoring of the tokens that are alive."""
        of = self.layout if cost_is_placed(reducer.scorer) else self.count
        self._scorings.append((layer, reducer, scorer, of, heads))

    def tokens(self) -> Tensor:
        """(1 + 2 * N,) tokens as they came, in each layer's attention, in each feed-forward part."""
        attended, fed = zip(*self._layers, strict=True)
        return torch.tensor([self.whole.only, *attended, *(1 if count is None else count for count in fed)])

    def trace(self) -> Trace:
        """Trace of the pass, as the packed pass counts it."""
        tally = Tally(self.whole, self._width)
        for attended, fed in self._layers:
            if fed is None:
                tally.first_tokens(torch.tensor([attended]))
            else:
                tally.layer(torch.tensor([attended]), _counted(fed))
        for layer, reducer, scorer, of, heads in self._scorings:
            tally.scoring(layer, reducer, scorer, of if isinstance(of, Layout) else _counted(of), heads)
        return tally.trace()


def _counted(tokens: int) -> Layout:
    return Layout.of_counts(torch.tensor([tokens]))
