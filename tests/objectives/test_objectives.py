"""Objectives on a real bench: exact ones exactly, timed ones against a clock of our own."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from objectives import OBJECTIVES, accuracy, flops, latency, macs
from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.subject import Subject, SupernetBench
from searchkit.records import Candidate
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.supernet import Scratch, Supernet
from searchkit.tasks import Generated, word_tokenizer
from searchkit.training import FineTune

latency_module = importlib.import_module("objectives.latency")  # `objectives.latency` is the function
TASK = Generated(train=20, search=90, report=20)
LAYERS = 3


@pytest.fixture(scope="module")
def bench() -> SupernetBench:
    tokenizer = word_tokenizer(TASK.words())
    supernet = Supernet(Scratch(layers=LAYERS, width=16, heads=2, feed_forward=32), FineTune())
    classifier = supernet.build(tokenizer, labels=2, max_length=TASK.max_length, seed=0).eval()
    data = TASK.encode(TASK.tables(0).search, tokenizer)
    return SupernetBench(classifier, FineTune(), data, padded_to=TASK.max_length, token_budget=256)


def subject(bench: SupernetBench, *lengths: float) -> Subject:
    return bench.subject(Candidate.of(lengths=lengths))


WHOLE, HALF, LITTLE = (1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (0.2, 0.1, 0.1)


def test_accuracy_is_that_of_the_stock_model_one_example_at_a_time(bench: SupernetBench) -> None:
    right = []
    for row in range(len(bench.data)):
        example = bench.data.take([row])
        with torch.no_grad():
            logits = bench.model.stock(input_ids=torch.as_tensor(example.ids).long()[None]).logits
        right.append(int(logits.argmax()) == int(example.labels[0]))
    estimate = accuracy.measure(subject(bench, *WHOLE))
    share = sum(right) / len(right)
    assert (estimate.value, estimate.n) == (share, 90)
    assert estimate.standard_error == pytest.approx(math.sqrt(share * (1 - share) / 90))


@pytest.mark.parametrize("budget", [1, 100, 256, 100_000])
def test_predictions_do_not_depend_on_how_examples_are_batched(bench: SupernetBench, budget: int) -> None:
    other = replace(bench, token_budget=budget)
    torch.testing.assert_close(subject(other, *HALF).passes[0], subject(bench, *HALF).passes[0], atol=1e-5, rtol=0)
    assert torch.equal(subject(other, *HALF).trace.feed_forward, subject(bench, *HALF).trace.feed_forward)


def test_macs_are_a_ratio_of_sums_over_the_real_lengths(bench: SupernetBench) -> None:
    width, inner, heads = 16, 32, 2
    reduced = whole = 0

    def last(n: int) -> int:  # keys and values of n tokens, and the rest of the layer for [CLS]
        return 2 * width**2 * n + 2 * width * n + 2 * width**2 + 2 * width * inner

    for n in bench.data.lengths.tolist():
        kept = [math.ceil(ratio * n - 1e-9) for ratio in HALF]
        entering = [n, *kept[:-1]]
        for before, after in zip(entering[:-1], kept[:-1], strict=True):
            reduced += 4 * width**2 * before + 2 * width * before**2 + 2 * width * inner * after
            reduced += heads * before**2 if after < before else 0
        reduced += last(entering[-1])
        whole += (LAYERS - 1) * (4 * width**2 * n + 2 * width * n**2 + 2 * width * inner * n) + last(n)
        reduced += width**2 + 2 * width
        whole += width**2 + 2 * width
    estimate = macs.measure(subject(bench, *HALF))
    assert estimate.value == pytest.approx(reduced / whole, rel=1e-12)
    assert estimate.beside["macs_per_example"] == pytest.approx(reduced / 90, rel=1e-12)
    assert macs.measure(subject(bench, *WHOLE)).value == 1.0


def test_the_error_of_the_ratio_agrees_with_a_bootstrap(bench: SupernetBench) -> None:
    from searchkit.reduction.cost import macs as macs_of
    from searchkit.reduction.cost import unreduced_macs

    one = subject(bench, *LITTLE)
    own = macs_of(one.trace, bench.model.shape).numpy()
    whole = unreduced_macs(torch.as_tensor(bench.data.lengths), bench.model.shape).numpy()
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 90, 90) for _ in range(2000)]
    spread = np.std([own[rows].sum() / whole[rows].sum() for rows in draws])
    assert macs.measure(one).standard_error == pytest.approx(spread, rel=0.15)


def test_flops_are_two_macs(bench: SupernetBench) -> None:
    one = subject(bench, *HALF)
    in_macs, in_flops = macs.measure(one), flops.measure(one)
    assert in_flops.value == in_macs.value
    assert in_flops.beside["flops_per_example"] == 2 * in_macs.beside["macs_per_example"]


def test_the_padded_accountings_flatter_as_they_do_in_the_papers(bench: SupernetBench) -> None:
    whole, half = macs.measure(subject(bench, *WHOLE)), macs.measure(subject(bench, *HALF))
    assert whole.beside["ratio_of_padded"] < 1  # nothing was dropped, yet against padded inputs it looks faster
    assert half.beside["ratio_of_padded"] < half.value
    assert whole.beside["ratio_as_published"] == 1.0
    assert whole.beside["padded_to"] == TASK.max_length


def test_a_plan_that_keeps_less_costs_less(bench: SupernetBench) -> None:
    for objective in (macs, flops):
        values = [objective.measure(subject(bench, *lengths)).value for lengths in (WHOLE, HALF, LITTLE)]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 3


def test_logits_that_are_not_finite_are_a_failure_of_kind_nan(bench: SupernetBench) -> None:
    import copy

    broken = replace(bench, model=type(bench.model)(copy.deepcopy(bench.model.stock)))
    with torch.no_grad():
        broken.model.stock.classifier.weight.fill_(math.nan)
    with pytest.raises(TrialError, match="not finite") as caught:
        accuracy.measure(subject(broken, *WHOLE))
    assert caught.value.kind == "nan"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of our own: passes take 4 ms with reduction, 8 ms without, on a machine that gets slower and slower."""
    now = [0.0]

    def forward(self: Subject, tokens: Tokens) -> None:
        whole = self.plan == ReductionPlan.unreduced(LAYERS)
        now[0] += (0.008 if whole else 0.004) * (1 + now[0])

    monkeypatch.setattr(Subject, "forward", forward)
    monkeypatch.setattr(latency_module.time, "perf_counter", lambda: now[0])


