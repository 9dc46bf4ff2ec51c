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
    in_turns = [objective for objective in objectives if objective.together is not None]
    if in_turns:
        others = [objective for objective in objectives if objective.together is None]
        yield from add(list(measure_together(asks, bench, others, race)), bench, in_turns)
        return
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


def add(trials: Sequence[Trial], bench: Bench, objectives: Sequence[Objective]) -> list[Trial]:
    """The trials with these objectives added where they were measured, all at once where an objective can do that."""
    done = list(trials)
    for objective in objectives:
        measured = [trial for trial in done if isinstance(trial.outcome, Measured)]
        found = _together(measured, bench, objective) if len(measured) > 1 else {}
        done = [found.get(one.key) or measure(one.ask, bench, [objective], one) for one in done]
    return done


def _together(trials: Sequence[Trial], bench: Bench, objective: Objective) -> dict[str, Trial]:
    """The trials by key with the objective added to all; none where it cannot, or where one of them fails."""
    if objective.together is None:
        return {}
    start = time.perf_counter()
    try:
        found = objective.together([bench.subject(trial.ask.candidate) for trial in trials])
        estimates = [_finite(objective.name, estimate) for estimate in found]
    except StudyError:
        raise
    except Exception:
        log.warning("%s of %d candidates fails together; now one by one", objective.name, len(trials), exc_info=True)
        return {}
    share = (time.perf_counter() - start) / len(trials)
    added = {}
    for trial, estimate in zip(trials, estimates, strict=True):
        assert isinstance(trial.outcome, Measured)
        known = {**trial.outcome.estimates, objective.name: estimate}
        limits = (one for one in bench.constraints if one.objective.name == objective.name)
        broken = next(filter(None, (limit.broken_by(estimate.value) for limit in limits)), None)
        outcome = Pruned(broken, max(estimate.n, 1)) if broken else Measured(known)
        added[trial.key] = replace(trial, outcome=outcome, seconds=trial.seconds + share)
    return added


def neighbours(asks: Sequence[Ask], sizes: Sequence[int]) -> list[tuple[Ask, ...]]:
    """Groups of these sizes; asks that agree from the first place on come together, since they share prefixes."""

    def places(ask: Ask) -> list[tuple[str, ...]]:
        values = [value if isinstance(value, tuple) else (value,) for _, value in ask.candidate.items]
        return [tuple(map(str, place)) for place in itertools.zip_longest(*values)]

    order = iter(sorted(asks, key=places))
    return [group for size in sizes if (group := tuple(itertools.islice(order, size)))]


def even(count: int, groups: int) -> list[int]:
    """Sizes of at most `groups` even groups."""
    return [count // groups + (number < count % groups) for number in range(min(groups, count))]


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
            name = constraint.objective.name
            if name not in estimates and constraint.objective.exclusive:
                continue  # it is timed in turns later on
            estimate = estimates.get(name) or _finite(name, constraint.objective.measure(subject))
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
