"""The first command a user runs: wall-clock time by phase and peak memory of `searchkit run studies/quickstart.py`."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.result import ROOT, finish


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command = [sys.executable, "-m", "searchkit", "run", "studies/quickstart.py", "--runs", folder]
        subprocess.run(command, cwd=ROOT, check=True)
        total = time.monotonic() - start
        summary = json.loads((Path(folder) / "quickstart" / "summary.json").read_text())
    seconds = {f"{phase}_s": round(value, 1) for phase, value in summary["seconds"].items()}
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    unreduced = summary["unreduced"][0]["accuracy"]["value"]
    fastest = summary["gained"][0]  # at batch 1 in PyTorch, what the last sentence of the terminal is about
    finish(
        "quickstart",
        {
            "total_s": round(total, 1),
            **seconds,
            "peak_mib": round(peak_mib),
            "unreduced_accuracy": unreduced,
            "evaluations": summary["evaluations"],
            "speedup": fastest["speedup"],
            "points_lost": fastest["lost"] and {end: 100 * value for end, value in fastest["lost"].items()},
            "is_faster": fastest["is_faster"],
            "constant_ratio": summary["constant_ratio"],
        },
    )


if __name__ == "__main__":
    main()
