"""What a candidate means for one encoder: at every layer a reducer, or none.

A reducer is site x scorer x keep rule x fate: where tokens are dropped, by which score, how many stay, and what becomes
of the others. Axes as in `ragged`: B examples, T tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from searchkit.errors import unknown
from searchkit.reduction.ragged import Layout

SITES: Final = ("between",)  # between attention (with its residual and LayerNorm) and the feed-forward part
FATES: Final = ("freeze", "discard")
PROTECT: Final[dict[str, Callable[[Layout], Tensor]]] = {"cls": lambda layout: layout.positions == 0}

_SLACK = 1e-9  # so that ceil(0.7 * 10) is 7: 0.7 * 10 is 7.000000000000001 in floating point


@dataclass(frozen=True)
class TopK:
    """Keep the highest-scoring tokens of each example (word-vector selection; LAT, arXiv 2010.07003, sec. 3.1).

    Give `ratio`, a fraction of the example's own unreduced tokens (k = ceil(ratio * n)), or `count`, an absolute
    number. Protected tokens always stay and are among the k; among equal scores the earlier token wins.
    """

    ratio: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.count is None):
            raise ValueError(f"give either ratio or count, got {self.ratio=}, {self.count=}")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio=}")
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count=}")

    def wanted(self, whole_lengths: Tensor) -> Tensor:
        """(B,) tokens to keep of examples that had `whole_lengths` (B,) tokens, before protection and what is left."""
        if self.count is not None:
            return torch.full_like(whole_lengths, self.count)
        assert self.ratio is not None
        return (whole_lengths.double() * self.ratio - _SLACK).ceil().to(whole_lengths.dtype)

    def keep(self, scores: Tensor, protected: Tensor, layout: Layout, counts: Tensor) -> Tensor:
        """(T,) True for the `counts` (B,) best tokens of each example, `protected` (T,) first."""
        ranked = layout.pad(scores.float().masked_fill(protected, math.inf), fill=-math.inf)  # (B, L)
        order = ranked.argsort(dim=1, descending=True, stable=True)
        rank = torch.empty_like(order).scatter_(
            1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
        )
        return layout.unpad(rank < counts[:, None])


@dataclass(frozen=True)
class Reducer:
    """One layer's reduction. `scorer` names an entry of `scorers.SCORERS`; `protect` names of `PROTECT`."""

    keep: TopK
    site: str = "between"
    scorer: str = "attention_received"
    fate: str = "freeze"
    protect: tuple[str, ...] = ("cls",)

    def __post_init__(self) -> None:
        from searchkit.reduction.scorers import SCORERS  # scorers describe themselves in terms of this module's words

        for kind, name, known in (
            ("site", self.site, SITES),
            ("scorer", self.scorer, SCORERS),
            ("fate", self.fate, FATES),
            *(("protected token", name, PROTECT) for name in self.protect),
        ):
            if name not in known:
                raise ValueError(unknown(kind, name, known))

    def protected(self, layout: Layout) -> Tensor:
        """(T,) True for tokens that are never dropped."""
        kept = torch.zeros_like(layout.positions, dtype=torch.bool)
        for name in self.protect:
            kept |= PROTECT[name](layout)
        return kept

    def counts(self, whole: Layout, alive: Layout) -> Tensor:
        """(B,) tokens that leave this reducer: what the rule wants, at least the protected, at most what is alive."""
        minimum = torch.zeros_like(alive.lengths).index_add_(0, alive.examples, self.protected(alive).long())
        return torch.minimum(self.keep.wanted(whole.lengths).maximum(minimum).clamp(min=1), alive.lengths)


@dataclass(frozen=True)
class ReductionPlan:
    """A reducer, or None, for each layer of an encoder."""

    reducers: tuple[Reducer | None, ...]

    @classmethod
    def unreduced(cls, layers: int) -> ReductionPlan:
        return cls((None,) * layers)

    @classmethod
    def of_lengths(
        cls, lengths: Sequence[float | int], *, fate: str = "freeze", protect: tuple[str, ...] = ("cls",)
    ) -> ReductionPlan:
        """LAT's plan: floats are fractions of the example's own tokens, ints absolute counts; 1.0 is no reducer."""
        if any(later > earlier for earlier, later in itertools.pairwise(lengths)):
            raise ValueError(f"lengths must not grow with depth, got {tuple(lengths)}")
        rules = (TopK(count=length) if isinstance(length, int) else TopK(ratio=length) for length in lengths)
        return cls(tuple(None if rule.ratio == 1.0 else Reducer(rule, fate=fate, protect=protect) for rule in rules))

    def counts_at(self, tokens: int) -> tuple[int, ...]:
        """Tokens that leave each layer's attention in one example of `tokens` tokens, protected ones aside."""
        counts, whole = [tokens], torch.tensor([tokens])
        for reducer in self.reducers:
            wanted = tokens if reducer is None else int(reducer.keep.wanted(whole))
            counts.append(min(counts[-1], wanted))
        return tuple(counts[1:])


def constant_ratio_counts(tokens: int, layers: int, drop: float) -> tuple[int, ...]:
    """LAT's deterministic length configuration: n_l = ceil(n_(l-1) * (1 - drop)), from `tokens`."""
    counts = []
    for _ in range(layers):
        tokens = math.ceil(tokens * (1 - drop) - _SLACK)
        counts.append(tokens)
    return tuple(counts)
