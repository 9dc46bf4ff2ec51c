"""Progress in a notebook, without a kernel: what the output shows, and how often."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

from searchkit._internal.progress import PREPARE, silent
from searchkit.runs.notebook import Phases, in_notebook, live_progress


class Output:
    """An output of a cell, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.now = 0.0
        self.phases = Phases(self.shown.append, lambda: self.now)

    def after(self, seconds: float, *reported: object) -> str:
        self.now += seconds
        self.phases(*reported)  # type: ignore[arg-type]
        return self.shown[-1]


def test_a_phase_shows_its_count_its_time_and_what_is_left() -> None:
    output = Output()
    output.after(0, "search", 0, 10)
    output.after(4, "search", 2, 10, "2 <measured>")
    assert "2 of 10" in output.shown[-1]
    assert "0:00:04, about 0:00:16 left" in output.shown[-1]
    assert "2 &lt;measured&gt;" in output.shown[-1]
    assert "about" not in output.after(16, "search", 10, 10)
    output.now += 100
    assert "0:00:20" in output.after(0, "report", 0, 3)  # the time of a phase stands still when it is over


def test_a_preparation_is_replaced_by_the_phase_that_it_prepares() -> None:
    output = Output()
    assert "loading" in output.after(0, PREPARE, 0, 0, "loading")
    assert "loading" not in output.after(1, "train", 0, 5)


def test_thousands_of_reports_are_a_few_updates() -> None:
    output = Output()
    for done in range(1000):
        output.after(0.001, "train", done, 2000)
    assert len(output.shown) <= 3


def test_time_goes_on_while_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchkit.runs.notebook.TICK_S", 0.01)
    shown: list[str] = []
    phases = Phases(shown.append)
    with phases.ticking():
        phases("train", 0, 5)
        for _ in range(200):
            if len(shown) > 2:
                break
            time.sleep(0.01)
    assert len(shown) > 2


def test_only_the_kernel_of_a_notebook_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(get_ipython=lambda: SimpleNamespace())
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    for module, expected in ((None, False), (SimpleNamespace(get_ipython=lambda: None), False), (terminal, False)):
        monkeypatch.setitem(sys.modules, "IPython", module)  # type: ignore[arg-type]
        assert in_notebook() is expected
        with live_progress() as progress:
            assert progress is silent
    monkeypatch.setitem(sys.modules, "IPython", kernel)  # type: ignore[arg-type]
    assert in_notebook()
