"""The lean pass against the packed pass: the same tokens, the same trace, and logits that differ in rounding alone."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from searchkit.reduction import lean
from searchkit.reduction import model as model_module
from searchkit.reduction.encoder import encode
from searchkit.reduction.families import lean_block
from searchkit.reduction.lean import best, encode_alone
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import FATES, SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.scorers import PREDICTORS, SCORERS, Scorer, Seen, scale_of
from tests.reduction.models import LAYERS, MODELS, VOCABULARY, tokens

PROTECTS = (("cls",), ("cls", "sep"), ("sep",), ())
THRESHOLDS = {"relative": (0.0, 0.5, 0.9, 1.1), "probability": (0.0, 0.3, 0.5, 0.55)}


@dataclass(frozen=True)
class Tied:
    """A scorer that knows three scores only, and reads states where it is asked to."""

    reads_states: bool = False
    scale: None = None
    read: None = None
    needs_values: bool = False

    def score(self, seen: Seen) -> Tensor:
        ties = (seen.layout.positions % 3).float()
        return ties + (0 * seen.hidden.sum(1)).float() if self.reads_states else ties

    def macs(self, layout: Layout, *, width: int, heads: int) -> Tensor:
        return 7 * layout.lengths


SCORERS_HERE: tuple[str | Scorer, ...] = (*SCORERS, "contribution", "gate", "block", Tied(), Tied(True))


def model_with(name: str, scorer: str | Scorer) -> AdaptiveModel:
    model = MODELS[name]()
    for trained in {scorer, "input"} & {*PREDICTORS}:
        torch.manual_seed(1)
        for part in model.attach(str(trained)):
            for weight in part.parameters():
                nn.init.normal_(weight, std=0.5)
    return model.eval()


def example(length: int, seed: int) -> Tokens:
    """One example, whose last token is marked as [SEP]."""
    generator = torch.Generator().manual_seed(seed)
    given = tokens([torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()])
    return Tokens(given.ids, given.types, replace(given.layout, marks={"sep": given.layout.positions == length - 1}))


def plan_of(rng: np.random.Generator, scorer: str | Scorer) -> ReductionPlan | None:
    """A plan drawn at random; None where the scorer has no place at the site."""
    site, fate = str(rng.choice(SITES)), str(rng.choice(FATES))
    if site == "before_attention" and scorer_reads_map(scorer):
        return None
    like = Reducer(TopK(ratio=1.0), site=site, fate=fate, scorer=scorer, protect=PROTECTS[rng.integers(len(PROTECTS))])
    lengths: list[Any] = sorted(rng.choice([0.1, 0.3, 0.5, 0.8, 0.9, 1.0], LAYERS).tolist(), reverse=True)
    if rng.random() < 0.2:
        lengths = sorted(rng.integers(1, 30, LAYERS).tolist(), reverse=True)
    thresholds = rng.choice(THRESHOLDS.get(scale_of(scorer) or "", (0.0,)), LAYERS).tolist()
    plan = ReductionPlan.of_slots(like, LAYERS, lengths=lengths, thresholds=thresholds)
    if rng.random() < 0.3:
        plan = replace(plan, input=replace(like, site="before_attention", scorer="position", keep=TopK(ratio=0.9)))
    return plan


def scorer_reads_map(scorer: str | Scorer) -> bool:
    kind: Any = scorer if not isinstance(scorer, str) else {**SCORERS, **PREDICTORS}[scorer]
    return kind.read is not None


@pytest.mark.parametrize("scorer", SCORERS_HERE, ids=str)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_lean_pass_keeps_the_packed_passes_tokens(name: str, scorer: str | Scorer) -> None:
    model, rng = model_with(name, scorer).frozen(), np.random.default_rng(len(name))
    for seed in range(6):
        plan, given = plan_of(rng, scorer), example(int(rng.integers(1, 41)), seed)
        if plan is None:
            continue
        with torch.inference_mode():
            ours, packed = model(given, plan), model.packed(given, plan)
            again = model(given, plan)
        assert torch.equal(ours.logits, again.logits)
        torch.testing.assert_close(ours.logits, packed.logits, atol=1e-5, rtol=0)
        for column in fields(packed.trace):
            assert torch.equal(getattr(ours.trace, column.name), getattr(packed.trace, column.name)), column.name
        same_tokens(model, given, plan)


def same_tokens(model: AdaptiveModel, given: Tokens, plan: ReductionPlan) -> None:
    """Compare which tokens are there at the end, and the buffer with its last state of every token."""
    settings: dict[str, Any] = {"predictors": model.predictor, "restore": True}
    with torch.inference_mode():
        embedded = model.embed(given)
        one = encode_alone(model.lone_blocks, embedded, given.layout, plan, **settings)
        other = encode(model.view.blocks, embedded, given.layout, plan, **settings)
        assert torch.equal(one.layout.positions, other.layout.positions)
        assert one.restored is not None
        assert other.restored is not None
        assert torch.equal(one.restored.discarded, other.restored.discarded)
        torch.testing.assert_close(one.restored.hidden, other.restored.hidden, atol=1e-5, rtol=0)


@pytest.mark.parametrize("elements", [1, 2000])
@pytest.mark.parametrize("scorer", ["attention_received", "attention_mean", "attention_off_diagonal"])
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_a_map_made_a_few_heads_at_a_time_is_the_same_map(
    monkeypatch: pytest.MonkeyPatch, name: str, scorer: str, elements: int
) -> None:
    monkeypatch.setattr(lean, "MAP", elements)
    test_the_lean_pass_keeps_the_packed_passes_tokens(name, scorer)


def test_of_equal_scores_the_earlier_stays() -> None:
    for seed in range(50):
        scores = torch.randint(0, 4, (17,), generator=torch.Generator().manual_seed(seed)).float()
        for count in range(1, 18):
            expected = sorted(sorted(range(17), key=lambda j: (-scores[j].item(), j))[:count])
            assert best(scores, count).tolist() == expected


def lean_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the examples that took the lean pass, from here on."""
    calls: list[int] = []

    def counted(blocks: Any, hidden: Tensor, *given: Any, **settings: Any) -> Any:
        calls.append(len(hidden))
        return encode_alone(blocks, hidden, *given, **settings)

    monkeypatch.setattr(model_module, "encode_alone", counted)
    return calls


