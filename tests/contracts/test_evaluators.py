"""Both evaluators under their contract, and workers that die or cannot start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from searchkit.errors import StudyError
from searchkit.evaluate.base import Evaluator, Workbench
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.ray import ATTEMPTS, Ray
from searchkit.evaluate.ray_cluster import check_reachable
from searchkit.objective import Objective
from searchkit.records import Failed, Measured
from searchkit.testing import EvaluatorContract
from searchkit.testing.evaluators import by_number
from searchkit.testing.formula import OBJECTIVES, QUALITY, FormulaWorkbench, Point, asks


class TestInline(EvaluatorContract):
    def make(self, workbench: Workbench, objectives: Sequence[Objective]) -> Evaluator:
        return Inline(workbench, objectives)


@pytest.mark.usefixtures("local_ray")
class TestTwoRayWorkers(EvaluatorContract):
    def make(self, workbench: Workbench, objectives: Sequence[Objective]) -> Evaluator:
        return Ray(workbench, objectives, workers=2)


def test_one_worker_gives_the_same_trials_as_this_process(local_ray: None) -> None:
    workbench = FormulaWorkbench({0.5: "raise", 2 / 6: "memory"})
    with Ray(workbench, OBJECTIVES, workers=1) as one_worker, Inline(workbench, OBJECTIVES) as inline:
        found, expected = (dict(by_number(evaluator.run(asks()))) for evaluator in (one_worker, inline))
    assert [ask for ask, outcome in found.items() if outcome != expected[ask] and isinstance(outcome, Measured)] == []
    assert [getattr(outcome, "kind", "") for outcome in found.values()] == [
        getattr(outcome, "kind", "") for outcome in expected.values()
    ]


def test_a_worker_that_dies_once_costs_no_trial(local_ray: None, tmp_path: Path) -> None:
    with Ray(FormulaWorkbench({2 / 6: "die once"}, str(tmp_path)), OBJECTIVES, workers=2) as evaluator:
        found = by_number(evaluator.run(asks()))
    assert [ask for ask, _ in found] == asks()
    assert all(isinstance(outcome, Measured) for _, outcome in found)
    assert list(tmp_path.iterdir()), "no worker died, so nothing was shown"


def test_a_candidate_that_kills_every_worker_fails_and_the_others_are_measured(local_ray: None) -> None:
    chosen = [ask for ask in asks() if Point(ask.candidate).lengths != (0.5, 0.5, 0.5)][:8]
    killer = next(ask for ask in asks() if Point(ask.candidate).lengths[0] == 2 / 6)
    todo = [ask for ask in chosen if Point(ask.candidate).lengths[0] != 2 / 6] + [killer]
    with Ray(FormulaWorkbench({2 / 6: "die"}), OBJECTIVES, workers=2) as evaluator:
        found = {ask.key: outcome for ask, outcome in by_number(evaluator.run(todo))}
    assert isinstance(found[killer.key], Failed)
    assert found[killer.key].kind == "worker-died"
    assert found[killer.key].attempts == ATTEMPTS
    assert f"{ATTEMPTS} times" in found[killer.key].message
    assert all(isinstance(found[ask.key], Measured) for ask in todo if ask is not killer)


def test_a_worker_that_cannot_start_stops_the_study_with_its_own_error(local_ray: None) -> None:
    with pytest.raises(StudyError, match=r"a worker cannot start: .*weights.bin is not here"):
        Ray(FormulaWorkbench({}, broken=True), (QUALITY,), workers=1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "nohost.invalid:6379", "a..b:80"])
def test_a_cluster_that_is_not_there_is_said_in_one_line(address: str) -> None:
    with pytest.raises(StudyError, match=rf"cannot reach the Ray cluster at {re.escape(address)}: \S.*") as caught:
        check_reachable(address)
    assert "\n" not in str(caught.value)
