"""Benchmark of engines on complete tables: share of the true hypervolume after so many evaluations.

Every search of every seed is whole and alone, on one thread; as many run at once as there are cores. What the figures
mean is described in `benchmarks/tables/README.md`. Kept, with the figure `docs/images/engines.png`, is what all engines
did on all tables with at least 30 seeds; anything less is printed, or kept under another name (`--keep-as`).
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import t as student

from benchmarks import published_search
from benchmarks.baselines import GaussianProcess, OptunaNSGA2, OptunaTPE, PymooNSGA2
from benchmarks.result import ROOT, finish
from benchmarks.tables import FOLDER, Table
from benchmarks.tables.search import Search, Starts, search
from benchmarks.tables.table import OBJECTIVES, Floats
from searchkit.engines import LAT, NSGA2, OptunaSampler, Random, Surrogate
from searchkit.errors import StudyError

Medians = Mapping[str, Mapping[str, float]]  # table -> engine -> evaluations

OURS: Final[dict[str, Starts]] = {
    "random": Random(),
    "nsga2": NSGA2(population=24),
    "nsga2_12": NSGA2(population=12),
    "optuna_sampler_tpe": OptunaSampler("tpe", population=1),
    "surrogate": Surrogate(),
}
OTHERS: Final[dict[str, Starts]] = {
    "lat": LAT(),
    "pymoo_nsga2": PymooNSGA2(),
    "optuna_nsga2": OptunaNSGA2(),
    "optuna_tpe": OptunaTPE(),
    "gaussian_process": GaussianProcess(),
}
ENGINES: Final[dict[str, Starts]] = {**OURS, **OTHERS}
NSGA2S: Final = ("nsga2", "nsga2_12")
NSGA2_AND_TPE: Final = ("pymoo_nsga2", "optuna_nsga2", "optuna_tpe")

AT: Final = (25, 50, 100, 200, 400)  # evaluations
COMPARED: Final = 50  # evaluations after which engines are compared seed by seed
WARM: Final = 16  # evaluations that import all of an engine
LEAST_SEEDS: Final = 30  # of figures that are kept
LEAST_EVALUATIONS: Final = 200
IMAGE: Final = ROOT / "docs" / "images" / "engines.png"


@dataclass(frozen=True)
class Job:
    """One search to be made."""

    table: str
    engine: str
    seed: int
    evaluations: int
    folder: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the tables")
    parser.add_argument("--tables", nargs="+", help="names; default: all of the folder")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--seeds", type=int, default=LEAST_SEEDS, help=f"default {LEAST_SEEDS}")
    parser.add_argument("--evaluations", type=int, default=AT[-1], help=f"of one search; default {AT[-1]}")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    parser.add_argument("--keep-as", metavar="NAME", help="keep what is done in part as results/NAME.json")
    parser.add_argument("--smoke", action="store_true", help="2 seeds of 25 evaluations")
    given = parser.parse_args()
    if given.smoke:
        given.seeds, given.evaluations = 2, 25
    if given.seeds < 2 or given.evaluations < 1 or given.workers < 1:
        parser.error("at least 2 seeds, 1 evaluation and 1 worker are needed")
    everything = sorted(path.stem for path in given.folder.glob("*.parquet"))
    tables = given.tables or everything
    try:
        left_out = {table: left_out_of(table, given.folder, given.engines) for table in tables}
    except StudyError as error:
        parser.error(str(error))
    searches = searched(tables, given.engines, given.seeds, given.evaluations, given.folder, given.workers)
    figures = {
        "seeds": given.seeds,
        "evaluations": given.evaluations,
        **figures_of(searches, given.evaluations),
        "published_search": published_searches(searches, given.folder),
        "cannot_search": {table: engines for table, engines in left_out.items() if engines},
    }
    whole = tables == everything and list(given.engines) == list(ENGINES) and given.evaluations >= LEAST_EVALUATIONS
    if whole and given.seeds >= LEAST_SEEDS:
        draw(searches, IMAGE)
        finish("search_quality", figures)
    elif given.keep_as:
        finish(given.keep_as, figures)
    else:
        print("search_quality, in part and not kept", json.dumps(figures))


@functools.cache
def read(name: str, folder: Path) -> Table:
    return Table.read(name, folder)


def searched(
    tables: Sequence[str], engines: Sequence[str], seeds: int, evaluations: int, folder: Path, workers: int
) -> dict[str, dict[str, list[Search]]]:
    """Searches of every seed, in order: table -> engine -> searches."""
    jobs = [
        Job(table, engine, seed, evaluations, folder)
        for table in tables
        for engine in engines
        if engine not in left_out_of(table, folder, engines)
        for seed in range(seeds)
    ]
    searches: dict[str, dict[str, list[Search]]] = {table: {} for table in tables}
    for job, one in _in_processes(jobs, workers):
        done = searches[job.table].setdefault(job.engine, [])
        done.append(one)
        if len(done) == seeds:
            row = summary(done)
            print(f"{job.table:10} {job.engine:17}", json.dumps(row), file=sys.stderr, flush=True)
    return searches


def left_out_of(table: str, folder: Path, engines: Iterable[str]) -> dict[str, str]:
    """Engines that cannot search the table, with the reason; StudyError where there is no such table."""
    space, reasons = read(table, folder).space, {}
    for engine in engines:
        check = getattr(ENGINES[engine], "check", None)
        try:
            if check is not None:
                check(space, OBJECTIVES, plateau=False)
        except StudyError as error:
            reasons[engine] = str(error)
    return reasons


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Search]]:
    """The jobs with their searches, in order; in this process where one is enough."""
    if workers == 1:
        yield from zip(jobs, map(made, jobs), strict=True)
        return
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # for the processes that are started now
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from zip(jobs, pool.imap(made, jobs), strict=True)


def made(job: Job) -> Search:
    _warm(job.engine, job.table, job.folder)
    return search(read(job.table, job.folder), ENGINES[job.engine], job.seed, job.evaluations)


@functools.cache
def _warm(engine: str, table: str, folder: Path) -> None:
    """Import what the engine needs, once in a process, outside the time of its first search."""
    search(read(table, folder), ENGINES[engine], 0, WARM)


def summary(searches: Sequence[Search]) -> dict[str, Any]:
    """Figures of one engine on one table.

    to_95, to_99: medians, None where half of the seeds or more did not get there; never_95, never_99: seeds that did
    not. share_interval, optimism_interval: 95 % intervals of the means
    """
    curves = np.stack([one.share for one in searches])
    after = [n for n in AT if n <= curves.shape[1]]
    share = {str(n): interval(curves[:, n - 1]) for n in after}
    figures: dict[str, Any] = {
        "share": {n: round(mean, 4) for n, (mean, _, _) in share.items()},
        "share_interval": {n: [round(low, 4), round(high, 4)] for n, (_, low, high) in share.items()},
    }
    for level in (95, 99):
        counts = [one.to(level / 100) for one in searches]
        figures[f"to_{level}"] = _rounded(float(np.median(counts)))
        figures[f"never_{level}"] = int(np.isinf(counts).sum())
    gains = [one.optimism for one in searches if one.optimism is not None]
    if gains:
        mean, low, high = interval(np.array(gains))
        figures |= {"optimism": round(mean, 4), "optimism_interval": [round(low, 4), round(high, 4)]}
    figures["ask_ms"] = round(float(np.median([one.ask_ms for one in searches])), 2)
    return figures


def interval(values: Floats) -> tuple[float, float, float]:
    """Mean, and its 95 % interval by Student's t, for two values and more."""
    mean, half = values.mean(), student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(mean), float(mean - half), float(mean + half)


