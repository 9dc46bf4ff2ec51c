"""Protocol of a scorer: one real number per token, from the layer's own computation or a small trained part.

Axes: B examples, T tokens that are alive (in a relaxed pass: all), D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from searchkit.reduction.attention import Read
from searchkit.reduction.ragged import Layout

Scale = Literal["relative", "probability"]


@dataclass(frozen=True, eq=False)
class Seen:
    """The inputs of a scorer.

    hidden: (T, D) the states at the reducer's site; whole: the layout of the unreduced examples; values: the
    layer's attention values (T, D), computed on demand; attention: (T, ...) what the scorer's `read` took from the
    layer's map; alive: (T,) weights of a relaxed pass, None where tokens are dropped physically and all are alive
    """

    hidden: Tensor
    layout: Layout
    whole: Layout
    values: Callable[[], Tensor]
    attention: Tensor | None = None
    alive: Tensor | None = None

    @property
    def of_map(self) -> Tensor:
        """Attention statistics read of the map."""
        assert self.attention is not None, "the encoder reads the map for the scorers that ask for it"
        return self.attention

    @property
    def ids(self) -> Tensor:
        """(T,) token ids."""
        return self.whole.ids[self.layout.rows_in(self.whole)]

    @property
    def counts(self) -> Tensor:
        """(B,) tokens alive in each example; in a relaxed pass their summed weights."""
        if self.alive is None:
            return self.layout.lengths
        return self.layout.summed(self.alive)

    def shares(self, positive: Tensor) -> Tensor:
        """(T,) positive scores divided by their sum over the example's living tokens."""
        present = positive if self.alive is None else positive * self.alive
        return present / self.layout.summed(present).clamp(min=1e-30)[self.layout.examples]

    def softmax(self, logits: Tensor) -> Tensor:
        """(T,) softmax over the example's living tokens."""
        dead = None if self.alive is None else self.alive <= 0
        voting = logits.detach() if dead is None else logits.detach().masked_fill(dead, -torch.inf)
        peak = self.layout.highest(voting)
        return self.shares((logits - peak[self.layout.examples]).clamp(max=0.0).exp())


class Scorer(Protocol):
    """One number per token; more is better.

    scale: what a threshold on it means. "relative": scores are shares that sum to one over an example's living tokens,
    and a threshold eta asks for eta / n of n of them; "probability": a threshold in (0, 1]; None: ranks only.
    read: what it needs of each bucket's attention map, a row per token; None where it needs no map, which is faster.
    placed (optional): True where its cost depends on which tokens are there, not on their number alone.
    A scorer is hashable, and equal to another with the same settings: a frozen dataclass is.
    """

    @property
    def scale(self) -> Scale | None: ...
    @property
    def read(self) -> Read | None: ...
    @property
    def needs_values(self) -> bool: ...

    def score(self, seen: Seen) -> Tensor:
        """(T,) float32."""

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        """(B,) int64 multiply-accumulates of scoring these tokens, attention and values aside."""
