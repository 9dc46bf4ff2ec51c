"""Checks of an objective's result before it is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Final

from searchkit.errors import TrialError
from searchkit.records import Estimate

ROUNDING: Final = 1e-9  # a value may lie outside its interval by this share of its magnitude


def checked_estimate(name: str, result: Any) -> Estimate:
    """Estimate in plain Python numbers; TrialError (kind "nan" for a value that is not finite) if it is not valid.

    A standard error or a figure beside the value that is not finite is left out: it is not known.
    """
    if not isinstance(result, Estimate):
        raise TrialError(f"objective {name!r} must return an Estimate, got {type(result).__name__}")
    value = _number(name, "value", result.value)
    if not math.isfinite(value):
        raise TrialError(f"objective {name!r} is {value}", kind="nan")
    return replace(
        result,
        value=value,
        standard_error=_standard_error(name, result.standard_error),
        n=_count(name, result.n),
        beside=_figures(name, result.beside),
        resamples=_resamples(name, result.resamples),
        **_interval(name, value, result),
    )


def _number(name: str, field: str, value: Any) -> float:
    if type(value) is float:  # nearly always; the test of an abstract class takes longer than all others here
        return value
    if not isinstance(value, Real) or value is True or value is False:
        raise TrialError(f"objective {name!r}: {field} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise TrialError(f"objective {name!r}: {field} is larger than a float can hold") from None


def _standard_error(name: str, value: Any) -> float | None:
    error = None if value is None else _number(name, "standard_error", value)
    if error is None or not math.isfinite(error):
        return None
    if error < 0:
        raise TrialError(f"objective {name!r}: standard_error must be 0 or more, got {error:g}")
    return error


def _count(name: str, value: Any) -> int:
    if type(value) is int and value >= 1:
        return value
    if not isinstance(value, Integral) or value is True or value < 1:
        raise TrialError(f"objective {name!r}: n must be a whole number of 1 or more, got {value!r}")
    return int(value)


def _figures(name: str, beside: Any) -> dict[str, float]:
    if not isinstance(beside, dict | Mapping) or not all(isinstance(key, str) for key in beside):
        raise TrialError(f"objective {name!r}: beside must map names to numbers, got {beside!r}")
    figures = {key: _number(name, f"beside[{key!r}]", value) for key, value in beside.items()}
    return {key: value for key, value in figures.items() if math.isfinite(value)}


def _resamples(name: str, values: Any) -> tuple[float | None, ...]:
    if not isinstance(values, tuple | list):
        raise TrialError(f"objective {name!r}: resamples must be a tuple of numbers, got {type(values).__name__}")
    figures = [None if value is None else _number(name, "resamples", value) for value in values]
    return tuple(None if value is None or not math.isfinite(value) else value for value in figures)


def _interval(name: str, value: float, estimate: Estimate) -> dict[str, float | None]:
    if estimate.low is None or estimate.high is None:
        return {"low": None, "high": None}
    low, high = _number(name, "low", estimate.low), _number(name, "high", estimate.high)
    slack = ROUNDING * max(1.0, abs(value))
    if not low - slack <= value <= high + slack:
        raise TrialError(f"objective {name!r}: the interval must hold the value {value:g}, got {low:g} to {high:g}")
    return {"low": low, "high": high}
