"""What a shipped folder is made of: the trained model, the front's plans with what was measured, the tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from torch import Tensor

from searchkit.hf.inputs import Special, marks_needed, question_tokens
from searchkit.hf.members import FORMAT
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.plan_record import record_of
from searchkit.reduction.twin import Mark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Format = Literal["pytorch", "onnx", "stock"]
FORMATS: Final[tuple[Format, ...]] = ("pytorch", "onnx", "stock")


@dataclass(frozen=True, eq=False)
class Shipment:
    """Content of a folder, whatever its format.

    model: in float32 on the CPU; key: of the chosen member; plans, measured: of every member of the front, by key;
    quality: the objective that members are ranked by; max_length: tokens of an example at which the task cuts; dtype:
    of the numbers that were measured; about: study, fingerprint and versions, for the card
    """

    model: AdaptiveModel
    tokenizer: PreTrainedTokenizerBase
    key: str
    plans: Mapping[str, ReductionPlan]
    measured: Mapping[str, Mapping[str, Any]]
    quality: str
    max_length: int
    dtype: str
    about: Mapping[str, Any]

    @property
    def plan(self) -> ReductionPlan:
        """Plan of the chosen member."""
        return self.plans[self.key]

    @property
    def special(self) -> Special:
        """Ids of the tokenizer's special tokens."""
        return Special.of_tokenizer(self.tokenizer, self.model.stock.config)

    def notes(self) -> dict[str, Any]:
        """Entries of `config.searchkit` beside the recipe's own."""
        plans = {
            key: {"plan": record_of(plan), "measured": dict(self.measured.get(key, {}))}
            for key, plan in self.plans.items()
        }
        return {
            "format": FORMAT,
            "plan": self.key,
            "quality": self.quality,
            "plans": plans,
            "dtype": self.dtype,
            "max_length": self.max_length,
            "sep_token_id": self.tokenizer.sep_token_id,
        }


def marks_of(plan: ReductionPlan, special: Special) -> Mark | None:
    """How a graph tells the tokens that the plan protects beside the first; None where it protects no others."""
    names: Collection[str] = marks_needed(plan)
    if not names:
        return None

    def mark(ids: Tensor, mask: Tensor, types: Tensor) -> dict[str, Tensor]:
        present = mask.bool()
        every = {
            "sep": (ids == special.separator) & present,
            "question": question_tokens(ids, present, types, special),
        }
        return {name: every[name] for name in names}

    return mark
