"""Packed tokens of a batch and the offsets of its examples. Pads appear only inside attention, and are masked.

Axes: B examples, T tokens in all, L pad slots of a padded example, D width (or any trailing shape).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks of a batch: (T,) the number of each token's block, (B,) blocks of each example, and of all together."""

    numbers: Tensor
    counts: Tensor
    total: int


@dataclass(frozen=True, eq=False)
class Layout:
    """Layout of packed rows by example, with the position of each token before anything was dropped.

    offsets: (B + 1,) int64, example b owns rows offsets[b]:offsets[b + 1]
    positions: (T,) int64, the token's place in its unreduced example; increasing within an example
    marks: name -> (T,) bool, tokens of a kind ("sep", "question"); whole examples only, `select` leaves them behind
    room: examples are padded to at least so many pad slots
    seats: the padded arrangement has at least so many examples; those that are not there have one pad slot, for a mask
    without empty rows
    """

    offsets: Tensor
    positions: Tensor
    marks: Mapping[str, Tensor] = field(default_factory=dict)
    room: int = 0
    seats: int = 0

    @classmethod
    def of_lengths(cls, lengths: Tensor, marks: Mapping[str, Tensor] | None = None) -> Layout:
        """The layout of whole examples of these (B,) lengths, on the device of `lengths`."""
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        examples = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        positions = torch.arange(len(examples), device=lengths.device) - offsets[examples]
        return cls(offsets, positions, marks or {})

    @classmethod
    def full(cls, examples: int, length: int, device: torch.device) -> Layout:
        """Layout of whole examples of one length."""
        offsets = torch.arange(0, (examples + 1) * length, length, device=device)
        positions = torch.arange(length, device=device)
        return cls(offsets, positions if examples == 1 else positions.repeat(examples))

    @classmethod
    def of_counts(cls, counts: Tensor) -> Layout:
        """Layout of (B,) token counts alone, without knowledge of which tokens these are."""
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(offsets, counts.new_zeros(0))

    def marked(self, name: str) -> Tensor:
        """(T,) True for the tokens that carry this mark; ValueError where the task marked none."""
        if name not in self.marks:
            raise ValueError(f"no token is marked as {name!r}; marks: {', '.join(self.marks) or 'none'}")
        return self.marks[name]

    @property
    def ids(self) -> Tensor:
        """(T,) token ids of whole examples; ValueError where the layout is not of `Tokens`."""
        if "ids" not in self.memo:
            raise ValueError("a scorer reads token ids, and this layout was made without any")
        ids: Tensor = self.memo["ids"]
        return ids

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) tokens of each example."""
        return self.offsets.diff()

    @cached_property
    def only(self) -> int:
        """Number of tokens in a batch of one example; 0 where there are several, or positions are not known."""
        return len(self.positions) if len(self.offsets) == 2 else 0

    @cached_property
    def longest(self) -> int:
        return self.only or int(self.lengths.max())

    @cached_property
    def width(self) -> int:
        """Width L of the padded arrangement, in slots per example."""
        return max(self.longest, self.room)

    @cached_property
    def height(self) -> int:
        """Height B' of the padded arrangement, in examples."""
        return max(len(self.lengths), self.seats)

    @cached_property
    def farthest(self) -> int:
        """The highest position."""
        return int(self.positions.max())

    @cached_property
    def is_even(self) -> bool:
        """Return whether no example needs a pad, so that packed and padded are the same memory."""
        return self.width * self.height == len(self.positions)

    @cached_property
    def examples(self) -> Tensor:
        """(T,) the example of each token."""
        return torch.repeat_interleave(
            torch.arange(len(self.lengths), device=self.offsets.device), self.lengths, output_size=len(self.positions)
        )

    @cached_property
    def slots(self) -> Tensor:
        """(T,) the row of each token in the padded (B * L) arrangement."""
        within = torch.arange(len(self.positions), device=self.offsets.device) - self.offsets[self.examples]
        return self.examples * self.width + within

    @cached_property
    def mask(self) -> Tensor:
        """(B', L) True where there is a token."""
        if self.is_even:
            return torch.ones(self.height, self.width, dtype=torch.bool, device=self.offsets.device)
        lengths = F.pad(self.lengths, (0, self.height - len(self.lengths)), value=1)
        return torch.arange(self.width, device=self.offsets.device) < lengths[:, None]

    @cached_property
    def vacant(self) -> Tensor:
        """(B', L) 1.0 at the first slot of each padding example, which has no tokens."""
        vacant = torch.zeros(self.height, self.width, device=self.offsets.device)
        vacant[len(self.lengths) :, 0] = 1.0
        return vacant

    @cached_property
    def rows(self) -> Tensor:
        """(B' * L,) the token of each slot of the padded arrangement, the first token in empty ones."""
        return torch.zeros(self.height * self.width, dtype=torch.int64, device=self.offsets.device).index_copy_(
            0, self.slots, torch.arange(len(self.positions), device=self.offsets.device)
        )

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """Results of reducers on these tokens, computed once for all that need them."""
        return {}

    @property
    def first(self) -> Tensor:
        """(B,) the row of each example's first token."""
        return self.offsets[:-1]

    def pad(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """(T, ...) -> (B', L, ...), `fill` where there is no token."""
        shape = (self.height, self.width, *values.shape[1:])
        if self.is_even:
            return values.reshape(shape)
        padded = values.new_full((shape[0] * shape[1], *shape[2:]), fill)
        return padded.index_copy(0, self.slots, values).reshape(shape)

    def spread(self, values: Tensor) -> Tensor:
        """Pad with finite values that are never read in empty slots, faster than `pad` without a gradient."""
        if values.requires_grad or self.is_even:
            return self.pad(values)
        return values.index_select(0, self.rows).reshape(self.height, self.width, *values.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(B', L, ...) -> (T, ...); the inverse of `pad`."""
        flat = padded.reshape(-1, *padded.shape[2:])
        return flat if self.is_even else flat[self.slots]

    def summed(self, values: Tensor) -> Tensor:
        """(T,) -> (B,) sum within each example, the same digits in any company and, on a GPU, on every repeat."""
        if values.is_floating_point():  # index_add on a GPU adds in the order in which threads arrive
            return torch.segment_reduce(values, "sum", offsets=self.offsets, unsafe=True)
        return torch.zeros(len(self.lengths), dtype=values.dtype, device=values.device).index_add(
            0, self.examples, values
        )

    def highest(self, values: Tensor) -> Tensor:
        """(T,) -> (B,) maximum within each example."""
        lowest = torch.full_like(self.lengths, -torch.inf, dtype=values.dtype)
        return lowest.scatter_reduce(0, self.examples, values, "amax")

    def blocks(self, size: int) -> Blocks:
        """Blocks of `size` neighbouring positions of the unreduced examples that have tokens."""
        within = self.positions // size
        new = torch.ones_like(within, dtype=torch.bool)
        new[1:] = (within[1:] != within[:-1]) | (self.examples[1:] != self.examples[:-1])
        counts = torch.zeros_like(self.lengths).index_add_(0, self.examples, new.long())
        return Blocks(new.cumsum(0) - 1, counts, int(counts.sum()))

    def select(self, keep: Tensor) -> tuple[Tensor, Layout]:
        """Select the tokens where `keep` (T,) is True: their rows (T',), in order, and their layout."""
        rows = keep.nonzero().squeeze(1)
        kept_before = torch.cat([keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)])
        return rows, Layout(kept_before[self.offsets], self.positions[rows])

    def buckets(self, pad_slots: int, recurring: bool) -> list[Layout]:
        """Buckets of neighbouring examples within `pad_slots` = examples * L², or of one alone; cut once, then kept.

        With `recurring` the number of examples and L are rounded up, so that shapes recur.
        """
        if (pad_slots, recurring) not in self._buckets:
            cuts = _cuts(self.lengths.tolist(), pad_slots, recurring)
            self._buckets[pad_slots, recurring] = [self._part(*cut) for cut in cuts]
        return self._buckets[pad_slots, recurring]

    @cached_property
    def _buckets(self) -> dict[tuple[int, bool], list[Layout]]:
        return {}

    def _part(self, first: int, after: int, room: int, seats: int) -> Layout:
        """Layout of the examples from `first` to before `after`."""
        if after - first == len(self.lengths) and (room, seats) == (self.width, self.height):
            return self
        offsets = self.offsets[first : after + 1]
        start, stop = int(offsets[0]), int(offsets[-1])
        return Layout(offsets - start, self.positions[start:stop], room=room, seats=seats)

    def rows_in(self, whole: Layout) -> Tensor:
        """(T,) the row of each token in the unreduced layout `whole` of the same examples."""
        return whole.offsets[self.examples] + self.positions


def _cuts(lengths: Sequence[int], pad_slots: int, recurring: bool) -> Iterator[tuple[int, int, int, int]]:
    """Bounds of every bucket: (first, after the last, room, seats)."""
    first = 0
    while first < len(lengths):
        longest, after = lengths[first], first + 1
        while after < len(lengths):
            wider = max(longest, lengths[after])
            if (after + 1 - first) * (_recurring(wider) if recurring else wider) ** 2 > pad_slots:
                break
            longest, after = wider, after + 1
        alone = after == first + 1 and longest <= 64
        if recurring and not alone:
            yield first, after, _recurring(longest), _seats(after - first)
        else:
            yield first, after, longest, after - first
        first = after


def _recurring(length: int) -> int:
    """Round a length up to one that recurs: steps of 8, and of 16 beyond 64."""
    step = 8 if length <= 64 else 16
    return -(-length // step) * step


def _seats(examples: int) -> int:
    """Round a number of examples up to one that recurs: four per power of two."""
    step = 1 << max(examples.bit_length() - 3, 0)
    return -(-examples // step) * step


@dataclass(frozen=True, eq=False)
class Tokens:
    """Input of an encoder: token ids (T,), segment ids (T,), and the layout of whole examples."""

    ids: Tensor
    types: Tensor
    layout: Layout

    def __post_init__(self) -> None:
        self.layout.memo["ids"] = self.ids  # read by scorers

    @classmethod
    def of_examples(cls, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None = None) -> Tokens:
        """Pack lists of token ids, one list per example."""
        lengths = torch.tensor([len(example) for example in ids])
        flat = torch.tensor([token for example in ids for token in example])
        segments = torch.tensor([kind for example in types for kind in example]) if types else torch.zeros_like(flat)
        return cls(flat, segments, Layout.of_lengths(lengths))

    @classmethod
    def of_padded(cls, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tokens:
        """Pack the (B, L) tensors of a Hugging Face tokenizer that pads on the right; ValueError for another mask."""
        mask = attention_mask.bool()
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        if bool(mask.all()):
            examples, length = input_ids.shape
            return cls(input_ids.reshape(-1), types.reshape(-1), Layout.full(examples, length, input_ids.device))
        if not torch.equal(mask, mask.cummin(dim=1).values) or not bool(mask[:, 0].all()):
            raise ValueError("attention_mask must be ones followed by zeros in every row: pad on the right")
        return cls(input_ids[mask], types[mask], Layout.of_lengths(mask.sum(1)))

    def padded(self, typed: bool) -> dict[str, Tensor]:
        """(B, L) inputs as a tokenizer gives them that pads on the right; token types only if they are read."""
        whole = self.layout
        given = {"input_ids": whole.pad(self.ids.long()), "attention_mask": whole.mask.long()}
        return {**given, "token_type_ids": whole.pad(self.types.long())} if typed else given

    def to(self, device: torch.device) -> Tokens:
        whole = self.layout
        marks = {name: mark.to(device) for name, mark in whole.marks.items()}
        layout = Layout(whole.offsets.to(device), whole.positions.to(device), marks)
        return Tokens(self.ids.to(device), self.types.to(device), layout)
