"""The identity of user code changes with what the code does, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectives import accuracy, latency, macs
from searchkit import NSGA2, Lengths, Space
from searchkit._internal.code import code_identity
from searchkit.runs.study_file import load
from searchkit.training import LengthDrop
from tests.studies import SMALL, small_study

OWN = SMALL.replace("objectives=[accuracy, macs]", "objectives=[accuracy, macs, cost()]").replace(
    "def study(",
    '''
from functools import partial
from searchkit import Estimate, Objective
import helper

FACTOR = 1.0

def _cost(subject, power=2):
    """Docstring."""
    return Estimate(FACTOR * helper.scaled(subject.trace.attention.sum()) ** power, None, 10)

def cost(shift=0):
    return Objective("cost", "tokens", "lower", lambda subject: _cost(subject))

UNUSED = 1

def study(''',
    1,
)
HELPER = "from deeper import SCALE\n\ndef scaled(value):\n    return SCALE * value\n"


def identity(folder: Path, text: str = OWN, helper: str = HELPER, deeper: str = "SCALE = 2\n") -> str:
    """Of the custom objective, in a folder and a process state of its own."""
    import sys

    folder.mkdir(exist_ok=True)
    (folder / "helper.py").write_text(helper)
    (folder / "deeper.py").write_text(deeper)
    before = list(sys.path)
    try:
        study = load(small_study(folder, text)).study
        return str(study.identity(study.objectives[2])["code"])
    finally:
        sys.path[:] = before
        for name in ("helper", "deeper"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FACTOR = 1.0", "FACTOR = 1000.0"),
        ("power=2", "power=3"),
        ("FACTOR * helper", "FACTOR + helper"),
        ("lambda subject: _cost(subject)", "lambda subject: _cost(subject, 3)"),
        ("lambda subject: _cost(subject)", "partial(_cost, power=3)"),
    ],
)
def test_an_edit_of_what_an_objective_does_gives_another_identity(tmp_path: Path, old: str, new: str) -> None:
    assert identity(tmp_path / "a") != identity(tmp_path / "b", OWN.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [("Docstring.", "Other words."), ("FACTOR = 1.0", "# why\n\nFACTOR  =  1.0"), ("UNUSED = 1", "UNUSED = 2")],
)
def test_comments_docstrings_and_unused_names_do_not_matter(tmp_path: Path, old: str, new: str) -> None:
    assert identity(tmp_path / "a") == identity(tmp_path / "b", OWN.replace(old, new))


def test_the_studys_own_settings_do_not_matter(tmp_path: Path) -> None:
    assert identity(tmp_path / "a") == identity(
        tmp_path / "b", OWN.replace("evaluations: int = 24", "evaluations: int = 9")
    )


def test_modules_beside_the_study_count_also_those_that_they_import(tmp_path: Path) -> None:
    first = identity(tmp_path / "a")
    assert first != identity(tmp_path / "b", helper=HELPER.replace("SCALE * value", "SCALE + value"))
    assert first != identity(tmp_path / "c", deeper="SCALE = 3\n")


def test_what_comes_with_searchkit_has_no_code_of_the_users() -> None:
    assert (
        code_identity(accuracy, macs, latency(), LengthDrop(), NSGA2(population=8), *Space(Lengths(8)).dimensions)
        is None
    )


def test_closures_and_code_without_source_count() -> None:
    def made(factor: float) -> object:
        return lambda subject: factor

    assert code_identity(made(1.0)) != code_identity(made(2.0))
    first, second = ({"__name__": "cell"}, {"__name__": "cell"})
    exec("def cost(subject):\n    return 1", first)
    exec("def cost(subject):\n    return 2", second)
    assert code_identity(first["cost"]) != code_identity(second["cost"])
