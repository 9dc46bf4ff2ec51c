"""Single tokens: the layer that drops each is what the trace counts, and the attention is transformers' own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.survival import attention_received, survival
from tests.reduction.models import LAYERS, STOCK, classifier, examples, padded, reader, tokens

MODELS = {"classifier": classifier("bert"), "reader": reader("bert"), "mean": classifier("modernbert_mean")}


def entered(model: AdaptiveModel, fallen: torch.Tensor, site: str, layer: int) -> torch.Tensor:
    """(T,) tokens that entered the attention of a layer, 1 the first."""
    return fallen > layer if site == "before_attention" else fallen >= layer


@given(
    kind=st.sampled_from(sorted(MODELS)),
    site=st.sampled_from(SITES),
    lengths=st.lists(st.sampled_from([1.0, 0.8, 0.5, 0.2]), min_size=LAYERS, max_size=LAYERS),
    first=st.sampled_from([None, 0.7]),
    batch=st.sampled_from([1, 3]),
)
@settings(max_examples=30)
def test_as_many_tokens_survive_as_the_trace_counts(
    kind: str, site: str, lengths: list[float], first: float | None, batch: int
) -> None:
    model, given = MODELS[kind], tokens(examples(batch))
    scorer = "position" if site == "before_attention" else "attention_received"
    template = Reducer(TopK(ratio=1.0), site=site, scorer=scorer)
    plan = ReductionPlan.of_slots(template, LAYERS, lengths=sorted(lengths, reverse=True))
    if first is not None:
        plan = replace(plan, input=Reducer(TopK(ratio=first), site="before_attention", scorer="position"))
    fallen, predicted = survival(model, given, plan)
    trace, layout = predicted.trace, given.layout
    last = LAYERS - 1 if kind == "classifier" else LAYERS  # of a classifier it is computed for the first token alone
    for layer in range(1, LAYERS + 1):
        inside = entered(model, fallen, site, layer)
        assert layout.summed(inside.long()).tolist() == trace.attention[:, layer - 1].tolist()
        if layer <= last and site == "between":
            assert layout.summed((fallen > layer).long()).tolist() == trace.feed_forward[:, layer - 1].tolist()
    assert (fallen[layout.first] == LAYERS + 1).all()  # [CLS] is protected
    torch.testing.assert_close(predicted.logits, model.packed(given, plan).logits)


def test_a_plan_by_position_leaves_the_first_tokens() -> None:
    given = tokens([[1, 5, 6, 7, 8, 9, 10, 2]])
    template = Reducer(TopK(ratio=1.0), scorer="position")
    plan = ReductionPlan.of_slots(template, LAYERS, lengths=[0.75, 0.5, 0.25])
    fallen, _ = survival(MODELS["reader"], given, plan)
    assert fallen.tolist() == [4, 4, 3, 3, 2, 2, 1, 1]


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_attention_received_is_the_column_sum_of_the_stock_models_maps(family: str) -> None:
    model, ids = classifier(family), examples(3)
    input_ids, mask = padded(ids)
    given = tokens(ids)
    model.stock.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model.stock(input_ids=input_ids, attention_mask=mask, output_attentions=True).attentions
    ours = attention_received(model, given)
    assert family in STOCK
    for layer, probabilities in enumerate(maps):  # (B, H, L, L)
        rows = (probabilities * mask[:, None, :, None]).sum((1, 2))[mask.bool()]
        torch.testing.assert_close(ours[layer], rows, atol=1e-5, rtol=1e-4)
