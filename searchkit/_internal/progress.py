"""Progress of long work: a phase, its counts of done and total, and the step that runs now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from searchkit._internal.files import replace_whole

PREPARE: Final = "prepare"  # the phase before the first one and between two
STEP_EVERY_S: Final = 0.5  # between steps that differ after a colon alone: there may be thousands of them a second


class Progress(Protocol):
    """Callback for a phase: `done` of `total` (0: not known), and a short note, such as a loss or the step that runs.

    It is called often and has to be cheap.
    """

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None: ...


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Progress that is shown nowhere."""


def counted(number: int, thing: str) -> str:
    """Number and noun, such as `1 candidate` and `12 candidates`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


_listeners: list[Callable[[str], None]] = []  # listeners of this process, the innermost last


def step(text: str) -> None:
    """Report the step that runs now, such as `loading the model`, to the innermost `steps_shown`; from any thread.

    Like a log line it needs no parameter in every signature between the run and an objective's inner loop.
    """
    if _listeners:
        _listeners[-1](text)


@contextmanager
def steps_shown(progress: Progress) -> Iterator[Progress]:
    """Wrap a progress so that each `step` becomes the note of the running phase, or of `PREPARE`."""
    last, note_before, kind_before, stepped_s = (PREPARE, 0, 0), "", "", 0.0

    def reported(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal last, note_before
        last, note_before = (phase, done, total), note
        progress(phase, done, total, note)

    def stepped(text: str) -> None:
        nonlocal kind_before, stepped_s
        kind, now = text.partition(":")[0], time.monotonic()
        if kind == kind_before and now - stepped_s < STEP_EVERY_S:
            return
        kind_before, stepped_s = kind, now
        phase, done, total = last
        if done >= total:  # it is over; what runs now makes the next one ready
            progress(PREPARE, 0, 0, text)
        else:
            progress(phase, done, total, f"{note_before}; {text}" if note_before else text)

    _listeners.append(stepped)
    try:
        yield reported
    finally:
        _listeners.remove(stepped)


class Stopwatch:
    """Seconds of work, written to a file at most once a second, so that interrupted work counts too."""

    def __init__(self, file: Path) -> None:
        self._file, self._start = file, time.monotonic()
        self._written = self._start
        try:
            self.before = float(file.read_text())
        except (OSError, ValueError):  # no earlier time; a lost time must not stop the run
            self.before = 0.0

    def seconds(self) -> float:
        return self.before + time.monotonic() - self._start

    def write(self) -> None:
        replace_whole(self._file, str(self.seconds()).encode())
        self._written = time.monotonic()

    def watching(self, progress: Progress) -> Progress:
        """Wrap a progress to record the time at most once a second."""

        def watched(phase: str, done: int, total: int, note: str = "") -> None:
            progress(phase, done, total, note)
            if time.monotonic() - self._written > 1:
                self.write()

        return watched
