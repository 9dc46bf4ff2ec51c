"""Generational search: ask, measure what is new, store it, tell; resuming replays the stored trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from searchkit.engines.base import Engine
from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.base import Evaluator
from searchkit.evaluate.racing import RaceState
from searchkit.front import Front, rejections
from searchkit.records import Ask, Failed, Trial
from searchkit.search.budget import FEWEST, Account

MAX_REJECTED_PER_EVALUATION: Final = 50  # candidates that constraints may turn down, for every one that they allow


class Trials(Protocol):
    """Protocol of a trial store; `append` returns when the trial is durable."""

    def append(self, trial: Trial) -> None: ...

    def trials(self) -> list[Trial]:
        """Trials by ask number."""

    def appended(self) -> list[Trial]:
        """Trials in the order in which they were appended."""


def search(
    engine: Engine,
    evaluator: Evaluator,
    store: Trials,
    account: Account,
    *,
    population: int,
    race: RaceState | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    halted: Callable[[], bool] = lambda: False,
) -> dict[str, Trial]:
    """Search generation by generation until the budget is spent or `halted` returns True; key -> trial.

    The engine is fed the stored trials until it asks for something new, so an interrupted search goes on where it was;
    `on_trial` is called with every new trial once it is stored. In a race, new candidates are held against the front
    as it was when the engine was last told. What a constraint turns down does not count, up to
    `MAX_REJECTED_PER_EVALUATION` of them for every evaluation. StudyError where too much fails.
    """
    done = {trial.key: trial for trial in store.trials()}
    leaders: list[str] = []  # keys of the front of all told trials, for races
    stored = {trial.ask.number: trial for trial in done.values()}

    def goes_on() -> bool:
        return account.ended is None and not halted()

    account.refuse_failures()
    while goes_on():
        asks = engine.ask(population)
        if not asks:
            check_allowed(done, account.evaluations, whole=True)
            account.exhausted()
            break
        check_replay(asks, stored)
        fresh = waiting = list({ask.key: ask for ask in asks if ask.key not in done}.values())
        account.judge_gain(engine, fresh)
        if race is not None and fresh:
            race = against_leaders(race, leaders, done, evaluator)
        while waiting and goes_on():
            now, waiting = waiting[: account.left], waiting[account.left :]
            for trial in evaluator.run(now, race):
                store.append(trial)
                done[trial.key] = trial
                account.add(trial)
                on_trial(trial)
                account.refuse_failures()
                if account.left and not goes_on():
                    evaluator.halt()  # outcomes of asks in flight still arrive
        check_allowed(done, account.evaluations)
        if any(ask.key not in done for ask in asks):
            break  # the budget ended inside this generation; a larger one continues it
        trials = [done[ask.key] for ask in asks]
        stop_if_nothing_works(trials, len(done))
        engine.tell(trials)
        if fresh:
            account.judge_plateau(trials)
        if race is not None:
            keys = dict.fromkeys([*leaders, *(ask.key for ask in asks)])
            leaders, beaten = leading(race, [done[key] for key in keys])
            done |= beaten
    return done


def leading(race: RaceState, trials: Sequence[Trial]) -> tuple[list[str], dict[str, Trial]]:
    """Keys of the front of the told trials, and the others by key without examples: they never return to the front."""
    front = [member.key for member in Front.of(trials, (race.quality, race.cost)).members]
    beaten = {trial.key: replace(trial, examples={}) for trial in trials if trial.key not in front}
    return front, beaten


def against_leaders(race: RaceState, leaders: Sequence[str], done: dict[str, Trial], evaluator: Evaluator) -> RaceState:
    """The race against the leaders by key, whose examples are measured again, into `done`, where they are missing."""
    done |= with_examples(race, [done[key] for key in leaders], evaluator)
    return race.against([done[key] for key in leaders if done[key].examples])


def with_examples(race: RaceState, leaders: Sequence[Trial], evaluator: Evaluator) -> dict[str, Trial]:
    """Leaders by key, with their examples; those of an earlier process are measured again to get them."""
    missing = [trial.ask for trial in leaders if not trial.examples]
    again = evaluator.run(missing, race.against([])) if missing else ()
    examples = {trial.key: trial.examples for trial in again}
    return {trial.key: replace(trial, examples=examples.get(trial.key, trial.examples)) for trial in leaders}


def check_replay(asks: Sequence[Ask], stored: Mapping[int, Trial]) -> None:
    """Raise StoreError where a stored ask differs from the replayed one: study or code has changed since."""
    for ask in asks:
        trial = stored.get(ask.number)
        if trial is not None and trial.key != ask.key:
            raise StoreError(
                f"ask {ask.number} was {trial.ask.candidate.to_json()} when it was stored and is now "
                f"{ask.candidate.to_json()}: the study, the engine or a library changed; start a new run"
            )


def check_allowed(done: Mapping[str, Trial], count: int, *, whole: bool = False) -> None:
    """Stop where constraints reject nearly all candidates, or a whole space."""
    if len(done) - count <= (0 if whole and not count else MAX_REJECTED_PER_EVALUATION * max(count, FEWEST)):
        return
    raise StudyError(
        f"the constraints turn down almost everything: {count} of {len(done)} candidates were allowed; turned down: "
        f"{'; '.join(rejections(done.values()))}. Allow more, or give the space lower levels"
    )


def stop_if_nothing_works(trials: Sequence[Trial], done: int) -> None:
    """Raise StudyError where these, the first generation, are all trials so far, and all failed."""
    outcomes = [trial.outcome for trial in trials]
    if done == len(trials) and all(isinstance(outcome, Failed) for outcome in outcomes):
        first = outcomes[0]
        assert isinstance(first, Failed)
        raise StudyError(
            f"every candidate of the first generation failed; the first one: {first.kind}: {first.message}"
        )
