"""Measurement of asks as trials: every failure of a candidate becomes an outcome here, and nowhere else."""

from __future__ import annotations

import itertools
import logging
import math
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from searchkit.errors import QUOTED, StudyError, TrialError, one_line
from searchkit.evaluate.base import Bench, Prepared
from searchkit.evaluate.estimates import checked_estimate
from searchkit.records import Ask, Estimate, Failed, Measured, Outcome, Pruned, Scalar, Trial

if TYPE_CHECKING:
    from searchkit.evaluate.racing import RaceState
    from searchkit.objective import Constraint, Objective, Subject


log = logging.getLogger(__name__)

# of torch on a CPU, and of CUDA's own libraries, which allocate beside torch
_OF_MEMORY: Final = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def measure_together(
    asks: Sequence[Ask], bench: Bench, objectives: Sequence[Objective], race: RaceState | None = None
) -> Iterator[Trial]:
    """Measure all asks, which may share computation; its time is split evenly among them."""
    in_turns = [objective for objective in objectives if objective.together is not None]
    if in_turns:
        others = [objective for objective in objectives if objective.together is None]
        yield from add(list(measure_together(asks, bench, others, race)), bench, in_turns)
        return
    start = time.perf_counter()
    prepared, error = _prepared(asks, bench, race)
    if error and len(asks) > 1:  # one ask may have failed all: measured alone, each has its own outcome
        log.warning("%d candidates cannot be computed together; now one by one\n%s", len(asks), error.trace)
        for ask in asks:
            yield from measure_together([ask], bench, objectives, race)
        return
    if error and error.kind == "out-of-memory":
        bench = bench.smaller()
        prepared, _ = _prepared(asks, bench, race)
    share = (time.perf_counter() - start) / max(len(asks), 1)
    for ask in asks:
        if ask.key in prepared.verdicts:
            yield Trial(ask, prepared.verdicts[ask.key], share, dict(bench.environment))
        else:
            trial = measure(ask, bench, objectives, race=race, subject=prepared.subjects.get(ask.key))
            yield replace(trial, seconds=trial.seconds + share, outputs=prepared.outputs.get(ask.key))


def _prepared(asks: Sequence[Ask], bench: Bench, race: RaceState | None) -> tuple[Prepared, Failed | None]:
    """Shared computation, or its failure as a record, which holds no memory."""
    try:
        return bench.prepare([ask.candidate for ask in asks], race), None
    except StudyError:
        raise
    except Exception as error:
        return Prepared(), _failed(error)


def add(trials: Sequence[Trial], bench: Bench, objectives: Sequence[Objective]) -> list[Trial]:
    """Add these objectives to the measured trials, to all at once where an objective can do that."""
    done = list(trials)
    for objective in objectives:
        measured = [trial for trial in done if _can_go_on(trial.outcome)]
        extended = _together(measured, bench, objective) if len(measured) > 1 else {}
        done = [
            extended.get(measured_trial.key) or measure(measured_trial.ask, bench, [objective], measured_trial)
            for measured_trial in done
        ]
    return done


def _together(trials: Sequence[Trial], bench: Bench, objective: Objective) -> dict[str, Trial]:
    """Trials by key with the objective added to all at once; empty where it cannot do that, or one of them fails."""
    if objective.together is None:
        return {}
    start = time.perf_counter()
    try:
        added = objective.together([bench.subject(trial.ask.candidate) for trial in trials])
        estimates = [checked_estimate(objective.name, result) for result in added]
    except StudyError:
        raise
    except Exception:
        log.warning("%s of %d candidates fails together; now one by one", objective.name, len(trials), exc_info=True)
        return {}
    share = (time.perf_counter() - start) / len(trials)
    return {
        trial.key: replace(
            trial,
            outcome=_extended(trial.outcome, objective.name, estimate, bench.resolved_constraints()),
            seconds=trial.seconds + share,
        )
        for trial, estimate in zip(trials, estimates, strict=True)
    }


