"""Conversion of a split's packed arrays to the encoder's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from searchkit.reduction.ragged import Layout, Tokens

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded


def as_tokens(data: Encoded) -> Tokens:
    """Packed arrays as the encoder's input on the CPU."""
    marks = {name: torch.as_tensor(mark) for name, mark in data.marks.items()}
    layout = Layout.of_lengths(torch.as_tensor(data.lengths), marks)
    return Tokens(torch.as_tensor(data.ids).long(), torch.as_tensor(data.types).long(), layout)