def test_latency_is_the_time_of_a_pass_and_drift_leaves_the_speedup_alone(bench: SupernetBench, clock: None) -> None:
    estimate = latency(batch_size=2, batches=6, rounds=4).measure(subject(bench, *HALF))
    assert estimate.n == 24
    assert estimate.value > 4.0  # milliseconds, slower than at the start
    assert estimate.beside["unreduced_ms_p50"] / estimate.value == pytest.approx(2.0, rel=0.1)
    assert estimate.beside["speedup"] == pytest.approx(2.0, rel=0.02)
    assert estimate.beside["latency_ms_p95"] > estimate.value
    assert estimate.beside["batch_size"] == 2
    assert estimate.standard_error is not None


def test_batches_are_spread_over_the_lengths_and_hold_neighbours(bench: SupernetBench) -> None:
    lengths = bench.data.lengths
    drawn = latency_module._draw(lengths, batch_size=4, batches=7)
    assert [len(batch) for batch in drawn] == [4] * 7
    assert lengths[drawn[0]].min() == lengths.min()
    assert lengths[drawn[-1]].max() == lengths.max()
    assert max(np.ptp(lengths[batch]) for batch in drawn) <= 2
    assert [batch.tolist() for batch in latency_module._draw(np.array([5, 3]), 4, 7)] == [[1, 0], [1, 0]]


def test_latency_refuses_sizes_that_make_no_sense() -> None:
    for wrong in ({"batch_size": 0}, {"batches": 0}, {"rounds": -1}):
        with pytest.raises(StudyError, match="must be at least 1"):
            latency(**wrong)  # type: ignore[arg-type]


def test_every_objective_says_what_it_is() -> None:
    for name, objective in OBJECTIVES.items():
        assert objective.name == name
        assert objective.unit
        assert objective.better in ("higher", "lower")
    assert OBJECTIVES["latency"].exclusive
    assert not OBJECTIVES["accuracy"].exclusive


def test_a_bench_can_be_built_from_a_saved_supernet_and_says_where_it_measures(
    bench: SupernetBench, tmp_path: Path
) -> None:
    from searchkit.evaluate.subject import SupernetWorkbench

    bench.model.save(tmp_path)
    workbench = SupernetWorkbench.of_folder(
        str(tmp_path), FineTune(), bench.data, TASK.max_length, dtype="fp32", device="cpu"
    )
    built = workbench.build()
    assert subject(built, *HALF).predictions.tolist() == subject(bench, *HALF).predictions.tolist()
    assert {"device", "dtype", "threads", "torch", "transformers"} <= set(built.environment)
    assert built.environment["dtype"] == "fp32"
