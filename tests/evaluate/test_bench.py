"""A bench whose split is cut for racing gives what one that is not cut gives; asks that go together, and when not."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from objectives import accuracy, macs
from searchkit import Ask, Candidate, Constraint, Estimate, Objective, StudyError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.passes import passes_over
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.ray import MOST, _share
from searchkit.evaluate.trial import even, measure_together, neighbours
from searchkit.evaluate.workbench import SupernetWorkbench
from searchkit.records import Measured
from searchkit.reduction import model as model_module
from searchkit.runs.config import Conditions
from searchkit.runs.placement import Placement
from searchkit.tasks import Generated, GeneratedQuestions, word_tokenizer
from searchkit.tasks.windows import encode_questions
from searchkit.training import LengthDrop
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet
from tests.analytic import OBJECTIVES, FormulaBench, asks

TASKS = {
    "classification": Generated(train=20, search=90, report=20),
    "question_answering": GeneratedQuestions(train=20, search=40, report=20),
}
CANDIDATES = [
    Candidate.of(lengths=lengths)
    for lengths in ((1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (1.0, 0.5, 0.25), (0.5, 0.25, 0.1), (0.1, 0.1, 0.1))
]


def bench(head: str) -> SupernetBench:
    task = TASKS[head]
    tokenizer = word_tokenizer(task.words())
    supernet = Supernet(Scratch(layers=3, width=16, heads=2, feed_forward=32), LengthDrop())
    model = supernet.build(tokenizer, labels=("a", "b"), max_length=task.max_length, seed=0, head=head).eval()
    table, long = task.tables(0).search, head == "question_answering"  # long contexts, of several windows
    data = (
        encode_questions(table, tokenizer, 18, stride=4, question_length=6) if long else task.encode(table, tokenizer)
    )
    return SupernetBench(
        PlanRunner(model, LengthDrop()), data, padded_to=task.max_length, token_budget=512, cache_bytes=1 << 20
    )


@pytest.mark.parametrize("head", TASKS)
@pytest.mark.parametrize("parts", [3, 4])
def test_a_split_in_parts_gives_the_passes_of_the_whole_in_its_order(head: str, parts: int) -> None:
    whole = bench(head)
    cut = replace(whole, parts=parts)
    assert sorted(np.concatenate([shard.rows for shard in cut.shards])) == list(range(len(whole.data)))
    plans = [whole.plan(one) for one in CANDIDATES]
    for one, other in zip(whole.passes(plans), cut.passes(plans), strict=True):
        torch.testing.assert_close(one[0], other[0], atol=1e-6, rtol=0)
        for item in fields(one[1]):
            assert torch.equal(getattr(one[1], item.name), getattr(other[1], item.name))


@pytest.mark.parametrize("head", TASKS)
def test_a_smaller_bench_gives_the_same_in_less_memory_and_races_in_the_same_parts(head: str) -> None:
    whole = replace(bench(head), parts=3)
    small = whole.smaller()
    batches, larger = ([len(tokens.ids) for _, tokens in one.split.batches] for one in (small, whole))
    assert len(batches) > len(larger)
    assert max(batches) < max(larger)
    plans = [whole.plan(one) for one in CANDIDATES]
    for one, other in zip(whole.passes(plans), small.passes(plans), strict=True):
        torch.testing.assert_close(one[0], other[0], atol=1e-6, rtol=0)
    assert not any(cache.nodes for shard in small.shards for cache in shard.split.caches)
    for mine, its in zip(whole.shards, small.shards, strict=True):
        assert np.array_equal(mine.rows, its.rows)


def test_the_windows_of_a_question_are_in_one_part() -> None:
    cut = replace(bench("question_answering"), parts=4)
    assert cut.data.answers is not None
    questions = cut.data.answers.questions
    assert len(questions) > len(set(questions))  # some have several
    for shard in cut.shards:
        assert set(questions[shard.rows]) == set(shard.units)
    assert sorted(np.concatenate([shard.units for shard in cut.shards])) == sorted(set(questions))


def test_tokens_dropped_after_the_last_layer_change_nothing_for_a_head_of_the_first_token() -> None:
    """So a space may take these for one candidate; where every token is read, it may not."""
    lengths = [Candidate.of(lengths=(1.0, 0.5, last)) for last in (0.5, 0.25, 0.1)]
    for head, idle in (("classification", True), ("question_answering", False)):
        own = bench(head)
        (logits, trace), *others = own.passes([own.plan(one) for one in lengths])
        for other, seen in others:
            assert torch.equal(logits, other) == idle
            same = [torch.equal(getattr(trace, item.name), getattr(seen, item.name)) for item in fields(trace)]
            assert all(same) == idle


def test_parts_of_a_split_share_the_cache_budget_and_no_cache() -> None:
    cut = replace(bench("classification"), parts=4)
    assert sum(shard.split.cache_bytes for shard in cut.shards) <= cut.cache_bytes
    cut.prepare(CANDIDATES)
    caches = [shard.split.caches for shard in cut.shards]
    assert len({id(cache) for shard in caches for cache in shard}) == sum(map(len, caches)) >= 4
    assert all(0 < sum(cache.held for cache in shard) <= cut.cache_bytes // 4 for shard in caches)
    assert not any(cache.nodes for cache in cut.split.caches)


def test_a_limit_on_traced_cost_turns_lengths_down_before_the_model_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds, of which only a pass can tell the cost, are measured first."""
    lengths = [Candidate.of(lengths=(1.0, share, share)) for share in (1.0, 0.5, 0.1)]
    plain = bench("classification")
    costs = [macs.measure(plain.subject(one)).value for one in lengths]
    limited = replace(plain, limits=(Constraint(macs, at_most=sum(costs[1:]) / 2),))
    seen: list[int] = []
    module = importlib.import_module("searchkit.evaluate.plan_runner")

    def counted(split: Any, model: Any, plans: Sequence[Any], reducer_template: Any) -> Any:
        seen.append(len(plans))
        return passes_over(split, model, plans, reducer_template)

    monkeypatch.setattr(module, "passes_over", counted)
    verdicts = limited.prepare(lengths).verdicts
    assert set(verdicts) == {one.key for one in lengths[:2]}
    assert all(verdict.examples == 0 for verdict in verdicts.values())
    assert f"macs is {costs[0]:.4g}" in verdicts[lengths[0].key].why
    assert seen == [1]
    trials = list(measure_together([Ask(n, one) for n, one in enumerate(lengths)], limited, [accuracy, macs]))
    assert [trial.status for trial in trials] == ["pruned", "pruned", "measured"]


