"""A run checked: its replay by the engine, and stored values measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from searchkit._internal.progress import Progress, silent
from searchkit.errors import StoreError
from searchkit.evaluate.predictions import Predictions
from searchkit.objective import Objective
from searchkit.records import Measured, Scalar, Trial
from searchkit.runs.benches import evaluator
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.reopen import reopened
from searchkit.runs.search_phase import LEARNT
from searchkit.runs.session import Session
from searchkit.runs.warm_start import begun_with
from searchkit.search import steady
from searchkit.search.generational import check_replay
from searchkit.space import Space
from searchkit.storage.store import Store
from searchkit.training.cache import RECORD, fingerprint


def replayed(folder: Folder) -> int:
    """Replay the stored outcomes, and return the number of asks, all equal to the stored ones; else StoreError."""
    session = reopened(folder, Conditions(runs=folder.path.parent))
    study, store = session.study, session.stores.open("search", create=False)
    trials = store.appended()
    engine = begun_with(study.engine, store).start(_space(session, store), study.objectives, study.seed)
    if study.engine.steady:
        steady.replayed(engine, steady.in_flight(store) if trials else 1, trials)
        return len(trials)
    done, met = {trial.key: trial for trial in trials}, set[str]()
    stored = {trial.ask.number: trial for trial in trials}
    while len(met) < len(done):
        asks = engine.ask(study.engine.population)
        check_replay(asks, stored)
        met |= {ask.key for ask in asks} & done.keys()
        if not asks or any(ask.key not in done for ask in asks):
            break
        engine.tell([done[ask.key] for ask in asks])
    if len(met) < len(done):
        raise StoreError(
            f"{folder.path}: the storage holds {len(done) - len(met)} trials that the engine never asks for"
        )
    return len(met)


def _space(session: Session, store: Store) -> Space:
    """Space of the search, with the start that its store keeps; nothing is trained.

    In runs from before, the start of a cached supernet; where there is none, that of recipes which give none.
    """
    start = store.note(LEARNT)
    name = fingerprint(session.study.supernet, session.study.task, session.study.seed)
    if start is None and any((session.conditions.runs / "supernets").glob(f"{name}*/{RECORD}")):
        return session.space
    starts = start if isinstance(start, dict) else {}
    values = {key: tuple(value) for key, value in starts.items() if isinstance(value, list)}
    return session.study.bound_space.started(values)


def measured_again(folder: Folder, count: int, conditions: Conditions, progress: Progress = silent) -> int:
    """Measure stored trials, spread over the search, again; StoreError for the first value that differs.

    Timed objectives are left out: they never repeat exactly. The conditions have to be those of the run.
    """
    session = reopened(folder, conditions, progress)
    exact = [objective for objective in session.study.objectives if not objective.exclusive]
    trials = [
        trial for trial in session.stores.open("search", create=False).trials() if isinstance(trial.outcome, Measured)
    ]
    chosen = trials[:: max(1, len(trials) // count)][:count]
    before = {trial.key: trial for trial in chosen}
    with session.placement.in_force(), evaluator(session, "search", exact, len(chosen)) as workers:
        for number, now in enumerate(workers.run([trial.ask for trial in chosen]), start=1):
            progress("verify", number, len(chosen))
            _same(before[now.key], now, exact)
    return len(chosen)


def predicted_again(folder: Folder, count: int, conditions: Conditions, progress: Progress = silent) -> int:
    """Make kept predictions of the report split again, of `count` models; StoreError for the first that differ.

    0 where none are kept, as in runs from before. Those of another environment (another processor, other versions) are
    not compared: their last digits may differ.
    """
    if not folder.predictions.exists():
        return 0
    kept = Predictions.read(folder.predictions)
    session = reopened(folder, conditions, progress)
    trials = {trial.key: trial for trial in session.stores.open("report", create=False).trials()}
    known = [trials[key].ask for key in kept.members if key in trials]
    chosen, compared = known[:: max(1, len(known) // count)][:count], 0
    with session.placement.in_force(), evaluator(session, "report", (), len(chosen)) as workers:
        for number, now in enumerate(workers.run(chosen), start=1):
            progress("verify predictions", number, len(chosen))
            before = kept.of(now.key)
            if now.outputs is not None and now.outputs.environment != before.environment:
                continue
            if now.outputs is None or not before.same(now.outputs):
                raise StoreError(f"{folder.predictions}: those of {now.key} are others now")
            compared += 1
    return compared


def _same(before: Trial, now: Trial, objectives: Sequence[Objective]) -> None:
    where = _changed(before.environment, now.environment)
    for objective in objectives:
        assert isinstance(before.outcome, Measured)
        was = before.outcome.estimates[objective.name].value
        value = now.outcome.estimates[objective.name].value if isinstance(now.outcome, Measured) else now.outcome
        if value != was:
            raise StoreError(f"ask {now.ask.number}: {objective.name} was {was} and is now {value}{where}")


def _changed(before: Mapping[str, Scalar], now: Mapping[str, Scalar]) -> str:
    changed = {name for name in now if now[name] != before.get(name)}
    return f" (the environment differs in {', '.join(sorted(changed))})" if changed else ""
