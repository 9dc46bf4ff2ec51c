"""Verdicts on candidates before they are measured: constraints that the plan alone breaks, and lost races."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from searchkit.evaluate.base import Prepared
from searchkit.evaluate.passes import Passes, joined
from searchkit.evaluate.predictions import predicted
from searchkit.evaluate.racing import RaceState, SequentialTest
from searchkit.evaluate.split import Shard, Split
from searchkit.records import Pruned

if TYPE_CHECKING:
    from searchkit.evaluate.subject import SupernetSubject
    from searchkit.objective import Constraint
    from searchkit.reduction.plan import ReductionPlan

Run = Callable[[Split, Sequence["ReductionPlan"]], list[Passes]]


def screened(
    subjects: Iterable[SupernetSubject],
    constraints: Iterable[Constraint],
    shards: Sequence[Shard],
    race: RaceState | None,
    run: Run,
    *,
    keeps_outputs: bool = False,
) -> Prepared:
    """Subjects with their passes, made together by `run`; verdicts on those that a constraint turns down beforehand,
    and on those that lose the race. keeps_outputs: with what the subjects predict."""
    verdicts: dict[str, Pruned] = {}
    going = []
    for subject in subjects:
        if verdict := turned_down(subject, constraints):
            verdicts[subject.candidate.key] = verdict
        else:
            going.append(subject)
    prepared = {}
    for subject, result in zip(going, raced(going, shards, race, run), strict=True):
        key = subject.candidate.key
        if isinstance(result, Pruned):
            verdicts[key] = result
        else:
            prepared[key] = replace(subject, prepared=joined(shards, result, subject.lengths))
    outputs = {key: predicted(subject) for key, subject in prepared.items()} if keeps_outputs else {}
    return Prepared(verdicts, prepared, outputs)


def resolved(limits: Iterable[Constraint], unreduced: SupernetSubject) -> tuple[Constraint, ...]:
    """The limits as numbers; where one is relative, the unreduced model is measured."""
    return tuple(
        limit if limit.within is None else limit.against(limit.objective.measure(unreduced).value) for limit in limits
    )


def turned_down(subject: SupernetSubject, constraints: Iterable[Constraint]) -> Pruned | None:
    """Verdict of the first traced constraint that the plan alone breaks, if any."""
    traced = [limit for limit in constraints if limit.objective.traced]
    static = subject.static if traced else None
    if static is None:
        return None
    verdicts = (limit.verdict(limit.objective.measure(static).value, 0) for limit in traced)
    return next(filter(None, verdicts), None)


def raced(
    subjects: Sequence[SupernetSubject], shards: Sequence[Shard], race: RaceState | None, run: Run
) -> list[list[Passes] | Pruned]:
    """Passes of each subject, made shard by shard, or the verdict of the race that it lost."""
    tests = [_test(race, subject) for subject in subjects] if race is not None and race.incumbents else []
    results: list[list[Passes] | Pruned] = [[] for _ in subjects]
    going = list(range(len(subjects)))
    for shard in shards:
        made = run(shard.split, [subjects[number].plan for number in going])
        for number, passes in zip(going, made, strict=True):
            done = results[number]
            assert isinstance(done, list)
            done.append(passes)
            if tests and shard is not shards[-1]:
                seen = subjects[number].on(shard.split, passes)
                results[number] = tests[number].stops(seen, shard.units, shard.rows) or done
        going = [number for number in going if not isinstance(results[number], Pruned)]
        if not going:
            break
    return results


def _test(race: RaceState, subject: SupernetSubject) -> SequentialTest:
    """Sequential test of one candidate, with the cost of each example where the plan alone decides it."""
    assert race.cost.examples is not None
    static = subject.static if race.cost.traced else None
    return SequentialTest(race, None if static is None else race.cost.examples(static))