LEFT = Objective("left", "tokens", "higher", lambda subject: Estimate(float(subject.trace.feed_forward.sum()), None, 1))


def test_a_limit_against_the_unreduced_model_is_measured_once_and_on_the_split_of_the_bench() -> None:
    """With the objective better when higher and as its own mirror image, the same candidates are turned down."""
    plain = bench("classification")
    values = {one.key: LEFT.measure(plain.subject(one)).value for one in CANDIDATES}
    whole = LEFT.measure(plain.unreduced).value
    within = whole - sorted(values.values())[2]
    expected = ["measured" if values[one.key] >= whole - within else "pruned" for one in CANDIDATES]
    assert expected == ["measured"] * 3 + ["pruned"] * 2
    calls: list[Candidate] = []

    def counted(subject: Any) -> Estimate:
        calls.append(subject.candidate)
        return LEFT.measure(subject)

    def mirrored(subject: Any) -> Estimate:
        return replace(LEFT.measure(subject), value=-LEFT.measure(subject).value)

    for objective in (replace(LEFT, measure=counted), replace(LEFT, better="lower", measure=mirrored)):
        limited = replace(plain, limits=(Constraint(objective, within=within),))
        asked = [Ask(n, one) for n, one in enumerate(CANDIDATES)]
        trials = list(measure_together(asked, limited, [accuracy, macs]))
        assert [trial.status for trial in trials] == expected
        assert all(trial.outcome.examples >= 1 for trial in trials if trial.status == "pruned")  # type: ignore[union-attr]
    assert calls.count(Candidate.of()) == 1
    assert len(calls) == 1 + len(CANDIDATES)


def test_a_traced_limit_against_the_unreduced_model_turns_lengths_down_before_any_pass() -> None:
    plain = bench("classification")
    dear = replace(macs, better="higher")  # so that what is cheap is worse
    costs = [macs.measure(plain.subject(one)).value for one in CANDIDATES]
    limited = replace(plain, limits=(Constraint(dear, within=1 - sum(costs[1:3]) / 2),))
    verdicts = limited.prepare(CANDIDATES).verdicts
    assert [one.key in verdicts for one in CANDIDATES] == [cost < sum(costs[1:3]) / 2 for cost in costs]
    assert {verdict.examples for verdict in verdicts.values()} == {0}
    assert not replace(plain, limits=(Constraint(macs, within=0.0),)).prepare(CANDIDATES).verdicts


def test_a_bench_that_measured_its_unreduced_model_is_garbage_without_looking_for_cycles() -> None:
    own = replace(bench("classification"), limits=(Constraint(accuracy, within=0.5),))
    assert own.resolved_constraints()[0].at_least is not None
    alive = weakref.ref(own)
    gc.disable()
    try:
        del own
        assert alive() is None
    finally:
        gc.enable()


def test_neighbours_are_even_groups_that_agree_from_the_first_place_on() -> None:
    every = asks()
    for groups in (1, 3, 7, len(every), 2 * len(every)):
        made = neighbours(every, even(len(every), groups))
        assert sorted(ask.number for group in made for ask in group) == list(range(len(every)))
        assert len(made) == min(groups, len(every))
        assert max(map(len, made)) - min(map(len, made)) <= 1
    firsts = [{ask.candidate["lengths"][0] for ask in group} for group in neighbours(every, even(len(every), 8))]  # type: ignore[index]
    assert all(len(one & other) <= 1 for one, other in pairwise(firsts))


