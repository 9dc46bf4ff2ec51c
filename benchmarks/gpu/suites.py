"""The checks of each command, in the order in which they run, and where their findings are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks import result
from benchmarks.gpu import company, evaluation, kernels, learning, passes, speed
from benchmarks.gpu.checks import Check, Finding, figures_of
from benchmarks.gpu.made import Setting


def verify(setting: Setting) -> list[Check]:
    """What is quick and decides most comes first."""
    suites = (kernels, company, evaluation, learning, passes)
    return [check for suite in suites for check in suite.checks(setting)]


SUITES: Final[dict[str, Callable[[Setting], list[Check]]]] = {"verify": verify, "speed": speed.checks}


def keep(name: str, found: Sequence[Finding], folder: Path | None, setting: Setting) -> None:
    """Write what is found so far."""
    if folder is not None:
        result.keep(name, figures_of(found), folder, str(setting.device))
