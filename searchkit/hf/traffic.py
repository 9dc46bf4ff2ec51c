"""Counter of live traffic: the tokens that each layer computed, by plan."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor


@dataclass(frozen=True)
class Counts:
    """Tokens that passed under a plan, summed over calls.

    calls, examples; tokens: of the examples as they came; entered: by layer, tokens in its attention; kept: by layer,
    tokens in its feed-forward part, which for a classifier's last layer is each example's first token alone
    """

    calls: int
    examples: int
    tokens: int
    entered: tuple[int, ...]
    kept: tuple[int, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """By layer, the share of the examples' tokens that entered it: compare with the report's.

        >>> Counts(calls=1, examples=2, tokens=40, entered=(40, 10), kept=(10, 2)).shares
        (1.0, 0.25)
        """
        return tuple(count / self.tokens for count in self.entered)


class Traffic:
    """Counts of a model's calls in eval mode since it was loaded, or reset; for all threads together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[int, int, Tensor]] = {}  # calls, examples, (1 + 2 * N,) tokens, entered, kept

    def __reduce__(self) -> tuple[type[Traffic], tuple[()]]:
        return Traffic, ()  # a copied model begins to count anew

    def add(self, plan: str, examples: int, counted: Tensor) -> None:
        """Count a call by the `tokens` of its counter; on a GPU without waiting for the numbers."""
        with self._lock:
            calls, before, sums = self._sums.get(plan, (0, 0, torch.zeros_like(counted)))
            self._sums[plan] = (calls + 1, before + examples, sums + counted.to(sums.device))

    def read(self) -> Mapping[str, Counts]:
        """The counts by plan, as they are now."""
        with self._lock:
            sums = dict(self._sums)
        return MappingProxyType({plan: _counts(*counted) for plan, counted in sums.items()})

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._sums.clear()


def _counts(calls: int, examples: int, sums: Tensor) -> Counts:
    tokens, *by_layer = sums.tolist()
    layers = len(by_layer) // 2
    return Counts(calls, examples, tokens, tuple(by_layer[:layers]), tuple(by_layer[layers:]))
