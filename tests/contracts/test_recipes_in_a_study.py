"""Every recipe from training to report, for classification and, where it can be trained, question answering."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectives import accuracy, f1, macs
from searchkit import NSGA2, Budget, Lengths, Measured, Random, Space, Study, StudyError, Thresholds
from searchkit.runs.config import Conditions
from searchkit.runs.phases import execute
from searchkit.runs.study_file import Loaded
from searchkit.tasks import Generated, GeneratedQuestions
from searchkit.training import FineTune
from searchkit.training.supernet import Supernet
from tests.training.recipes import PAIRINGS, RECIPES, SCRATCH, SMALL

TASKS = {
    "classification": Generated(train=160, search=60, report=60),
    "question_answering": GeneratedQuestions(train=160, search=60, report=60),
}


def study(name: str, head: str, space: Space | None = None) -> Study:
    recipe = SMALL[name]()
    joint = (Lengths(levels=24),) if recipe.scale is None else (Lengths(levels=6), Thresholds(recipe.scale))
    return Study(
        name=f"{name}-{head}",
        task=TASKS[head],
        supernet=Supernet(SCRATCH, recipe),
        space=space or Space(*joint),
        objectives=[accuracy if head == "classification" else f1, macs],
        engine=NSGA2(population=8),
        budget=Budget(evaluations=16),
    )


@pytest.mark.parametrize(("name", "head"), [pairing for pairing in PAIRINGS if pairing[1] in TASKS])
def test_a_recipe_trains_saves_reloads_searches_and_reports(name: str, head: str, tmp_path: Path) -> None:
    made = study(name, head)
    results = execute(Loaded(made, Path(__file__), {}), Conditions(runs=tmp_path, threads=1))
    assert len(results.trials) == 16
    assert all(trial.status != "failed" for trial in results.trials), [trial.outcome for trial in results.trials]
    measured = [trial.outcome.estimates for trial in results.trials if isinstance(trial.outcome, Measured)]
    (unreduced,) = results.baselines["unreduced"]
    assert unreduced.outcome.estimates["macs"].value == 1.0  # type: ignore[union-attr]
    assert (
        min(estimates["macs"].value for estimates in measured) < 0.9 or name == "block_skim"
    )  # its convolutions cost more than two blocks of a tiny model save
    again = execute(Loaded(made, Path(__file__), {}), Conditions(runs=tmp_path, threads=1))
    assert [trial.outcome for trial in again.trials] == [trial.outcome for trial in results.trials]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_thresholds_that_the_recipe_cannot_turn_are_refused_when_the_study_is_made(name: str) -> None:
    head = next(iter(RECIPES[name].heads))
    if RECIPES[name].scale is None:
        with pytest.raises(StudyError, match="trains no score that thresholds could turn; search its lengths"):
            study(name, head, Space(Thresholds("relative")))
        return
    other = "relative" if RECIPES[name].scale == "probability" else "probability"
    with pytest.raises(StudyError, match=f"have the scale '{RECIPES[name].scale}', the space has '{other}'"):
        study(name, head, Space(Thresholds(other)))


def test_block_skim_on_classification_is_refused_in_one_line() -> None:
    with pytest.raises(StudyError, match=r"^BlockSkim trains question_answering, the task is classification$"):
        study("block_skim", "classification")


def test_a_model_without_any_trained_predictor_can_be_searched(tmp_path: Path) -> None:
    made = Study(
        name="plain",
        task=TASKS["classification"],
        supernet=Supernet(SCRATCH, FineTune(epochs=1)),
        space=Space(Lengths(levels=24)),
        objectives=[accuracy, macs],
        engine=Random(),
        budget=Budget(evaluations=8),
    )
    results = execute(Loaded(made, Path(__file__), {}), Conditions(runs=tmp_path, threads=1))
    assert all(trial.status == "measured" for trial in results.trials)
