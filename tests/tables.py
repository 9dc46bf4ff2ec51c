"""A small table of a space of 126 candidates, made up: the early layers matter most, and the last is idle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.tables import Table
from benchmarks.tables.make import write
from searchkit.records import Candidate
from searchkit.space import Lengths, Space, Thresholds

LENGTHS = Space(Lengths(levels=6)).bound(5, last_idle=True)
JOINT = Space(Lengths(levels=3), Thresholds("probability", levels=[0.5])).bound(4, last_idle=True)


def table(folder: Path, name: str = "small", space: Space = LENGTHS) -> Table:
    """Write the table to the folder, and read it."""
    candidates = list(space.all())
    quality, costs = (np.array([of(candidate) for candidate in candidates]) for of in (_quality, _cost))
    rng = np.random.default_rng(0)
    splits = {split: (rng.random(examples) < quality[:, None], costs) for split, examples in SPLITS.items()}
    about = {
        "space": space.describe(),
        "examples": SPLITS["search"],
        "report_examples": SPLITS["report"],
        "chance": 0.5,
    }
    write(folder / f"{name}.parquet", candidates, splits, about)
    return Table.read(name, folder)


SPLITS = {"search": 400, "report": 500}


def _kept(candidate: Candidate) -> list[float]:
    """Share of the tokens that every layer keeps."""
    lengths = candidate["lengths"]
    assert isinstance(lengths, tuple)
    values = dict(candidate.items)
    thresholds = values.get("thresholds", (0.0,) * len(lengths))
    assert isinstance(thresholds, tuple)
    return [float(kept or 0) * (0.8 if off else 1.0) for kept, off in zip(lengths, thresholds, strict=True)]


def _quality(candidate: Candidate) -> float:
    kept = _kept(candidate)
    return 0.9 - 0.35 * float(np.mean([(1 - share) ** 2 / (layer + 1) for layer, share in enumerate(kept)]))


def _cost(candidate: Candidate) -> float:
    return float(np.mean([1.0, *_kept(candidate)[:-1]]))
