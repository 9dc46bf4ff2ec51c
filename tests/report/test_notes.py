"""Notes of a report on what went wrong: empty fronts, busy machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchkit.errors import StudyError
from searchkit.front import rejections
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.report.console import console_text
from searchkit.report.figures import saved
from searchkit.report.notes import notes, timing_flaw
from searchkit.report.pick import pick
from searchkit.report.text import markdown
from tests.report.searches import staircase, trial


def turned_down(number: int, name: str, value: float, excess: float) -> Trial:
    why = f"{name} is {value:g}, at most 0.4 is allowed"
    return Trial(Ask(number, Candidate.of(lengths=(1.0, number / 100))), Pruned(why, 0, {name: excess}), 0.1)


NONE = (
    turned_down(0, "macs", 0.9, 0.5),
    turned_down(1, "macs", 0.5, 0.1),
    turned_down(2, "latency", 7.0, 6.6),
    turned_down(3, "macs", 0.7, 0.3),
    Trial(Ask(4, Candidate.of(lengths=(1.0, 0.04))), Failed("nan", "loss is NaN"), 0.1),
    Trial(Ask(5, Candidate.of(lengths=(1.0, 0.05))), Pruned("lost the race", 64), 0.1),
)


def test_an_empty_front_says_what_turned_candidates_down_and_how_near_the_nearest_was() -> None:
    results = staircase(trials=NONE, report={})
    said = (
        "No candidate is on the front. Of 6: turned down 3 for macs, the nearest: macs is 0.5, at most 0.4 is allowed; "
        "turned down 1 for latency, the nearest: latency is 7, at most 0.4 is allowed; failed: 1 x nan: loss is NaN."
    )
    assert notes(results)[0] == said
    assert said in console_text(results, 400)
    assert "No candidate is on the front" in markdown(results)
    with pytest.raises(StudyError, match=r"No candidate is on the front.*macs is 0\.5"):
        pick(results)


def test_rejections_of_nothing_are_none() -> None:
    assert rejections([trial(1, 0.5, 0.5)]) == []


def test_a_value_timed_on_a_busy_machine_says_so() -> None:
    assert timing_flaw(Estimate(2.0, 0.1, 80)) is None
    assert timing_flaw(Estimate(2.0, 0.1, 80, {"settled": 1.0, "contended": 0.0})) is None
    assert "busy" in str(timing_flaw(Estimate(2.0, 0.1, 80, {"settled": 0.0, "contended": 1.0})))
    assert "wider" in str(timing_flaw(Estimate(2.0, 0.1, 80, {"settled": 0.0, "contended": 0.0})))


def test_a_figure_says_that_the_machine_was_busy(tmp_path: Path) -> None:
    quiet = staircase()

    def busy(measured: Trial) -> Trial:
        if not isinstance(measured.outcome, Measured) or "latency" not in measured.outcome.estimates:
            return measured
        slow = Estimate(5.0, 0.2, 30, {"settled": 0.0, "contended": 1.0})
        return Trial(measured.ask, Measured({**measured.outcome.estimates, "latency": slow}), 0.1)

    noisy = staircase(report={key: busy(each) for key, each in quiet.report.items()})
    for results, folder in ((quiet, tmp_path / "quiet"), (noisy, tmp_path / "noisy")):
        folder.mkdir()
        saved.of_run(results, folder)
    texts = [(tmp_path / name / "pareto_latency.svg").read_text() for name in ("quiet", "noisy")]
    # matplotlib writes a text as paths, after a comment that holds it
    assert ["while the machine was busy" in text for text in texts] == [False, True]
