"""Progress as it is drawn: at every width counts and times are there, and no phase is silent for long."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from searchkit._internal.progress import PREPARE, step, steps_shown
from searchkit.cli import progress as drawn
from searchkit.cli.progress import Lines, bars
from searchkit.evaluate.timing import Protocol, in_turns

NOTE = "196 measured, 44 stopped early; 240 evaluations are made"


def last_frame(width: int) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with bars(console) as progress:
        progress("train lengthdrop", 125, 125)
        progress("search", 240, 240, NOTE)
        progress("report", 10, 28, "timing 12 candidates: round 3, 4 of 20 s")
    frames = re.split(r"\x1b\[[0-9;?]*[A-Za-z]", stream.getvalue())
    lines = [line.rstrip() for frame in frames for line in frame.splitlines() if line.strip()]
    return lines[-5:]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_counts_and_times_stay_visible_beside_a_long_note(width: int) -> None:
    lines = last_frame(width)
    assert max(map(len, lines)) <= width
    for phase, count in {"train lengthdrop": "125/125", "search": "240/240", "report": "10/28"}.items():
        assert any(re.match(rf"{phase} .*{count} 0:00:00", line) for line in lines), lines
    assert any(line.strip().startswith(NOTE[:30]) for line in lines)
    assert all(("━" in line) == (width >= 80) for line in lines if "/" in line)


def test_a_step_is_the_note_of_the_running_phase_and_between_phases_one_of_its_own() -> None:
    reports: list[tuple[str, int, int, str]] = []

    def collect(phase: str, done: int, total: int, note: str = "") -> None:
        reports.append((phase, done, total, note))

    step("nobody listens")
    with steps_shown(collect) as progress:
        step("reading the data")
        progress("report", 3, 28, "best .9")
        step("timing: round 1")
        step("timing: round 2")  # within half a second
        progress("report", 28, 28)
        step("writing")
    step("nobody listens any more")
    assert reports == [
        (PREPARE, 0, 0, "reading the data"),
        ("report", 3, 28, "best .9"),
        ("report", 3, 28, "best .9; timing: round 1"),
        ("report", 28, 28, ""),
        (PREPARE, 0, 0, "writing"),
    ]


def test_rounds_of_a_measurement_are_reported_while_it_runs() -> None:
    notes: list[str] = []
    now = 0.0

    def visit(side: int, number: int) -> float:
        nonlocal now
        now += 0.1
        return 0.1 + 1e-6 * side

    def collect(phase: str, done: int, total: int, note: str = "") -> None:
        notes.append(note)

    with steps_shown(collect) as progress:
        progress("report", 0, 3)
        protocol = Protocol(min_round_interval_s=0.0, fewest=3, most=3)
        in_turns(visit, 4, 2, protocol, clock=lambda: now, wait=lambda s: None, others=lambda: None)
    assert "timing 3 candidates: round 1, 0 of 20 s" in notes


def test_output_that_is_no_terminal_is_plain_lines() -> None:
    stream = io.StringIO()
    with bars(Console(file=stream, width=30)) as progress:
        progress(PREPARE, 0, 0, "loading [bold]libraries[/]")
        for done in range(4):
            progress("search", done, 3, NOTE)
    assert stream.getvalue().splitlines() == [f"search: 0 of 3, {NOTE}", f"search: 3 of 3, {NOTE}"]


def test_a_phase_that_reports_nothing_still_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "EVERY_S", 0.1)
    monkeypatch.setattr(drawn, "LOOK_EVERY_S", 0.02)
    stream = io.StringIO()
    with bars(Console(file=stream)) as progress:
        progress(PREPARE, 0, 0, "loading libraries")
        time.sleep(0.3)
        progress("search", 3, 9)
        time.sleep(0.3)
        progress("search", 9, 9)
        time.sleep(0.3)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "prepare: 0 s, loading libraries"
    assert lines.count("search: 3 of 9") >= 2
    assert lines[-1] == "search: 9 of 9"
    assert lines.count("search: 9 of 9") == 1


def test_a_line_of_the_end_has_no_time_left_and_lines_come_every_five_seconds() -> None:
    stream = io.StringIO()
    lines = Lines(Console(file=stream))
    lines("search", 0, 10)
    lines("search", 10, 10)
    assert "left" not in stream.getvalue()
    assert drawn.EVERY_S <= 5
