"""What a token is worth at a layer: one real number per token, from what the layer computes anyway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Seen:
    """What a scorer may look at, for T alive tokens of width D.

    hidden: (T, D) output of the attention part; received: (T,) attention received, or None where nobody asked for it
    """

    hidden: Tensor
    received: Tensor | None


class AttentionReceived:
    """s_j = sum over heads h and real queries i of A[h, i, j] (LAT sec. 3.1; the diagonal counts, as in its code).

    Pads inside attention are masked both as keys and as voters; in the published code pad queries vote.
    """

    needs_attention = True

    def score(self, seen: Seen) -> Tensor:
        assert seen.received is not None, "the encoder asks attention for the scores that a reducer needs"
        return seen.received


SCORERS: Final = {"attention_received": AttentionReceived()}
