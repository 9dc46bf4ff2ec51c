"""Checks with names: each prints a line, fails alone, and is skipped with a reason where it cannot run."""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from types import FrameType
from typing import Any, Final, Literal

from searchkit.errors import QUOTED, StudyError, one_line, unknown

Outcome = Literal["ok", "FAILED", "skipped"]
SHOWN: Final = 150  # characters of the figures in a line


class CannotRunError(Exception):
    """Reason why a check cannot run here."""


class TimeUp(BaseException):
    """End of the time that the whole command has; no `except Exception` on the way takes it for a fault."""


@dataclass
class Figures:
    """Figures of a check, and the limits that they broke."""

    known: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def tell(self, **figures: Any) -> None:
        """Add figures that have no limit."""
        self.known.update({name: _short(value) for name, value in figures.items()})

    def at_most(self, name: str, value: float, limit: float) -> None:
        """Add a figure, the worst of those of this name, which must not be above `limit`; nan is."""
        value = float(value)
        known = self.known.get(name)
        if known is None or not value <= known:
            self.known[name] = _short(value)
            self.known[f"{name}_limit"] = limit
        if not value <= limit:
            self.broken.append(f"{name} is {value:.3g}, at most {limit:.3g} is allowed")

    def holds(self, what: str, is_so: bool) -> None:
        """Add a statement that must be true."""
        self.known[what] = bool(is_so) and self.known.get(what, True)
        if not is_so:
            self.broken.append(f"not {what}")


@dataclass(frozen=True)
class Check:
    """A check: `run` adds figures, or raises `CannotRunError`. needs: libraries beyond the usual ones."""

    name: str
    run: Callable[[Figures], None]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Result of a check; why: the limits it broke, its error, or the reason for skipping it."""

    name: str
    outcome: Outcome
    seconds: float
    figures: Mapping[str, Any]
    why: str = ""

    def __str__(self) -> str:
        figures = ", ".join(
            f"{name} {value}" for name, value in self.figures.items() if not isinstance(value, list | dict)
        )
        said = self.why or (figures if len(figures) <= SHOWN else figures[:SHOWN] + " ...")
        return f"{self.outcome:7} {self.name:44} {self.seconds:6.1f} s  {said}"

    def to_json(self) -> dict[str, Any]:
        return {"outcome": self.outcome, "seconds": self.seconds, "why": self.why, "figures": dict(self.figures)}


def chosen(checks: Sequence[Check], only: Sequence[str]) -> list[Check]:
    """Checks whose names are among `only`, or fit one of its patterns; StudyError for one that fits none."""
    for pattern in only:
        if not any(fnmatch(check.name, pattern) for check in checks):
            raise StudyError(f"--only: {unknown('check', pattern, [check.name for check in checks])}")
    return [check for check in checks if not only or any(fnmatch(check.name, pattern) for pattern in only)]


def run_all(checks: Sequence[Check], seconds: float, seen: Callable[[Sequence[Finding]], None]) -> list[Finding]:
    """Run the checks, for `seconds` in all, and print a line for each; `seen` is called after each with all so far."""
    found: list[Finding] = []
    with limited(seconds) as left:
        for check in checks:
            finding = _run(check, left)
            found.append(finding)
            print(finding, flush=True)
            seen(found)
    for check in checks[len(found) :]:  # where the time was up between two of them
        found.append(Finding(check.name, "skipped", 0.0, {}, "the time was up before"))
        print(found[-1], flush=True)
    seen(found)
    return found


def _run(check: Check, left: Callable[[], float]) -> Finding:
    figures, start = Figures(), time.perf_counter()

    def finding(outcome: Outcome, why: str = "") -> Finding:
        return Finding(check.name, outcome, round(time.perf_counter() - start, 2), figures.known, why)

    lacking = [name for name in check.needs if importlib.util.find_spec(name) is None]
    if lacking:
        return finding("skipped", f"{', '.join(lacking)} is not installed")
    if left() <= 0:
        return finding("skipped", "the time was up before")
    try:
        check.run(figures)
    except CannotRunError as reason:
        return finding("skipped", str(reason))
    except TimeUp:
        return finding("skipped", "the time was up meanwhile")
    except Exception as error:
        return finding("FAILED", f"{type(error).__name__}: {one_line(error, QUOTED)}")
    return finding("FAILED", "; ".join(dict.fromkeys(figures.broken))) if figures.broken else finding("ok")


@contextmanager
def limited(seconds: float) -> Iterator[Callable[[], float]]:
    """Raise `TimeUp` in this block once it has taken so many seconds; gives a function to the seconds that are left."""
    end = time.monotonic() + seconds

    def up(number: int, frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, up)
    start, (other_s, _) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield lambda: end - time.monotonic()
    except TimeUp:  # between two checks
        return
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if other_s:  # the timer of who called, such as a test's
            signal.setitimer(signal.ITIMER_REAL, max(0.001, other_s - (time.monotonic() - start)))


def figures_of(found: Sequence[Finding]) -> dict[str, Any]:
    """JSON of all findings, by name, with the number of each outcome."""
    outcomes = ("ok", "FAILED", "skipped")
    counts = {outcome.lower(): sum(finding.outcome == outcome for finding in found) for outcome in outcomes}
    return {**counts, "checks": {finding.name: finding.to_json() for finding in found}}


def _short(value: Any) -> Any:
    """Floats by four digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else json.loads(json.dumps(value))
