"""Tables of a search: data frames and files. One row per candidate."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.files import replace_whole
from searchkit._internal.plain_texts import is_converted
from searchkit.objective import Objective
from searchkit.records import Z_95, Candidate, Estimate, Failed, Measured, Pruned, Scalar, Trial
from searchkit.report.environment import in_short
from searchkit.report.paired import Difference, difference, front_probabilities
from searchkit.report.results import UNREDUCED, Results
from searchkit.report.summary import summary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["baselines_frame", "front_frame", "summary", "trials_frame", "write"]

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")  # first characters of a text that a spreadsheet runs as a formula
SHOWN_DECIMALS: Final = 3  # decimals in the terminal; the files hold all


def front_frame(results: Results) -> pd.DataFrame:
    """Table of the front: one row per member, cheapest first.

    Columns: key, the candidate (lengths_1, ...), `<objective>_<split>` with `_se` (standard error), `_n` (examples),
    `_low` and `_high` (95 % interval) for both splits, `<objective>_optimism` (search minus report, of objectives that
    are better when higher), `<objective>_difference` with `_low` and `_high` (paired, report minus unreduced model),
    `front_probability`, objectives of the front only, what stands beside the report estimates, named after its
    objective, and the environment that each split was measured in, with its fingerprint.
    """
    chances = front_probabilities(results)
    return _frame([_front_row(results, trial, chances) for trial in results.members], _front_columns(results))


def trials_frame(results: Results) -> pd.DataFrame:
    """Table of the trials on the search split: one row each, by ask number; failed and pruned ones with the reason."""
    members = {trial.key for trial in results.front}
    rows = [_trial_row(trial, results.objectives, trial.key in members) for trial in results.trials]
    return _frame(rows, ["number", "key", "status", "on_front", *_OUTCOME_COLUMNS])


def baselines_frame(results: Results) -> pd.DataFrame:
    """Table of the baselines on the report split: one row each; columns as in the front, after the family."""
    every = [(family, trial) for family, trials in results.baselines.items() for trial in trials]
    dimensions = dict.fromkeys(
        name for _, trial in every for name in _candidate(trial.ask.candidate) if name != "baseline"
    )
    return _frame(
        [{"family": family, **_baseline_row(results, trial, dimensions)} for family, trial in every], ["family"]
    )


def write(results: Results, folder: Path) -> None:
    """Write front and baselines as .csv and .parquet, trials.parquet and summary.json; StoreError if unwritable."""
    front, trials, baselines = front_frame(results), trials_frame(results), baselines_frame(results)
    replace_whole(folder / "front.csv", csv_of(front))
    replace_whole(folder / "front.parquet", _parquet(front))
    replace_whole(folder / "baselines.csv", csv_of(baselines))
    replace_whole(folder / "baselines.parquet", _parquet(baselines))
    replace_whole(folder / "trials.parquet", _parquet(trials))
    text = json.dumps(summary(results), indent=2, allow_nan=False, ensure_ascii=False)
    replace_whole(folder / "summary.json", (text + "\n").encode(errors="backslashreplace"))


def csv_of(frame: pd.DataFrame) -> bytes:
    """The table for pandas and spreadsheets: texts that these would run as formulas, or turn into numbers, dates, flags
    or gaps, begin with an apostrophe; numbers stay.
    """

    texts = {str(name): frame[name].map(_inert) for name in frame.select_dtypes(["str", "object"])}
    return frame.assign(**texts).rename(columns=_no_formula).to_csv(index=False).encode()


def _no_formula(text: Any) -> Any:
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA) else text


def _inert(text: Any) -> Any:
    return f"'{text}" if isinstance(text, str) and is_converted(text) else _no_formula(text)


def plus_minus(estimate: Estimate | None) -> str:
    """Format `0.874 ± 0.011`: the error with one digit or two, the value to match; tiny errors are left out."""
    if estimate is None:
        return "-"
    digits = decimals(estimate.standard_error)
    if digits is None or digits > SHOWN_DECIMALS:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.{digits}f} ± {estimate.standard_error:.{digits}f}"


def decimals(error: float | None) -> int | None:
    """Number of decimals that a standard error leaves meaningful: it is 3 to 30 of the last one. None without error."""
    if error is None or not math.isfinite(error) or error <= 0:
        return None
    return min(9, max(0, -math.floor(math.log10(error / 3))))


def with_interval(difference: Difference | None) -> str:
    """Format `-0.021 (-0.034, -0.008)`, with the interval's decimals; without one `-0.0210`."""
    if difference is None:
        return "-"
    if difference.low is None or difference.high is None:
        return f"{difference.value:+.4f}"
    digits = decimals((difference.high - difference.low) / (2 * Z_95))
    value, low, high = (f"{number:+.{digits or 1}f}" for number in (difference.value, difference.low, difference.high))
    return f"{value} ({low}, {high})"


