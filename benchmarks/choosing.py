"""Benchmark of choosing under noise: what a search on few examples offers, where the truth is known.

The truth of a candidate is its accuracy on all examples of a complete table, search and report split together. A search
sees as many examples as are drawn from them at random, with repetition. `front` is what it believes to be best, as it
was measured; `offered` is what it passes on to the report split (`searchkit.search.shortlist`).

found: share of searches that offer a reduced candidate which truly loses at most a point, where one exists; cost: MACs
of the cheapest one, over those of the cheapest one that was evaluated at all (median and 90th percentile); candidates:
their mean number. optimism: accuracy of a choice (the cheapest within a point on the examples seen) less its truth,
both less the unreduced model's, in standard errors of one value: `as_measured` by the values that were measured,
`as_modelled` by those of the model; `lost` is what these choices truly lose, in points. coverage: share of 95 %
intervals of the paired difference to the unreduced model that hold the truth, over all that is offered, on a report
split of as many examples.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from benchmarks.result import finish
from benchmarks.tables import Table
from benchmarks.tables.search import Starts
from benchmarks.tables.table import ACCURACY, OBJECTIVES, Floats, TableEvaluator
from searchkit.engines import NSGA2, Surrogate
from searchkit.front import Front
from searchkit.records import Estimate, Measured, Trial
from searchkit.search.shortlist import Shortlist
from searchkit.stats import percentile_interval, resampled

ENGINES: Final[dict[str, tuple[Starts, int]]] = {
    "surrogate": (Surrogate(population=8), 100),
    "nsga2": (NSGA2(population=24), 200),
}
POINT: Final = 0.01
REDUCED: Final = 0.95  # MACs of unreduced, from which on a candidate is hardly one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["imdb", "sst2", "sst2_skim"])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--examples", type=int, default=400)
    given = parser.parse_args()
    rows = []
    for name in given.tables:
        table = Table.read(name)
        for engine in given.engines:
            searches = [simulated(table, engine, seed, given.examples) for seed in range(given.seeds)]
            rows.append({"table": name, "engine": engine, **summary(searches)})
            print(json.dumps(rows[-1]), flush=True)
    finish("choosing", {"seeds": given.seeds, "examples": given.examples, "rows": rows})


def simulated(table: Table, engine: str, seed: int, examples: int) -> dict[str, Any]:
    """One search on examples that are drawn, and what it offers, beside the truth."""
    assert table.outcomes is not None
    assert table.report_outcomes is not None
    rng = np.random.default_rng([seed, examples])
    every = np.concatenate([table.outcomes, table.report_outcomes], 1)
    truth = every.mean(1)
    seen, report = (every[:, rng.integers(every.shape[1], size=examples)].astype(np.float64) for _ in range(2))
    trials = searched(table, engine, seed, seen)
    unreduced = int(np.argmax(table.costs))
    within = (truth >= truth[unreduced] - POINT) & (table.costs <= REDUCED)

    def rows_of(some: Sequence[str]) -> list[int]:
        return [table.rows[key] for key in some]

    def cheapest(rows: Sequence[int]) -> float:
        return min((float(table.costs[row]) for row in rows if within[row]), default=1.0)

    shortlist = Shortlist.of(table.space, OBJECTIVES, trials)
    keys = list(
        shortlist.offered({trial.key: with_resamples(trial, seen[table.rows[trial.key]]) for trial in shortlist.trials})
    )
    offered = rows_of(keys)
    front = rows_of([trial.key for trial in Front.of(trials, OBJECTIVES)])
    evaluated = rows_of([trial.key for trial in trials])
    modelled = dict(zip(rows_of([trial.key for trial in shortlist.trials]), -shortlist.losses[:, 0], strict=True))
    return {
        "exists": bool(within.any()),
        "best": cheapest(evaluated),
        "front": cheapest(front),
        "offered": cheapest(offered),
        "n_front": len(front),
        "n_offered": len(offered),
        "as_measured": choice(seen.mean(1), truth, table.costs, front, unreduced, examples),
        "as_modelled": choice(seen.mean(1), truth, table.costs, offered, unreduced, examples, modelled),
        "covered": [covered(report[row] - report[unreduced], truth[row] - truth[unreduced]) for row in offered],
    }


def searched(table: Table, engine: str, seed: int, seen: Floats) -> list[Trial]:
    config, evaluations = ENGINES[engine]
    running = config.start(table.space, OBJECTIVES, seed)
    done: dict[str, Trial] = {}
    evaluator = TableEvaluator(table, seen.mean(1), seen.shape[1], None)
    while len(done) < evaluations:
        asks = running.ask(config.population)
        done |= {ask.key: evaluator.trial(ask) for ask in asks if ask.key not in done}
        running.tell([replace(done[ask.key], ask=ask) for ask in asks])
    return list(done.values())[:evaluations]


def with_resamples(trial: Trial, outcomes: Floats) -> Trial:
    """The trial with its accuracy on the resamples of all candidates."""
    values = resampled(lambda rows: outcomes[rows].mean(1), len(outcomes))
    estimates: dict[str, Estimate] = dict(trial.estimates)
    estimates[ACCURACY.name] = replace(estimates[ACCURACY.name], resamples=tuple(values.tolist()))
    return replace(trial, outcome=Measured(estimates))


def choice(
    seen: Floats,
    truth: Floats,
    costs: Floats,
    rows: Sequence[int],
    unreduced: int,
    examples: int,
    values: dict[int, float] | None = None,
) -> tuple[float, float, float]:
    """Optimism, in standard errors, what is truly lost, in points, and the cost: of the cheapest within a point."""
    told = {row: float(seen[row]) for row in [*rows, unreduced]} if values is None else values
    reference = told.get(unreduced, float(seen[unreduced]))
    able = [row for row in rows if told[row] >= reference - POINT] or [unreduced]
    chosen = min(able, key=lambda row: costs[row])
    error = np.sqrt(truth[unreduced] * (1 - truth[unreduced]) / examples)
    told_loss, true_loss = reference - told.get(chosen, reference), truth[unreduced] - truth[chosen]
    return float((true_loss - told_loss) / error), float(100 * true_loss), float(costs[chosen])


def covered(differences: Floats, truth: float) -> bool:
    values = resampled(lambda rows: differences[rows].mean(1), len(differences))
    low, high = percentile_interval(values)
    return low is not None and high is not None and low <= truth <= high


def summary(searches: Sequence[dict[str, Any]]) -> dict[str, Any]:
    there = [one for one in searches if one["exists"]]
    out: dict[str, Any] = {"searches": len(searches), "with_one": len(there)}
    for which in ("front", "offered"):
        ratios = [one[which] / one["best"] for one in there]
        out[which] = {
            "found": round(float(np.mean([one[which] <= REDUCED for one in there])), 3),
            "cost": [round(float(value), 3) for value in np.quantile(ratios, [0.5, 0.9])],
            "candidates": round(float(np.mean([one[f"n_{which}"] for one in searches])), 1),
        }
    for which in ("as_measured", "as_modelled"):
        optimism, lost, cost = np.mean([one[which] for one in searches], axis=0).tolist()
        out[which] = {"optimism": round(optimism, 2), "lost": round(lost, 2), "cost": round(cost, 3)}
    out["coverage"] = round(float(np.mean([value for one in searches for value in one["covered"]])), 3)
    return out


if __name__ == "__main__":
    main()