@given(st.integers(0, 100), st.integers(1, 12))
def test_workers_get_large_groups_first_and_small_ones_to_end_together(count: int, workers: int) -> None:
    sizes: list[int] = []
    while left := count - sum(sizes):
        sizes.append(_share(left, workers))
    assert sizes == sorted(sizes, reverse=True)
    assert 0 not in sizes
    assert max(sizes, default=0) <= MOST
    if count >= 6 * workers:
        assert sum(sizes[:workers]) >= min(0.4 * count, MOST * workers)
        assert sizes[-workers:] == [1] * workers


class Unwilling(FormulaBench):
    """A bench that cannot compute several candidates together, or not even this one, or never."""

    def prepare(self, candidates: Sequence[Candidate], race: Any = None) -> Mapping[str, Any]:
        if len(candidates) > 1:
            raise MemoryError("too many")
        if "study" in self.mishaps.values():
            raise StudyError("the study is wrong")
        raise ZeroDivisionError("alone neither")


def test_what_cannot_be_computed_together_is_measured_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    some = asks()[:5]
    trials = list(measure_together(some, Unwilling({}), OBJECTIVES))
    assert [trial.ask for trial in trials] == some
    assert all(isinstance(trial.outcome, Measured) for trial in trials)
    assert "5 candidates cannot be computed together; now one by one" in caplog.text
    with pytest.raises(StudyError, match="the study is wrong"):
        list(measure_together(some, Unwilling({2.0: "study"}), OBJECTIVES))


def test_subjects_that_are_prepared_keep_their_passes_and_others_are_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(bench("classification"), parts=3)
    subjects = own.prepare(CANDIDATES).subjects
    expected = own.passes([own.plan(one) for one in CANDIDATES])
    monkeypatch.setattr(SupernetBench, "passes", lambda *_: pytest.fail("a pass is made a second time"))
    for _ in range(2):
        for candidate, passes in zip(CANDIDATES, expected, strict=True):
            assert torch.equal(subjects[candidate.key].passes.logits, passes.logits)  # type: ignore[attr-defined]


def test_a_candidate_becomes_a_plan_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(bench("classification"), parts=3, limits=(Constraint(macs, at_most=0.9),))
    planned: list[Candidate] = []
    plan = SupernetBench.plan

    def counted(self: SupernetBench, candidate: Candidate) -> Any:
        planned.append(candidate)
        return plan(self, candidate)

    monkeypatch.setattr(SupernetBench, "plan", counted)
    trials = list(measure_together([Ask(n, one) for n, one in enumerate(CANDIDATES)], own, [accuracy, macs]))
    assert {trial.status for trial in trials} == {"pruned", "measured"}
    assert planned == CANDIDATES


@pytest.mark.parametrize(("dtype", "alone"), [("auto", True), ("bf16", False), ("fp32", False)])
def test_one_text_is_passed_in_float32_where_auto_takes_bf16_for_batches(
    monkeypatch: pytest.MonkeyPatch, dtype: str, alone: bool
) -> None:
    """As a shipped folder does; who asks for a number format gets it."""
    monkeypatch.setattr("searchkit.reduction.device.fast_in_bf16", lambda _: True)
    whole = bench("classification")
    weights = {name: tensor.numpy() for name, tensor in whole.model.state_dict().items()}
    config = whole.model.stock.config.to_dict()
    made = SupernetWorkbench(config, "classification", weights, LengthDrop(), whole.data, 28, dtype=dtype)
    one, several = (whole.split.tokens(np.arange(count)) for count in (1, 3))
    calls: list[int] = []
    encode_alone = model_module.encode_alone

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(1)
        return encode_alone(*given, **more)

    monkeypatch.setattr(model_module, "encode_alone", counted)
    built = made.build()
    chosen = built.subject(CANDIDATES[2])
    logits, expected = chosen.forward(one), whole.runner.forward(one, chosen.plan)
    assert (len(calls) == 2) == (dtype != "bf16")  # `expected` is one of them
    assert torch.allclose(logits, expected, atol=1e-5, rtol=0) == (dtype != "bf16")
    assert built.environment["dtype"] == ("fp32" if dtype == "fp32" else "bf16")
    assert built.environment.get("one text") == ("fp32" if alone else None)
    before = len(calls)
    chosen.forward(several)
    assert len(calls) == before
    assert next(built.model.parameters()).dtype == (torch.float32 if dtype == "fp32" else torch.bfloat16)
    placed = Placement.of(Conditions(device="cpu", dtype=dtype)).environment
    assert placed.get("one text") == built.environment.get("one text")
