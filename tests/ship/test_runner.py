"""Other runtimes as those of a bench: what they predict, what they share, and what stands in the environment."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.workbench import RivalParts, SupernetWorkbench
from searchkit.hf.inputs import Special
from searchkit.records import Candidate
from searchkit.reduction.cost import macs
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.ship import sessions as of_sessions
from searchkit.ship.runner import InOnnxRuntime, StockRunner
from searchkit.ship.sessions import Exports, Sessions
from searchkit.training import FineTune
from tests.reduction.models import MODELS, examples, padded, tokens
from tests.runs.test_rivals import encoded

SPECIAL = Special(0, 3, False)
STOCK, INT8 = Candidate.of(rival="unreduced", runtime="transformers"), Candidate.of(rival="unreduced", dtype="int8")
STEPS, HALF = Candidate.of(lengths=(0.9, 0.4, 0.1)), Candidate.of(lengths=(0.5, 0.5, 0.5))


def workbench(model: AdaptiveModel, **settings: Any) -> SupernetWorkbench:
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config, head, data = model.stock.config.to_dict(), model.head.name, encoded(examples(6))
    return SupernetWorkbench(config, head, weights, FineTune(), data, 40, dtype="fp32", threads=1, **settings)


@pytest.fixture(scope="module")
def tiny() -> AdaptiveModel:
    """Three layers: an export takes seconds, however small the model is."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "max_position_embeddings": 64}
    config = BertConfig(**sizes, num_hidden_layers=3, num_attention_heads=2, initializer_range=0.3, num_labels=3)
    return AdaptiveModel(AutoModelForSequenceClassification.from_config(config).eval())


@pytest.fixture(scope="module")
def searching(tiny: AdaptiveModel) -> SupernetBench:
    """A bench as of a search whose objective is timed in ONNX Runtime."""
    made = workbench(tiny, runner=InOnnxRuntime(SPECIAL, 1, timed_only=True))
    return pickle.loads(pickle.dumps(made)).build()  # type: ignore[no-any-return]  # as it travels to a worker


@pytest.fixture(scope="module")
def reporting(tiny: AdaptiveModel) -> SupernetBench:
    """A bench as of the report, in int8, with the unreduced model in other runtimes."""
    rivals = {STOCK.key: RivalParts(runner=StockRunner), INT8.key: RivalParts(runner=InOnnxRuntime(SPECIAL, 1, True))}
    return workbench(tiny, runner=InOnnxRuntime(SPECIAL, 1), rivals=rivals).build()


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[ReductionPlan]:
    """The plans that graphs are exported for from now on."""
    plans, export = list[ReductionPlan](), of_sessions.export

    def watched(model: Any, plan: ReductionPlan, *given: Any, **named: Any) -> Any:
        plans.append(plan)
        return export(model, plan, *given, **named)

    monkeypatch.setattr(of_sessions, "export", watched)
    return plans


def test_a_search_times_all_lengths_in_one_graph_and_predicts_in_pytorch(
    searching: SupernetBench, exported: list[ReductionPlan]
) -> None:
    batch = searching.split.tokens(np.array([0, 3]))
    for candidate in (Candidate.of(), STEPS, HALF, Candidate.of(lengths=(1.0, 1.0, 1.0))):
        subject = searching.subject(candidate)
        packed = searching.model.packed(batch, subject.plan).logits
        torch.testing.assert_close(subject.forward(batch), packed, atol=1e-5, rtol=1e-5)
    assert len(exported) == 2  # of the unreduced model, and of lengths from the first layer on, also where they repeat
    plain = replace(searching, runner=PlanRunner(searching.model, searching.runner.recipe))
    np.testing.assert_array_equal(searching.subject(HALF).logits, plain.subject(HALF).logits)
    setting = {"runtime": "onnxruntime, for times alone", "dtype": "fp32", "timed_dtype": "fp32", "threads": 1}
    assert setting.items() <= searching.environment.items()
    assert "runtime" not in plain.environment