def shown_difference(results: Results) -> list[Objective]:
    """Objective whose difference to the unreduced model is shown to readers: the quality, where there is one."""
    known = results.quality in objectives_with_optimism(results) and results.baselines.get(UNREDUCED)
    return [results.quality] if known else []


def values(results: Results, measured: Trial | None) -> list[str]:
    """Cells of a trial on the report split, one for each objective."""
    return [plus_minus(estimate_of(measured, item)) for item in results.all_objectives]


def objectives_with_optimism(results: Results) -> list[Objective]:
    """Objectives whose search value is optimistic, being selected on few examples: those better when higher."""
    return [objective for objective in results.objectives if objective.better == "higher"]


def optimism_of(search: Estimate | None, report: Estimate | None) -> float | None:
    return None if search is None or report is None else search.value - report.value


def estimate_of(trial: Trial | None, objective: Objective) -> Estimate | None:
    return trial.estimates.get(objective.name) if trial else None


def _candidate(candidate: Candidate) -> dict[str, Scalar]:
    """Columns of a candidate, one per scalar; those of a tuple are numbered from 1."""
    row: dict[str, Scalar] = {}
    for dimension, value in candidate.items:
        if isinstance(value, tuple):
            row |= {f"{dimension}_{index}": scalar for index, scalar in enumerate(value, start=1)}
        else:
            row[dimension] = value
    return row


def _front_row(results: Results, trial: Trial, chances: Mapping[str, float]) -> dict[str, Any]:
    measured = results.report.get(trial.key)
    row: dict[str, Any] = {"key": trial.key, **_candidate(trial.ask.candidate)}
    row |= {"chosen_as": results.chosen_as(trial.key), "on_front": trial in results.reported_front}
    for objective in results.objectives:
        row |= _columns(f"{objective.name}_search", estimate_of(trial, objective))
        row |= _columns(f"{objective.name}_report", estimate_of(measured, objective))
    for objective in objectives_with_optimism(results):
        row[f"{objective.name}_optimism"] = optimism_of(estimate_of(trial, objective), estimate_of(measured, objective))
    for objective in results.objectives:
        row |= _against(f"{objective.name}_difference", difference(results, trial, objective))
    row["front_probability"] = chances.get(trial.key)
    for objective in results.front_objectives:
        row |= _columns(f"{objective.name}_report", estimate_of(measured, objective))
    for objective in results.all_objectives:
        row |= beside(objective, estimate_of(measured, objective))
    return row | {"environment_search": _environment(trial), "environment_report": _environment(measured)}


def _baseline_row(results: Results, trial: Trial, dimensions: Mapping[str, None]) -> dict[str, Any]:
    """told: names of the candidate's columns"""
    candidate = _candidate(trial.ask.candidate)
    row: dict[str, Any] = {"key": trial.key, **{name: candidate.get(name) for name in dimensions}}
    objectives = results.all_objectives
    for objective in objectives:
        row |= _columns(f"{objective.name}_report", estimate_of(trial, objective))
    for objective in objectives:
        row |= beside(objective, estimate_of(trial, objective))
    return row | {"environment_report": _environment(trial)}


