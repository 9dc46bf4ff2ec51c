"""The modelled latency: on a clock whose prices are known it finds them; what it cannot know it says in its error."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from objectives import latency
from objectives.latency_model import PRICES, calibrated, compared, fitted, work_of
from searchkit.errors import StudyError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.subject import SupernetSubject
from searchkit.records import Candidate
from searchkit.reduction.ragged import Tokens
from searchkit.space import Lengths, Space
from tests.evaluate.test_bench import bench as small_bench

TRUE_MS = np.array([1.0, 0.002, 0.004, 0.00001, 0.05, 0.0005, 0.00002])  # in the order of PRICES


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> SupernetBench:
    """A bench whose passes take what they compute, at known prices, with one per cent of noise."""
    now, rng = [0.0], np.random.default_rng(0)

    def forward(self: SupernetSubject, tokens: Tokens) -> None:
        work = work_of(self.bench.model(tokens, self.plan).trace)
        now[0] += float(work @ TRUE_MS) / 1e3 * float(np.exp(rng.normal(0, 0.01)))

    monkeypatch.setattr(SupernetSubject, "forward", forward)
    monkeypatch.setattr(importlib.import_module("objectives.batches").time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(importlib.import_module("searchkit.evaluate.timing"), "processor_time_of_others", lambda: None)
    own = importlib.import_module("objectives.latency_model")
    monkeypatch.setattr(
        own, "PROTOCOL", replace(own.PROTOCOL, min_round_interval_s=0.0)
    )  # what is simulated is no reason to wait
    return small_bench("classification")


def candidates(count: int, seed: int) -> list[Candidate]:
    space = Space(Lengths(levels=16)).bound(3)
    return [space.decode(genome) for genome in space.sample(count, np.random.default_rng(seed))]


def test_a_table_predicts_plans_that_it_has_not_seen(clocked: SupernetBench) -> None:
    table = calibrated(clocked.subject, candidates(18, 0), batch_size=2, batches=6)
    assert table["relative_error"] < 0.03
    assert table["kendall_tau"] > 0.9
    assert (table["fitted_on"], table["held_out"]) == (12, 6) or table["held_out"] >= 5
    modelled = latency(batch_size=2, batches=6, during_search="modelled")
    own = replace(clocked, tables={"latency": table})
    truths, found = [], []
    for candidate in candidates(30, 1):
        estimate = modelled.measure(own.subject(candidate))
        rows = importlib.import_module("objectives.batches").drawn(own.data.lengths, 2, 6)
        work = [work_of(own.model(own.split.tokens(one), own.plan(candidate)).trace) for one in rows]
        truths.append(float((np.array(work) @ TRUE_MS).mean()))
        found.append(estimate.value)
        assert estimate.beside["model_relative_error"] == table["relative_error"]
    assert np.abs(np.array(found) / truths - 1).max() < 0.05


def test_prices_are_found_and_none_is_negative() -> None:
    rng = np.random.default_rng(0)
    work = rng.uniform(1, 100, (12, 4, len(PRICES)))
    work[..., 0] = 1.0
    prices = fitted(work, work @ TRUE_MS)
    assert prices == pytest.approx(TRUE_MS, rel=1e-6)
    assert (fitted(work, rng.uniform(1, 2, (12, 4))) >= 0).all()


def test_the_error_is_that_of_the_mean_over_batches() -> None:
    measured = np.array([[1.0, 3.0], [2.0, 4.0], [4.0, 6.0]])
    assert compared(measured, measured) == (pytest.approx(1.0), 0.0)
    tau, error = compared(measured[::-1], measured)
    assert tau == pytest.approx(-1.0)
    assert error == pytest.approx(((5 - 2) / 2 + 0 + (5 - 2) / 5) / 3)


def test_the_final_front_is_measured() -> None:
    modelled = latency(during_search="modelled")
    assert not modelled.exclusive
    assert modelled.modelled
    assert modelled.final.exclusive
    assert (modelled.final.name, modelled.final.unit) == (modelled.name, modelled.unit)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"during_search": "guessed"}, "'guessed'"), ({"during_search": "modelled", "length": 64}, "leave length out")],
)
def test_what_cannot_be_modelled_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        latency(**wrong)
