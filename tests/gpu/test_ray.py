"""Ray workers that share a GPU, and latency that has it for itself; needs a GPU."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from objectives import accuracy, latency, macs
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.ray import Ray
from searchkit.evaluate.ray_cluster import Resources
from searchkit.objective import Objective, Subject, Timing
from searchkit.records import Ask, Estimate, Measured, Trial

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def _where(subject: Subject) -> Estimate:
    """Whether the worker is on a GPU, and how many it sees."""
    return Estimate(float(subject.device.type == "cuda"), None, 1, {"devices": float(torch.cuda.device_count())})


def _span(subject: Subject) -> Estimate:
    start = time.time()
    torch.cuda.synchronize()
    time.sleep(0.05)
    return Estimate(time.time(), None, 1, {"start": start})


WHERE = Objective("where", "", "higher", _where)
SPAN = Objective("span", "s", "lower", _span, timing=Timing(exclusive=True))
QUICK = latency(8, batches=2, rounds=3, budget_s=0.1, min_round_interval_s=0.0)


def values(trials: list[Trial], name: str) -> dict[str, Estimate]:
    assert all(isinstance(trial.outcome, Measured) for trial in trials), [trial.outcome for trial in trials]
    return {trial.key: trial.outcome.estimates[name] for trial in trials}  # type: ignore[union-attr]


def workbench() -> object:
    from benchmarks.gpu.evaluation import workbench as made
    from benchmarks.gpu.made import SMOKE, Setting

    return made(Setting(torch.device("cuda", 0), SMOKE, smoke=True), torch.device("cuda"), "fp32")


def candidates() -> list[Ask]:
    from benchmarks.gpu.evaluation import asks
    from benchmarks.gpu.made import SMOKE

    return asks(SMOKE.layers)


def test_two_workers_on_halves_of_a_gpu_measure_what_one_process_measures() -> None:
    objectives = (accuracy, macs, WHERE)
    with Ray(workbench(), objectives, workers=2, resources=Resources(1, 0.5)) as ray:  # type: ignore[arg-type]
        shared = list(ray.run(candidates()))
    with Inline(workbench(), objectives) as inline:  # type: ignore[arg-type]
        own = list(inline.run(candidates()))
    assert list(values(shared, "where").values()) == [Estimate(1.0, None, 1, {"devices": 1.0})] * len(shared)
    for name in ("accuracy", "macs"):
        assert values(shared, name) == values(own, name)


def test_nothing_else_runs_on_the_gpu_while_latency_is_measured() -> None:
    with Ray(workbench(), (macs, SPAN, QUICK), workers=2, resources=Resources(1, 0.5)) as ray:  # type: ignore[arg-type]
        trials = list(ray.run(candidates()))
    spans = sorted((estimate.beside["start"], estimate.value) for estimate in values(trials, "span").values())
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(spans))
    assert all(estimate.value > 0 for estimate in values(trials, "latency").values())
