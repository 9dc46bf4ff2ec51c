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
from searchkit.records import Ask, Estimate, Failed, Measured, Outcome, Pruned, Scalar, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Objective


log = logging.getLogger(__name__)


def measure_together(
    asks: Sequence[Ask], bench: Bench, objectives: Sequence[Objective], race: RaceState | None = None
) -> Iterator[Trial]:
    """Measure all asks, which may share computation; the time it takes is spread over them evenly."""
    in_turns = [objective for objective in objectives if objective.together is not None]
    if in_turns:
        others = [objective for objective in objectives if objective.together is None]
        yield from add(list(measure_together(asks, bench, others, race)), bench, in_turns)
        return
    start = time.perf_counter()
    lost, error = _prepared(asks, bench, race)
    if error and len(asks) > 1:  # of one of them or of all at once: alone, each has its own outcome
        log.warning("%d candidates cannot be computed together; now one by one\n%s", len(asks), error.trace)
        for ask in asks:
            yield from measure_together([ask], bench, objectives, race)
        return
    if error and error.kind == "out-of-memory":
        bench = bench.smaller()
        lost, _ = _prepared(asks, bench, race)
    share = (time.perf_counter() - start) / max(len(asks), 1)
    for ask in asks:
        if ask.key in lost:
            yield Trial(ask, lost[ask.key], share, dict(bench.environment))
        else:
            trial = measure(ask, bench, objectives, race=race)
            yield replace(trial, seconds=trial.seconds + share)


def _prepared(asks: Sequence[Ask], bench: Bench, race: RaceState | None) -> tuple[Mapping[str, Pruned], Failed | None]:
    """The verdict on those that need not be measured, or what went wrong: as a record, which holds no memory."""
    try:
        return bench.prepare([ask.candidate for ask in asks], race), None
    except StudyError:
        raise
    except Exception as error:
        return {}, _failed(error)


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
        limits = [one for one in bench.constraints if one.objective.name == objective.name]
        broken = next(filter(None, (limit.verdict(estimate.value, max(estimate.n, 1)) for limit in limits)), None)
        excess = {objective.name: max(limit.excess(estimate.value) for limit in limits)} if limits else {}
        outcome = broken or Measured(known, {**trial.outcome.excess, **excess})
        added[trial.key] = replace(trial, outcome=outcome, seconds=trial.seconds + share)
    return added


def layer_values(ask: Ask) -> Iterator[tuple[Scalar, ...]]:
    """What decides each layer, first layer first; of a scalar, which decides all of them, in the first place."""
    values = [value if isinstance(value, tuple) else (value,) for _, value in ask.candidate.items]
    return itertools.zip_longest(*values)


def neighbours(asks: Sequence[Ask], sizes: Sequence[int]) -> list[tuple[Ask, ...]]:
    """Groups of these sizes; asks that agree from the first place on come together, since they share prefixes."""

    order = iter(sorted(asks, key=lambda ask: [tuple(map(str, value)) for value in layer_values(ask)]))
    return [group for size in sizes if (group := tuple(itertools.islice(order, size)))]


def even(count: int, groups: int) -> list[int]:
    """Sizes of at most `groups` even groups."""
    return [count // groups + (number < count % groups) for number in range(min(groups, count))]


def measure(
    ask: Ask, bench: Bench, objectives: Iterable[Objective], before: Trial | None = None, race: RaceState | None = None
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
    estimates = dict(known.estimates) if known else {}
    outcome = _outcome(ask, bench, objectives, dict(estimates), race, examples)
    if isinstance(outcome, Failed) and outcome.kind == "out-of-memory":
        log.warning("out of memory, now in smaller batches: %s", outcome.message)
        outcome = _outcome(ask, bench.smaller(), objectives, estimates, race, examples)
        outcome = replace(outcome, attempts=2) if isinstance(outcome, Failed) else outcome
    seconds = time.perf_counter() - start + (before.seconds if before else 0.0)
    return Trial(ask, outcome, seconds, dict(bench.environment), examples)


def _outcome(
    ask: Ask,
    bench: Bench,
    objectives: Iterable[Objective],
    estimates: dict[str, Estimate],
    race: RaceState | None,
    examples: dict[str, Any],
) -> Outcome:
    excess: dict[str, float] = {}
    try:
        subject = bench.subject(ask.candidate)
        for objective in objectives:
            estimates[objective.name] = _finite(objective.name, objective.measure(subject))
        for constraint in bench.constraints:
            name = constraint.objective.name
            if name not in estimates and constraint.objective.exclusive:
                continue  # it is timed in turns later on
            estimate = estimates.get(name) or _finite(name, constraint.objective.measure(subject))
            if broken := constraint.verdict(estimate.value, max(estimate.n, 1)):
                return broken
            excess[name] = max(constraint.excess(estimate.value), excess.get(name, -math.inf))
        examples.update(race.outcomes(subject) if race else {})
    except StudyError:
        raise  # the study is wrong, not the candidate: no other candidate would fare better
    except Exception as error:
        return _failed(error)
    return Measured(estimates, excess)


def _failed(error: Exception) -> Failed:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, TrialError):
        return Failed(error.kind, str(error), trace)
    if _is_of_memory(error):
        return Failed("out-of-memory", str(error) or "out of memory", trace)
    return Failed("exception", f"{type(error).__name__}: {error}", trace)


def _is_of_memory(error: Exception) -> bool:
    """Python's, a GPU's (torch.OutOfMemoryError), or torch's on a CPU, which has no class of its own."""
    told = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or told


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
