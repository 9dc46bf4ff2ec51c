"""Budgets: which plan runs, in which thread, and what is said where none fits."""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from searchkit.errors import DataError, SearchkitError
from searchkit.hf.budgets import Limits, choose
from searchkit.hf.errors import BudgetError
from searchkit.hf.members import Members
from tests.hf.shipped import EIGHT, MEASURED, ONE, PLANS, notes, shipped
from tests.reduction.models import classifier, examples, padded

HERE = {"device": "cpu", "dtype": "float32", "threads": 1, "runtime": "pytorch"}


@pytest.fixture
def model() -> Any:
    return shipped(classifier("bert"))


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def members(**changes: Any) -> Members:
    config = classifier("bert").stock.config
    config.searchkit = notes() | changes
    return Members.of_config(config)


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        (Limits(macs=1.0), "far"),
        (Limits(macs=0.8), "far"),
        (Limits(macs=0.79), "half"),
        (Limits(macs=0.3), "few"),
        (Limits(latency_ms=6, setting={"batch": 1}), "half"),
        (Limits(latency_ms=6, setting=ONE), "half"),
        (Limits(latency_ms=20, setting={"batch": 8}), "few"),
        (Limits(macs=0.8, latency_ms=3.5, setting={"batch": 1}), "few"),
    ],
)
def test_the_best_plan_within_the_limits_is_chosen(limits: Limits, key: str) -> None:
    assert choose(members(), limits, HERE) == key


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(macs=0.2), "no plan has macs <= 0.2 and the other limits; the smallest is 0.3 ('few')"),
        (Limits(latency_ms=2, setting={"batch": 1}), "no plan has latency_ms <= 2"),
        (Limits(latency_ms=6), "latencies were measured in several settings, choose one with setting=: {"),
        (Limits(latency_ms=6, setting={"batch": 32}), 'no latency was measured for {"batch": 32, "device": "cpu"'),
        (Limits(latency_ms=6, setting={"batch": 1, "device": "cuda"}), "latencies were measured for: {"),
        (Limits(latency_ms=6, setting={"batch": 1, "runtime": "onnxruntime"}), "no latency was measured for"),
        (Limits(latency_ms=6, setting={"batch": 1, "disk": "ssd"}), "no latency was measured for"),
    ],
)
def test_a_budget_that_nothing_meets_or_that_was_not_measured_says_what_there_is(limits: Limits, said: str) -> None:
    with pytest.raises(BudgetError) as raised:
        choose(members(), limits, HERE)
    assert said in str(raised.value)
    if "setting" in said or "measured for" in said:
        assert '"batch": 1' in str(raised.value)
        assert '"batch": 8' in str(raised.value)


@pytest.mark.parametrize("other", [{"threads": 2}, {"device": "cuda"}, {"dtype": "bfloat16"}])
def test_a_latency_of_another_setting_than_this_processs_does_not_count_unless_it_is_named(other: Any) -> None:
    here = HERE | other
    limits = Limits(latency_ms=6, setting={"batch": 1})
    with pytest.raises(BudgetError, match="no latency was measured for"):
        choose(members(), limits, here)
    assert choose(members(), Limits(latency_ms=6, setting=ONE), here) == "half"


def test_a_runtime_of_another_kind_is_never_this_one() -> None:
    plans = copy.deepcopy(notes()["plans"])
    for entry in plans.values():
        for timed in entry["measured"]["latency"]:
            timed["setting"]["runtime"] = "onnxruntime"
    with pytest.raises(BudgetError, match="no latency was measured for"):
        choose(members(plans=plans), Limits(latency_ms=6, setting={"batch": 1}), HERE)


def test_the_best_is_the_lowest_where_lower_is_better_and_equal_ones_are_told_by_cost() -> None:
    plans = copy.deepcopy(notes()["plans"])
    for key, entry in plans.items():
        entry["measured"]["quality"] = {"mse": {"value": 0.1 if key != "far" else 0.5, "goal": "min"}}
    assert choose(members(plans=plans), Limits(macs=1.0), HERE) == "few"


