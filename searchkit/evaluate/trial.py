"""An ask becomes a trial: every way in which a candidate can fail turns into an outcome here, and nowhere else."""

from __future__ import annotations

import itertools
import logging
import math
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from searchkit.errors import StudyError, TrialError
from searchkit.evaluate.base import Bench
from searchkit.records import Ask, Estimate, Failed, Measured, Outcome, Pruned, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import Race
    from searchkit.objective import Objective


log = logging.getLogger(__name__)


def measure_together(
    asks: Sequence[Ask], bench: Bench, objectives: Sequence[Objective], race: Race | None = None
) -> Iterator[Trial]:
    """Measure all asks, which may share computation; the time it takes is spread over them evenly."""
    start = time.perf_counter()
    lost: Mapping[str, Pruned] = {}
    try:
        lost = bench.prepare([ask.candidate for ask in asks], race)
    except StudyError:
        raise
    except Exception:  # of one of them or of all at once: alone, each has its own outcome
        if len(asks) > 1:
            log.warning("%d candidates cannot be computed together; now one by one", len(asks), exc_info=True)
            for ask in asks:
                yield from measure_together([ask], bench, objectives, race)
            return
    share = (time.perf_counter() - start) / max(len(asks), 1)
    for ask in asks:
        if ask.key in lost:
            yield Trial(ask, lost[ask.key], share, dict(bench.environment))
        else:
            trial = measure(ask, bench, objectives, race=race)
            yield replace(trial, seconds=trial.seconds + share)


def neighbours(asks: Sequence[Ask], groups: int) -> list[tuple[Ask, ...]]:
    """At most `groups` even groups; asks that agree from the first place on come together: they share prefixes."""

    def places(ask: Ask) -> list[tuple[str, ...]]:
        values = [value if isinstance(value, tuple) else (value,) for _, value in ask.candidate.items]
        return [tuple(map(str, place)) for place in itertools.zip_longest(*values)]

    order = sorted(asks, key=places)
    size = max(1, -(-len(order) // max(groups, 1)))
    return [tuple(order[start : start + size]) for start in range(0, len(order), size)]


def measure(
    ask: Ask, bench: Bench, objectives: Iterable[Objective], before: Trial | None = None, race: Race | None = None
) -> Trial:
    """Measure `objectives` on the ask's candidate; with `before`, add them to what that trial already measured.

    In a race, with the examples that make the trial a rival.
    """
    start = time.perf_counter()
    known = before.outcome if before else None
    if known is not None and not isinstance(known, Measured):
        assert before is not None
        return before
    examples: dict[str, Any] = {}
    outcome = _outcome(ask, bench, objectives, dict(known.estimates) if known else {}, race, examples)
    seconds = time.perf_counter() - start + (before.seconds if before else 0.0)
    return Trial(ask, outcome, seconds, dict(bench.environment), examples)


def _outcome(
    ask: Ask,
    bench: Bench,
    objectives: Iterable[Objective],
    estimates: dict[str, Estimate],
    race: Race | None,
    examples: dict[str, Any],
) -> Outcome:
    try:
        subject = bench.subject(ask.candidate)
        for objective in objectives:
            estimates[objective.name] = _finite(objective.name, objective.measure(subject))
        for constraint in bench.constraints:
            known = estimates.get(constraint.objective.name)
            estimate = known or _finite(constraint.objective.name, constraint.objective.measure(subject))
            if broken := constraint.broken_by(estimate.value):
                return Pruned(broken, max(estimate.n, 1))
        examples.update(race.outcomes(subject) if race else {})
    except StudyError:
        raise  # the study is wrong, not the candidate: no other candidate would fare better
    except TrialError as error:
        return Failed(error.kind, str(error), traceback.format_exc())
    except MemoryError as error:
        return Failed("out-of-memory", str(error) or "out of memory", traceback.format_exc())
    except Exception as error:
        kind = "out-of-memory" if type(error).__name__ == "OutOfMemoryError" else "exception"
        return Failed(kind, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Measured(estimates)


def _finite(name: str, estimate: Any) -> Estimate:
    if not isinstance(estimate, Estimate):
        raise TrialError(f"objective {name!r} must return an Estimate, got {type(estimate).__name__}")
    if not math.isfinite(estimate.value):
        raise TrialError(f"objective {name!r} is {estimate.value}", kind="nan")
    beside: Mapping[str, float] = {key: float(value) for key, value in estimate.beside.items() if math.isfinite(value)}
    error = estimate.standard_error
    return replace(
        estimate,
        value=float(estimate.value),
        standard_error=float(error) if error is not None and math.isfinite(error) else None,
        n=int(estimate.n),
        beside=beside,
    )
