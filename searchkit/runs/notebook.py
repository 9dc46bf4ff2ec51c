"""Live progress in notebooks: a bar for each phase, in one output that is replaced while the cell runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from searchkit._internal.html import cell
from searchkit._internal.progress import PREPARE, Progress, silent

UPDATE_EVERY_S: Final = 0.5
TICK_S: Final = 1.0  # times go on while a phase reports nothing


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    python = sys.modules.get("IPython")
    shell = python.get_ipython() if python is not None else None
    return hasattr(shell, "kernel")


@contextmanager
def live_progress() -> Iterator[Progress]:
    """Progress below the running cell of a notebook; silent elsewhere."""
    if not in_notebook():
        yield silent
        return
    from IPython import display

    html: Any = display.HTML
    shown = display.display(html(""), display_id=True)  # type: ignore[no-untyped-call]
    phases = Phases(lambda text: shown.update(html(text)))
    with phases.ticking():
        yield phases


@dataclass
class _Phase:
    """State of a phase. first: the count that it began with"""

    name: str
    first: int
    begun_s: float
    done: int = 0
    total: int = 0
    note: str = ""
    ended_s: float | None = None

    def html(self, now: float) -> str:
        took = (self.ended_s or now) - self.begun_s
        made, left = self.done - self.first, self.total - self.done
        # no estimate from one outcome: the first of a group takes as long as all
        remaining = f", about {_time(took / made * left)} left" if made > 1 and left > 0 else ""
        count = f"{self.done} of {self.total}" if self.total else ""
        bar = f'<progress value="{self.done}" max="{self.total}"></progress>' if self.total else ""
        cells = (self.name, count, f"{_time(took)}{remaining}", self.note)
        texts = "".join(f'<td style="text-align:left">{cell(text)}</td>' for text in cells)
        return f"<tr><td>{bar}</td>{texts}</tr>"


class Phases:
    """Phases of a run as an HTML table; `update` gets it, twice a second at most. May be called from any thread."""

    def __init__(self, update: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._update, self._clock, self._lock = update, clock, threading.RLock()
        self._phases: dict[str, _Phase] = {}
        self._updated_s = float("-inf")

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        with self._lock:
            now = self._clock()
            begins = phase not in self._phases
            if phase != PREPARE:
                self._phases.pop(PREPARE, None)
            known = self._phases.setdefault(phase, _Phase(phase, done, now))
            known.done, known.total, known.note = done, total, note
            known.ended_s = now if done >= total > 0 else None
            if begins or known.ended_s is not None or now - self._updated_s >= UPDATE_EVERY_S:
                self._show(now)

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Show the times again every second, and the last state at the end."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(TICK_S):
                with self._lock:
                    if any(phase.ended_s is None for phase in self._phases.values()):
                        self._show(self._clock())

        ticker = threading.Thread(target=tick, name="progress", daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()
            with self._lock:
                self._phases.pop(PREPARE, None)
                self._show(self._clock())

    def _show(self, now: float) -> None:
        self._updated_s = now
        self._update(f"<table><tbody>{''.join(phase.html(now) for phase in self._phases.values())}</tbody></table>")


def _time(seconds: float) -> str:
    """Time such as `0:01:05`."""
    return str(timedelta(seconds=int(seconds)))
