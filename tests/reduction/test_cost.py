"""MACs: against torch's FLOP counter on passes that really are shorter, and against the published integers."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from searchkit.reduction.cost import Shape, macs, published_macs, unreduced_macs
from searchkit.reduction.plan import SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.scorers import PREDICTORS, SCORERS, cost_is_placed
from tests.reduction.models import LAYERS, MODELS, classifier, tokens


def _flops_of_fused_attention(q: Any, k: Any, v: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    return int(sdpa_flop_count(q, k, v))


# torch counts 0 for fused attention on a CPU; this repairs it
REPAIRED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _flops_of_fused_attention}


@pytest.mark.parametrize("lengths", [(1.0, 1.0, 1.0), (0.8, 0.5, 0.25), (0.5, 0.5, 0.5), (1.0, 0.1, 0.1), (7, 3, 1)])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_macs_equal_torchs_flop_counter_on_physically_reduced_passes(name: str, lengths: tuple[float, ...]) -> None:
    model = MODELS[name]()
    ids = [[3] * 20, [4] * 20, [5] * 20]  # equal lengths: a padded bucket would count its pads
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=REPAIRED) as counter:
        result = model(tokens(ids), ReductionPlan.of_lengths(lengths))
    assert int(2 * macs(result.trace, model.shape).sum()) == counter.get_total_flops()


def test_macs_of_an_example_do_not_depend_on_its_company() -> None:
    model, plan = classifier("bert"), ReductionPlan.of_lengths((0.7, 0.4, 0.2))
    ids = [[3] * 30, [4] * 5, [5] * 2]
    with torch.no_grad():
        together = macs(model(tokens(ids), plan).trace, model.shape)
        alone = [macs(model(tokens([example]), plan).trace, model.shape)[0] for example in ids]
    assert together.tolist() == alone


def test_the_unreduced_trace_in_closed_form_is_the_trace_of_a_pass() -> None:
    model = classifier("bert")
    with torch.no_grad():
        trace = model(tokens([[3] * 9, [4] * 4]), ReductionPlan.unreduced(LAYERS)).trace
    assert torch.equal(macs(trace, model.shape), unreduced_macs(torch.tensor([9, 4]), model.shape))


BERT_BASE = Shape(layers=12, width=768, feed_forward=3072, heads=12, labels=2)
QA_HEAD = {384: 384 * 768 * 2, 128: 128 * 768 * 2}
CLASSIFIER_HEAD = 768 * 768 + 768 * 2


@pytest.mark.parametrize(
    ("tokens_in", "lengths", "head", "profiled", "formula"),
    [
        (384, (384,) * 12, QA_HEAD[384], 35_340_779_904, 35_333_406_720),
        (384, (308, 247, 198, 159, 128, 103, 83, 67, 54, 44, 36, 29), QA_HEAD[384], 11_779_692_672, 11_776_888_320),
        (384, (296, 288, 278, 214, 165, 133, 119, 113, 96, 83, 45, 16), QA_HEAD[384], 14_753_728_896, 14_750_315_520),
        (128, (128,) * 12, CLASSIFIER_HEAD, 11_176_674_944, 11_174_217_216),
        (128, (103, 83, 67, 54, 44, 36, 29, 24, 20, 16, 13, 11), CLASSIFIER_HEAD, 3_888_354_176, 3_887_397_888),
    ],
)
def test_the_published_protocols_integers_come_out_exactly(
    tokens_in: int, lengths: tuple[int, ...], head: int, profiled: int, formula: int
) -> None:
    """T-LAT-3: the authors' model under torchprofile, with and without its LayerNorm and mask terms."""
    counts = list(zip((tokens_in, *lengths[:-1]), lengths, strict=True))
    assert published_macs(counts, BERT_BASE, head=head) == formula
    assert published_macs(counts, BERT_BASE, head=head, norms_and_mask=True) == profiled


@settings(max_examples=10, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_static_trace_is_the_trace_of_the_pass(name: str, data: st.DataObject) -> None:
    """Any family, head, scorer, site and protected tokens, with a reducer before the first attention or without."""
    model = MODELS[name]()
    scorers = [name for name in (*SCORERS, *PREDICTORS) if name != "input" and not cost_is_placed(name)]
    site, scorer = data.draw(st.sampled_from(SITES)), data.draw(st.sampled_from(scorers))
    if site == "before_attention" and (SCORERS.get(scorer) or PREDICTORS[scorer]).read is not None:
        site = "between"
    for needed in {scorer, "input"} & set(PREDICTORS):
        model.attach(needed)
    protect = tuple(data.draw(st.lists(st.sampled_from(("cls", "sep")), unique=True)))
    level = st.one_of(st.integers(1, 20), st.floats(0.05, 1.0))
    places = [
        data.draw(st.none() | st.builds(lambda one: TopK(count=one) if isinstance(one, int) else TopK(one), level))
        for _ in range(LAYERS + 1)
    ]
    reducers = tuple(None if keep is None else Reducer(keep, None, site, scorer, "freeze", protect) for keep in places)
    input_template = None if places[0] is None else Reducer(places[0], site="before_attention", scorer="input")
    plan = ReductionPlan(reducers[1:], input_template)
    ids = data.draw(st.lists(st.lists(st.integers(3, 9), min_size=2, max_size=24), min_size=1, max_size=5))
    given_tokens = tokens(ids)
    ends = torch.zeros(len(given_tokens.ids), dtype=torch.bool)
    ends[given_tokens.layout.offsets[1:] - 1] = True
    marked = replace(given_tokens, layout=replace(given_tokens.layout, marks={"sep": ends}))
    with torch.no_grad():
        made = model.eval()(marked, plan).trace
    told = model.static_trace(marked.layout, plan)
    assert told is not None
    for column in fields(made):
        assert torch.equal(getattr(told, column.name), getattr(made, column.name)), column.name


def test_a_plan_whose_cost_depends_on_content_has_no_static_trace() -> None:
    model, layout = classifier("bert"), tokens([[3] * 9]).layout
    by_threshold = ReductionPlan.of_slots(
        Reducer(threshold=0.5, scorer="attention_mean"), LAYERS, thresholds=(0.5,) * LAYERS
    )
    by_block = ReductionPlan.of_slots(Reducer(TopK(1.0), scorer="block"), LAYERS, lengths=(0.5,) * LAYERS)
    assert model.static_trace(layout, by_threshold) is None
    assert model.static_trace(layout, by_block) is None