def test_of_several_qualities_the_config_names_the_one_that_decides() -> None:
    plans = copy.deepcopy(notes()["plans"])
    for key, entry in plans.items():
        entry["measured"]["quality"]["f1"] = {"value": {"half": 0.9, "few": 0.5, "far": 0.2}[key], "goal": "max"}
    with pytest.raises(BudgetError, match=r"name one of accuracy, f1 as config.searchkit\['quality'\]"):
        choose(members(plans=plans), Limits(macs=1.0), HERE)
    assert choose(members(plans=plans, quality="f1"), Limits(macs=1.0), HERE) == "half"
    with pytest.raises(BudgetError, match="unknown quality 'f2'"):
        choose(members(plans=plans, quality="f2"), Limits(macs=1.0), HERE)


def test_plans_without_measurements_are_chosen_by_key_alone() -> None:
    plans = {key: {"plan": entry["plan"]} for key, entry in notes()["plans"].items()}
    for limits in (Limits(macs=1.0), Limits(latency_ms=5)):
        with pytest.raises(BudgetError, match="measured"):
            choose(members(plans=plans), limits, HERE)
    with pytest.raises(BudgetError, match="cannot be ranked by one measured quality: choose a plan by its key"):
        choose(members(plans={k: e | {"measured": {"macs": 0.5}} for k, e in plans.items()}), Limits(macs=1.0), HERE)


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf"), True, "0.4"])
def test_a_limit_is_a_number_above_0(limit: Any, model: Any) -> None:
    for name in ("macs", "latency_ms"):
        with pytest.raises(BudgetError, match=f"{name} must be a number above 0"):
            model.set_budget(**{name: limit})


def test_call_context_and_default_take_precedence_in_this_order(model: Any) -> None:
    batch = padded(examples(3))

    def ran(**plan: Any) -> str:
        model(*batch, **plan)
        traced = model.last_trace.attention.tolist()
        keys = [key for key in (*PLANS, "unreduced") if _trace(model, batch, key) == traced]
        assert len(keys) == 1
        return keys[0]

    assert ran() == "half"
    assert model.set_budget(macs=0.3) == "few"
    assert ran() == "few"
    with model.budget(macs=0.9) as key:
        assert (key, ran()) == ("far", "far")
        with model.budget(plan="unreduced"):
            assert ran() == "unreduced"
            assert ran(plan="half") == "half"
        with model.budget():
            assert ran() == "half"
        assert ran() == "far"
    assert ran() == "few"
    assert model.set_budget(None) == "half"
    assert ran() == "half"
    assert model.set_budget(latency_ms=8, setting={"batch": 1}) == "far"


def _trace(model: Any, batch: Any, key: str) -> Any:
    other = copy.deepcopy(model)
    other(*batch, plan=key)
    return other.last_trace.attention.tolist()


def test_a_context_ends_with_its_block_whatever_happens_in_it(model: Any) -> None:
    with pytest.raises(RuntimeError), model.budget(plan="few"):
        raise RuntimeError
    assert model.plan == "half"


def test_unknown_plans_name_the_known_ones(model: Any) -> None:
    for call in (
        lambda: model(*padded(examples(1)), plan="hlaf"),
        lambda: model.set_budget("hlaf"),
        lambda: model.budget("hlaf").__enter__(),
    ):
        with pytest.raises(
            BudgetError, match=r"unknown plan 'hlaf'; did you mean 'half'\? \(known: half, far, few, unre"
        ):
            call()
    with pytest.raises(BudgetError, match="give a plan or limits, not both"):
        model.set_budget("half", macs=0.4)
    with pytest.raises(BudgetError, match="a setting belongs to latency_ms"):
        model.set_budget(macs=0.4, setting=ONE)
    assert isinstance(BudgetError("x"), ValueError)
    assert isinstance(BudgetError("x"), SearchkitError)


def test_plans_are_listed_with_what_was_measured_and_cannot_be_changed(model: Any) -> None:
    assert {key: dict(measured) for key, measured in model.plans.items()} == MEASURED
    with pytest.raises(TypeError):
        model.plans["more"] = {}
    with pytest.raises(TypeError):
        model.plans["half"]["macs"] = 0.1
    model.plans["half"]["quality"]["accuracy"]["value"] = 1.0
    assert model.plans["half"]["quality"]["accuracy"]["value"] == 0.88
    assert EIGHT in [timed["setting"] for timed in model.plans["far"]["latency"]]


