"""Conversion of trials to Optuna's, for optuna-dashboard and the like.

Every trial is stored whole, as the JSON of `Trial.to_json`, in the user attribute `searchkit`; that record alone is
read back. Parameters, values, state, constraints and the other attributes mirror it for optuna-dashboard and Optuna's
own plots.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from searchkit.records import Failed, Measured, Pruned, Scalar, Trial

RECORD: Final = "searchkit"
_LONGEST: Final = 500  # characters of a parameter's name


@dataclass
class Shown:
    """Converter of trials to Optuna's; it may move a parameter to an attribute, but never refuses a trial.

    Optuna's SQL storage insists that a parameter keeps its kind, and a category its choices: the first one counts.
    """

    objectives: tuple[str, ...]
    choices: Mapping[str, Sequence[Scalar]]
    kinds: dict[str, Hashable] = field(default_factory=dict)  # by parameter

    def learn(self, distributions: Mapping[str, BaseDistribution]) -> None:
        for name, distribution in distributions.items():
            self.kinds.setdefault(name, _kind(distribution))

    def frozen(self, trial: Trial) -> FrozenTrial:
        state, values, attributes = self.outcome(trial)
        params: dict[str, Scalar] = {}
        distributions: dict[str, BaseDistribution] = {}
        for name, value, distribution in self._parameters(trial):
            if distribution and self.kinds.setdefault(name, _kind(distribution)) == _kind(distribution):
                params[name], distributions[name] = value, distribution
            else:
                attributes[name] = value
        now = datetime.now()
        return FrozenTrial(
            number=-1,
            trial_id=-1,
            state=state,
            value=None,
            values=values,
            datetime_start=now - timedelta(seconds=trial.seconds),
            datetime_complete=now,
            params=params,
            distributions=distributions,
            user_attrs={RECORD: trial.to_json(), "key": trial.key, **attributes},
            system_attrs=_limits(trial),
            intermediate_values={},
        )

    def outcome(self, trial: Trial) -> tuple[TrialState, list[float] | None, dict[str, Any]]:
        """State, values in the order of the objectives, and attributes that explain a state without values."""
        match trial.outcome:
            case Failed(kind, message):
                return TrialState.FAIL, None, {"failure_kind": kind, "failure_message": message}
            case Pruned(why, examples):
                return TrialState.PRUNED, None, {"pruned_why": why, "pruned_after_examples": examples}
            case Measured(estimates):
                missing = [name for name in self.objectives if name not in estimates]
                if missing:
                    message = f"no value for {', '.join(missing)}"
                    return TrialState.FAIL, None, {"failure_kind": "incomplete", "failure_message": message}
                return TrialState.COMPLETE, [float(estimates[name].value) for name in self.objectives], {}

    def _parameters(self, trial: Trial) -> Iterator[tuple[str, Scalar, BaseDistribution | None]]:
        """Parameters, one per scalar of the candidate; those of a tuple are numbered: lengths_1, lengths_2, ..."""
        for dimension, value in trial.ask.candidate.items:
            if not dimension.isprintable() or len(dimension) > _LONGEST:
                continue  # databases have no such names
            choices = self.choices.get(dimension, ())
            if not isinstance(value, tuple):
                yield dimension, value, _distribution(value, choices)
                continue
            for index, scalar in enumerate(value, start=1):
                yield f"{dimension}_{index}", scalar, _distribution(scalar, choices)


def _distribution(value: Scalar, choices: Sequence[Scalar]) -> BaseDistribution | None:
    """Distribution that contains the value; None for one of unknown choices."""
    if value in choices:
        return CategoricalDistribution(tuple(choices))
    if isinstance(value, bool):
        return CategoricalDistribution((False, True))
    if isinstance(value, int):
        return IntDistribution(min(0, value), max(1, value))
    if isinstance(value, float):
        return FloatDistribution(min(0.0, value), max(1.0, value))
    return None


def _limits(trial: Trial) -> dict[str, Any]:
    """Excess of a candidate beyond its limits, under the keys of Optuna and of optuna-dashboard."""
    excess = {} if isinstance(trial.outcome, Failed) else trial.outcome.excess
    named = {f"constraints:{name}": value for name, value in excess.items()}
    return {"constraints": list(excess.values()), **named} if excess else {}


def _kind(distribution: BaseDistribution) -> Hashable:
    return type(distribution), getattr(distribution, "choices", None)
