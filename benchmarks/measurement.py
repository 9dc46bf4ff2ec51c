"""Benchmark of latency measurement: repeatability, intervals, the modelled latency, and their cost.

Needs real data and a real model beside the checkout: MiniLM on SST-2's sentences, at batch 1. agreement: of pairs of
measurements of one plan, one after the other, those whose intervals meet (or that say the machine was busy), on an idle
machine and beside a process that multiplies matrices all the time. coverage: of measurements of the unreduced model
against itself, those whose interval holds 1. ratio_spread_over_raw_spread: standard deviation of the ratio over that of
the raw milliseconds, both relative to their means, over the same repetitions. modelled_*: the table of costs, fitted on
candidates of the space as a run does it, against 50 others. latency_phase_share: of the time of a generation of 24.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import finish
from benchmarks.search_speed import built, recorded
from objectives import latency
from objectives.latency_model import PRICES, _work_of, calibrated, compared, times_of
from searchkit.evaluate.bench import SupernetBench
from searchkit.records import Candidate, Estimate
from searchkit.runs.calibration import CALIBRATED
from searchkit.runs.opening import opened
from searchkit.runs.search_phase import search
from searchkit.space import Lengths, Space

HELD_OUT = 50
GENERATION = 24
NEIGHBOUR = "import torch\na = torch.randn(1024, 1024)\nwhile True:\n    a @ a"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where benchmarks.family left its supernets; default: a new folder")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--busy-repetitions", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as new:
        run = recorded("sst2_sentences", 240, (arguments.runs or Path(new)) / "sst2_sentences")
        with opened(run):
            search(run)
            bench = built(run)
        figures = {
            **repeatability(bench, arguments.repetitions),
            **beside_a_neighbour(bench, arguments.busy_repetitions),
            **modelled(bench),
            **phase(bench),
        }
    finish("measurement", figures)


def repeatability(bench: SupernetBench, repetitions: int) -> dict[str, Any]:
    """Pairs of measurements of one plan, and of nothing at all."""
    timed, plan = latency(), constant(bench, 0.8)
    pairs = [(measured(bench, timed, plan), measured(bench, timed, plan)) for _ in range(repetitions)]
    every = [one for pair in pairs for one in pair]
    nothing = [measured(bench, timed, Candidate.of(baseline="unreduced")) for _ in range(repetitions)]
    ratios, raw = (np.array([one.beside[name] for one in every]) for name in ("ratio", "latency_ms_raw"))
    figures = {
        "agreement": sum(agree(*pair) for pair in pairs) / len(pairs),
        "coverage": sum(one.beside["ratio_low"] <= 1 <= one.beside["ratio_high"] for one in nothing) / len(nothing),
        "ratio_spread_over_raw_spread": round(float(relative(ratios) / relative(raw)), 3),
        "ratio_spread": round(float(relative(ratios)), 4),
        "raw_spread": round(float(relative(raw)), 4),
        "seconds_per_plan": round(float(np.mean([one.beside["spent_s"] for one in every])), 2),
        "half_width": round(float(np.mean([width(one) for one in every])), 4),
    }
    print(figures, flush=True)
    return figures


def beside_a_neighbour(bench: SupernetBench, repetitions: int) -> dict[str, Any]:
    """Measure next to a process that uses all cores."""
    timed, plan = latency(), constant(bench, 0.8)
    with neighbour():
        pairs = [(measured(bench, timed, plan), measured(bench, timed, plan)) for _ in range(repetitions)]
    contended = [any(one.beside["contended"] for one in pair) for pair in pairs]
    held = [agree(*pair) for pair in pairs]
    figures = {
        "agreement_busy": sum(a or b for a, b in zip(held, contended, strict=True)) / len(pairs),
        "intervals_meet_busy": sum(held) / len(pairs),
        "said_to_be_busy": sum(contended) / len(pairs),
        "half_width_busy": round(float(np.mean([width(one) for pair in pairs for one in pair])), 4),
    }
    print(figures, flush=True)
    return figures


def modelled(bench: SupernetBench) -> dict[str, Any]:
    """The table of costs against plans that it has not seen."""
    space, rng = Space(Lengths()).bound(bench.model.shape.layers), np.random.default_rng(0)
    genomes = space.sample(CALIBRATED + HELD_OUT, rng)
    candidates = [space.decode(genome) for genome in genomes]
    size = {"batch_size": 1, "batches": 20}
    start = time.perf_counter()
    table = calibrated(bench.subject, candidates[:CALIBRATED], **size)
    spent = time.perf_counter() - start
    others = [bench.subject(candidate) for candidate in candidates[CALIBRATED:]]
    prices = np.array([table["prices_ms"][price] for price in PRICES])
    work = np.array([_work_of(subject, **size) for subject in others])
    tau, error = compared(work @ prices, times_of(others, **size))
    figures = {
        "modelled_kendall_tau": round(tau, 3),
        "modelled_relative_error": round(error, 4),
        "calibration_s": round(spent, 1),
        "prices_ms": {name: float(f"{price:.3g}") for name, price in table["prices_ms"].items()},
    }
    print(figures, flush=True)
    return figures


def phase(bench: SupernetBench) -> dict[str, Any]:
    """Cost that latency adds to a generation of new candidates."""
    space, rng = Space(Lengths()).bound(bench.model.shape.layers), np.random.default_rng(1)
    candidates = [space.decode(genome) for genome in space.sample(GENERATION, rng)]
    start = time.perf_counter()
    bench.prepare(candidates)
    quality = time.perf_counter() - start
    subjects = [bench.subject(candidate) for candidate in candidates]
    together = latency().together
    assert together is not None
    start = time.perf_counter()
    for first in range(0, GENERATION, 12):
        together(subjects[first : first + 12])
    timing = time.perf_counter() - start
    figures = {
        "latency_phase_share": round(timing / (timing + quality), 3),
        "latency_s_per_candidate": timing / GENERATION,
    }
    print(figures, flush=True)
    return figures


def constant(bench: SupernetBench, kept: float) -> Candidate:
    return Candidate.of(lengths=tuple(kept**layer for layer in range(1, bench.model.shape.layers + 1)))


def measured(bench: SupernetBench, timed: Any, plan: Candidate) -> Estimate:
    estimate: Estimate = timed.measure(bench.subject(plan))
    return estimate


def agree(first: Estimate, second: Estimate) -> bool:
    """Return whether the intervals of the ratios meet."""
    return (
        first.beside["ratio_low"] <= second.beside["ratio_high"]
        and second.beside["ratio_low"] <= first.beside["ratio_high"]
    )


def width(estimate: Estimate) -> float:
    return (estimate.beside["ratio_high"] - estimate.beside["ratio_low"]) / 2 / estimate.beside["ratio"]


def relative(values: Any) -> float:
    return float(np.std(values, ddof=1) / np.mean(values))


@contextmanager
def neighbour() -> Iterator[None]:
    """A busy process on the same processors."""
    command: Sequence[str] = (sys.executable, "-c", NEIGHBOUR)
    with subprocess.Popen(command) as process:
        time.sleep(5)  # it imports torch first
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    main()
