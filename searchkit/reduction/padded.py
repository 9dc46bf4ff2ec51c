"""Rectangular batches of tokens: the layout of a pass whose shapes follow from the input's shape, as graphs need them.

Axes: B examples, L slots of the input, K slots at a layer, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from searchkit.reduction.ragged import Blocks, Layout


@dataclass(frozen=True, eq=False)
class Grid(Layout):
    """Layout of B examples of K slots each, in order; living tokens stand in the first slots of an example.

    present: (B, K) True where a slot holds a living token. What scorers ask of a `Layout` is answered without reading
    any value of a tensor; rows are slots, so T = B * K, and dead slots have positions of tokens that are not alive.
    """

    present: Tensor = field(kw_only=True)

    @classmethod
    def of_mask(cls, mask: Tensor, marks: Mapping[str, Tensor] | None = None) -> Grid:
        """Layout of whole examples, from the (B, L) mask of a tokenizer that pads on the right."""
        examples, slots = mask.shape
        positions = torch.arange(slots, device=mask.device).expand(examples, slots).reshape(-1)
        rows = {name: mark.reshape(-1) for name, mark in (marks or {}).items()}
        return cls(_starts(examples, slots, mask.device), positions, rows, room=slots, present=mask.bool())

    def gathered(self, chosen: Tensor, present: Tensor) -> tuple[Tensor, Grid]:
        """Rows (B * K',) of the `chosen` (B, K') slots of each example, and their layout."""
        examples, slots = chosen.shape
        rows = (chosen + self.first[:, None]).reshape(-1)
        starts = _starts(examples, slots, chosen.device)
        positions = self.positions.index_select(0, rows)
        return rows, replace(self, offsets=starts, positions=positions, marks={}, present=present)

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) living tokens of each example."""
        return self.present.sum(1)

    @cached_property
    def width(self) -> int:
        return self.present.shape[1]

    @cached_property
    def height(self) -> int:
        return self.present.shape[0]

    @cached_property
    def longest(self) -> int:
        return self.present.shape[1]

    @property
    def is_even(self) -> bool:
        """Return whether packed and padded are the same memory: always."""
        return True

    @cached_property
    def examples(self) -> Tensor:
        """(T,) the example of each slot."""
        numbers = torch.arange(self.height, device=self.positions.device)
        return numbers[:, None].expand(self.height, self.width).reshape(-1)

    @cached_property
    def slots(self) -> Tensor:
        return torch.arange(self.height * self.width, device=self.positions.device)

    @property
    def mask(self) -> Tensor:
        return self.present

    @cached_property
    def alive(self) -> Tensor:
        """(T,) float32 weights: 1 where a slot holds a living token, else 0."""
        return self.present.reshape(-1).float()

    @cached_property
    def bias(self) -> Tensor:
        """(B, 1, 1, K) added to logits: 0 for keys that are there, minus infinity for others."""
        return torch.where(self.present, 0.0, -torch.inf)[:, None, None, :]

    def summed(self, values: Tensor) -> Tensor:
        return values.reshape(self.height, self.width).sum(1)

    def highest(self, values: Tensor) -> Tensor:
        return values.reshape(self.height, self.width).amax(1)

    def blocks(self, size: int) -> Blocks:
        each = (self.room + size - 1) // size  # of the input, whether they have tokens or not
        counts = torch.full_like(self.offsets[1:], each)
        return Blocks(self.examples * each + self.positions // size, counts, self.height * each)


def _starts(examples: int, slots: int, device: torch.device) -> Tensor:
    return torch.arange(examples + 1, device=device) * slots
