"""Keep rules and plans: exact counts, ties, protection, and what they refuse."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from searchkit.reduction.plan import Reducer, ReductionPlan, TopK, ranks
from searchkit.reduction.ragged import Layout


@given(st.integers(1, 512), st.integers(1, 128), st.integers(1, 128))
def test_a_ratio_keeps_exactly_the_ceiling_of_its_share(tokens: int, numerator: int, denominator: int) -> None:
    share = Fraction(min(numerator, denominator), denominator)
    wanted = TopK(ratio=float(share)).wanted(torch.tensor([tokens]))
    assert wanted.item() == TopK(ratio=float(share)).wanted_of(tokens) == math.ceil(share * tokens)


@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=9), min_size=1, max_size=5), st.data()
)
def test_top_k_equals_sorting_each_example_with_ties_to_the_earlier_token(
    scores: list[list[float]], data: st.DataObject
) -> None:
    layout = Layout.of_lengths(torch.tensor([len(example) for example in scores]))
    counts = [data.draw(st.integers(1, len(example))) for example in scores]
    flat = torch.tensor([score for example in scores for score in example])
    keep = ranks(flat.masked_fill(layout.positions == 0, math.inf), layout) < torch.tensor(counts)[layout.examples]
    start = 0
    for example, count in zip(scores, counts, strict=True):
        ranking = sorted(range(1, len(example)), key=lambda j: (-example[j], j))
        expected = {0, *ranking[: count - 1]}
        assert set(keep[start : start + len(example)].nonzero().flatten().tolist()) == expected
        start += len(example)


def test_at_least_the_protected_and_at_most_the_alive_tokens_stay() -> None:
    whole = Layout.of_lengths(torch.tensor([10, 3]))
    assert Reducer(TopK(ratio=0.01)).counts(whole, whole).tolist() == [1, 1]
    assert Reducer(TopK(count=7)).counts(whole, whole).tolist() == [7, 3]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TopK(), "either ratio or count"),
        (lambda: TopK(ratio=0.5, count=3), "either ratio or count"),
        (lambda: TopK(ratio=0.0), r"ratio must be in \(0, 1\]"),
        (lambda: TopK(ratio=math.nan), r"ratio must be in \(0, 1\]"),
        (lambda: TopK(count=0), "at least 1"),
        (lambda: Reducer(TopK(count=1), scorer="atention_received"), "did you mean 'attention_received'"),
        (lambda: Reducer(TopK(count=1), site="before"), "unknown site 'before'"),
        (lambda: Reducer(TopK(count=1), fate="melt"), "unknown fate 'melt'"),
        (lambda: Reducer(TopK(count=1), protect=("sap",)), "unknown protected token 'sap'; did you mean 'sep'"),
        (lambda: ReductionPlan.of_lengths((0.5, 0.6)), "must not grow with depth"),
    ],
)
def test_illegal_plans_are_refused_with_rule_and_value(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