def test_a_report_predicts_in_the_runtime_and_takes_the_graphs_of_the_search(
    searching: SupernetBench, reporting: SupernetBench, exported: list[ReductionPlan]
) -> None:
    whole = searching.subject(Candidate.of())
    whole.forward(searching.split.tokens(np.array([0])))
    own = reporting.subject(Candidate.of())
    for candidate in (Candidate.of(), STEPS):
        logits = [bench.subject(candidate).logits for bench in (reporting, searching)]
        np.testing.assert_allclose(*logits, atol=1e-5)
        assert not np.array_equal(*logits)  # it was ONNX Runtime's sum
    assert exported == []
    np.testing.assert_array_equal(own.trace.attention, whole.trace.attention)
    setting = reporting.environment
    assert {"runtime": "onnxruntime", "dtype": "fp32", "threads": 1}.items() <= setting.items()
    assert {"onnxruntime", "isa"} <= setting.keys()


def test_int8_has_another_quality_of_the_same_graph(reporting: SupernetBench, exported: list[ReductionPlan]) -> None:
    own, small = reporting.subject(Candidate.of()), reporting.subject(INT8)
    assert exported == []
    assert 1e-4 < np.abs(own.logits - small.logits).max() < 0.5
    batch = reporting.split.tokens(np.array([2]))
    torch.testing.assert_close(small.forward(batch), torch.as_tensor(small.logits[[2]]), atol=0.05, rtol=0.05)


def test_the_stock_row_is_transformers_own_class_with_fused_attention(reporting: SupernetBench) -> None:
    subject = reporting.subject(STOCK)
    assert subject.runner.model.stock.config._attn_implementation == "sdpa"
    assert subject.runner.model is reporting.model  # no second copy of the weights
    whole = reporting.unreduced
    np.testing.assert_allclose(subject.logits, whole.logits, atol=1e-5)
    shape, lengths = subject.shape, torch.as_tensor(subject.lengths)
    more = macs(subject.trace, shape) - macs(whole.trace, shape)  # its last layer computes every token
    n = lengths.double()
    assert more.tolist() == ((n - 1) * (2 * 16**2 + 2 * 16 * n + 2 * 16 * 16)).tolist()


@pytest.mark.parametrize("family", list(MODELS))
def test_stock_passes_of_every_family_and_head_are_those_of_its_class(family: str) -> None:
    bench = workbench(MODELS[family](), rivals={STOCK.key: RivalParts(runner=StockRunner)}).build()
    subject = bench.subject(STOCK)
    ids, mask = padded(examples(6))
    with torch.inference_mode():
        out = bench.model.stock(ids, attention_mask=mask)
    expected = torch.stack([out.start_logits, out.end_logits], -1)[mask.bool()] if "reader" in family else out.logits
    torch.testing.assert_close(torch.as_tensor(subject.logits), expected, atol=1e-5, rtol=1e-5)
    batch = bench.split.tokens(np.array([1, 4]))
    torch.testing.assert_close(subject.forward(batch), bench.unreduced.forward(batch), atol=1e-5, rtol=1e-5)


def test_sessions_beyond_the_limit_are_opened_again(searching: SupernetBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_sessions, "KEPT", 1)
    monkeypatch.setattr(of_sessions, "ROOM", 0)
    sessions = Sessions(searching.model, SPECIAL, idle=True)
    batch = tokens(examples(2))
    plans = [ReductionPlan.unreduced(3), ReductionPlan.of_lengths((0.5, 0.5, 0.2))]
    first = [sessions.of(plan).logits(batch) for plan in plans]
    again = [sessions.of(plan).logits(batch) for plan in plans]
    assert len(sessions._open) == 1
    assert all(map(torch.equal, first, again))


def test_graphs_of_other_weights_and_special_tokens_are_others(tiny: AdaptiveModel) -> None:
    kept = Exports.of(tiny, SPECIAL)
    assert Exports.of(tiny, SPECIAL) is kept
    assert Exports.of(tiny, Special(0, 4, False)) is not kept
    other = AdaptiveModel(AutoModelForSequenceClassification.from_config(tiny.stock.config).eval())
    assert Exports.of(other, SPECIAL) is not kept


def test_what_has_weights_of_its_own_in_memory_says_so(reporting: SupernetBench, searching: SupernetBench) -> None:
    """A pass that follows one on other weights finds its own out of the caches."""
    subjects = [reporting.subject(each) for each in (Candidate.of(), STEPS, STOCK, INT8)]
    assert len({subject.weights for subject in subjects}) == len(subjects)
    assert reporting.subject(STEPS).weights == reporting.subject(STEPS).weights
    assert searching.subject(STEPS).weights == searching.subject(HALF).weights  # one graph
    plain = replace(searching, runner=PlanRunner(searching.model, searching.runner.recipe))
    assert plain.subject(STEPS).weights == plain.unreduced.weights
