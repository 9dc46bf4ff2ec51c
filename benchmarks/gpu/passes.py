"""Passes on the device against the CPU in float32: tokens that are kept, and logits.

For each family, head and number format: the reducers of every recipe, and the scorers that need no training before the
first attention. The reference has the same weights, rounded to the format. A token that is kept on one side only is
looked up in the reference: it must lie so near to the cut-off that rounding may decide. Such near-ties are counted, and
the logits of the other examples compared.

Axes: B examples, T tokens in all.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.checks import CannotRunError, Check, Figures
from benchmarks.gpu.made import Setting, Size, families, model, placed, texts
from searchkit.reduction.device import DTYPES
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Ranked, Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.scorers import PREDICTORS, SCORERS, scale_of
from searchkit.reduction.state import State

HEADS: Final = ("classification", "question_answering", "regression")
# How far logits may differ, as a share of the largest (of 1 where all are smaller), and how far a score may be from the
# cut-off, as a share of itself, for rounding to decide.
# On a CPU, in bfloat16, models of this size differ by 0.03 and 0.04 at most.
LOGITS: Final = {"fp32": 2e-4, "fp16": 1e-2, "bf16": 6e-2}
TIES: Final = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1}
THRESHOLDS: Final = {"relative": 0.8, "probability": 0.5}
PLACE: Final = 1 << 20  # above any position, so that example * PLACE + position names a token


@dataclass(frozen=True, eq=False)
class Choice:
    """What one reducer chose among: names of the tokens (T,), their scores, and which are free to go and stayed.

    slot: the number of its layer, -1 at the input
    """

    slot: int
    names: NDArray[np.int64]
    scores: NDArray[np.float64]
    free: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    cut_off: NDArray[np.float64]  # the threshold of each token; nan where there is none

    @classmethod
    def of(cls, slot: int, ranked: Ranked, reducer: Reducer, after: Layout) -> Choice:
        names = _names(ranked.alive)
        scores = ranked.scores.double().cpu().numpy()
        cut_off = np.full_like(scores, np.nan if reducer.threshold is None else reducer.threshold)
        if reducer.is_relative:
            cut_off = cut_off / ranked.alive.lengths[ranked.alive.examples].cpu().numpy()
        return cls(slot, names, scores, ~ranked.protected.cpu().numpy(), np.isin(names, _names(after)), cut_off)

    def taken(self, example: int) -> Choice:
        """What it chose of one example, which is then number 0."""
        own = self.names // PLACE == example
        columns = (column[own] for column in (self.scores, self.free, self.kept, self.cut_off))
        return Choice(self.slot, self.names[own] % PLACE, *columns)

    def distance(self, name: int) -> float:
        """Distance of a token's score from where it would have been dropped, or kept, as a share of the score."""
        row = int(np.flatnonzero(self.names == name)[0])
        own = (self.names // PLACE == name // PLACE) & self.free
        across = self.scores[own & (self.kept != self.kept[row])]
        score = self.scores[row]
        cuts = [self.cut_off[row]] if np.isfinite(self.cut_off[row]) else []
        if len(across):
            cuts.append(across.max() if self.kept[row] else across.min())
        return float(min((abs(score - cut) for cut in cuts), default=np.inf) / max(abs(score), 1e-12))


def _names(layout: Layout) -> NDArray[np.int64]:
    names: NDArray[np.int64] = (layout.examples * PLACE + layout.positions).cpu().numpy()
    return names


def choices(model: AdaptiveModel, tokens: Tokens, plan: ReductionPlan) -> list[Choice]:
    """Choices of every reducer in a pass under the plan, first layer first: the steps of `encode`, watched."""
    state = State(model.embed(tokens), tokens.layout, model.predictor, model.needs_buffer(plan))
    made: list[Choice] = []

    def reduce(reducer: Reducer | None, slot: int) -> None:
        layer = max(slot, 0)
        if reducer is not None and reducer.may_drop(state.whole, state.layout):
            ranked = state.ranked(reducer, layer, model.view.blocks[layer])
            state.reduce(reducer, layer, model.view.blocks[layer])
            made.append(Choice.of(slot, ranked, reducer, state.layout))

    with torch.inference_mode():
        reduce(plan.input, -1)
        for number, (block, reducers) in enumerate(zip(model.view.blocks, plan.layers, strict=True)):
            reduce(reducers.before, number)
            state.attend(block, number, reducers.later)
            reduce(reducers.between, number)
            state.transform(block.transformed(state.hidden))
            reduce(reducers.after, number)
    return made


def parted(
    reference: Sequence[Choice], other: Sequence[Choice], examples: int
) -> tuple[NDArray[np.bool_], list[float]]:
    """(B,) examples that lose other tokens, and the distance of each token that the first such reducer disagrees on.

    A reducer that is on one side only dropped nothing on the other.
    """
    gone, distances = np.zeros(examples, bool), list[float]()
    ours, theirs = ({choice.slot: choice for choice in side} for side in (reference, other))
    for slot in sorted({*ours, *theirs}):
        seen = ours.get(slot) or theirs[slot]
        own, others = (side[slot].names[side[slot].kept] if slot in side else seen.names for side in (ours, theirs))
        disputed = np.setxor1d(own, others)
        disputed = disputed[~gone[disputed // PLACE]]
        distances += [seen.distance(int(name)) for name in disputed]
        gone[np.unique(disputed // PLACE)] = True
    return gone, distances


def recipes() -> Iterator[Any]:
    """A recipe of each kind that reduces."""
    from searchkit.training import LTP, AdapLeR, BlockSkim, LengthDrop, PowerBert, Transkimmer

    yield from (LengthDrop(), PowerBert(), LTP(), AdapLeR(), Transkimmer(), BlockSkim())


def plans(head: str, layers: int) -> dict[str, ReductionPlan]:
    """Plans by name, of lengths and of thresholds, for what the recipes of this head reduce by, and for the input."""
    lengths = tuple(0.75**layer for layer in range(1, layers + 1))
    templates = {type(recipe).__name__: recipe.reducer_template for recipe in recipes() if head in recipe.heads}
    for scorer in ("value_norm", "position", "random"):
        templates[scorer] = Reducer(TopK(ratio=1.0), site="before_attention", scorer=scorer, fate="discard")
    made = {"unreduced": ReductionPlan.unreduced(layers)}
    for name, like in templates.items():
        made[f"{name} lengths"] = ReductionPlan.of_slots(like, layers, lengths=lengths)
        scale = scale_of(like.scorer)
        if scale is not None:
            thresholds = (THRESHOLDS[scale],) * layers
            made[f"{name} thresholds"] = ReductionPlan.of_slots(like, layers, thresholds=thresholds)
    return made


def trained_scorers(head: str) -> tuple[str, ...]:
    """Names of the predictors that `plans` need."""
    used = (recipe.reducer_template.scorer for recipe in recipes() if head in recipe.heads)
    return tuple(sorted(name for name in used if name not in SCORERS and name in PREDICTORS))


@functools.lru_cache(maxsize=4)
def reference(family: str, head: str, dtype: str, size: Size) -> AdaptiveModel:
    """The model in float32 on the CPU, with weights that the number format holds exactly."""
    made = model(family, head, size, trained_scorers(head))
    with torch.no_grad():
        for weight in (*made.parameters(), *made.buffers()):
            if weight.is_floating_point():
                weight.copy_(weight.to(DTYPES[dtype]).float())
    return made.frozen()


def on_device(family: str, head: str, dtype: str, setting: Setting) -> AdaptiveModel:
    """The same model on the device, in the number format; `CannotRunError` for one that a CPU does not take."""
    if dtype == "fp16" and not setting.on_gpu:
        raise CannotRunError("float16 is for GPUs")
    made = model(family, head, setting.size, trained_scorers(head))
    made.load_state_dict(reference(family, head, dtype, setting.size).state_dict())
    return placed(made, setting.device, DTYPES[dtype])


def compare(figures: Figures, setting: Setting, family: str, head: str, dtype: str) -> None:
    """Compare every plan's tokens and logits with the reference."""
    exact, ours = reference(family, head, dtype, setting.size), on_device(family, head, dtype, setting)
    given = texts(setting.size)
    moved, count = given.to(setting.device), len(given.layout.lengths)
    decisions = ties = compared = 0
    for name, plan in plans(head, setting.size.layers).items():
        expected = choices(exact, given, plan)
        gone, distances = parted(expected, choices(ours, moved, plan), count)
        decisions += sum(int(choice.free.sum()) for choice in expected)
        ties += len(distances)
        if distances:
            figures.at_most("distance_of_disputed", max(distances), TIES[dtype])
        with torch.inference_mode():
            wanted = exact.packed(given, plan).logits
            logits = ours.packed(moved, plan).logits.float().cpu()
        same = torch.from_numpy(~gone)
        rows = same if len(wanted) == count else same[given.layout.examples]
        compared += int(same.sum())
        if rows.any():
            scale = max(1.0, float(wanted[rows].abs().max()))
            worst = float((logits - wanted)[rows].abs().max()) / scale
            before = figures.known.get("logits", -1.0)
            figures.at_most("logits", worst, LOGITS[dtype])
            if worst > before:
                figures.tell(worst_plan=name)
    figures.tell(choices=decisions, near_ties=ties, examples_compared=compared)


def checks(setting: Setting) -> list[Check]:
    """A check for each family, head and number format."""
    named = itertools.product(families(setting.size), HEADS, DTYPES)
    return [
        Check(
            f"passes.{family}.{head}.{dtype}",
            functools.partial(compare, setting=setting, family=family, head=head, dtype=dtype),
        )
        for family, head, dtype in named
        if head != "regression" or family == "bert"
    ]
