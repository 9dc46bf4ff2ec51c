"""What a search optimises: a name, a unit, a direction, and how it is measured on a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from searchkit.records import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from searchkit.evaluate.subject import Subject


@dataclass(frozen=True)
class Objective:
    """One axis of the front.

    `measure` takes a `Subject` (the supernet under one plan, on one split) and returns an `Estimate` in `unit`. An
    `exclusive` objective is timed: nothing else of searchkit runs on the device while it is measured. `examples` gives
    what the value is made of, for racing: for each example (question) a quality in [0, 1] whose mean is the value, or
    for each example a cost of 0 or more; None where the value is not a sum over examples.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    measure: Callable[[Subject], Estimate]
    exclusive: bool = False
    examples: Callable[[Subject], NDArray[np.float64]] | None = None

    def __post_init__(self) -> None:
        if self.better not in ("higher", "lower"):
            raise ValueError(f"better must be 'higher' or 'lower', got {self.better=}")
        if not self.name.isidentifier():
            raise ValueError(f"an objective's name must be an identifier, got {self.name=}")

    def describe(self) -> dict[str, str]:
        """What identifies the objective in a fingerprint."""
        return {"name": self.name, "unit": self.unit, "better": self.better}