def _can_go_on(outcome: Outcome | None) -> bool:
    """Return whether more objectives can be measured, even where single ones failed."""
    return isinstance(outcome, Measured) or (isinstance(outcome, Failed) and bool(outcome.reasons))


def _extended(outcome: Outcome, name: str, estimate: Estimate, constraints: Sequence[Constraint]) -> Outcome:
    """Outcome with one more estimate, under the constraints."""
    assert not isinstance(outcome, Pruned)
    known = {**outcome.estimates, name: estimate}
    if isinstance(outcome, Failed):
        return replace(outcome, estimates=known)
    verdict = _judged(known, [limit for limit in constraints if limit.objective.name == name])
    if isinstance(verdict, Pruned):
        return verdict
    return Measured(known, {**outcome.excess, **verdict})


def layer_values(ask: Ask) -> Iterator[tuple[Scalar, ...]]:
    """Values that decide each layer, first layer first; a scalar, which decides all of them, belongs to the first."""
    values = [value if isinstance(value, tuple) else (value,) for _, value in ask.candidate.items]
    return itertools.zip_longest(*values)


def neighbours(asks: Sequence[Ask], sizes: Sequence[int]) -> list[tuple[Ask, ...]]:
    """Groups of these sizes; asks that agree in the first layers come together, since they share prefixes."""

    order = iter(sorted(asks, key=lambda ask: [tuple(map(str, value)) for value in layer_values(ask)]))
    return [group for size in sizes if (group := tuple(itertools.islice(order, size)))]


