"""Result of a benchmark: one line `NAME {json}`, and with machine, versions and date in `results/NAME.json`."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from searchkit._internal.files import replace_whole

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "pymoo", "optuna", "ray", "numpy")


def finish(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and keep them."""
    record = {"name": name, "figures": figures, "conditions": conditions()}
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    replace_whole(folder / f"{name}.json", (json.dumps(record, indent=2) + "\n").encode())
    print(name, json.dumps(figures))


def conditions() -> dict[str, Any]:
    """Machine, versions and date."""
    from searchkit.reduction.device import device_of, dtype_of, environment

    device = device_of("auto")
    machine = environment(device, dtype_of("auto", device))
    libraries = {library: version(library) for library in LIBRARIES}
    return {
        **machine,
        **libraries,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "load_average": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
    }


def _commit() -> str:
    """Short hash of the code that was measured, with a mark where files were changed since; "unknown" without git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
