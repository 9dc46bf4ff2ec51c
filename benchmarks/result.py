"""Result of a benchmark: one line `NAME {json}`, and with machine, versions and date in `results/NAME.json`."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from searchkit._internal.files import replace_whole

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"  # real data sets and a real model, beside the checkout
RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("torch", "transformers", "pymoo", "optuna", "ray", "numpy")


def finish(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and keep them."""
    keep(name, figures, RESULTS)
    print(name, json.dumps(figures))


def keep(name: str, figures: dict[str, Any], folder: Path, device: str = "auto") -> None:
    """Write the figures of a measurement on this device to `folder`/NAME.json."""
    record = {"name": name, "figures": figures, "conditions": conditions(device)}
    replace_whole(folder / f"{name}.json", (json.dumps(record, indent=2) + "\n").encode())


def earlier(
    name: str, rows: Sequence[Mapping[str, Any]], key: Sequence[str], folder: Path = RESULTS
) -> list[dict[str, Any]]:
    """Rows of a kept result whose `key` columns are not among those of the new rows, each with its date."""
    file = folder / f"{name}.json"
    if not file.is_file():
        return []
    record = json.loads(file.read_text())
    new = {tuple(row[column] for column in key) for row in rows}
    others = [row for row in record["figures"]["rows"] if tuple(row[column] for column in key) not in new]
    return [{"date": record["conditions"]["date"], **row} for row in others]


def conditions(device: str = "auto") -> dict[str, Any]:
    """Machine, versions and date; None for a library that is not installed."""
    from searchkit.reduction.device import device_of, dtype_of, environment

    where = device_of(device)
    machine = environment(where, dtype_of("auto", where))
    libraries = {library: _version(library) for library in LIBRARIES}
    return {
        **machine,
        **libraries,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
        "load_average": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    """Short hash of the code that was measured, with a mark where files were changed since; "unknown" without git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