def _rounded(number: float | None) -> float | None:
    return None if number is None or np.isinf(number) else round(number, 3)


def figures_of(searches: Mapping[str, Mapping[str, Sequence[Search]]], limit: int) -> dict[str, Any]:
    """Figures of each table and engine, and the ratios over the tables."""
    tables = {table: {engine: summary(ones) for engine, ones in made.items()} for table, made in searches.items()}
    medians = {
        table: {engine: float(np.median([one.to(0.99) for one in ones])) for engine, ones in made.items()}
        for table, made in searches.items()
    }
    return {
        "tables": tables,
        "best_other_over_ours_99": _rounded(worst(medians, OTHERS, OURS, limit)),
        "best_nsga2_or_tpe_over_ours_99": _rounded(worst(medians, NSGA2_AND_TPE, OURS, limit)),
        "nsga2_over_pymoo_99": _rounded(nsga2_over_pymoo(medians, limit)),
        f"paired_{COMPARED}": {table: paired(made) for table, made in searches.items()},
    }


def published_searches(searches: Mapping[str, Mapping[str, Sequence[Search]]], folder: Path) -> dict[str, Any]:
    """The published search and `Surrogate` in seconds, on tables whose seconds per candidate are known."""
    made = {
        table: published_search.figures_of(read(table, folder), of_engine["surrogate"])
        for table, of_engine in searches.items()
        if "surrogate" in of_engine
    }
    return {table: figures for table, figures in made.items() if figures is not None}


