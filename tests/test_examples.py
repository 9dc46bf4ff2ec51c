"""Every public name shows how it is used, and the example is right."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

import searchkit


@pytest.mark.parametrize("name", searchkit.__all__)
def test_a_public_name_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    thing = getattr(searchkit, name)
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(thing) or "", {}, name, None, None)
    assert examples.examples
    failures: list[str] = []
    doctest.DocTestRunner().run(examples, out=failures.append)
    assert not failures, "".join(failures)


def test_the_public_names_are_sorted_and_loaded_from_where_they_are() -> None:
    assert len(set(searchkit.__all__)) == len(searchkit.__all__)
    assert set(searchkit.__all__) == set(searchkit._HOME)
    assert set(searchkit.__all__) <= set(dir(searchkit))
