"""Runtime in which a run's candidates are timed, and other runtimes of the unreduced model, as rivals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from searchkit._internal.checks import needs
from searchkit.errors import StudyError, unknown
from searchkit.records import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from searchkit.objective import Objective
    from searchkit.runs.config import Conditions

PYTORCH, ONNX, STOCK = "pytorch", "onnxruntime", "transformers"
RUNTIMES: Final = (PYTORCH, ONNX)
UNREDUCED: Final = "unreduced"  # the rival that is the unreduced model in another runtime


@dataclass(frozen=True)
class Runtime:
    """Runtime, whether its products are quantised to int8, and its threads: 0 for those of the run."""

    name: str = PYTORCH
    int8: bool = False
    threads: int = 0

    def __post_init__(self) -> None:
        if self.name not in RUNTIMES:
            raise StudyError(f"--runtime: {unknown('runtime', self.name, RUNTIMES)}")
        if self.int8 and not self.is_onnx:
            raise StudyError(f"--int8 is for --runtime {ONNX} alone")

    @classmethod
    def of(cls, objectives: Iterable[Objective]) -> Runtime:
        """The runtime that timed objectives name, searchkit's own pass where none does; StudyError for two of them."""
        timed = [each for each in objectives if each.timing is not None and each.timing.runtime is not None]
        asked = {
            cls(str(each.timing.runtime), each.timing.int8, each.timing.threads): each
            for each in timed
            if each.timing is not None
        }
        if len(asked) > 1:
            named = " and ".join(f"{each.name!r} in {runtime}" for runtime, each in asked.items())
            raise StudyError(f"a study times in one runtime, got {named}; `searchkit measure --runtime` adds others")
        return next(iter(asked), cls())

    @property
    def is_onnx(self) -> bool:
        return self.name == ONNX

    def __str__(self) -> str:
        threads = f", threads={self.threads}" if self.threads else ""
        return f"{self.name}{', int8' if self.int8 else ''}{threads}"

    def check(self, conditions: Conditions, objectives: Iterable[Objective] = ()) -> None:
        """Raise StudyError where something is missing, or cannot be measured there."""
        if not self.is_onnx:
            return
        needs("onnx", "onnxscript", "onnxruntime", extra="onnx", what="times in ONNX Runtime")
        if conditions.device not in ("auto", "cpu") or conditions.dtype not in ("auto", "fp32"):
            raise StudyError(
                f"{ONNX} is measured on the CPU in float32 (or int8), got --device {conditions.device} "
                f"--dtype {conditions.dtype}"
            )
        if any(objective.name == "memory" for objective in objectives):
            raise StudyError(
                f"{ONNX}: the objective 'memory' is what PyTorch allocates for a pass; measure a study without it"
            )

    def rivals(self) -> dict[str, tuple[Candidate, ...]]:
        """The unreduced model in stock transformers and in the other number format of ONNX Runtime, by family."""
        if not self.is_onnx:
            return {}
        other = "fp32" if self.int8 else "int8"
        return {
            "unreduced stock": (Candidate.of(rival=UNREDUCED, runtime=STOCK, dtype="fp32"),),
            f"unreduced {other}": (Candidate.of(rival=UNREDUCED, runtime=ONNX, dtype=other),),
        }
