"""Report phase of a run: front and baselines are measured on the report split, and gathered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from searchkit._internal.progress import Stopwatch, step
from searchkit.evaluate.baselines import baselines
from searchkit.evaluate.resamples import with_resamples
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Failed, Trial
from searchkit.report.results import CONSTANT_RATIO, PUBLISHED, UNREDUCED, Results
from searchkit.runs.benches import evaluator
from searchkit.runs.cache import SupernetCache
from searchkit.runs.folder import stored_rivals
from searchkit.runs.kept import KeptPredictions
from searchkit.runs.offered import offered
from searchkit.runs.paces import expected_s, in_words, measuring_work
from searchkit.runs.published import published_front
from searchkit.runs.report_store import estimates_of, measured_before, merged
from searchkit.runs.results import gathered
from searchkit.runs.session import Session
from searchkit.runs.stores import report_identities, report_objectives
from searchkit.stats import RESAMPLES
from searchkit.storage.one_environment import OneSetting

Families = dict[str, tuple[Candidate, ...]]  # baselines by name


def report(session: Session) -> Results:
    """Measure what the search offers and the baselines on the report split, and gather the results.

    What the members and the unreduced model predict there is kept in the folder.
    """
    study, store = session.study, session.stores.open("search")
    trials, compared = store.trials(), families(session)
    chances = offered(session, trials)
    members = [trial.ask.candidate for trial in trials if trial.key in chances]
    wanted = [candidate for family in compared.values() for candidate in family] + members
    shipped = [*compared.get(UNREDUCED, ()), *compared.get(CONSTANT_RATIO, ()), *members]
    with KeptPredictions(session, shipped) as kept:
        measured = _measured(session, wanted, compared, kept)
        results = gathered(
            session.folder,
            session.description,
            (tuple(study.objectives), tuple(study.front_objectives)),
            compared,
            trials,
            measured,
            store.notes(),
        )
        kept.only({*results.report, *(candidate.key for candidate in compared.get(UNREDUCED, ()))})
        _predict(session, measured, kept)
    return results


def families(session: Session) -> Families:
    """Baselines and rivals by family; the published search, where the study has one, is run now unless it is stored."""
    study = session.study
    known = baselines(study.supernet.layers, session.slots)
    known |= {PUBLISHED: published_front(session, study.published)} if study.published else {}
    return known | stored_rivals(session.folder.read())


def _predict(session: Session, measured: Mapping[str, Trial], kept: KeptPredictions) -> None:
    """Make the predictions of those that were measured elsewhere, or when none were kept."""
    lacking = [candidate for candidate in kept.lacking if measured[candidate.key].status == "measured"]
    if lacking:
        step(f"predictions of {len(lacking)} candidates on the report split")
        with evaluator(session, "report", (), len(lacking)) as workers:
            for trial in workers.run([Ask(number, candidate) for number, candidate in enumerate(lacking)]):
                kept.take_outputs(trial)


def _measured(
    session: Session, candidates: Sequence[Candidate], compared: Families, predictions: KeptPredictions
) -> dict[str, Trial]:
    """Measure on the report split, except what this or another study measured before: key -> trial.

    Candidates that failed are measured again, in the objectives that they lack and those that are timed with them.
    """
    store, kept_baselines = session.stores.open("report"), _Baselines(session, compared)
    done = {trial.key: trial for trial in store.trials()}
    # trials are stored in the order of completion, so numbers that an interrupted report left out stay unused
    numbers = itertools.count(1 + max((trial.ask.number for trial in done.values()), default=-1))
    unknown = [candidate for candidate in candidates if not _is_whole(done.get(candidate.key))]
    known = {**_earlier(session), **done, **kept_baselines.read()} if unknown else {}
    for candidate in unknown:
        if _is_whole(known.get(candidate.key)) and not _is_whole(done.get(candidate.key)):
            done[candidate.key] = replace(known[candidate.key], ask=Ask(next(numbers), candidate))
            store.append(done[candidate.key])
    missing = list({lacking.key: lacking for lacking in unknown if not _is_whole(done.get(lacking.key))}.values())
    if not missing:
        return done
    watch = Stopwatch(session.folder.seconds("report"))
    tell = watch.watching(session.progress)
    expected = expected_s(session, "report", measuring_work(session, "report", len(missing)))
    tell("report", 0, len(missing), in_words(expected) if expected else "")
    kept, count = OneSetting(store, report_objectives(session.study)), 0
    for objectives, group in _by_lacking(session, missing, known):
        asks = [Ask(next(numbers), candidate) for candidate in group]
        with evaluator(session, "report", objectives, len(asks), group) as workers:
            for trial in workers.run(asks):
                whole = merged(predictions.take_outputs(trial), estimates_of(known.get(trial.key)))
                if trial.key not in done or whole.outcome != done[trial.key].outcome:  # the same failure stands there
                    kept.append(whole)
                done[trial.key] = whole
                tell("report", count := count + 1, len(missing))
    watch.write()
    kept_baselines.add([done[lacking.key] for lacking in missing])  # trials stored before may be of another setting
    return done


def _earlier(session: Session) -> dict[str, Trial]:
    """Trials that were measured before objectives were added to the study, or their code was changed."""
    return measured_before(session.storage, session.study.name, report_identities(session.study))


def _is_whole(trial: Trial | None) -> bool:
    """Return whether nothing is left to be measured."""
    return trial is not None and not isinstance(trial.outcome, Failed)


def _by_lacking(
    session: Session, candidates: Sequence[Candidate], known: Mapping[str, Trial]
) -> Iterator[tuple[list[Objective], list[Candidate]]]:
    """Group candidates, in order, by the objectives that they lack, with the timed ones, whose values age."""
    groups: dict[tuple[str, ...], list[Candidate]] = {}
    every = {objective.name: objective for objective in report_objectives(session.study)}
    for candidate in candidates:
        have = estimates_of(known.get(candidate.key))
        lacks = tuple(name for name, objective in every.items() if name not in have or objective.exclusive)
        groups.setdefault(lacks, []).append(candidate)
    for names, group in groups.items():
        yield [with_resamples(every[name]) for name in names], group  # for paired differences


class _Baselines:
    """Cache of baselines on the report split that some study of this supernet has measured in this setting.

    None are kept for workers, whose setting is their own, nor where something is timed: times age.
    """

    def __init__(self, session: Session, compared: Families) -> None:
        self._session = session
        self._keys = {candidate.key for family in compared.values() for candidate in family}
        timed = any(objective.exclusive for objective in report_objectives(session.study))
        self._applies = not session.conditions.workers and not timed

    def _cache(self) -> SupernetCache[dict[str, Trial]]:
        objectives = report_identities(self._session.study)
        return self._session.cache("baselines", {"objectives": objectives, "resamples": RESAMPLES}, _by_key)

    def read(self) -> dict[str, Trial]:
        """Read the trials by key."""
        return (self._applies and self._cache().read()) or {}

    def add(self, trials: Sequence[Trial]) -> None:
        """Add those of the trials that are measured baselines."""
        measured = {trial.key: trial for trial in trials if trial.key in self._keys and trial.status == "measured"}

        def joined(known: dict[str, Trial] | None) -> list[Any] | None:
            every = {**measured, **(known or {})}
            return [trial.to_json() for trial in every.values()] if len(every) > len(known or {}) else None

        if self._applies and measured:
            self._cache().update(joined)  # beside what another study has added meanwhile


def _by_key(trials: Any) -> dict[str, Trial]:
    return {trial.key: trial for trial in map(Trial.from_json, trials)}
