"""The traceable pass against the packed one, for random plans, families and batches."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import FATES, SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.scorers import SCORERS, scale_of, settings_of
from searchkit.reduction.twin import Twin, numbers, pattern
from tests.reduction.models import LAYERS, MODELS, examples, padded, tokens

TRAINED = ("contribution", "gate", "block")
RATIOS = st.one_of(st.sampled_from([1.0, 0.9, 0.75, 0.5, 0.3, 0.1]), st.floats(0.01, 1.0))


@cache
def model(name: str) -> AdaptiveModel:
    built = MODELS[name]()
    for predictor in (*TRAINED, "input"):
        built.attach(predictor)
    built.eval()
    return built


@st.composite
def plans(draw: st.DrawFn) -> ReductionPlan:
    scorer = draw(st.sampled_from([*SCORERS, *TRAINED]))
    needs_map = settings_of(scorer).read is not None
    site = draw(st.sampled_from(SITES[1:] if needs_map else SITES))
    protect = draw(st.sampled_from([("cls",), ("cls", "sep"), ("cls", "question"), ()]))
    counted = draw(st.booleans())
    lengths = draw(st.lists(st.integers(1, 40) if counted else RATIOS, min_size=LAYERS, max_size=LAYERS))
    lengths = sorted(lengths, reverse=True)
    thresholds = None
    if (scale := scale_of(scorer)) is not None and draw(st.booleans()):
        most = 1.0 if scale == "probability" else 1.4
        thresholds = draw(st.lists(st.floats(0, most), min_size=LAYERS, max_size=LAYERS))
    template = Reducer(TopK(ratio=1.0), site=site, scorer=scorer, fate=draw(st.sampled_from(FATES)), protect=protect)
    of_input = None
    if draw(st.integers(0, 4)) == 0:
        of_input = Reducer(
            TopK(ratio=1.0), site="before_attention", scorer=draw(st.sampled_from(["position", "random", "input"]))
        )
        lengths, thresholds = [lengths[0], *lengths], thresholds and [0.0, *thresholds]
    return ReductionPlan.of_slots(template, LAYERS, lengths=lengths, thresholds=thresholds, input_template=of_input)


def unprotected_after_protected() -> ReductionPlan:
    """Reducers of the layers can drop nothing more, and make the head read what the first slot dropped."""
    idle = Reducer(TopK(ratio=0.9), protect=())
    return ReductionPlan((idle,) * LAYERS, Reducer(TopK(ratio=0.9), site="before_attention", scorer="position"))


@settings(max_examples=max(60, settings().max_examples))
@example("modernbert_mean", unprotected_after_protected(), 1, 0)
@given(
    name=st.sampled_from(sorted(MODELS)), plan=plans(), batch=st.sampled_from([1, 1, 2, 5]), seed=st.integers(0, 999)
)
def test_the_traceable_pass_keeps_and_computes_what_the_packed_pass_does(
    name: str, plan: ReductionPlan, batch: int, seed: int
) -> None:
    ids = examples(batch, seed)
    packed = tokens(ids)
    marks = {"sep": packed.ids % 7 == 0, "question": packed.layout.positions < 5}
    layout = Layout(packed.layout.offsets, packed.layout.positions, marks)
    slots, mask = padded(ids)
    in_slots = {kind: layout.pad(mark.float()).bool() for kind, mark in marks.items()}
    with torch.no_grad():
        expected = model(name)(Tokens(packed.ids, packed.types, layout), plan).logits
        logits = Twin(model(name), plan, lambda *_: in_slots)(slots, mask)
    if model(name).view.reads == "tokens":
        logits = logits[mask.bool()]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_one_graph_serves_every_plan_of_its_pattern() -> None:
    ids, mask = padded(examples(3))
    plan, other = (ReductionPlan.of_lengths(lengths) for lengths in ((0.8, 0.5, 0.3), (0.6, 0.2, 0.1)))
    bert, idle = model("bert"), ReductionPlan.of_lengths((0.8, 0.8, 0.3))
    assert pattern(bert, plan) != pattern(bert, idle)
    assert pattern(bert, idle, idle=True).layers[1] is not None
    with torch.no_grad():
        assert torch.equal(
            Twin(model("bert"), plan)(ids, mask, numbers=numbers(other)), Twin(model("bert"), other)(ids, mask)
        )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [(1.0, 1.0, 0.5), (0.5, 0.5, 0.2), (1.0, 1.0, 1.0)])
def test_reducers_that_drop_nothing_may_stay_in_a_graph(name: str, lengths: tuple[float, ...]) -> None:
    plan, ids = ReductionPlan.of_lengths(lengths), examples(3)
    slots, mask = padded(ids)
    with torch.no_grad():
        expected = model(name)(tokens(ids), plan).logits
        logits = Twin(model(name), plan, idle=True)(slots, mask)
    if model(name).view.reads == "tokens":
        logits = logits[mask.bool()]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_a_plan_of_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="2 layers, the encoder 3"):
        Twin(model("bert"), ReductionPlan.unreduced(2))