def even(count: int, groups: int) -> list[int]:
    """Sizes of at most `groups` groups of about equal size."""
    return [count // groups + (number < count % groups) for number in range(min(groups, count))]


def at_once(asks: Sequence[Ask], bench: Bench, objectives: Sequence[Objective], least: int) -> int:
    """Number of asks to measure in one group: `least`, or more where all timed objectives can time more in turns."""
    timings = [objective.timing for objective in objectives if objective.together is not None]
    counts = [timing.at_once for timing in timings if timing is not None]
    if len(asks) <= least or not counts or None in counts:
        return least
    try:
        subject = bench.subject(asks[0].candidate)
        return max(least, min(count(subject) for count in counts if count is not None))
    except StudyError:
        raise
    except Exception as error:
        log.warning("candidates are timed in small groups: %s", one_line(error, QUOTED))
        return least


def measure(
    ask: Ask,
    bench: Bench,
    objectives: Iterable[Objective],
    before: Trial | None = None,
    race: RaceState | None = None,
    subject: Subject | None = None,
) -> Trial:
    """Measure `objectives` on the ask's candidate; with `before`, add them to the values of that trial.

    race: the trial brings the examples that make it an incumbent of later races; subject: the candidate's, if it was
    prepared already
    """
    start = time.perf_counter()
    known = before.outcome if before else Measured({})
    if not _can_go_on(known):
        assert before is not None
        return before
    outcome, examples = _attempt(ask, bench, objectives, known, race, subject)
    if isinstance(outcome, Failed) and outcome.kind == "out-of-memory":
        log.warning("out of memory, now in smaller batches: %s", outcome.message)
        outcome, examples = _attempt(ask, bench.smaller(), objectives, known, race)
        outcome = replace(outcome, attempts=2) if isinstance(outcome, Failed) else outcome
    seconds = time.perf_counter() - start + (before.seconds if before else 0.0)
    return Trial(ask, outcome, seconds, dict(bench.environment), examples, before.outputs if before else None)


def _attempt(
    ask: Ask,
    bench: Bench,
    objectives: Iterable[Objective],
    known: Outcome,
    race: RaceState | None,
    subject: Subject | None = None,
) -> tuple[Outcome, Mapping[str, Any]]:
    """Outcome with these objectives added to the earlier one, and the examples for later races."""
    try:
        subject = subject or bench.subject(ask.candidate)
    except StudyError:
        raise  # the study is wrong, not the candidate: no other candidate would fare better
    except Exception as error:
        return _failed(error), {}
    estimates, failures = _measured(subject, objectives)
    if isinstance(known, Measured | Failed):
        estimates = {**known.estimates, **estimates}
    if failures or isinstance(known, Failed):
        return _without(failures, estimates, known), {}
    try:
        constraints = bench.resolved_constraints()
        limited, failures = _measured(subject, _limited_only(constraints, estimates))
        if failures:
            return _without(failures, estimates, known), {}
        verdict = _judged({**limited, **estimates}, constraints)
        if isinstance(verdict, Pruned):
            return verdict, {}
        return Measured(estimates, verdict), race.outcomes(subject) if race else {}
    except StudyError:
        raise
    except Exception as error:
        return replace(_failed(error), estimates=estimates), {}


def _limited_only(constraints: Iterable[Constraint], estimates: Mapping[str, Estimate]) -> list[Objective]:
    """Objectives that only a constraint reads, without timed ones, which are measured in turns later."""
    every = {limit.objective.name: limit.objective for limit in constraints}
    return [objective for name, objective in every.items() if name not in estimates and not objective.exclusive]


def _measured(subject: Subject, objectives: Iterable[Objective]) -> tuple[dict[str, Estimate], dict[str, Failed]]:
    """Estimates and failures by objective; a failure of one does not affect the others."""
    estimates: dict[str, Estimate] = {}
    failures: dict[str, Failed] = {}
    for objective in objectives:
        try:
            estimates[objective.name] = checked_estimate(objective.name, objective.measure(subject))
        except StudyError:
            raise
        except Exception as error:
            failures[objective.name] = failure = _failed(error)
            if failure.kind == "out-of-memory":
                break  # all of them again, in smaller batches
    return estimates, failures


def _without(failures: Mapping[str, Failed], estimates: Mapping[str, Estimate], known: Outcome) -> Failed:
    """Failure that joins those of several objectives, earlier ones first, with the values measured beside them."""
    reasons = {name: failure.message for name, failure in failures.items()}
    if isinstance(known, Failed):
        return replace(known, reasons={**known.reasons, **reasons}, estimates=estimates)
    first = next(iter(failures.values()))
    shared = len(set(reasons.values())) == 1 and not estimates
    named = [why if "objective" in why else f"objective {name!r}: {why}" for name, why in reasons.items()]
    message = first.message if shared else "; ".join(named)
    kind = "out-of-memory" if any(failed.kind == "out-of-memory" for failed in failures.values()) else first.kind
    return Failed(kind, message, first.trace, reasons=reasons, estimates=estimates)


def _judged(estimates: Mapping[str, Estimate], constraints: Iterable[Constraint]) -> Pruned | dict[str, float]:
    """Verdict of the first broken constraint, or the excess of each constrained objective that is known."""
    excess: dict[str, float] = {}
    for constraint in constraints:
        name = constraint.objective.name
        if name not in estimates:
            continue
        estimate = estimates[name]
        if broken := constraint.verdict(estimate.value, estimate.n):
            return replace(broken, seen=dict(estimates))
        excess[name] = max(constraint.excess(estimate.value), excess.get(name, -math.inf))
    return excess


def _failed(error: Exception) -> Failed:
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, TrialError):
        return Failed(error.kind, str(error), trace)
    if _is_of_memory(error):
        return Failed("out-of-memory", str(error) or "out of memory", trace)
    return Failed("exception", f"{type(error).__name__}: {error}", trace)


def _is_of_memory(error: Exception) -> bool:
    """Return whether memory ran out: Python's, or torch's, which has an error class for its GPU allocator alone."""
    by_text = isinstance(error, RuntimeError) and any(text in str(error) for text in _OF_MEMORY)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or by_text
