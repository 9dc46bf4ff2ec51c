"""One search of an engine on a table, and what is kept of it.

E evaluations: distinct candidates, in the order in which they were asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from benchmarks.tables.table import OBJECTIVES, Floats, Table, losses_of
from searchkit.engines import Engine
from searchkit.front import hypervolume_curve, nondominated
from searchkit.objective import Objective
from searchkit.records import Trial
from searchkit.space import Lengths, Space

SELECTED: Final = 100  # evaluations after which the optimism of the front is taken
IN_VAIN: Final = 1_000  # asks in a row that bring nothing new: the search is over
WHOLE: Final = 1 - 1e-9  # share of the hypervolume beyond which only rounding is left to be found


class Starts(Protocol):
    """An engine, or a baseline with its interface, before it is started.

    Where it has `start_at` and lengths alone decide the cost, it is given the cost of candidates (`PublishedSearch`).
    """

    @property
    def population(self) -> int: ...
    def start(self, space: Space, objectives: Sequence[Objective], seed: int) -> Engine: ...


@dataclass(frozen=True)
class Search:
    """One search that was made, of E evaluations.

    share: (E,) of the table's hypervolume; seconds: (E,) that the engine had computed when the evaluation was asked
    for; where the search ended early, the last of both go on. optimism: None where the table has no report split
    """

    share: Floats
    seconds: Floats
    optimism: float | None
    ask_ms: float

    def to(self, level: float) -> float:
        """Evaluations to this share of the hypervolume; infinite where it was not reached."""
        reached = self.share >= level - 1e-12
        return float(np.argmax(reached)) + 1 if reached.any() else np.inf


def search(table: Table, config: Starts, seed: int, evaluations: int) -> Search:
    """Search a table. A candidate that is asked for again is no evaluation: the engine is told what is known.

    The search ends before its last evaluation where the whole hypervolume is found: nothing could change any more.
    """
    clock = Clock()
    with clock:
        engine = started(config, table, seed)
    done: dict[str, Trial] = {}
    seconds: list[float] = []
    share = np.empty(0)
    asked, in_vain = 0, 0
    with table.evaluator() as evaluator:
        while len(done) < evaluations and in_vain < IN_VAIN and not (share >= WHOLE).any():
            with clock:
                asks = engine.ask(config.population)
            if not asks:
                break
            new = list({ask.key: ask for ask in asks if ask.key not in done}.values())
            if new:
                done |= {trial.key: trial for trial in evaluator.run(new)}
                share = hypervolume_curve(losses_of(list(done.values())), table.reference) / table.volume
            seconds += [clock.seconds] * len(new)
            asked, in_vain = asked + len(asks), 0 if new else in_vain + len(asks)
            with clock:
                engine.tell([done[ask.key] for ask in asks])
    trials = list(done.values())[:evaluations]
    missing = (0, evaluations - len(trials))
    return Search(
        np.pad(share[:evaluations], missing, mode="edge"),
        np.pad(seconds[:evaluations], missing, mode="edge"),
        optimism(table, trials[:SELECTED]),
        1e3 * clock.seconds / asked,
    )


class Clock:
    """Seconds of processor time spent within it, so that what else runs on the machine hardly counts."""

    def __init__(self) -> None:
        self.seconds, self._start = 0.0, 0.0

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._start


def started(config: Starts, table: Table, seed: int) -> Engine:
    """Start an engine; with the cost of candidates, where lengths alone decide it and the engine can make use of it."""
    start_at = getattr(config, "start_at", None)
    if start_at is not None and all(isinstance(own, Lengths) for own in table.space.dimensions):
        return start_at(table.space, OBJECTIVES, seed, table.cost)  # type: ignore[no-any-return]
    return config.start(table.space, OBJECTIVES, seed)


def optimism(table: Table, trials: Sequence[Trial]) -> float | None:
    """Mean optimism of the front of these trials, less that of the whole table: one split is easier for all.

    Optimism is the accuracy on the search split less that on the report split.
    """
    if table.report_losses is None:
        return None
    front = [trial for trial, member in zip(trials, nondominated(losses_of(trials)), strict=True) if member]
    report = table.report_losses[[table.rows[trial.key] for trial in front], 0]
    own = float(np.mean(report - losses_of(front)[:, 0]))
    return own - float(np.mean(table.report_losses[:, 0] - table.losses[:, 0]))
