"""The log of a run on a disk that takes nothing more."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from searchkit.runs.folder import _logging_to


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file that takes nothing")
def test_lines_that_a_full_disk_does_not_take_stop_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with _logging_to(Path("/dev/full")):
        logging.getLogger("searchkit").info("a line")
    assert capfd.readouterr().err == ""
