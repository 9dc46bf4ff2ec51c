"""Reduction plan of one encoder: a reducer, or none, at every slot.

A reducer is site x scorer x keep rule x fate: where tokens are dropped, by which score, how many stay, and what becomes
of the others. Slots are the layers and, before the first attention, the input. Axes: B examples, T tokens.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from searchkit.errors import unknown
from searchkit.reduction.ragged import Layout
from searchkit.reduction.scorers import Scorer, check_scorer, cost_is_placed, scale_of

# "between" is between attention (with its residual) and the feed-forward part
SITES: Final = ("before_attention", "between", "after_layer")
FATES: Final = ("freeze", "discard")
PROTECT: Final = ("cls", "sep", "question")

SLACK: Final = 1e-9  # so that ceil(0.7 * 10) is 7: 0.7 * 10 is 7.000000000000001 in floating point


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
        return (whole_lengths.double() * self.ratio - SLACK).ceil().to(whole_lengths.dtype)

    def wanted_of(self, tokens: int) -> int:
        """Compute `wanted` for one example."""
        return self.count or math.ceil(tokens * float(self.ratio or 0) - SLACK)


@dataclass(frozen=True)
class Reducer:
    """One slot's reduction: protected tokens stay, and of the others the `keep` best at or above `threshold`.

    `scorer` is one, or the name of one in `scorers.SCORERS` or `PREDICTORS`; its scale says what the threshold means;
    `protect` names tokens: "cls" is the first of an example, the others are marked by the task. One token always stays.
    """

    keep: TopK | None = None
    threshold: float | None = None
    site: str = "between"
    scorer: str | Scorer = "attention_received"
    fate: str = "freeze"
    protect: tuple[str, ...] = ("cls",)

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("site", self.site, SITES),
            ("fate", self.fate, FATES),
            *(("protected token", name, PROTECT) for name in self.protect),
        ):
            if name not in known:
                raise ValueError(unknown(kind, name, known))
        check_scorer(self.scorer)
        if self.keep is None and self.threshold is None:
            raise ValueError("a reducer needs a keep rule or a threshold, got neither")
        scale = scale_of(self.scorer)
        if self.threshold is not None and scale is None:
            raise ValueError(f"scores of {self.scorer!r} only rank tokens, they take no threshold: {self.threshold=}")
        if self.threshold is not None and not (self.threshold > 0 and (scale != "probability" or self.threshold <= 1)):
            raise ValueError(
                f"a {scale} threshold must be in (0, {'1]' if scale == 'probability' else 'inf)'}, "
                f"got {self.threshold=}"
            )

    @property
    def is_relative(self) -> bool:
        """Return whether its threshold is on shares, in units of 1 / n for n tokens."""
        return scale_of(self.scorer) == "relative"

    def may_drop(self, whole: Layout, alive: Layout) -> bool:
        """Return whether scores are needed: always for a threshold, for a length only where it is shorter."""
        if self.threshold is not None:
            return True
        if self.keep is not None and alive.only and self.protect == ("cls",):  # without a tensor
            return self.keep.wanted_of(whole.only) < alive.only > 1
        key = ("may drop", self.keep, self.protect, _other(whole, alive))
        if key not in alive.memo:
            alive.memo[key] = bool((self.counts(whole, alive) < alive.lengths).any())
        return bool(alive.memo[key])

    def protected(self, whole: Layout, alive: Layout) -> Tensor:
        """(T,) True for tokens of `alive` that are never dropped."""
        key = ("protected", self.protect, _other(whole, alive))
        if key not in alive.memo:
            marks = [
                alive.positions == 0 if name == "cls" else whole.marked(name)[alive.rows_in(whole)]
                for name in self.protect
            ] or [torch.zeros_like(alive.positions, dtype=torch.bool)]
            alive.memo[key] = functools.reduce(torch.logical_or, marks)
        return alive.memo[key]  # type: ignore[no-any-return]

    def counts(self, whole: Layout, alive: Layout) -> Tensor:
        """(B,) tokens that the length lets through: at least the protected, at most what is alive."""
        if self.keep is None:
            return alive.lengths
        key = ("counts", self.keep, self.protect, _other(whole, alive))
        if key not in alive.memo:
            alive.memo[key] = self._wanted(whole).minimum(alive.lengths)
        return alive.memo[key]  # type: ignore[no-any-return]

    def _wanted(self, whole: Layout) -> Tensor:
        """(B,) tokens that the length keeps: at least the protected ones, which are always alive, and at least one."""
        assert self.keep is not None
        key = ("wanted", self.keep, self.protect)
        if key not in whole.memo:
            wanted = self.keep.wanted(whole.lengths).clamp(min=1)
            if self.protect != ("cls",):  # [CLS] is one token
                wanted = wanted.maximum(whole.summed(self.protected(whole, whole).long()))
            whole.memo[key] = wanted
        return whole.memo[key]  # type: ignore[no-any-return]

    def ranked(self, scores: Tensor, whole: Layout, alive: Layout) -> Ranked:
        """The tokens of `alive` in the order of their scores (T,), protected ones first."""
        protected = self.protected(whole, alive)
        return Ranked(scores, protected, ranks(scores.float().masked_fill(protected, math.inf), alive), whole, alive)

    def kept(self, scores: Tensor, whole: Layout, alive: Layout) -> Tensor:
        """(T,) True for the tokens of `alive` that stay, given their scores (T,); the earlier of equals goes first."""
        return self.stays(self.ranked(scores, whole, alive))

    def best(self, scores: Tensor, whole: Layout, alive: Layout) -> Tensor:
        """(T',) `kept` as rows, for a length alone and a batch of a single example, by one sort of its scores."""
        order = scores.float().masked_fill(self.protected(whole, alive), math.inf).argsort(descending=True, stable=True)
        assert self.keep is not None
        simple = self.protect == ("cls",)
        count = max(self.keep.wanted_of(whole.only), 1) if simple else int(self.counts(whole, alive))
        return order[:count].sort().values

    def stays(self, ranked: Ranked) -> Tensor:
        """(T,) True for the tokens that stay."""
        alive, rank, scores = ranked.alive, ranked.rank, ranked.scores
        within = rank < self.counts(ranked.whole, alive)[alive.examples]
        if self.threshold is None:
            return within
        passes = (scores * alive.lengths[alive.examples] if self.is_relative else scores) >= self.threshold
        return within & (ranked.protected | passes | (rank == 0))


def _other(whole: Layout, alive: Layout) -> Layout | None:
    """Key of `whole` in the memo of `alive`, which must not refer to itself."""
    return None if whole is alive else whole


@dataclass(frozen=True, eq=False)
class Ranked:
    """Tokens alive in the order of their scores: (T,) each. `rank` is 0 for an example's first to keep."""

    scores: Tensor
    protected: Tensor
    rank: Tensor
    whole: Layout
    alive: Layout


def ranks(scores: Tensor, layout: Layout) -> Tensor:
    """(T,) the rank of each token in its example, 0 for the highest score; of equal scores the earlier first."""
    padded = layout.pad(scores, fill=-math.inf)  # (B, L)
    order = padded.argsort(dim=1, descending=True, stable=True)
    slots = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return layout.unpad(torch.empty_like(order).scatter_(1, order, slots))


@dataclass(frozen=True)
class LayerReducers:
    """Reducers of one layer by site, in the order of execution; at most one is set."""

    before: Reducer | None = None
    between: Reducer | None = None
    after: Reducer | None = None

    @classmethod
    def of(cls, reducer: Reducer | None) -> LayerReducers:
        """The layer's reducer at its site."""
        site = None if reducer is None else reducer.site
        return cls(*(reducer if site == name else None for name in SITES))

    @property
    def later(self) -> Reducer | None:
        """The reducer that may read the layer's attention."""
        return self.between or self.after


@dataclass(frozen=True)
class ReductionPlan:
    """A reducer, or None, for each layer of an encoder, and for its input (before the first attention)."""

    reducers: tuple[Reducer | None, ...]
    input: Reducer | None = None

    def __post_init__(self) -> None:
        if self.input is not None and self.input.site != "before_attention":
            raise ValueError(f"the input's reducer stands before the first attention, got {self.input.site=}")

    @classmethod
    def unreduced(cls, layers: int) -> ReductionPlan:
        return cls((None,) * layers)

    @classmethod
    def of_lengths(
        cls, lengths: Sequence[float | int], *, fate: str = "freeze", protect: tuple[str, ...] = ("cls",)
    ) -> ReductionPlan:
        """LAT's plan: floats are fractions of the example's own tokens, ints absolute counts; 1.0 is no reducer."""
        return cls.of_slots(Reducer(TopK(ratio=1.0), fate=fate, protect=protect), len(lengths), lengths=lengths)

    @classmethod
    def of_slots(
        cls,
        template: Reducer,
        layers: int,
        *,
        lengths: Sequence[float | int] | None = None,
        thresholds: Sequence[float] | None = None,
        input_template: Reducer | None = None,
    ) -> ReductionPlan:
        """Plan of copies of `template` with these lengths (as in `of_lengths`) and thresholds (0: off), slot by slot.

        With `input_template` the first value of both belongs to the input, and `layers` more follow.
        """
        slots = layers + (input_template is not None)
        lengths = (1.0,) * slots if lengths is None else lengths
        thresholds = (0.0,) * slots if thresholds is None else thresholds
        if len(lengths) != slots or len(thresholds) != slots:
            raise ValueError(f"the plan has {slots} slots, got {len(lengths)} lengths, {len(thresholds)} thresholds")
        if any(later > earlier for earlier, later in itertools.pairwise(lengths)):
            raise ValueError(f"lengths must not grow with depth, got {tuple(lengths)}")
        models = ([] if input_template is None else [input_template]) + [template] * layers
        rules = [_reducer(*slot) for slot in zip(models, lengths, thresholds, strict=True)]
        return cls(tuple(rules[-layers:]), None if input_template is None else rules[0])

    @functools.cached_property
    def layers(self) -> tuple[LayerReducers, ...]:
        """Reducers of the layers, by site."""
        return tuple(map(LayerReducers.of, self.reducers))

    @property
    def slots(self) -> tuple[Reducer | None, ...]:
        """The input's reducer, then the layers'."""
        return (self.input, *self.reducers)

    @property
    def cost_is_static(self) -> bool:
        """Return whether the numbers of tokens, and so the cost, follow from the lengths of the examples alone."""
        given = [reducer for reducer in self.slots if reducer is not None]
        return all(reducer.threshold is None and not cost_is_placed(reducer.scorer) for reducer in given)

    def counts_at(self, tokens: int) -> tuple[tuple[int, int], ...] | None:
        """(tokens in attention, tokens in the feed-forward part) of each layer for one example of `tokens` tokens.

        Protected tokens aside. None where the example's content decides.
        """
        if not self.cost_is_static:
            return None
        counts, whole = [], torch.tensor([tokens])

        def after(reducer: Reducer | None, alive: int) -> int:
            return alive if reducer is None or reducer.keep is None else min(alive, int(reducer.keep.wanted(whole)))

        alive = after(self.input, tokens)
        for reducers in self.layers:
            attention = after(reducers.before, alive)
            feed_forward = after(reducers.between, attention)
            counts.append((attention, feed_forward))
            alive = after(reducers.after, feed_forward)
        return tuple(counts)


def _reducer(template: Reducer, length: float | int, threshold: float) -> Reducer | None:
    keep = TopK(count=length) if isinstance(length, int) else TopK(ratio=length)
    whole = keep.ratio == 1.0
    if whole and not threshold:
        return None
    return replace(template, keep=None if whole else keep, threshold=threshold or None)
