"""What a front has to beat, as candidates that run through the same code."""

from __future__ import annotations

from searchkit.records import Candidate

DROPS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)  # share of the tokens that every layer drops


def baselines(layers: int) -> dict[str, tuple[Candidate, ...]]:
    """`unreduced`: every token everywhere. `constant ratio`: every layer keeps the same share of what it is given."""
    constant = (tuple((1 - drop) ** layer for layer in range(1, layers + 1)) for drop in DROPS)
    return {
        "unreduced": (Candidate.of(lengths=(1.0,) * layers),),
        "constant ratio": tuple(Candidate.of(lengths=lengths) for lengths in constant),
    }
