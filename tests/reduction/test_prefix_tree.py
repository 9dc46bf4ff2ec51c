"""Shared prefixes against the same candidates alone, to the last digit, and against plain passes."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from searchkit.reduction import matmul as product
from searchkit.reduction.model import AdaptiveModel, Predicted
from searchkit.reduction.plan import SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.prefix_tree import Cache, Walk, Work, can_share, prefixes
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.scorers import PREDICTORS, SCORERS, scale_of
from tests.reduction.models import LAYERS, MODELS, examples, tokens

KINDS = [
    (scorer, site)
    for scorer in (*SCORERS, *(name for name in PREDICTORS if name != "input"))
    for site in SITES
    if site != "before_attention" or (SCORERS.get(scorer) or PREDICTORS[scorer]).read is None
]
LEVELS = (0.1, 0.3, 0.5, 0.8, 1.0)


def plans_of(like: Reducer, count: int, seed: int) -> list[ReductionPlan]:
    """Random plans of few levels, so that many share a prefix; with thresholds where the scorer takes them."""
    rng = np.random.default_rng(seed)
    thresholds = {"relative": (0.0, 0.6, 1.0), "probability": (0.0, 0.45, 0.55)}.get(
        scale_of(like.scorer) or "", (0.0,)
    )
    made = []
    for _ in range(count):
        lengths = sorted(rng.choice(LEVELS, LAYERS).tolist(), reverse=True)
        made.append(
            ReductionPlan.of_slots(like, LAYERS, lengths=lengths, thresholds=rng.choice(thresholds, LAYERS).tolist())
        )
    return [ReductionPlan.unreduced(LAYERS), *made]


def model_of(name: str, scorer: str, dtype: torch.dtype = torch.float32) -> AdaptiveModel:
    model = MODELS[name]()
    if scorer in PREDICTORS:
        torch.manual_seed(1)
        model.attach(scorer)
    return model.to(dtype).eval()


def same(one: Predicted, other: Predicted) -> bool:
    columns = [(getattr(one.trace, item.name), getattr(other.trace, item.name)) for item in fields(one.trace)]
    return torch.equal(one.logits, other.logits) and all(torch.equal(a, b) for a, b in columns)


def walk(
    model: AdaptiveModel, given: Tokens, plans: list[ReductionPlan], like: Reducer, **more: object
) -> list[Predicted]:
    with torch.inference_mode():
        return Walk(model, given, plans, like, **more).predicted()  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scorer", "site"), KINDS)
def test_plans_walked_together_or_alone_give_the_same_digits(scorer: str, site: str, dtype: torch.dtype) -> None:
    model, like = model_of("bert", scorer, dtype), Reducer(TopK(ratio=1.0), site=site, scorer=scorer)
    plans, given = plans_of(like, 20, seed=3), tokens(examples(7, seed=2))
    together = walk(model, given, plans, like)
    backwards = walk(model, given, plans[::-1], like)[::-1]
    for plan, one, other in zip(plans, together, backwards, strict=True):
        assert same(one, walk(model, given, [plan], like)[0])
        assert same(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_cut_into_pieces_give_the_same_digits(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Which rows share a piece depends on the company; a row does not."""
    monkeypatch.setattr(product, "PIECE", 32)
    model, like = model_of("bert", "random", dtype), Reducer(TopK(ratio=1.0))
    plans, given = plans_of(like, 20, seed=3), tokens(examples(30, seed=2))
    assert len(given.ids) > 5 * product.PIECE
    for plan, one in zip(plans, walk(model, given, plans, like), strict=True):
        assert same(one, walk(model, given, [plan], like)[0])


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_walk_is_a_plain_pass_in_every_family(name: str) -> None:
    model, like = model_of(name, "value_norm"), Reducer(TopK(ratio=1.0), scorer="attention_mean")
    plans, given = plans_of(like, 12, seed=5), tokens(examples(5, seed=4))
    for plan, one in zip(plans, walk(model, given, plans, like), strict=True):
        with torch.inference_mode():
            plain = model.packed(given, plan)
        torch.testing.assert_close(one.logits, plain.logits, atol=1e-5, rtol=0)
        for item in fields(plain.trace):
            assert torch.equal(getattr(one.trace, item.name), getattr(plain.trace, item.name))


@pytest.mark.parametrize("fate", ["freeze", "discard"])
def test_a_reader_and_an_unprotected_first_token_keep_their_buffers_apart(fate: str) -> None:
    for name, protect in (("bert reader", ("cls",)), ("bert", ())):
        like = Reducer(TopK(ratio=1.0), fate=fate, protect=protect)
        model, plans, given = model_of(name, "random"), plans_of(like, 12, seed=6), tokens(examples(5, seed=1))
        for plan, one in zip(plans, walk(model, given, plans, like), strict=True):
            with torch.inference_mode():
                plain = model.packed(given, plan)
            torch.testing.assert_close(one.logits, plain.logits, atol=1e-5, rtol=0)
            assert same(one, walk(model, given, [plan], like)[0])


