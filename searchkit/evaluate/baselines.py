"""Baselines of a front, as candidates that are measured like all others."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from searchkit.errors import StudyError, unknown
from searchkit.records import Candidate
from searchkit.reduction.plan import PROTECT, Reducer, ReductionPlan, TopK
from searchkit.training.plans import plan
from searchkit.training.recipe import Recipe

DROPS: Final = (0.05, 0.1, 0.2, 0.3, 0.5)  # share of the tokens that every layer drops
SHARES: Final = (0.8, 0.6, 0.45, 0.3, 0.2)  # shares of the tokens kept before the first layer
SCORERS: Final = {"truncation": "position", "random tokens": "random"}


def baselines(layers: int, slots: int) -> dict[str, tuple[Candidate, ...]]:
    """Baselines by family, for an encoder of this many layers and lengths of this many slots.

    `unreduced`: every token everywhere. `truncation`: the first tokens of each example. `random tokens`: any of them.
    `constant ratio`: every layer keeps the same share of what it is given, by the recipe's own reducer; an input slot
    keeps all.
    """
    whole = (1.0,) * (slots - layers)
    decays = (whole + tuple((1 - drop) ** layer for layer in range(1, layers + 1)) for drop in DROPS)
    return {
        "unreduced": (Candidate.of(baseline="unreduced"),),
        **{name: tuple(Candidate.of(baseline=name, share=share) for share in SHARES) for name in SCORERS},
        "constant ratio": tuple(Candidate.of(lengths=lengths) for lengths in decays),
    }


def plan_of(candidate: Candidate, recipe: Recipe, layers: int, marks: Collection[str], head: str) -> ReductionPlan:
    """The plan of a candidate for a model of this recipe, or of the baseline that it names."""
    if "baseline" in candidate:
        return baseline_plan(candidate, layers, marks, head)
    return plan(recipe, candidate, layers)


def baseline_plan(candidate: Candidate, layers: int, marks: Collection[str], head: str) -> ReductionPlan:
    """Plan of a candidate that names a `baseline`, on any supernet: at most its input is cut.

    The `share` counts [CLS] and what the task marks: separators stay, so that a text still ends, and so do questions
    where `head` answers them. What is cut is gone: it cannot hold the answer.
    """
    name = str(candidate["baseline"])
    if name == "unreduced":
        return ReductionPlan.unreduced(layers)
    if name not in SCORERS:
        raise StudyError(unknown("baseline", name, ("unreduced", *SCORERS)))
    share = candidate["share"]
    if not isinstance(share, int | float):
        raise StudyError(f"the share of a baseline is a number, got {share=}")
    required = set(marks) - (set() if head == "question_answering" else {"question"})
    protect = tuple(kind for kind in PROTECT if kind == "cls" or kind in required)
    keep = TopK(ratio=float(share))
    cut = Reducer(keep, site="before_attention", scorer=SCORERS[name], fate="discard", protect=protect)
    return ReductionPlan((None,) * layers, input=cut)
