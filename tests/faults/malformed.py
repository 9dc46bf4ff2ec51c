"""What tests of malformed input share: a study whose parts can be replaced, and the one line of a mistake."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from searchkit.cli import app as cli

PARTS = {
    "name": '"small"',
    "task": "Generated(train=64, search=24, report=24)",
    "supernet": "Supernet(Scratch(layers=3, width=8, heads=2, feed_forward=8), recipe=FineTune(epochs=1))",
    "space": "Space(Lengths(levels=8))",
    "objectives": "[accuracy, macs]",
    "engine": "NSGA2(population=4)",
    "budget": "Budget(evaluations=evaluations)",
    "seed": "0",
}
HEAD = """
import math, pathlib, sys
import numpy as np
from objectives import accuracy, latency, macs, memory, mse, pearson, spearman
from searchkit import *
from searchkit.tasks import *
from searchkit.training import *


def study(evaluations: int = 8, share: float = 0.5, on: bool = False, text: str | None = None):
    return Study(
"""


def study_text(**parts: str) -> str:
    """A study file that trains and searches in seconds, with these parts replaced or added."""
    given = PARTS | parts
    return HEAD + "".join(f"        {name}={value},\n" for name, value in given.items()) + "    )\n"


def study_file(folder: Path, text: str | None = None, **parts: str) -> Path:
    file = folder / "small_study.py"
    file.write_text(study_text(**parts) if text is None else text)
    return file


PROGRESS = re.compile(r" of |^\w+: \d+ s, ")  # a phase that counts, or a step that takes a while


class Said:
    """Runs the command line in this process, since a process for each of hundreds of mistakes would take minutes."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def code(self, *arguments: object) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `searchkit ARGUMENTS`."""
        self._monkeypatch.setattr(sys, "argv", ["searchkit", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = self._capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    def error(self, *arguments: object) -> str:
        """The one line that a mistake is: exit code 2, no trace, nothing beside it but progress."""
        code, out, err = self.code(*arguments)
        assert code == 2, (code, out, err)
        told = [line for line in err.splitlines() if not line.startswith("note: ")]  # a warning is no mistake
        lines = [line for line in told if line.startswith("error: ") or not PROGRESS.search(line)]
        assert len(lines) == 1, err
        assert lines[0].startswith("error: "), err
        assert len(lines[0]) < 1100, err
        assert lines[0].isprintable(), err
        return lines[0].removeprefix("error: ")


def files(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path, with its content."""
    paths: Sequence[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if "__pycache__" not in path.parts}