def test_cached_prefixes_of_plans_without_a_buffer_do_not_serve_plans_with_one() -> None:
    """Plans that may drop the first token are restored; they share a first layer with plans that are not."""
    model, given, cache = model_of("bert", "random"), tokens(examples(5, seed=1)), Cache(1 << 30)
    lengths = (0.5, 0.3, 0.3)
    plain, restored = (ReductionPlan.of_lengths(lengths, protect=protect) for protect in (("cls",), ()))
    assert model.needs_buffer(restored)
    assert not model.needs_buffer(plain)
    for plans in ([plain, restored], [restored, plain]):
        cache.begin(prefixes(plans))
        for plan, one in zip(plans, walk(model, given, plans, Reducer(TopK(ratio=1.0)), cache=cache), strict=True):
            assert same(one, walk(model, given, [plan], Reducer(TopK(ratio=1.0)))[0])


@pytest.mark.parametrize("budget", [0, 20_000, 1 << 30])
@pytest.mark.parametrize(("scorer", "site"), [("attention_received", "between"), *KINDS[-3:]])
def test_cached_prefixes_change_no_digit_and_stay_within_the_budget(scorer: str, site: str, budget: int) -> None:
    like, model = Reducer(TopK(ratio=1.0), site=site, scorer=scorer), model_of("bert", scorer)
    given, cache = tokens(examples(6, seed=1)), Cache(budget)
    for generation in range(7):  # later ones ask the same nodes for more of their tokens, or stand on nodes alone
        plans = plans_of(like, 12, seed=generation % 3)
        cache.begin(prefixes(plans))
        kept = walk(model, given, plans, like, cache=cache)
        fresh = walk(model, given, plans, like)
        assert all(same(one, other) for one, other in zip(kept, fresh, strict=True))
        assert cache.held <= budget
        assert cache.held == sum(node.bytes for node in cache.nodes.values())
    assert bool(cache.nodes) == (budget > 0)


def test_a_node_past_its_layer_does_not_serve_a_predictor_of_that_layer() -> None:
    """Its tokens have left the layer; a predictor would score their next state."""
    model, given, cache = model_of("bert", "contribution"), tokens(examples(5, seed=1)), Cache(1 << 30)
    random, trained = (Reducer(TopK(ratio=1.0), scorer=name) for name in ("random", "contribution"))
    for like in (random, trained):
        plans = plans_of(like, 4, seed=2)
        cache.begin(prefixes(plans))
        for plan, one in zip(plans, walk(model, given, plans, random, cache=cache), strict=True):
            assert same(one, walk(model, given, [plan], random)[0])


def test_cached_prefixes_are_not_computed_again() -> None:
    like, given, cache = Reducer(TopK(ratio=1.0)), tokens(examples(6, seed=1)), Cache(1 << 30)
    model, plans, works = model_of("bert", "random"), plans_of(like, 12, seed=1), (Work(), Work())
    for work in works:
        cache.begin(prefixes(plans))
        walk(model, given, plans, like, cache=cache, work=work)
    remembered = sum(len(node.state.layout.positions) for node in cache.nodes.values())
    assert works[1].shared == works[0].shared - remembered < works[0].shared


def test_the_least_recently_used_prefix_is_evicted_first() -> None:
    like, given, model = Reducer(TopK(ratio=1.0)), tokens([[3] * 10]), model_of("bert", "random")
    old, new = ([ReductionPlan.of_lengths((first, 0.2, 0.1))] for first in (0.5, 0.6))
    second = [next(prefix for prefix in prefixes(plans) if len(prefix) == 3) for plans in (old, new)]
    cache = Cache(1 << 30)
    cache.begin(prefixes(new))
    walk(model, given, new, like, cache=cache)
    cache.budget = cache.held  # of the first layer's node and a second one
    for asked, stays in ((old, old), (old, old), (new, new), (old + new, new)):
        cache.begin(prefixes(asked))
        walk(model, given, asked, like, cache=cache)
        assert second[0 if stays is old else 1] in {prefix for _, prefix in cache.nodes}
        assert len(cache.nodes) == 2


def test_a_prefix_is_computed_once() -> None:
    """Work against a set of prefixes: all candidates share the first layer, pairs share the second."""
    like, given = Reducer(TopK(ratio=1.0)), tokens([[3] * 10, [4] * 10])
    plans = [ReductionPlan.of_lengths((first, last, last)) for first in (0.5, 1.0) for last in (0.2, 0.5)]
    work = Work()
    walk(model_of("bert", "random"), given, plans, like, work=work)
    assert work.shared == 20 + (10 + 20) + 2 * (4 + 10)
    assert work.separate == 4 * 20 + 2 * (10 + 20) + 2 * (4 + 10)


def test_plans_that_read_other_scores_cannot_share() -> None:
    like = Reducer(TopK(ratio=1.0), scorer="attention_received")
    other = ReductionPlan.of_slots(Reducer(TopK(ratio=1.0), scorer="attention_mean"), LAYERS, lengths=(0.5, 0.5, 0.5))
    random = ReductionPlan.of_slots(Reducer(TopK(ratio=1.0), scorer="random"), LAYERS, lengths=(0.5, 0.5, 0.5))
    assert not can_share(other, like)
    assert can_share(random, like)
