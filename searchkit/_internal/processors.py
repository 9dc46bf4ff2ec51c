"""Load of this machine's processors, and a warning where waiting threads would suffer from it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

SAMPLE_S: Final = 0.3
BUSY: Final = 0.25  # processors that others use, from which on waiting threads matter
WAITING: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # a user who sets one has chosen


def processor_time_of_others() -> float | None:
    """Seconds that the processors of this machine spent on other processes so far; None if unknown."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _, _, irq, softirq, steal = fields
    own = os.times()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - own.user - own.system


def spinning_warning(threads: int) -> str | None:
    """Sentence where several threads of torch are about to share the processors with other busy processes.

    Threads of OpenMP spin while they wait for one another. On an idle machine that is fastest; beside one busy process
    on two processors a training takes two to three times as long (`benchmarks/shared_machine.py`).
    """
    if threads < 2 or any(name in os.environ for name in WAITING):
        return None
    before, start = processor_time_of_others(), time.monotonic()
    time.sleep(SAMPLE_S)
    after, took = processor_time_of_others(), time.monotonic() - start
    if before is None or after is None or (after - before) / took < BUSY:
        return None
    used = (after - before) / took
    return (
        f"other processes use {used:.1f} of the machine's {os.cpu_count()} processors: training with {threads} threads "
        "may take several times as long; OMP_WAIT_POLICY=PASSIVE in the environment, or --threads 1, avoids most of it"
    )
