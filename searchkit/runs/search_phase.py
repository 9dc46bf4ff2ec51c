"""Search phase of a run, resumed where an earlier process stopped, until the study's budget is spent."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from searchkit._internal.progress import Stopwatch
from searchkit.errors import StudyError
from searchkit.records import Pruned, Trial
from searchkit.runs.benches import evaluator
from searchkit.runs.paces import expected_s, in_words, measuring_work
from searchkit.runs.session import Session
from searchkit.runs.stores import SUPERNET
from searchkit.runs.warm_start import begun_with
from searchkit.search import generational, steady
from searchkit.search.budget import ENDED, Account
from searchkit.search.interrupt import Interrupt
from searchkit.storage.one_environment import OneSetting

log = logging.getLogger(__name__)

LEARNT: Final = "found"  # the note with what training found: thresholds and lengths to start from
KINDS: Final = ("measured", "stopped early", "turned down", "failed")  # kinds of trials in progress lines


def search(session: Session, interrupt: Interrupt | None = None) -> dict[str, Trial]:
    """Search until the budget is spent; key -> trial on the search split.

    KeyboardInterrupt after a Ctrl-C, once what was in flight is stored.
    """
    study, store = session.study, session.stores.open("search")
    if store.note(SUPERNET) is None:  # trained before the search's seconds begin
        store.set_note(SUPERNET, session.supernet.fingerprint)
    if store.note(LEARNT) is None:
        store.set_note(LEARNT, session.supernet.notes)
    watch, kept = Stopwatch(session.folder.seconds("search")), OneSetting(store, study.objectives)
    tell, wanted = watch.watching(session.progress), study.budget.evaluations
    account = Account(
        study.budget,
        study.objectives,
        kept.appended() if study.engine.steady else kept.trials(),
        generation=1 if study.engine.steady else study.engine.population,
        max_failures=study.max_failures,
        seconds=watch.seconds,
    )
    counts = Counter(map(_kind, kept.appended()))

    left = measuring_work(session, "search", max(0, wanted - account.evaluations))
    expected = expected_s(session, "search", left) if account.ended is None else None

    def note() -> str:
        return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind] or kind == "measured")

    def on_trial(trial: Trial) -> None:
        counts[_kind(trial)] += 1
        tell("search", account.evaluations, wanted, note())

    done = {trial.key: trial for trial in kept.trials()}
    if account.ended is None:
        tell("search", account.evaluations, wanted, f"{note()}; {in_words(expected)}" if expected else note())
        if store.note(ENDED) is not None:
            store.set_note(ENDED, None)  # a smaller budget did
        done = _loop(session, interrupt, kept, account, on_trial)
        watch.write()
    tell("search", account.evaluations, account.evaluations, f"{note()}; {account.ended}")
    log.info("the search has ended: %s", account.ended)
    if not done:
        raise StudyError(f"{account.ended} before any candidate was measured: the budget needs more")
    if store.note(ENDED) != account.ended:
        store.set_note(ENDED, account.ended)
    return done


def _loop(
    session: Session,
    interrupt: Interrupt | None,
    kept: OneSetting,
    account: Account,
    on_trial: Callable[[Trial], None],
) -> dict[str, Trial]:
    """Run the engine's loop, steady or generational."""
    study = session.study
    population, is_steady = study.engine.population, study.engine.steady
    in_flight = _in_flight(session, kept) if is_steady else population
    if study.racing and study.race is None:
        needs = "it takes two objectives, a quality and a cost, both known for each example"
        why = "a steady engine has no generations to race against" if is_steady else needs
        log.info("racing is off: %s", why)
    engine = begun_with(study.engine, kept.store).start(session.space, study.objectives, study.seed)

    def halted() -> bool:
        return interrupt is not None and interrupt.asked

    with ExitStack() as stack:
        workers = stack.enter_context(evaluator(session, "search", study.objectives, in_flight))
        if interrupt:
            stack.enter_context(interrupt.listening())
        if is_steady:
            return steady.search_steadily(
                engine,
                workers,
                kept,
                account,
                population=population,
                in_flight=in_flight,
                on_trial=on_trial,
                halted=halted,
            )
        return generational.search(
            engine,
            workers,
            kept,
            account,
            population=population,
            race=study.race,
            on_trial=on_trial,
            halted=halted,
        )


def _in_flight(session: Session, kept: OneSetting) -> int:
    """Number of open asks of a steady engine: two per worker, fixed when the search begins."""
    workers = session.conditions.workers
    if not kept.trials() and kept.store.note(steady.IN_FLIGHT) is None:
        kept.store.set_note(steady.IN_FLIGHT, 2 * workers or 1)
    fixed = steady.in_flight(kept.store)
    if workers > fixed:
        log.warning("the search began with %d asks in flight: no more than %d workers have work", fixed, fixed)
    return fixed


def _kind(trial: Trial) -> str:
    """Word for a trial's outcome in progress lines."""
    if not trial.is_evaluation:
        return "turned down"
    return "stopped early" if isinstance(trial.outcome, Pruned) else trial.status
