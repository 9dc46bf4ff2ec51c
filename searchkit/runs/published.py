"""Published search as a baseline: LAT's engine and accounting, on the supernet and the search split of a study.

It minimises what its authors did, the MACs of one input of the maximum length, pads and all, and maximises the study's
quality. Its front is then held against that of the study, on the report split and without pads.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from searchkit._internal.code import digest
from searchkit._internal.progress import Stopwatch
from searchkit.errors import StoreError
from searchkit.front import Front
from searchkit.objective import Objective, Subject
from searchkit.records import Candidate, Estimate, Trial
from searchkit.reduction.checkpoint import load_config
from searchkit.reduction.cost import Shape, ratio_as_published
from searchkit.reduction.families import reads
from searchkit.runs.benches import evaluator
from searchkit.runs.session import Session
from searchkit.search.budget import Account, Budget
from searchkit.search.generational import search
from searchkit.space import Lengths, Space
from searchkit.training.plans import plan

if TYPE_CHECKING:
    from searchkit.engines import PublishedSearch
    from searchkit.storage.store import Store

log = logging.getLogger(__name__)

Candidates = tuple[Candidate, ...]  # the front, cheapest first


def _cost(subject: Subject) -> Estimate:
    return Estimate(ratio_as_published(subject.plan, subject.shape, subject.padded_to), None, 1)


COST = Objective("ratio_as_published", "of unreduced, pads counted", "lower", _cost, traced=True)


def published_front(session: Session, lat: PublishedSearch) -> Candidates:
    """Front of the published search, cheapest first.

    It is searched once: the run keeps it in a note beside its report, the supernet in a cache for its other studies.
    """
    report, described = session.stores.open("report"), lat.describe()
    front = noted(report, described)
    if front is None:
        front = _front(session, lat)
        report.set_note(_name(described), [candidate.to_json() for candidate in front])
    return front


def noted(report: Store, described: Mapping[str, Any]) -> Candidates | None:
    """Front that a run has kept for these settings, None where there is none; StoreError where the note is damaged."""
    note = report.note(_name(described))
    try:
        return None if note is None else _candidates(note)
    except (TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"the front of the published search, kept beside the report, is damaged: {error}") from error


def _name(described: Mapping[str, Any]) -> str:
    return f"published-{digest(described)[:8]}"


def _candidates(data: Any) -> Candidates:
    if not isinstance(data, list):
        raise TypeError(f"a list of candidates is needed, got {data!r}")
    return tuple(map(Candidate.from_json, data))


def _front(session: Session, lat: PublishedSearch) -> Candidates:
    """Front from the cache beside the supernet, or by searching."""
    study, tokens = session.study, session.study.task.max_length
    quality = next(objective for objective in study.objectives if objective.better == "higher")
    # every length counts as published, also where the last layer makes no use of what it drops
    space = Space(Lengths(range(2, tokens + 1), basis="tokens", layers=session.slots))
    axes = [quality, COST]
    cache = None
    if not session.conditions.workers:  # workers have settings of their own
        measured = [study.identity(quality), COST.describe()]
        settings = {"engine": lat.describe(), "seed": study.seed, "objectives": measured}
        # the supernet's name stands for the splits of the task, too
        cache = session.cache("published", settings, functools.partial(_candidates_of, space))
    candidates = cache.read() if cache else None
    if candidates is None:
        trials = _searched(session, lat, space, axes)
        candidates = tuple(member.ask.candidate for member in Front.of(trials, axes))
        if cache:
            cache.write([candidate.to_json() for candidate in candidates])
    return candidates


def _candidates_of(space: Space, data: Any) -> Candidates:
    candidates = _candidates(data)
    for candidate in candidates:
        space.encode(candidate)
    return candidates


def _searched(session: Session, lat: PublishedSearch, space: Space, axes: Sequence[Objective]) -> list[Trial]:
    """Run the search without races and constraints, resumed where it was stopped, and return all trials."""
    from searchkit.storage.store import Store

    study, name = session.study, _name(lat.describe())
    config = load_config(str(session.supernet.folder))
    shape = Shape.of_config(config, reads=reads(config, study.task.head))

    def cost(candidate: Candidate) -> float:
        return ratio_as_published(plan(study.supernet.recipe, candidate, shape.layers), shape, study.task.max_length)

    store = Store.open(session.storage, f"{study.name}-{name}", axes, fingerprint=session.fingerprint)
    budget = Budget(evaluations=lat.evaluations)
    account = Account(budget, axes, store.trials(), max_failures=study.max_failures)
    watch = Stopwatch(session.folder.seconds("report"))
    tell = functools.partial(watch.watching(session.progress), "published search")
    tell(account.evaluations, lat.evaluations)
    with evaluator(session, "published", axes, lat.population) as workers:
        done = search(
            lat.start_at(space, axes, study.seed, cost),
            workers,
            store,
            account,
            population=lat.population,
            on_trial=lambda trial: tell(account.evaluations, lat.evaluations),
        )
    tell(account.evaluations, account.evaluations)
    watch.write()
    log.info("the published search has made %d evaluations", account.evaluations)
    return list(done.values())
