"""Scorers against slow references, what they cost, and whom reducers protect."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from searchkit.reduction.attention import attend
from searchkit.reduction.encoder import encode
from searchkit.reduction.plan import SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.scorers import PREDICTORS, SCORERS, Seen, scale_of
from searchkit.training import FineTune, InputReducer
from searchkit.training.input_reducer import _distilled
from searchkit.training.stage import batch_of
from tests.reduction.models import LAYERS, classifier, examples, tokens
from tests.reduction.test_relaxed import scaled
from tests.training.recipes import context_in, data_for, untrained


@pytest.mark.parametrize("scorer", [name for name in (*SCORERS, *PREDICTORS) if scale_of(name) == "relative"])
def test_relative_scores_are_shares_of_each_example(scorer: str) -> None:
    model, given = scaled(1.0), tokens(examples(4, seed=1))
    block, hidden, layout = model.view.blocks[0], model.embed(given), given.layout
    projected = block.projected(hidden, layout.positions)
    known = SCORERS[scorer] if scorer in SCORERS else model.predictor(scorer, 0)
    _, attention = attend(projected, layout, heads=block.heads, read=known.read)
    scores = known.score(Seen(hidden, layout, layout, lambda: projected.chunk(3, -1)[2], attention))
    for start, stop in zip(layout.offsets, layout.offsets[1:], strict=False):
        assert scores[start:stop].sum().item() == pytest.approx(1.0, abs=1e-5)


def test_value_norms_before_and_between_are_those_of_the_layers_own_values() -> None:
    """Kept sets against a loop over the layers, one example at a time."""
    for site in SITES:
        model, ids, ratio = classifier("bert"), examples(5, seed=2), 0.6
        like = Reducer(TopK(ratio=1.0), site=site, scorer="value_norm")
        plan = ReductionPlan.of_slots(like, LAYERS, lengths=(ratio,) * LAYERS)
        with torch.no_grad():
            ours = encode(model.view.blocks, model.embed(tokens(ids)), tokens(ids).layout, plan)
            for row, example in enumerate(ids):
                hidden, layout = model.embed(tokens([example])), tokens([example]).layout
                norms = model.view.blocks[0].values(hidden).norm(dim=1)
                norms[0] = torch.inf
                wanted = int(TopK(ratio=ratio).wanted(layout.lengths))
                kept = sorted(norms.argsort(descending=True)[:wanted].tolist())
                start, stop = ours.layout.offsets[row], ours.layout.offsets[row + 1]
                assert ours.layout.positions[start:stop].tolist() == kept


def test_position_keeps_the_first_tokens_and_random_others() -> None:
    layout = Layout.of_lengths(torch.tensor([20, 31]))
    hidden = torch.zeros(51, 4)
    seen = Seen(hidden, layout, layout, lambda: hidden)
    first = Reducer(TopK(count=5), site="before_attention", scorer="position")
    assert layout.positions[first.kept(SCORERS["position"].score(seen), layout, layout)].tolist() == [*range(5)] * 2
    some = Reducer(TopK(count=5), site="before_attention", scorer="random")
    kept = layout.positions[some.kept(SCORERS["random"].score(seen), layout, layout)].tolist()
    assert kept[0] == kept[5] == 0
    assert kept[:5] != kept[5:]
    assert kept[:5] != [*range(5)]


def test_random_scores_are_spread_evenly_over_positions() -> None:
    """Over texts of many lengths, the mean position of the kept half is that of all tokens."""
    layout = Layout.of_lengths(torch.arange(20, 200))
    hidden = torch.zeros(len(layout.positions), 1)
    scores = SCORERS["random"].score(Seen(hidden, layout, layout, lambda: hidden))
    kept = Reducer(TopK(ratio=0.5), site="before_attention", scorer="random", protect=()).kept(scores, layout, layout)
    share = layout.positions.double() / layout.lengths[layout.examples]
    assert share[kept].mean().item() == pytest.approx(0.5, abs=0.02)


def test_separators_and_questions_stay_where_they_are_protected() -> None:
    lengths = torch.tensor([9, 12])
    sep = torch.zeros(21, dtype=torch.bool).index_fill(0, torch.tensor([8, 14, 20]), True)
    question = torch.zeros(21, dtype=torch.bool).index_fill(0, torch.tensor([1, 2, 10, 11, 12]), True)
    whole = Layout.of_lengths(lengths, {"sep": sep, "question": question})
    reducer = Reducer(TopK(count=2), scorer="position", site="before_attention", protect=("cls", "sep", "question"))
    first = reducer.kept(torch.arange(21).float(), whole, whole)
    assert first.nonzero().flatten().tolist() == [0, 1, 2, 8, 9, 10, 11, 12, 14, 20]
    _, left = whole.select(first)
    assert reducer.kept(torch.zeros(10), whole, left).all()  # marks are those of the whole example, wherever it is now
    with pytest.raises(ValueError, match="no token is marked as 'question'; marks: sep"):
        reducer.kept(torch.zeros(21), Layout.of_lengths(lengths, {"sep": sep}), whole)


@pytest.mark.parametrize("scorer", ["contribution", "gate", "block"])
def test_a_predictors_charge_is_what_torch_counts(scorer: str) -> None:
    """The matrix products of one pass of the predictor alone, against torch's FLOP counter."""
    model = scaled(1.0)
    given = Tokens.of_examples([[3] * 64, [4] * 64])
    layout, block = given.layout, model.view.blocks[0]
    with torch.no_grad():
        hidden = model.embed(given)
        projected = block.projected(hidden, layout.positions)
        part = model.predictor(scorer, 0)
        _, attention = attend(projected, layout, heads=block.heads, read=part.read)
        seen = Seen(hidden, layout, layout, lambda: projected.chunk(3, -1)[2], attention)
        with FlopCounterMode(display=False) as counter:
            part.score(seen)
    charged = int(part.macs(layout, width=model.shape.width, heads=model.shape.heads).sum())
    assert 2 * charged == counter.get_total_flops()


def test_an_input_predictor_learns_which_tokens_receive_attention(tmp_path: Path) -> None:
    """Its distance from the received attention falls, and nothing else of the model moves."""
    model, data, reducer = untrained(), data_for("classification"), InputReducer(epochs=8, batch_size=16)
    before = {name: weight.clone() for name, weight in model.stock.state_dict().items()}
    batch = batch_of(data, torch.arange(64), torch.device("cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model.attach("input", hidden=32)
    (start,) = _distilled(model, batch, 0)
    reducer.train(model, data, context_in(tmp_path))
    (end,) = _distilled(model, batch, 0)
    assert end.item() < 0.7 * start.item()
    assert all(torch.equal(weight, before[name]) for name, weight in model.stock.state_dict().items())


def test_an_input_reducer_shortens_the_first_attention(tmp_path: Path) -> None:
    from searchkit.records import Candidate
    from searchkit.training.plans import plan

    recipe = FineTune(input=InputReducer("value_norm"))
    model, given = classifier("bert"), tokens(examples(3))
    with torch.no_grad():
        trace = model(given, plan(recipe, Candidate.of(lengths=(0.5, 0.5, 0.5, 0.25)), LAYERS)).trace
    wanted = TopK(ratio=0.5).wanted(given.layout.lengths)
    assert torch.equal(trace.attention[:, 0], wanted)
    width = model.shape.width
    assert torch.equal(trace.scoring[:, 0], (width**2 + width) * given.layout.lengths)