def test_the_lean_pass_is_for_one_example_without_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, model, whole = lean_calls(monkeypatch), MODELS["bert"](), ReductionPlan.unreduced(LAYERS)
    one, several = tokens([[3] * 9]), tokens([[3] * 9, [4] * 5])
    model(one, whole)  # with a gradient
    with torch.no_grad():
        model(several, whole)
        model(one, whole, skip={1})
        model.packed(one, whole)
        model.train()(one, whole)
        model.eval()
        model.to(torch.bfloat16)(one, whole)
        model.float()
        assert calls == []
        model(one, whole)
        assert calls == [9]
    with pytest.raises(ValueError, match="the plan has 2 layers, the encoder 3"), torch.no_grad():
        model(one, ReductionPlan.unreduced(2))


def test_a_module_that_someone_replaced_or_listens_to_is_called() -> None:
    class Doubled(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            return 2 * super().forward(rows)

    given, whole = example(9, 0), ReductionPlan.unreduced(LAYERS)
    replaced = MODELS["bert"]()
    replaced.stock.bert.encoder.layer[1].output.dense.__class__ = Doubled
    heard, listened = [], MODELS["bert"]()
    listened.stock.bert.encoder.layer[0].intermediate.dense.register_forward_hook(lambda *_: heard.append(1))
    for model in (replaced, listened):
        model.frozen()
        with torch.inference_mode():
            torch.testing.assert_close(model(given, whole).logits, model.packed(given, whole).logits, atol=1e-5, rtol=0)
    assert len(heard) == 2
    assert lean_block(replaced.view.blocks[1]) is replaced.view.blocks[1]
    assert lean_block(replaced.view.blocks[0]) is not replaced.view.blocks[0]


@pytest.mark.real
@pytest.mark.parametrize("length", [3, 24, 64, 200])
def test_the_real_encoder_keeps_the_same_tokens(shared: Any, length: int) -> None:
    model = load_model(str(shared / "models" / "minilm-l6"), labels=2).frozen()
    rng = np.random.default_rng(length)
    given = Tokens.of_examples([[101, *rng.integers(2000, 20_000, length - 2).tolist(), 102]])
    for lengths in ((0.8, 0.64, 0.5, 0.4, 0.3, 0.3), (1.0, 0.6, 0.4, 0.3, 0.2, 0.2), (1.0,) * 6):
        plan = ReductionPlan.of_lengths(lengths)
        with torch.inference_mode():
            torch.testing.assert_close(model(given, plan).logits, model.packed(given, plan).logits, atol=1e-5, rtol=0)
        same_tokens(model, given, plan)
