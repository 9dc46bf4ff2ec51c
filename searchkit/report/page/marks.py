"""Shape and colour of each kind of point: kinds differ without colour too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from searchkit.report.page.shown import FRONT
from searchkit.report.results import CONSTANT_RATIO, PUBLISHED, RANDOM_TOKENS, TRUNCATION, UNREDUCED

SHAPES: Final = {  # around (0, 0), so that kinds differ without colour
    FRONT: "M-4-4H4V4H-4Z",
    UNREDUCED: "M0-8L1.9-2.6 7.6-2.5 3.1 1 4.7 6.5 0 3.2-4.7 6.5-3.1 1-7.6-2.5-1.9-2.6Z",
    CONSTANT_RATIO: "M0-5 5 0 0 5-5 0Z",
    TRUNCATION: "M0-5 5 4H-5Z",
    RANDOM_TOKENS: "M0 5 5-4H-5Z",
    PUBLISHED: "M-2-5H2V-2H5V2H2V5H-2V2H-5V-2H-2Z",
}
RIVALS: Final = (
    "M-5-3-3-5 0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0Z",
    "M0-5 5-1 3 5H-3L-5-1Z",
    "M4-5V5L-5 0Z",
    "M-4-5V5L5 0Z",
)
COLOURS: Final = {
    FRONT: "front",
    UNREDUCED: "whole",
    CONSTANT_RATIO: "ratio",
    TRUNCATION: "cut",
    RANDOM_TOKENS: "random",
}


def shape(kind: str, rivals: Sequence[str]) -> str:
    """Path of a kind of point around (0, 0)."""
    return SHAPES.get(kind) or RIVALS[rivals.index(kind) % len(RIVALS) if kind in rivals else 0]


def colour(kind: str) -> str:
    """Class that colours a kind of point."""
    return COLOURS.get(kind, "published" if kind == PUBLISHED else "rival")
