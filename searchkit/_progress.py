"""What long work says while it runs: a phase, how much is done, how much there is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from searchkit._files import replace_whole


class Progress(Protocol):
    """Called often and cheaply; `note` is a short line of what matters now (a loss, a hypervolume)."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None: ...


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """The progress of code that runs without an audience."""


class Stopwatch:
    """Seconds of work, kept in a file now and then, so that work that was interrupted counts too."""

    def __init__(self, file: Path) -> None:
        self._file, self._start = file, time.monotonic()
        self._written = self._start
        try:
            self.before = float(file.read_text())
        except (OSError, ValueError):  # not started yet; a time that is lost is not worth a run
            self.before = 0.0

    def seconds(self) -> float:
        return self.before + time.monotonic() - self._start

    def write(self) -> None:
        replace_whole(self._file, str(self.seconds()).encode())
        self._written = time.monotonic()

    def watching(self, progress: Progress) -> Progress:
        """The same progress, noting the time at most once a second."""

        def told(phase: str, done: int, total: int, note: str = "") -> None:
            progress(phase, done, total, note)
            if time.monotonic() - self._written > 1:
                self.write()

        return told