def worst(medians: Medians, others: Iterable[str], ours: Iterable[str], limit: int) -> float | None:
    """Smallest ratio over the tables: evaluations to 99 % of the best of the others, over those of our best.

    Others that never get there count as the limit. None where none of ours gets there on some table, or where one of
    the two sides was left out.
    """
    ratios = []
    for of_engine in medians.values():
        other = min((of_engine[name] for name in others if name in of_engine), default=np.inf)
        own = min((of_engine[name] for name in ours if name in of_engine), default=np.inf)
        if np.isinf(own) or not of_engine.keys() & set(others):
            return None
        ratios.append(min(other, limit) / own)
    return min(ratios)


def nsga2_over_pymoo(medians: Medians, limit: int) -> float | None:
    """Largest ratio over the tables, of the one of our configurations of NSGA2 whose largest is the smallest."""
    inverse = (worst(medians, ["pymoo_nsga2"], [name], limit) for name in NSGA2S)
    best = max((ratio for ratio in inverse if ratio is not None), default=None)
    return None if best is None else 1 / best


def paired(searches: Mapping[str, Sequence[Search]]) -> dict[str, Any]:
    """Share after `COMPARED` evaluations of our best less that of every other: mean difference over seeds, interval."""
    after = {
        engine: np.array([one.share[:COMPARED][-1] for one in of_engine]) for engine, of_engine in searches.items()
    }
    ours = [engine for engine in OURS if engine in after]
    if not ours:
        return {}
    best = max(ours, key=lambda engine: float(after[engine].mean()))
    less = {engine: interval(after[best] - values) for engine, values in after.items() if engine not in OURS}
    return {"ours": best, "less": {engine: [round(value, 4) for value in values] for engine, values in less.items()}}


def draw(searches: Mapping[str, Mapping[str, Sequence[Search]]], file: Path) -> None:
    """Missing share of the hypervolume, mean over seeds: a column per table, over evaluations and over seconds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(searches), figsize=(4.6 * len(searches), 7.6), squeeze=False, sharey=True, layout="constrained"
    )
    engines = list(ENGINES)
    for column, (table, made) in enumerate(searches.items()):
        for engine, ones in made.items():
            style = {
                "label": engine.replace("_", " "),
                "color": f"C{engines.index(engine)}",
                "linestyle": "-" if engine in OURS else "--",
            }
            missing = 1 - np.stack([one.share for one in ones])
            evaluations = np.arange(1, missing.shape[1] + 1)
            axes[0][column].plot(evaluations, missing.mean(0), **style)
            axes[1][column].plot(*over_seconds(ones), **style)
        axes[0][column].set_title(table)
        axes[0][column].set_xlabel("evaluations")
        axes[1][column].set_xlabel("seconds of the engine")
    for axis in axes.flat:
        axis.set(xscale="log", yscale="log", ylim=(1e-4, 1))
        axis.grid(alpha=0.3)
        for level in (0.05, 0.01):
            axis.axhline(level, color="black", linewidth=0.8, linestyle=":")
            axis.text(1, level, f" {level:.0%}", transform=axis.get_yaxis_transform(), fontsize=8, va="center")
    for axis in axes[0]:
        axis.set_xlim(5, None)
        axis.set_xticks(ticks := [n for n in (5, 10, *AT) if n <= axis.get_xlim()[1]], labels=map(str, ticks))
        axis.minorticks_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("missing share of the hypervolume")
    handles = {line.get_label(): line for axis in axes[0] for line in axis.get_lines() if line.get_label()[0] != "_"}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2 * len(searches), fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def over_seconds(searches: Sequence[Search]) -> tuple[Floats, Floats]:
    """(S,) seconds, up to the median end of the searches, and the mean missing share by then."""
    first = max(1e-4, max(float(one.seconds[0]) for one in searches))
    seconds = np.geomspace(first, max(first, float(np.median([one.seconds[-1] for one in searches]))), 200)
    shares = [one.share[np.searchsorted(one.seconds, seconds, side="right") - 1] for one in searches]
    return seconds, 1 - np.mean(shares, 0)


if __name__ == "__main__":
    main()