def _environment(trial: Trial | None) -> str | None:
    """Environment as text, since a fingerprint of digits alone reads as a number; `summary.json` has all of it."""
    return in_short(trial.environment) if trial and trial.environment else None


def _front_columns(results: Results) -> list[str]:
    """Columns of the front, also without a row."""
    splits = [f"{objective.name}_{split}" for objective in results.objectives for split in ("search", "report")]
    return ["key", *(column for name in splits for column in _columns(name, None))]


def _columns(name: str, estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return dict.fromkeys([name, f"{name}_se", f"{name}_n", f"{name}_low", f"{name}_high"])
    low, high = estimate.interval or (None, None)
    return {
        name: estimate.value,
        f"{name}_se": estimate.standard_error,
        f"{name}_n": estimate.n,
        f"{name}_low": low,
        f"{name}_high": high,
    }


def _against(name: str, difference: Difference | None) -> dict[str, float | None]:
    if difference is None:
        return dict.fromkeys([name, f"{name}_low", f"{name}_high"])
    return {name: difference.value, f"{name}_low": difference.low, f"{name}_high": difference.high}


def beside(objective: Objective, estimate: Estimate | None) -> dict[str, float]:
    """Further figures of a value, named after its objective where they do not begin with it already."""
    figures = estimate.beside if estimate else {}
    prefix = f"{objective.name}_"
    return {name if name.startswith(prefix) else prefix + name: value for name, value in figures.items()}


_TEXTS = (
    "family",
    "key",
    "status",
    "failure_kind",
    "failure_message",
    "pruned_why",
    "environment_search",
    "environment_report",
)
_OUTCOME_COLUMNS = ("failure_kind", "failure_message", "pruned_why", "pruned_after_examples", "seconds")


def _trial_row(trial: Trial, objectives: Sequence[Objective], on_front: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"number": trial.ask.number, "key": trial.key, "status": trial.status, "on_front": on_front}
    row |= _candidate(trial.ask.candidate)
    for objective in objectives:
        row |= _columns(objective.name, estimate_of(trial, objective))
    row |= dict.fromkeys(_OUTCOME_COLUMNS)
    match trial.outcome:
        case Failed(kind, message):
            row |= {"failure_kind": kind, "failure_message": message}
        case Pruned(why, examples):
            row |= {"pruned_why": why, "pruned_after_examples": examples}
        case Measured():
            pass
    return row | {"seconds": trial.seconds}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Make a frame with columns in the order of the rows; integers stay integers where some are missing."""
    import pandas as pd

    every = list(dict.fromkeys(name for row in rows for name in row)) or list(columns)
    return pd.DataFrame({_utf8(name): _series(name, [row.get(name) for row in rows]) for name in every})


def _series(name: str, values: Sequence[Any]) -> pd.Series[Any]:
    """Make a column of one type: floats where one is a float; of other mixtures every value is JSON text."""
    import pandas as pd

    kinds = {_kind(value) for value in values if value is not None} or {_kind_of_gaps(name)}
    if kinds == {"Int64", "float64"}:
        kinds = {"float64"}
    if len(kinds) > 1:
        return pd.Series([None if value is None else json.dumps(value) for value in values], dtype="str")
    kind = kinds.pop()
    return pd.Series([_utf8(value) for value in values] if kind == "str" else list(values), dtype=kind)


def _kind_of_gaps(name: str) -> str:
    """Type of a column without a value."""
    if name in _TEXTS:
        return "str"
    return "Int64" if name.endswith("_n") or name == "pruned_after_examples" else "float64"


def _utf8(text: Any) -> Any:
    """Text in which lone surrogates, which no file can hold, are spelt out."""
    return text if text is None else text.encode(errors="backslashreplace").decode()


def _kind(value: Scalar) -> str:
    """Type of a column that holds the value and gaps."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int) and abs(value) < 2**63:
        return "Int64"
    return "str" if isinstance(value, str) else "float64"


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
