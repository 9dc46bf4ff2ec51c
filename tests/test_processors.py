"""A machine that others use is noticed before threads of a training spin beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from searchkit._internal import processors


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processors.WAITING:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield
    process.kill()
    process.wait()


@pytest.mark.usefixtures("unset", "busy_process")
@pytest.mark.skipif(processors.processor_time_of_others() is None, reason="needs /proc/stat")
def test_a_busy_process_beside_several_threads_is_named_with_what_helps() -> None:
    warning = processors.spinning_warning(2)
    assert warning is not None
    assert "OMP_WAIT_POLICY=PASSIVE" in warning
    assert "--threads 1" in warning
    assert f"of the machine's {os.cpu_count()} processors" in warning


@pytest.mark.usefixtures("unset", "busy_process")
def test_one_thread_waits_for_no_other() -> None:
    assert processors.spinning_warning(1) is None


@pytest.mark.usefixtures("busy_process")
@pytest.mark.parametrize("name", processors.WAITING)
def test_a_user_who_chose_how_threads_wait_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "PASSIVE")
    assert processors.spinning_warning(2) is None


@pytest.mark.usefixtures("unset")
def test_an_idle_machine_needs_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "processor_time_of_others", lambda: 7.0)
    assert processors.spinning_warning(2) is None
