"""Study files: what they may be, and one clear line for everything else."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from objectives import accuracy, macs
from searchkit import (
    NSGA2,
    Budget,
    Choice,
    Constraint,
    Estimate,
    Integer,
    Lengths,
    Objective,
    Scratch,
    Space,
    Study,
    Supernet,
    Surrogate,
)
from searchkit.errors import SearchkitError, StudyError
from searchkit.runs.study_file import load
from searchkit.tasks import Generated
from searchkit.training import FineTune
from tests.studies import SMALL, small_study

TYPED = """
from searchkit.errors import StudyError
def study(a: int, b: float = 0.5, c: bool = False, d: str | None = None, e: int | None = 3):
    raise StudyError(repr((a, b, c, d, e)))
"""


def test_a_study_file_gives_the_study_and_its_parameters_are_converted(tmp_path: Path) -> None:
    loaded = load(small_study(tmp_path), {"evaluations": "7", "seed": "5"})
    assert (loaded.study.name, loaded.study.budget, loaded.study.seed) == ("small", Budget(7), 5)


def test_a_study_file_imports_what_lies_beside_it_and_that_hides_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    (tmp_path / "beside_the_study.py").write_text("EVALUATIONS = 7")
    (tmp_path / "sched.py").write_text("raise ImportError('not this one')")
    text = SMALL.replace("Budget(evaluations=evaluations)", "Budget(EVALUATIONS if scheduler else 0)")
    imports = "from beside_the_study import EVALUATIONS\nfrom sched import scheduler\n"
    assert load(small_study(tmp_path, imports + text)).study.budget == Budget(7)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({"a": "1"}, "(1, 0.5, False, None, 3)"),
        ({"a": "-2", "b": "1e-3", "c": "yes", "d": "none", "e": "None"}, "(-2, 0.001, True, None, None)"),
        ({"a": "1", "c": "false", "d": "text", "e": "4"}, "(1, 0.5, False, 'text', 4)"),
    ],
)
def test_parameters_are_typed_by_their_annotations(tmp_path: Path, given: dict[str, str], seen: str) -> None:
    with pytest.raises(StudyError) as caught:
        load(small_study(tmp_path, TYPED), given)
    assert str(caught.value).endswith(seen)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (TYPED, {}, "needs a value for 'a': add -p a=VALUE"),
        (TYPED, {"a": "one"}, "parameter a='one': expected int"),
        (TYPED, {"a": "1", "b": "x"}, "parameter b='x': expected float"),
        (TYPED, {"a": "1", "c": "maybe"}, "parameter c='maybe': expected bool"),
        (SMALL, {"evalutions": "3"}, "unknown parameter 'evalutions'; did you mean 'evaluations'?"),
        (SMALL, {"evaluations": "0"}, "budget: evaluations must be a whole number of at least 1, got 0"),
        (SMALL.replace("seed=seed", "max_failures=1.5"), {}, "max_failures is a share in [0, 1]"),
        (
            SMALL.replace("import accuracy, macs", "import accuracy, latency")
            .replace("[accuracy, macs]", "[accuracy, latency()]")
            .replace("population=8", "population=8, steady=True"),
            {},
            "a steady engine cannot search",
        ),
        (SMALL, {"name": "../escape"}, "a study's name is made of letters"),
        (SMALL, {"name": "<b>"}, "a study's name is made of letters"),
        (SMALL, {"seed": "-1"}, "seed must be in"),
        (SMALL.replace("def study", "def other"), {}, "does not define a function `study`"),
        ("study = 3", {}, "does not define a function `study`"),
        ("def study(): return 3", {}, "study() must return a searchkit.Study, got int"),
        ("def study(:", {}, ":1: SyntaxError"),
        ("import nothing_like_this\n", {}, ":1: ModuleNotFoundError"),
        ("\ndef study():\n    return 1 / 0\n", {}, ":3: ZeroDivisionError"),
        (SMALL.replace("levels=16", "levels=0"), {}, "levels"),
        (SMALL.replace("[accuracy, macs]", "[accuracy, accuracy]"), {}, "different names"),
        (SMALL.replace("[accuracy, macs]", "[]"), {}, "at least one objective"),
        (SMALL.replace("epochs=1", "epochs=0"), {}, "epochs must be at least 1"),
        (SMALL.replace("learning_rate=1e-3", "learning_rate=3"), {}, "learning_rate must be in"),
        (SMALL.replace("width=16", "width=15"), {}, "width must be a multiple of heads"),
    ],
)
def test_what_is_wrong_with_a_study_is_said_in_one_line_that_names_the_file(
    tmp_path: Path, text: str, given: dict[str, str], message: str
) -> None:
    with pytest.raises(SearchkitError) as caught:
        load(small_study(tmp_path, text), given)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_study_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no such study file"):
        load(tmp_path / "nothing.py")
    (tmp_path / "study.txt").write_text(SMALL)
    with pytest.raises(StudyError, match=r"its name ends in \.py"):
        load(tmp_path / "study.txt")


def study(*dimensions: Any, **changes: Any) -> Study:
    parts: dict[str, Any] = {
        "name": "small",
        "task": Generated(),
        "supernet": Supernet(Scratch(), FineTune()),
        "space": Space(*dimensions),
        "objectives": [accuracy, macs],
        "engine": NSGA2(),
        "budget": Budget(8),
    }
    return Study(**{**parts, **changes})


def depth(subject: Any) -> Estimate:
    return Estimate(float(subject.candidate["depth"]), None, 1)


READING = Objective("cost", "layers", "lower", depth, reads=["depth"])


@pytest.mark.parametrize("dimension", [Integer("depth", 1, 4), Choice("depth", ["one", "two"])])
def test_a_dimension_that_nothing_reads_is_refused(dimension: Integer | Choice) -> None:
    for dimensions in ([dimension], [Lengths(), dimension]):
        with pytest.raises(StudyError, match="nothing reads the dimension 'depth': plans are made of lengths") as error:
            study(*dimensions)
        assert "\n" not in str(error.value)
    with pytest.raises(StudyError, match="nothing reads the dimension 'depth'"):
        study(dimension, front_objectives=[READING])  # which does not tell the candidates of the search apart
    assert study(Lengths(), dimension, objectives=[accuracy, READING]).space.dimensions[1] == dimension
    assert study(Lengths(), dimension, constraints=[Constraint(READING, at_most=2)]).space.dimensions[1] == dimension


def test_a_budget_of_gains_needs_an_engine_that_expects_some() -> None:
    budget = Budget(evaluations=5, gain=0.001)
    with pytest.raises(StudyError, match=r"gain is what the models of Surrogate\(\) expect, and NSGA2 expects nothing"):
        study(Lengths(), budget=budget)
    assert study(Lengths(), budget=budget, engine=Surrogate()).budget == budget


def test_what_an_objective_reads_is_a_list_of_names() -> None:
    with pytest.raises(StudyError, match="reads is a list of names of dimensions, got 'depth'"):
        Objective("cost", "layers", "lower", depth, reads="depth")


def test_an_engine_that_lacks_a_method_is_refused() -> None:
    class Half:
        population, steady = 4, False

        def describe(self) -> dict[str, Any]:
            return {}

    with pytest.raises(StudyError, match="a study's engine has the methods check, start, describe"):
        study(Lengths(), engine=Half())
    with pytest.raises(StudyError, match="a study's published has the methods start_at, describe"):
        study(Lengths(), published=NSGA2())
