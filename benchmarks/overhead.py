"""Benchmark of the search's own cost per evaluation: engine, store and evaluator with a free objective."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.result import finish
from searchkit import NSGA2, Budget, Candidate, Estimate, Lengths, Objective, Space
from searchkit.evaluate.base import Evaluator, Prepared
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.racing import RaceState
from searchkit.evaluate.ray import Ray
from searchkit.records import Scalar
from searchkit.search.budget import Account
from searchkit.search.generational import search
from searchkit.storage.store import Store

SPACE = Space(Lengths(levels=16)).bound(6)
POPULATION = 24


@dataclass(frozen=True)
class Free:
    """A bench, and its own workbench: a candidate is its own subject."""

    @property
    def environment(self) -> Mapping[str, Scalar]:
        return {"device": "none"}

    def build(self) -> Any:
        return self

    def resolved_constraints(self) -> tuple[()]:
        return ()

    def prepare(self, candidates: Sequence[Any], race: RaceState | None = None) -> Prepared:
        """Prepare nothing: no prefix is shared, no candidate stopped."""
        return Prepared({}, {candidate.key: candidate for candidate in candidates})

    def subject(self, candidate: Candidate) -> Any:
        return candidate


def _quality(candidate: Candidate) -> Estimate:
    lengths = candidate["lengths"]
    assert isinstance(lengths, tuple)
    loss = sum((1 - float(length or 0)) ** 2 / (layer + 1) for layer, length in enumerate(lengths))
    return Estimate(1 - loss / 3, 0.01, 1000)


def _cost(candidate: Candidate) -> Estimate:
    lengths = candidate["lengths"]
    assert isinstance(lengths, tuple)
    return Estimate(sum(float(length or 0) for length in lengths) / len(lengths), 0.0, 1000)


OBJECTIVES = (
    Objective("quality", "fraction", "higher", _quality),  # type: ignore[arg-type]
    Objective("cost", "of unreduced", "lower", _cost),  # type: ignore[arg-type]
)


def milliseconds(evaluator: Evaluator, evaluations: int) -> float:
    """Per evaluation, with the journal on a real disk."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        store = Store.open(str(Path(folder) / "journal.log"), "overhead", OBJECTIVES)
        engine = NSGA2(population=POPULATION).start(SPACE, OBJECTIVES, seed=0)
        start = time.perf_counter()
        account = Account(Budget(evaluations), OBJECTIVES)
        done = search(engine, evaluator, store, account, population=POPULATION)
        assert len(done) == evaluations
        return (time.perf_counter() - start) * 1e3 / evaluations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000])
    sizes = parser.parse_args().sizes
    with Inline(Free(), OBJECTIVES) as inline:
        inline_ms = {size: round(milliseconds(inline, size), 3) for size in sizes}
    with Ray(Free(), OBJECTIVES, workers=2) as ray:
        milliseconds(ray, 100)  # the first calls start processes
        ray_ms = {size: round(milliseconds(ray, size), 3) for size in sizes}
    finish("overhead", {"inline_ms": inline_ms, "ray_ms": ray_ms})


if __name__ == "__main__":
    main()
