"""Searches by other libraries as their users write them, which our engines are measured against.

Each has an engine's interface, but may ask for a candidate again, and is told the outcome that is known.
"""

from __future__ import annotations

from benchmarks.baselines.gaussian_process import GaussianProcess
from benchmarks.baselines.optuna_samplers import OptunaNSGA2, OptunaTPE
from benchmarks.baselines.pymoo_nsga2 import PymooNSGA2

__all__ = ["GaussianProcess", "OptunaNSGA2", "OptunaTPE", "PymooNSGA2"]
