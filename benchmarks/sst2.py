"""MiniLM on SST-2 sentences, start to end: training, 600 evaluations, and the cheapest lengths within one point.

Needs real data and a real model beside the checkout. `within_one_point` is the cheapest front member whose accuracy on
the report split is at most one point below the unreduced model's there; `chosen_on_search` is chosen on the search
split alone, the way a user would have to, and then looked up on the report split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.result import ROOT, SHARED, finish

POINT = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=Path, help="keep the run here (and go on with what is there); default: a new folder"
    )
    parser.add_argument("--evaluations", type=int, default=600)
    parser.add_argument("--bound", type=float, default=0.36, help="LengthDrop's bound; see studies/sst2_lengths.py")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as new:
        runs = arguments.runs or Path(new)
        start = time.monotonic()
        command = [sys.executable, "-m", "searchkit", "run", "studies/sst2_lengths.py", "--runs", str(runs)]
        command += [
            "-p",
            f"model={SHARED / 'models' / 'minilm-l6'}",
            "-p",
            f"data={SHARED / 'data' / 'sst2_sentences'}",
        ]
        subprocess.run(
            [*command, "-p", f"evaluations={arguments.evaluations}", "-p", f"bound={arguments.bound}"],
            cwd=ROOT,
            check=True,
        )
        total = time.monotonic() - start
        summary = json.loads((runs / "sst2-lengths" / "summary.json").read_text())
        trials = pd.read_parquet(runs / "sst2-lengths" / "trials.parquet")
    finish("sst2", {"total_s": round(total, 1), "bound": arguments.bound, **figures(summary, trials)})


def figures(summary: dict[str, Any], trials: pd.DataFrame) -> dict[str, Any]:
    unreduced = summary["unreduced"][0]
    front = summary["front"]
    floor = unreduced["accuracy"]["value"] - POINT
    on_search = unreduced_on_search(trials)
    return {
        "unreduced_accuracy": unreduced["accuracy"]["value"],
        "unreduced_accuracy_search": on_search,
        "train_s": round(summary["seconds"]["train"], 1),
        "search_s": round(summary["seconds"]["search"], 1),
        "seconds_per_evaluation": round(float(trials["seconds"].mean()), 4),
        "evaluations": summary["evaluations"],
        "failed": summary["failed"],
        "within_one_point": cheapest(front, "report", floor),
        "chosen_on_search": cheapest(front, "search", on_search - POINT),
        "constant_ratio": summary["constant_ratio"],
        "front": [shown(member) for member in front],
    }


def unreduced_on_search(trials: pd.DataFrame) -> float:
    """The corner of the space that keeps everything, which every search measures first."""
    columns = [name for name in trials if str(name).startswith("lengths_")]
    return float(trials.loc[(trials[columns] == 1.0).all(axis=1), "accuracy"].iloc[0])


def cheapest(front: list[dict[str, Any]], split: str, floor: float) -> dict[str, Any] | None:
    """The cheapest member that is good enough on `split`, with its values on the report split."""
    good = [member for member in front if member[split]["accuracy"]["value"] >= floor]
    return shown(min(good, key=lambda member: member[split]["macs"]["value"])) if good else None


def shown(member: dict[str, Any]) -> dict[str, Any]:
    report = member["report"]
    return {
        "accuracy": round(report["accuracy"]["value"], 4),
        "standard_error": round(report["accuracy"]["standard_error"], 4),
        "accuracy_search": round(member["search"]["accuracy"]["value"], 4),
        "macs_ratio": round(report["macs"]["value"], 4),
        "latency_ms": round(report["latency"]["value"], 2),
        "latency_speedup": round(report["latency"]["beside"]["speedup"], 3),
        "candidate": member["candidate"],
    }


if __name__ == "__main__":
    main()
