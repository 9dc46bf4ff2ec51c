"""Objectives on a real bench: exact ones exactly, timed ones against a clock of our own."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from objectives import OBJECTIVES, accuracy, flops, latency, macs, memory
from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.subject import SupernetSubject
from searchkit.records import Candidate
from searchkit.reduction.device import threads_of_torch
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.tasks import Generated, word_tokenizer
from searchkit.training import FineTune
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet

batches_module = importlib.import_module("objectives.batches")
timing_module = importlib.import_module("searchkit.evaluate.timing")
TASK = Generated(train=20, search=90, report=20)
LAYERS = 3


@pytest.fixture(scope="module")
def bench() -> SupernetBench:
    tokenizer = word_tokenizer(TASK.words())
    supernet = Supernet(Scratch(layers=LAYERS, width=16, heads=2, feed_forward=32), FineTune())
    classifier = supernet.build(tokenizer, labels=("a", "b"), max_length=TASK.max_length, seed=0).eval()
    data = TASK.encode(TASK.tables(0).search, tokenizer)
    return SupernetBench(PlanRunner(classifier, FineTune()), data, padded_to=TASK.max_length, token_budget=256)


def subject(bench: SupernetBench, *lengths: float) -> SupernetSubject:
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

    model = type(bench.model)(copy.deepcopy(bench.model.stock))
    broken = replace(bench, runner=replace(bench.runner, model=model))
    with torch.no_grad():
        broken.model.stock.classifier.weight.fill_(math.nan)
    with pytest.raises(TrialError, match="not finite") as caught:
        accuracy.measure(subject(broken, *WHOLE))
    assert caught.value.kind == "nan"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of our own: passes take 4 ms with reduction, 8 ms without, on a machine that gets slower and slower."""
    now = [0.0]

    def forward(self: SupernetSubject, tokens: Tokens) -> None:
        whole = self.plan == ReductionPlan.unreduced(LAYERS)
        now[0] += (0.008 if whole else 0.004) * (1 + now[0])

    monkeypatch.setattr(SupernetSubject, "forward", forward)
    monkeypatch.setattr(batches_module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing_module, "processor_time_of_others", lambda: None)


def test_latency_is_the_time_of_a_pass_and_drift_leaves_the_ratio_alone(bench: SupernetBench, clock: None) -> None:
    estimate = latency(batch_size=2, batches=6, rounds=4, min_round_interval_s=0).measure(subject(bench, *HALF))
    beside = estimate.beside
    assert estimate.n == 24
    assert beside["latency_ms_p50"] > 4.0  # slower than at the start
    assert beside["ratio"] == pytest.approx(0.5, rel=0.02)
    assert beside["speedup"] == pytest.approx(2.0, rel=0.02)
    assert beside["ratio_low"] <= beside["ratio"] <= beside["ratio_high"]
    assert estimate.value == pytest.approx(beside["ratio"] * beside["unreduced_ms"])
    assert beside["latency_ms_p95"] >= beside["latency_ms_p50"]
    assert beside["examples_per_s"] == pytest.approx(2000 / estimate.value)
    assert (beside["batch_size"], beside["rounds"], beside["settled"]) == (2, 4, 1)
    assert estimate.standard_error is not None


def test_candidates_that_are_timed_later_compare_by_their_ratios(bench: SupernetBench, clock: None) -> None:
    """The machine gets slower all the time: in its milliseconds the second measurement would look worse."""
    timed, own = latency(batch_size=2, batches=6, rounds=4, min_round_interval_s=0), replace(bench)
    first, later = (timed.measure(subject(own, *HALF)) for _ in range(2))
    assert later.beside["latency_ms_p50"] > 1.2 * first.beside["latency_ms_p50"]
    assert later.value == pytest.approx(first.value, rel=0.02)
    assert later.beside["unreduced_ms"] == first.beside["unreduced_ms"]


def test_candidates_that_are_timed_together_get_their_own_times(bench: SupernetBench, clock: None) -> None:
    timed = latency(batch_size=2, batches=6, rounds=4, min_round_interval_s=0)
    assert timed.together is not None
    half, whole = timed.together([subject(replace(bench), *HALF), subject(bench, *WHOLE)])
    assert half.beside["ratio"] == pytest.approx(0.5, rel=0.02)
    assert whole.beside["ratio"] == pytest.approx(1.0, rel=0.02)


def test_as_many_are_timed_at_once_as_take_their_turns_on_a_batch_in_half_a_second(
    bench: SupernetBench, clock: None
) -> None:
    timing = latency(batch_size=2, batches=6, rounds=4, min_round_interval_s=0).timing
    assert timing is not None
    assert timing.at_once is not None
    own = replace(bench)
    assert timing.at_once(subject(own, *HALF)) == pytest.approx(0.5 / 0.008, rel=0.15)  # the machine gets slower
    assert timing.at_once(subject(own, *WHOLE)) == timing.at_once(subject(own, *HALF))


