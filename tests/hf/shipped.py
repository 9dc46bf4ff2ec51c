"""Small shipped models for the tests of this folder."""

from __future__ import annotations

from typing import Any

from searchkit.hf.convert import shipped_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.plan_record import record_of
from tests.reduction.models import LAYERS

LIKE = Reducer(TopK(ratio=1.0), site="after_layer")
PLANS: dict[str, ReductionPlan] = {
    "half": ReductionPlan.of_lengths((0.8, 0.5, 0.3)),
    "few": ReductionPlan.of_lengths((0.4, 0.2, 0.1)),
    "far": ReductionPlan.of_slots(LIKE, LAYERS, lengths=(0.9, 0.7, 0.6)),
}
ONE, EIGHT = ({"device": "cpu", "dtype": "float32", "threads": 1, "batch": batch} for batch in (1, 8))


def measured(accuracy: float, macs: float, ms: float) -> dict[str, Any]:
    return {
        "quality": {"accuracy": {"value": accuracy, "standard_error": 0.01, "goal": "max"}},
        "macs": macs,
        "latency": [
            {"setting": dict(ONE), "ms": ms, "speedup": 8 / ms},
            {"setting": dict(EIGHT), "ms": 5 * ms, "speedup": 8 / ms},
        ],
    }


MEASURED = {"half": measured(0.88, 0.6, 5.0), "few": measured(0.80, 0.3, 3.0), "far": measured(0.90, 0.8, 7.0)}


def notes(plans: dict[str, ReductionPlan] = PLANS, plan: str = "half") -> dict[str, Any]:
    """The entry `searchkit` of a config."""
    entries = {key: {"plan": record_of(given), "measured": MEASURED.get(key, {})} for key, given in plans.items()}
    return {"format": 1, "plan": plan, "plans": entries, "sep_token_id": 3}


def shipped(model: AdaptiveModel, plans: dict[str, ReductionPlan] = PLANS, plan: str = "half") -> Any:
    return shipped_model(model, notes(plans, plan))
