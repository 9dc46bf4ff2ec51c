"""Status of a search as lines of text, from its record, trials and notes alone, also while it is running."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from searchkit.records import Trial
from searchkit.search.failures import grouped


def latest(trials: Iterable[Trial]) -> list[Trial]:
    """Last trial of each candidate: one that failed and was tried again counts by its later outcome."""
    return list({trial.key: trial for trial in trials}.values())


def status_lines(
    record: Mapping[str, Any], trials: Sequence[Trial], *, ended: str | None, in_flight: int | None, seconds: float
) -> Iterator[str]:
    """Lines on the search: its state, its progress, the limit that ended it, and the outcomes of its trials.

    record: of the run's folder; ended, in_flight: notes of its store; seconds: of the search so far
    """
    engine = record["description"].get("engine", {})
    if engine.get("steady"):
        yield f"steady state, {in_flight or 'no'} candidates in flight: {len(trials)} are done"
    elif population := engine.get("population"):
        numbers = {trial.ask.number for trial in trials}
        whole = next(number for number in range(len(numbers) + 1) if number not in numbers) // population
        yield f"generation by generation: {whole} done, of {population} candidates each"
    if "budget" in record:
        yield f"until {record['budget']}"
    worker_s = sum(trial.seconds for trial in trials)
    yield f"{seconds / 3600:.2f} hours, {worker_s / 3600:.2f} worker-hours so far"
    if ended:
        yield f"ended: {ended}"
    for state, count in Counter(trial.status for trial in trials).items():
        yield f"{state}: {count}"
    for group in grouped(trials):
        example = json.dumps(group.example.candidate.to_json())
        yield f"  {group}; the first was ask {group.example.number}, {example}"
