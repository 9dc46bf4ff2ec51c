"""Engines, which propose candidates. Importing this package loads no optimisation library; starting an engine may."""

from __future__ import annotations

from typing import Final

from searchkit.engines.base import Engine, EngineConfig, PublishedSearch
from searchkit.engines.lat import LAT
from searchkit.engines.nsga2 import NSGA2
from searchkit.engines.optuna import OptunaSampler
from searchkit.engines.pymoo_algorithm import PymooAlgorithm
from searchkit.engines.random import Random
from searchkit.engines.surrogate import Surrogate

ENGINES: Final[
    dict[str, type[LAT] | type[NSGA2] | type[OptunaSampler] | type[PymooAlgorithm] | type[Random] | type[Surrogate]]
] = {
    "lat": LAT,
    "nsga2": NSGA2,
    "optuna": OptunaSampler,
    "pymoo": PymooAlgorithm,
    "random": Random,
    "surrogate": Surrogate,
}

__all__ = [
    "ENGINES",
    "LAT",
    "NSGA2",
    "Engine",
    "EngineConfig",
    "OptunaSampler",
    "PublishedSearch",
    "PymooAlgorithm",
    "Random",
    "Surrogate",
]
