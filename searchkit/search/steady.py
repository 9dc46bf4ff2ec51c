"""Steady-state search: after every outcome the engine is told, and asked for one more candidate.

A fixed number W of asks is open: W are made at the start, and one more after every tell of one trial. So the asks
follow from seed, W and the order of tells, which is the order in which trials were appended to the store. Replay needs
nothing else: candidates that were in flight when a search was killed are asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from searchkit.engines.base import Engine
from searchkit.errors import StoreError
from searchkit.evaluate.base import Evaluator
from searchkit.records import Ask, Trial
from searchkit.search.budget import Account
from searchkit.search.generational import Trials, check_allowed, check_replay, stop_if_nothing_works

IN_FLIGHT: Final = "in_flight"  # the note beside the trials that says how many asks are open


class Notes(Protocol):
    """Protocol of settings that a search fixes at its start and keeps in its store."""

    def note(self, name: str) -> Any: ...


def in_flight(notes: Notes) -> int:
    """Number of open asks that the search began with; StoreError where it is not stored."""
    count = notes.note(IN_FLIGHT)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise StoreError(f"the storage does not say how many asks were in flight ({count!r}): start a new run")
    return count


class OpenAsks:
    """Open asks of a steady engine: their outcomes are not told yet."""

    def __init__(self, engine: Engine, in_flight: int) -> None:
        self._engine = engine
        self._waiting = {ask.number: ask for ask in engine.ask(in_flight)}  # asks that are not started
        self._running: dict[int, Ask] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    def start(self, most: int) -> list[Ask]:
        """Start the next open asks, `most` at most."""
        numbers = list(self._waiting)[: max(0, most)]
        started = [self._waiting.pop(number) for number in numbers]
        self._running.update({ask.number: ask for ask in started})
        return started

    def tell(self, trial: Trial) -> None:
        """Tell the engine the outcome of an open ask, and ask for one more; StoreError where the ask is not open."""
        number = trial.ask.number
        ask = self._running.pop(number, None) or self._waiting.pop(number, None)
        if ask is None:
            raise StoreError(
                f"ask {number} was stored before the engine asks for it: the study, the engine or a library changed, "
                "or the storage lost the order of its trials; start a new run"
            )
        check_replay([ask], {number: trial})
        self._engine.tell([trial])
        self._waiting.update({ask.number: ask for ask in self._engine.ask(1)})


def replayed(engine: Engine, in_flight: int, stored: Sequence[Trial]) -> OpenAsks:
    """Replay these trials, in the order in which they were appended, and return the open asks."""
    asks = OpenAsks(engine, in_flight)
    for trial in stored:
        asks.tell(trial)
    return asks


def search_steadily(
    engine: Engine,
    evaluator: Evaluator,
    store: Trials,
    account: Account,
    *,
    population: int,
    in_flight: int,
    on_trial: Callable[[Trial], None] = lambda trial: None,
    halted: Callable[[], bool] = lambda: False,
) -> dict[str, Trial]:
    """Search with `in_flight` open asks until the budget is spent or `halted` returns True; key -> trial.

    As `searchkit.search.generational.search` does generation by generation, and with the same errors. What is in flight
    at the end is finished, stored and told. `in_flight` has to stay what it was when the search began.
    """
    stored = store.appended()
    done = {trial.key: trial for trial in stored}
    account.refuse_failures()
    asks = replayed(engine, in_flight, stored)
    account.judge_gain(engine, [trial.ask for trial in stored])

    def more() -> list[Ask]:
        goes_on = account.ended is None and not halted()
        return asks.start(account.left - asks.running) if goes_on else []

    for trial in evaluator.stream(more):
        store.append(trial)
        done[trial.key] = trial
        account.add(trial)
        on_trial(trial)
        account.refuse_failures()
        if len(done) == population:
            stop_if_nothing_works(list(done.values()), population)
        check_allowed(done, account.evaluations)
        asks.tell(trial)
        account.judge_plateau([trial])
        account.judge_gain(engine, [trial.ask])
    if account.ended is None and not halted():
        check_allowed(done, account.evaluations, whole=True)
        account.exhausted()
    return done
