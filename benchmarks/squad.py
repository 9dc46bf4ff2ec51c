"""MiniLM on a slice of SQuAD: F1 and exact match against cost, tokens frozen (Drop-and-Restore) against discarded.

Needs real data and a real model beside the checkout. One fine-tuning, then LengthDrop and a search for each fate, on
the same examples; the fronts are measured on the report split (a slice of the validation set, which no search sees).
`within_one_point` is the cheapest front member whose F1 there is at most one point below the unreduced model's.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.family import TIMED, seconds, tell, value
from benchmarks.result import ROOT, SHARED, finish
from objectives import exact_match, f1, latency, macs
from searchkit.evaluate.bench import SupernetBench
from searchkit.front import Front
from searchkit.records import Candidate
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.opening import opened
from searchkit.runs.search_phase import search
from searchkit.runs.session import Session
from searchkit.runs.study_file import load

POINT = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="keep runs here (and go on with what is there)")
    parser.add_argument("--train", type=int, default=6000, help="training questions")
    parser.add_argument("--evaluated", type=int, default=500, help="questions of the search and of the report split")
    parser.add_argument("--finetune-epochs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="of LengthDrop")
    parser.add_argument("--evaluations", type=int, default=80)
    arguments = parser.parse_args()
    settings = {
        "model": SHARED / "models" / "minilm-l6",
        "data": SHARED / "data" / "squad",
        "train_limit": arguments.train,
        "search_limit": arguments.evaluated,
        "report_limit": arguments.evaluated,
        "finetune_epochs": arguments.finetune_epochs,
        "epochs": arguments.epochs,
        "evaluations": arguments.evaluations,
    }
    with tempfile.TemporaryDirectory() as new:
        runs = arguments.runs or Path(new)
        settings |= {"model": fine_tuned(settings, runs), "finetune_epochs": 0}
        rows = [with_fate(fate, settings, runs) for fate in ("freeze", "discard")]
    finish("squad", {**{name: str(given) for name, given in vars(arguments).items() if name != "runs"}, "rows": rows})


def run_of(settings: dict[str, Any], runs: Path) -> Session:
    loaded = load(ROOT / "studies" / "squad_lengths.py", {name: str(chosen) for name, chosen in settings.items()})
    return Session(loaded, Conditions(runs=runs), tell(loaded.study.name))


def fine_tuned(settings: dict[str, Any], runs: Path) -> Path:
    """The folder of the fine-tuned model from which both fates go on."""
    run = run_of(settings, runs)
    start = run.study.supernet.recipe.start
    assert start is not None
    supernet = replace(run.study.supernet, recipe=start)
    study = replace(run.study, name="squad-start", supernet=supernet)
    run = Session(replace(run.loaded, study=study), run.conditions, tell(study.name))
    with opened(run):
        return run.supernet.folder


def with_fate(fate: str, settings: dict[str, Any], runs: Path) -> dict[str, Any]:
    run = run_of({**settings, "fate": fate}, runs)
    with opened(run):
        front = Front.of(search(run).values(), run.study.objectives)
        bench = workbench(run, "report").build()
        assert isinstance(bench, SupernetBench)
        unreduced = measured(bench, Candidate.of(baseline="unreduced"))
        best = max(value(trial, "f1") for trial in front)
        near = [trial.ask.candidate for trial in front if value(trial, "f1") >= best - 0.1]
        points = [measured(bench, candidate) for candidate in near]
        within = [
            candidate for candidate, point in zip(near, points, strict=True) if point["f1"] >= unreduced["f1"] - POINT
        ]
        row: dict[str, Any] = {"fate": fate, "unreduced": unreduced, "seconds": seconds(run), "front": points}
        if within:
            chosen = min(within, key=lambda candidate: measured(bench, candidate)["macs"])
            speedups = {
                f"latency_speedup_b{size}": round(
                    latency(size, **rounds).measure(bench.subject(chosen)).beside["speedup"], 3
                )
                for size, rounds in TIMED.items()
            }
            row["within_one_point"] = {**measured(bench, chosen), **speedups, "candidate": chosen.to_json()}
        print(row, flush=True)
        return row


def measured(bench: SupernetBench, candidate: Candidate) -> dict[str, float]:
    subject = bench.subject(candidate)
    return {objective.name: round(objective.measure(subject).value, 4) for objective in (f1, exact_match, macs)}


if __name__ == "__main__":
    main()