def test_examples_of_one_length_are_made_of_real_tokens(bench: SupernetBench) -> None:
    from objectives.batches import real_batches

    known = set(bench.data.ids.tolist())
    with pytest.raises(StudyError, match="at most what the encoder takes, 28, got 50"):
        real_batches(bench.unreduced, 4, 50, 3)
    for length in (3, 7, 28):
        batches = real_batches(bench.unreduced, 4, length, 3)
        assert len(batches) == 3
        for tokens in batches:
            assert tokens.layout.lengths.tolist() == [length] * 4
            assert set(tokens.ids.tolist()) <= known
            rows = tokens.ids.reshape(4, length)
            assert set(rows[:, 0].tolist()) == {int(bench.data.ids[0])}
            assert set(rows[:, -1].tolist()) == {int(bench.data.ids[bench.data.offsets[1] - 1])}
            assert set(tokens.layout.marks) == set(bench.data.marks)
    assert latency(length=50).unit == "ms at batch 1 of 50 tokens"


def test_a_timed_objective_can_be_had_at_another_size() -> None:
    with_batch = latency(batch_size=1, batches=5).with_batch
    assert with_batch is not None
    assert with_batch(batch_size=8, length=64).unit == "ms at batch 8 of 64 tokens"


def test_peak_memory_grows_with_the_batch(bench: SupernetBench) -> None:
    """The largest state of a pass is known: a batch of a hundred times as many tokens needs more."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a process")
    small, large = (memory(size, length=20, batches=1).measure(subject(bench, *WHOLE)) for size in (1, 4000))
    width = bench.model.shape.width
    assert large.value > 4 * 4000 * 20 * width / 2**20  # at least the states themselves, in float32
    assert large.value > small.value
    assert large.beside["weights_mib"] > 0


def test_batches_are_spread_over_the_lengths_and_hold_neighbours(bench: SupernetBench) -> None:
    lengths = bench.data.lengths
    drawn = batches_module.drawn(lengths, batch_size=4, batches=7)
    assert [len(batch) for batch in drawn] == [4] * 7
    assert lengths[drawn[0]].min() == lengths.min()
    assert lengths[drawn[-1]].max() == lengths.max()
    assert max(np.ptp(lengths[batch]) for batch in drawn) <= 2
    assert [batch.tolist() for batch in batches_module.drawn(np.array([5, 3]), 4, 7)] == [[1, 0], [1, 0]]


def test_latency_is_timed_on_its_own_threads_and_the_run_keeps_its_own(
    bench: SupernetBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set[int]()

    def watched(subject: Any, tokens: Any) -> float:
        seen.add(torch.get_num_threads())
        return 1e-3

    monkeypatch.setattr(importlib.import_module("objectives.latency"), "seconds", watched)
    monkeypatch.setattr(importlib.import_module("objectives.latency_model"), "seconds", watched)
    settings: dict[str, Any] = {"batch_size": 2, "batches": 6, "rounds": 4, "min_round_interval_s": 0}
    with threads_of_torch(2):
        timed, own = latency(**settings, threads=3), replace(bench)
        (found,) = timed.together([subject(own, *HALF)])  # type: ignore[misc]
        assert timed.timing is not None
        assert timed.timing.at_once is not None
        timed.timing.at_once(subject(own, *HALF))
        modelled = latency(**settings, threads=3, during_search="modelled").timing
        assert modelled is not None
        assert modelled.calibrate is not None
        modelled.calibrate(
            own.subject, [Candidate.of(lengths=(share,) * 3) for share in np.linspace(0.3, 0.9, 8).tolist()]
        )
        assert seen == {3}
        (plain,) = latency(**settings).together([subject(own, *HALF)])  # type: ignore[misc]
        assert seen == {2, 3}
        assert torch.get_num_threads() == 2
    assert found.beside["threads"] == 3
    assert "threads" not in plain.beside
    assert (timed.unit, latency(threads=1).unit) == ("ms at batch 2 on 3 threads", "ms at batch 1 on 1 thread")
    assert timed.with_batch is not None
    assert timed.with_batch(batch_size=4).unit == "ms at batch 4 on 3 threads"


def test_latency_refuses_sizes_that_make_no_sense() -> None:
    for wrong in ({"batch_size": 0}, {"batches": 0}, {"rounds": -1}, {"length": 2}, {"threads": -1}):
        with pytest.raises(StudyError, match="must be at least"):
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
    from searchkit.evaluate.workbench import SupernetWorkbench

    bench.model.save(tmp_path)
    workbench = SupernetWorkbench.of_folder(
        str(tmp_path), FineTune(), bench.data, TASK.max_length, dtype="fp32", device="cpu"
    )
    built = workbench.build()
    assert subject(built, *HALF).predictions.tolist() == subject(bench, *HALF).predictions.tolist()
    assert {"device", "dtype", "threads", "torch", "transformers"} <= set(built.environment)
    assert built.environment["dtype"] == "fp32"