def test_eight_threads_with_eight_budgets_never_run_a_wrong_plan(model: Any) -> None:
    batches = [padded(examples(3, seed=seed)) for seed in range(8)]
    ways: list[dict[str, Any]] = [{"macs": 0.3}, {"macs": 0.6}, {"macs": 0.9}, {"plan": "unreduced"}]
    keys = ["few", "half", "far", "unreduced"]
    with torch.no_grad():
        expected = [[_outcome(model, batch, plan=key) for key in keys] for batch in batches]
    start = threading.Barrier(8)

    def hammer(number: int) -> int:
        own, wrong = number % 4, 0
        start.wait()
        with torch.no_grad():
            for turn in range(20):
                if number == 0:
                    model.set_budget(keys[turn % 4])  # of all threads that choose none
                with model.budget(**ways[own]):
                    wrong += _outcome(model, batches[number]) != expected[number][own]
                    with model.budget(**ways[(own + 1) % 4]):
                        wrong += _outcome(model, batches[number]) != expected[number][(own + 1) % 4]
                    other = (own + 2) % 4
                    wrong += _outcome(model, batches[number], plan=keys[other]) != expected[number][other]
        return wrong

    model.traffic.reset()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hammer, range(8))) == [0] * 8
    counts = model.traffic.read()
    assert {key: counts[key].calls for key in keys} == dict.fromkeys(keys, 120)
    assert all(counts[key].examples == 360 for key in keys)


def _outcome(model: Any, batch: Any, **plan: Any) -> Any:
    logits = model(*batch, **plan).logits
    return logits.tolist(), model.last_trace.attention.tolist(), model.last_trace.feed_forward.tolist()


def test_a_thread_that_starts_inside_a_budget_runs_the_default_and_a_task_inherits(model: Any) -> None:
    async def plan() -> str:
        return str(model.plan)

    async def both() -> tuple[str, str]:
        with model.budget(plan="few"):
            task = asyncio.create_task(plan())
        return await task, model.plan

    seen: list[str] = []
    with model.budget(plan="few"):
        thread = threading.Thread(target=lambda: seen.append(model.plan))
        thread.start()
        thread.join()
    assert seen == ["half"]
    assert asyncio.run(both()) == ("few", "half")


def test_models_do_not_share_budgets_or_traces(model: Any) -> None:
    other = shipped(classifier("bert", seed=1))
    with model.budget(plan="few"), other.budget(plan="far"):
        assert (model.plan, other.plan) == ("few", "far")
        assert copy.deepcopy(model).plan == "half"
    assert other.last_trace is None
    model(*padded(examples(3)))
    other(*padded(examples(2)))
    assert len(model.last_trace.tokens) == 3
    assert len(other.last_trace.tokens) == 2


def test_traffic_counts_what_each_layer_computed_by_plan_until_it_is_reset(model: Any) -> None:
    batch = padded(examples(3))
    model(*batch)
    trace = model.last_trace
    model(*batch)
    model(*padded(examples(2)), plan="few")
    counts = model.traffic.read()
    assert set(counts) == {"half", "few"}
    assert (counts["half"].calls, counts["half"].examples) == (2, 6)
    assert counts["half"].tokens == 2 * int(batch[1].sum())
    assert counts["half"].entered == tuple((2 * trace.attention.sum(0)).tolist())
    assert counts["half"].kept == tuple((2 * trace.feed_forward.sum(0)).tolist())
    assert counts["half"].shares[0] == 1.0
    model.train()(*batch)
    assert model.traffic.read() == counts
    assert copy.deepcopy(model).traffic.read() == {}
    model.traffic.reset()
    assert model.traffic.read() == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "its format is 2, this version of searchkit reads 1"),
        ({"plan": "hlaf"}, "unknown plan 'hlaf'; did you mean 'half'"),
        ({"plans": []}, "a dict is needed, got []"),
        ({"plans": {"half": {"plan": None}}}, "plan 'half': cannot read the plan: a plan must be a JSON object"),
        ({"plans": {"half": notes()["plans"]["half"] | {"measured": {"macs": "0.4"}}}}, "a float is needed"),
        (
            {"plans": {"half": notes()["plans"]["half"] | {"measured": {"quality": {"f1": {"value": 1.0}}}}}},
            "an entry of what was measured lacks 'goal'",
        ),
    ],
)
def test_a_config_that_cannot_be_read_is_one_clear_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as raised:
        members(**changes)
    assert said in str(raised.value)


def test_a_changed_config_is_read_again(model: Any) -> None:
    assert model.plan == "half"
    model.config.searchkit = {**model.config.searchkit, "plan": "far"}
    assert model.plan == "far"
