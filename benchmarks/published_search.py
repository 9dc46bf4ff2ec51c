"""Seconds of the published search, and of ours until it has found as much: evaluations on tables, times seconds each.

Evaluations are counted on the complete tables of `benchmarks.tables`; what one takes, as published and by shared
computation, is what `benchmarks.search_speed` measured on the same data. Our engine's own time is added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks.result import ROOT
from benchmarks.tables import Table
from benchmarks.tables.search import Search, search
from searchkit.engines import LAT

DATA: Final = {"sst2": "sst2_sentences", "imdb": "imdb"}  # table -> data of search_speed
SPEED: Final = ROOT / "benchmarks" / "results" / "search_speed.json"


def figures_of(table: Table, ours: Sequence[Search]) -> dict[str, Any] | None:
    """Figures of one table with our searches of it; None where the seconds of its data were never measured."""
    if table.name not in DATA:
        return None
    measured = json.loads(SPEED.read_text())["figures"][DATA[table.name]]
    seconds: Mapping[str, float] = measured["seconds_per_candidate"]
    published = LAT()
    whole = search(table, published, 0, published.evaluations)
    share = float(whole.share[-1])
    evaluations = int(np.argmax(whole.share >= share)) + 1  # those after it changed nothing, and are not counted
    own = float(np.median([one.to(share) for one in ours]))
    ask = float(np.median([one.ask_ms for one in ours])) / 1e3
    took = {"published": evaluations * seconds["published"], "ours": own * (seconds["shared"] + ask)}
    return {
        "share": round(share, 4),
        "evaluations": {"published": evaluations, "ours": own},
        "seconds": {name: round(value, 2) for name, value in took.items()},
        "published_over_ours": round(took["published"] / took["ours"], 1),
    }
