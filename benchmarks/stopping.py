"""Benchmark of when a search ends: evaluations that rules save on complete tables, and what they cost of the front.

Every search is of `Surrogate` and could evaluate 200 candidates. evaluations: median when the rule ended it, with the
5th and 95th percentile; share: of the true hypervolume then, mean over the seeds; `missed`: what the rest of the
200 would have added, mean; saved: share of the 200 that was not evaluated.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

import numpy as np

from benchmarks.result import finish
from benchmarks.tables import Table
from benchmarks.tables.table import OBJECTIVES, losses_of
from searchkit.engines import Surrogate
from searchkit.front import hypervolume_curve
from searchkit.records import Trial
from searchkit.search.budget import Account, Budget, Plateau

EVALUATIONS: Final = 200
RULES: Final = {
    "gain 0.003": Budget(evaluations=EVALUATIONS, gain=0.003),
    "gain 0.001": Budget(evaluations=EVALUATIONS, gain=0.001),
    "gain 0.0003": Budget(evaluations=EVALUATIONS, gain=0.0003),
    "plateau of 32, 0.001": Budget(evaluations=EVALUATIONS, plateau=Plateau(evaluations=32, gain=0.001)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["imdb", "sst2", "sst2_skim"])
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args()
    rows = []
    for name in given.tables:
        table = Table.read(name)
        searches = [searched(table, seed) for seed in range(given.seeds)]
        for rule in RULES:
            rows.append({"table": name, "rule": rule, **summary(searches, rule)})
            print(json.dumps(rows[-1]), flush=True)
    finish("stopping", {"seeds": given.seeds, "evaluations": EVALUATIONS, "rows": rows})


def searched(table: Table, seed: int) -> dict[str, Any]:
    """One whole search, and after how many of its evaluations each rule would have ended it."""
    config = Surrogate()
    engine = config.start(table.space, OBJECTIVES, seed)
    accounts = {
        rule: Account(budget, OBJECTIVES, [], generation=config.population, max_failures=1.0)
        for rule, budget in RULES.items()
    }
    trials: list[Trial] = []
    ended: dict[str, int] = {}
    with table.evaluator() as evaluator:
        while len(trials) < EVALUATIONS:
            asks = engine.ask(config.population)
            for rule, account in accounts.items():
                account.judge_gain(engine, asks)
                if account.ended is not None:
                    ended.setdefault(rule, len(trials))
            fresh = list(evaluator.run(asks))
            engine.tell(fresh)
            trials += fresh
            for account in accounts.values():
                for trial in fresh:
                    account.add(trial)
                account.judge_plateau(fresh)
    shares = hypervolume_curve(losses_of(trials[:EVALUATIONS]), table.reference) / table.volume
    return {"shares": shares, "ended": {rule: ended.get(rule, EVALUATIONS) for rule in RULES}}


def summary(searches: list[dict[str, Any]], rule: str) -> dict[str, Any]:
    counts = np.array([min(one["ended"][rule], EVALUATIONS) for one in searches])
    shares = np.array([one["shares"][count - 1] for one, count in zip(searches, counts, strict=True)])
    missed = np.array([one["shares"][-1] for one in searches]) - shares
    return {
        "evaluations": [float(value) for value in np.quantile(counts, [0.5, 0.05, 0.95])],
        "share": round(float(shares.mean()), 4),
        "missed": round(float(missed.mean()), 4),
        "saved": round(1 - float(counts.mean()) / EVALUATIONS, 3),
    }


if __name__ == "__main__":
    main()
