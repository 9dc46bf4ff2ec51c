"""Progress of a run: bars in a terminal, plain lines in a file or pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rich.console import Console, RenderableType
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from searchkit._internal.progress import PREPARE, steps_shown
from searchkit.cli.terminal import err
from searchkit.errors import one_line

if TYPE_CHECKING:
    from searchkit._internal.progress import Progress

PHASE_WIDTH: Final = 18  # characters
COUNT_WIDTH: Final = 9
WITH_BAR: Final = 68  # columns of a terminal that has room for a bar, and for the time that remains
WITH_REMAINING: Final = 52
INDENT: Final = "  "  # indent of a note below its bar

EVERY_S: Final = 5.0  # seconds from line to line
LOOK_EVERY_S: Final = 0.5


@contextmanager
def bars(console: Console = err, *, transient: bool = False) -> Iterator[Progress]:
    """A bar per phase with counts and times, its note below it; lines where the console is no terminal.

    transient: nothing of it stays in the terminal
    """
    if console.is_terminal:
        with _Bars(console=console, transient=transient) as drawn, steps_shown(drawn.report) as progress:
            yield progress
            drawn.end_preparation()
    else:
        lines = Lines(console)
        with lines.kept_alive(), steps_shown(lines) as progress:
            yield progress


@contextmanager
def loading(console: Console = err) -> Iterator[None]:
    """Show that libraries and the study file are loading, which takes seconds."""
    with bars(console, transient=True) as progress:
        progress(PREPARE, 0, 0, "loading libraries")
        yield


class _Count(ProgressColumn):
    """Count such as `12/28`; empty where the total is not known."""

    def render(self, task: Task) -> Text:
        return Text(_count(task), style="progress.download")


def _count(task: Task) -> str:
    return f"{int(task.completed)}/{int(task.total)}" if task.total else ""


class _Remaining(ProgressColumn):
    """Remaining time, by the pace of the phase so far; empty before two are done."""

    def render(self, task: Task) -> Text:
        made, left = task.completed - task.fields["first"], (task.total or 0) - task.completed
        if made <= 1 or left <= 0 or task.elapsed is None:  # the first of a group takes as long as all
            return Text("")
        seconds = int(task.elapsed / made * left)
        return Text(f"{timedelta(seconds=seconds)} left", style="progress.remaining")


class _Bars(RichProgress):
    """Bars whose counts and times stay visible at any width: the note has a line of its own, cut where it ends."""

    def report(self, phase: str, done: int, total: int, note: str = "") -> None:
        if phase != PREPARE:
            self.end_preparation()
        known = next((task.id for task in self.tasks if task.description == phase), None)
        number = self.add_task(phase, total=total or None, note="", first=done) if known is None else known
        self.update(number, completed=done, total=total or None, note=one_line(note))

    def end_preparation(self) -> None:
        """Remove the bar of a preparation, which has no total."""
        for task in self.tasks:
            if task.total is None:
                self.remove_task(task.id)

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self._row(task)
            if task.fields["note"]:
                yield Text(INDENT + task.fields["note"], style="dim", no_wrap=True, overflow="ellipsis")

    def _row(self, task: Task) -> RenderableType:
        width, counts = self.console.width, max(len(_count(task)) for task in self.tasks)
        columns: list[ProgressColumn] = [TextColumn("{task.description}", table_column=Column(width=PHASE_WIDTH))]
        if width >= WITH_BAR:
            columns.append(BarColumn(bar_width=min(34, width - WITH_BAR + 14)))
        columns.append(_Count(table_column=Column(width=max(counts, COUNT_WIDTH), justify="right", no_wrap=True)))
        columns.append(TimeElapsedColumn(table_column=Column(width=7, no_wrap=True)))
        if width >= WITH_REMAINING:
            columns.append(_Remaining(table_column=Column(width=12, no_wrap=True)))
        self.columns = tuple(columns)
        return self.make_tasks_table([task])


class Lines:
    """Progress for output that is no terminal: a line when a phase begins, every few seconds, and when it ends.

    A phase without a total, such as the start, gets lines only if it takes long.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._lock = console, threading.RLock()
        self._phase, self._begun_s, self._written_s, self._first = "", 0.0, 0.0, 0
        self._done, self._total, self._note = 0, 0, ""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        with self._lock:
            now, begins = time.monotonic(), phase != self._phase
            if begins:
                self._phase, self._begun_s, self._written_s, self._first = phase, now, now, done
            ends = done >= total > 0 and (self._done, self._total) != (done, total)
            changed = note != self._note
            self._done, self._total, self._note = done, total, note
            if total and (begins or ends or (done >= total and changed)):
                self._write(now)
            else:
                self._write_if_due(now)

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Write the last line again, with its time, while a phase reports nothing."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_EVERY_S):
                with self._lock:
                    if self._phase and not self._done >= self._total > 0:
                        self._write_if_due(time.monotonic())

        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _write_if_due(self, now: float) -> None:
        if now - self._written_s >= EVERY_S:
            self._write(now)

    def _write(self, now: float) -> None:
        self._written_s = now
        made, took_s = self._done - self._first, now - self._begun_s
        count = f"{self._done} of {self._total}" if self._total else f"{took_s:.0f} s"
        # no estimate from one outcome: the first of a group takes as long as all
        left_s = took_s / made * (self._total - self._done) if made > 1 else 0.0
        remaining = f", about {left_s:.0f} s left" if left_s else ""
        note = f", {one_line(self._note)}" if self._note else ""
        self._console.print(f"{self._phase}: {count}{remaining}{note}", soft_wrap=True, highlight=False, markup=False)
