"""Contract suites: tests that a plug-in of your own has to pass, for pytest. A suite is a class to inherit from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from searchkit._internal.checks import lazy_names

if TYPE_CHECKING:
    from searchkit.testing.dimensions import DimensionContract
    from searchkit.testing.engines import EndlessEngineContract, EngineContract
    from searchkit.testing.evaluators import EvaluatorContract
    from searchkit.testing.families import FamilyContract
    from searchkit.testing.heads import HeadContract
    from searchkit.testing.objectives import ObjectiveContract
    from searchkit.testing.recipes import RecipeContract
    from searchkit.testing.scorers import PredictorContract, ScorerContract
    from searchkit.testing.storages import StorageContract
    from searchkit.testing.tasks import TaskContract

_HOME: Final[dict[str, str]] = {
    "DimensionContract": "dimensions",
    "EndlessEngineContract": "engines",
    "EngineContract": "engines",
    "EvaluatorContract": "evaluators",
    "FamilyContract": "families",
    "HeadContract": "heads",
    "ObjectiveContract": "objectives",
    "PredictorContract": "scorers",
    "RecipeContract": "recipes",
    "ScorerContract": "scorers",
    "StorageContract": "storages",
    "TaskContract": "tasks",
}
__all__ = [
    "DimensionContract",
    "EndlessEngineContract",
    "EngineContract",
    "EvaluatorContract",
    "FamilyContract",
    "HeadContract",
    "ObjectiveContract",
    "PredictorContract",
    "RecipeContract",
    "ScorerContract",
    "StorageContract",
    "TaskContract",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
