"""The same numbers alone and in company, on every repeat, and whether prefixes are shared or not."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Any, Final

import numpy as np
import torch

from benchmarks.gpu.checks import Check, Figures
from benchmarks.gpu.made import Setting, texts
from benchmarks.gpu.passes import LOGITS, TIES, choices, on_device, parted, plans
from searchkit.reduction.device import DTYPES
from searchkit.reduction.model import Predicted
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.prefix_tree import Cache, Walk
from searchkit.reduction.ragged import Layout, Tokens

FAMILY, HEAD = "bert", "classification"
ALONE: Final = {**LOGITS, "fp32": 1e-5}  # promised for float32, whatever the batch
REPEATS: Final = 3
LEVELS: Final = (0.1, 0.3, 0.5, 0.8, 1.0)


def alone(figures: Figures, setting: Setting, dtype: str) -> None:
    """Compare each example's logits in the batch with those of its own pass."""
    ours, given = on_device(FAMILY, HEAD, dtype, setting), texts(setting.size).to(setting.device)
    single = [_example(given, number) for number in range(len(given.layout.lengths))]
    same_digits = compared = ties = 0
    for plan in plans(HEAD, setting.size.layers).values():
        with torch.inference_mode():
            together = ours.packed(given, plan).logits.float()
        every = choices(ours, given, plan)
        for number, one in enumerate(single):
            kept = [choice.taken(number) for choice in every]
            gone, distances = parted(kept, choices(ours, one, plan), 1)
            if distances:
                ties += len(distances)
                figures.at_most("distance_of_disputed", max(distances), TIES[dtype])
            if gone[0]:
                continue
            with torch.inference_mode():
                own = ours.packed(one, plan).logits.float()[0]
            scale = max(1.0, float(own.abs().max()))
            figures.at_most("logits", float((own - together[number]).abs().max()) / scale, ALONE[dtype])
            same_digits += torch.equal(own, together[number])
            compared += 1
    figures.tell(compared=compared, same_digits=same_digits, near_ties=ties)


def _example(given: Tokens, number: int) -> Tokens:
    rows = slice(*given.layout.offsets[number : number + 2].tolist())
    marks = {name: mark[rows] for name, mark in given.layout.marks.items()}
    layout = Layout.of_lengths(given.layout.lengths[number : number + 1], marks)
    return Tokens(given.ids[rows], given.types[rows], layout)


def repeated(figures: Figures, setting: Setting, dtype: str) -> None:
    """Hold every repeat of a pass to the first one's digits."""
    ours, given = on_device(FAMILY, HEAD, dtype, setting), texts(setting.size).to(setting.device)
    for name, plan in plans(HEAD, setting.size.layers).items():
        with torch.inference_mode():
            first, *more = (ours.packed(given, plan) for _ in range(REPEATS))
        if not all(_same(first, other) for other in more):
            figures.tell(differs=name)
        figures.holds("same_digits_on_repeat", all(_same(first, other) for other in more))


def shared(figures: Figures, setting: Setting, dtype: str) -> None:
    """Hold candidates that share prefixes, in either order and from a cache, to their digits alone."""
    ours, given = on_device(FAMILY, HEAD, dtype, setting), texts(setting.size).to(setting.device)
    like = Reducer(TopK(ratio=1.0), scorer="attention_mean")
    several = _plans(like, setting.size.layers, 4 if setting.smoke else 24)

    def walk(plans: list[ReductionPlan], cache: Cache | None = None) -> list[Predicted]:
        with torch.inference_mode():
            return Walk(ours, given, plans, like, cache).predicted()

    apart = [walk([plan])[0] for plan in several]
    cache = Cache(1 << 30)
    kept = [walk(several, cache), walk(several, cache)][1]
    for way in (walk(several), walk(several[::-1])[::-1], kept):
        for one, other in zip(way, apart, strict=True):
            scale = max(1.0, float(other.logits.abs().max()))
            figures.tell(
                worst=max(figures.known.get("worst", 0.0), float((one.logits - other.logits).abs().max()) / scale)
            )
            figures.holds("same_digits_as_alone", _same(one, other))


def _plans(like: Reducer, layers: int, count: int) -> list[ReductionPlan]:
    """Plans of few levels, so that many share a prefix."""
    rng = np.random.default_rng(0)
    lengths = (sorted(rng.choice(LEVELS, layers).tolist(), reverse=True) for _ in range(count))
    return [ReductionPlan.unreduced(layers), *(ReductionPlan.of_slots(like, layers, lengths=each) for each in lengths)]


def _same(one: Predicted, other: Predicted) -> bool:
    columns = ((getattr(one.trace, item.name), getattr(other.trace, item.name)) for item in fields(one.trace))
    return torch.equal(one.logits, other.logits) and all(torch.equal(mine, yours) for mine, yours in columns)


def checks(setting: Setting) -> list[Check]:
    kinds: dict[str, Any] = {"alone": alone, "repeat": repeated, "prefixes": shared}
    return [
        Check(f"{name}.{dtype}", functools.partial(kind, setting=setting, dtype=dtype))
        for name, kind in kinds.items()
        for dtype in DTYPES
    ]
