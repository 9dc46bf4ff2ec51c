"""searchkit: train a length-adaptive encoder once, search its token lengths, measure honestly, ship the best point.

The public names load on first use, so that `import searchkit` stays light (no torch, ray, optuna, pymoo, matplotlib).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from searchkit._internal.checks import lazy_names

if TYPE_CHECKING:
    from searchkit.engines import NSGA2, OptunaSampler, PymooAlgorithm, Random, Surrogate
    from searchkit.errors import DataError, SearchkitError, StoreError, StudyError, TrialError
    from searchkit.evaluate.racing import Racing
    from searchkit.front import Front
    from searchkit.hf.loading import load
    from searchkit.objective import Constraint, Objective
    from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
    from searchkit.reduction.plugins import register
    from searchkit.report.results import Results
    from searchkit.runs.python import open, run
    from searchkit.runs.run import Run
    from searchkit.search.budget import Budget, Plateau
    from searchkit.space import Choice, Integer, Lengths, Space, Thresholds
    from searchkit.study import Study
    from searchkit.training.rivals import Depth
    from searchkit.training.scratch import Scratch
    from searchkit.training.supernet import Supernet

__version__ = "0.1.0"

_HOME: Final[dict[str, str]] = {
    "Ask": "records",
    "Budget": "search.budget",
    "Candidate": "records",
    "Choice": "space",
    "Constraint": "objective",
    "DataError": "errors",
    "Depth": "training.rivals",
    "Estimate": "records",
    "Failed": "records",
    "Front": "front",
    "Integer": "space",
    "Lengths": "space",
    "Measured": "records",
    "NSGA2": "engines",
    "Objective": "objective",
    "OptunaSampler": "engines",
    "Plateau": "search.budget",
    "Pruned": "records",
    "PymooAlgorithm": "engines",
    "Racing": "evaluate.racing",
    "Random": "engines",
    "Scratch": "training.scratch",
    "Results": "report.results",
    "Run": "runs.run",
    "SearchkitError": "errors",
    "Space": "space",
    "StoreError": "errors",
    "Study": "study",
    "StudyError": "errors",
    "Supernet": "training.supernet",
    "Surrogate": "engines",
    "Thresholds": "space",
    "Trial": "records",
    "TrialError": "errors",
    "load": "hf.loading",
    "open": "runs.python",
    "register": "reduction.plugins",
    "run": "runs.python",
}
__all__ = [
    "NSGA2",
    "Ask",
    "Budget",
    "Candidate",
    "Choice",
    "Constraint",
    "DataError",
    "Depth",
    "Estimate",
    "Failed",
    "Front",
    "Integer",
    "Lengths",
    "Measured",
    "Objective",
    "OptunaSampler",
    "Plateau",
    "Pruned",
    "PymooAlgorithm",
    "Racing",
    "Random",
    "Results",
    "Run",
    "Scratch",
    "SearchkitError",
    "Space",
    "StoreError",
    "Study",
    "StudyError",
    "Supernet",
    "Surrogate",
    "Thresholds",
    "Trial",
    "TrialError",
    "load",
    "open",
    "register",
    "run",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)
