"""The search: ask, measure what is new, store it, tell. Resume is replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from searchkit.engines.base import Engine
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.base import Evaluator
from searchkit.evaluate.racing import Race
from searchkit.front import Front
from searchkit.records import Ask, Failed, Pruned, Trial

PATIENCE: Final = 50  # candidates that constraints may turn down, for every one that they allow
FEWEST: Final = 20  # or as if so many had been allowed


class Trials(Protocol):
    """Where trials are kept; `append` returns when the trial is durable."""

    def append(self, trial: Trial) -> None: ...

    def trials(self) -> list[Trial]: ...


def search(
    engine: Engine,
    evaluator: Evaluator,
    store: Trials,
    *,
    evaluations: int,
    population: int,
    race: Race | None = None,
    seen: Callable[[Trial], None] = lambda trial: None,
) -> dict[str, Trial]:
    """Search until `evaluations` distinct candidates were evaluated or the space is exhausted; key -> trial.

    The engine is fed the stored trials until it asks for something new, so an interrupted search goes on where it was;
    `seen` is called with every new trial once it is stored. In a race, new candidates are held against the front
    as it was when the engine was last told. What a constraint turns down does not count, up to `PATIENCE` of them for
    every evaluation.
    """
    done = {trial.key: trial for trial in store.trials()}
    leaders: list[str] = []  # the front of what was told, in a race
    stored = {trial.ask.number: trial for trial in done.values()}
    left = evaluations - sum(trial.is_evaluation for trial in done.values())
    while left > 0:
        asked = engine.ask(population)
        if not asked:
            _check_allowed(done, evaluations - left, whole=True)
            break
        check_replay(asked, stored)
        fresh = list({ask.key: ask for ask in asked if ask.key not in done}.values())
        if race is not None and fresh:
            race = race.against(rivals(race, leaders, evaluator, done))
        while fresh and left > 0:
            now, fresh = fresh[:left], fresh[left:]
            for trial in evaluator.run(now, race):
                store.append(trial)
                done[trial.key] = trial
                left -= trial.is_evaluation
                seen(trial)
        _check_allowed(done, evaluations - left)
        if any(ask.key not in done for ask in asked):
            break  # the budget ended inside this generation; a larger one continues it
        _stop_if_nothing_works(asked, done)
        engine.tell([done[ask.key] for ask in asked])
        if race is not None:
            leaders = leading(race, [*leaders, *(ask.key for ask in asked)], done)
    return done


def leading(race: Race, told: Sequence[str], done: dict[str, Trial]) -> list[str]:
    """Those on the front of what was told; the others, which never come back to it, let go of their examples."""
    front = [member.key for member in Front.of([done[key] for key in told], (race.quality, race.cost)).members]
    for key in set(told) - set(front):
        done[key] = replace(done[key], examples={})
    return front


def rivals(race: Race, leaders: Sequence[str], evaluator: Evaluator, done: dict[str, Trial]) -> list[Trial]:
    """The leaders with their examples; those of an earlier process are measured again."""
    missing = [done[key].ask for key in leaders if not done[key].examples]
    for trial in evaluator.run(missing, race.against([])) if missing else ():
        done[trial.key] = replace(done[trial.key], examples=trial.examples)
    return [done[key] for key in leaders if done[key].examples]


def check_replay(asked: Sequence[Ask], stored: Mapping[int, Trial]) -> None:
    """A stored ask that differs from the replayed one means that study or code changed since."""
    for ask in asked:
        trial = stored.get(ask.number)
        if trial is not None and trial.key != ask.key:
            raise StoreError(
                f"ask {ask.number} was {trial.ask.candidate.to_json()} when it was stored and is now "
                f"{ask.candidate.to_json()}: the study, the engine or a library changed; start a new run"
            )


def _check_allowed(done: Mapping[str, Trial], count: int, *, whole: bool = False) -> None:
    """Stop where constraints leave next to nothing, or nothing of a whole space."""
    if len(done) - count <= (0 if whole and not count else PATIENCE * max(count, FEWEST)):
        return
    first = next(trial.outcome for trial in done.values() if not trial.is_evaluation)
    assert isinstance(first, Pruned)
    raise StudyError(
        f"the constraints turn down almost everything: {count} of {len(done)} candidates were allowed; "
        f"the first that was not: {first.why}. Allow more, or give the space lower levels"
    )


def _stop_if_nothing_works(asked: Sequence[Ask], done: Mapping[str, Trial]) -> None:
    outcomes = [done[ask.key].outcome for ask in asked]
    if len(done) == len({ask.key for ask in asked}) and all(isinstance(outcome, Failed) for outcome in outcomes):
        first = outcomes[0]
        assert isinstance(first, Failed)
        raise StudyError(
            f"every candidate of the first generation failed; the first one: {first.kind}: {first.message}"
        )
