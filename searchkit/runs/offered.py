"""Candidates that the report split is asked about: chosen once, when a search has ended, and kept beside its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from searchkit._internal.progress import Stopwatch
from searchkit.evaluate.resamples import with_resamples
from searchkit.records import Ask, Trial
from searchkit.runs.benches import evaluator
from searchkit.runs.session import Session
from searchkit.search.shortlist import Shortlist

OFFERED: Final = "offered"  # the note in the store of a search
PHASE: Final = "compare"


def offered(session: Session, trials: Sequence[Trial]) -> dict[str, float]:
    """Chance of candidates to be on the true front, by key: of those of the front, and others that luck may hide.

    Candidates near the front are measured again on the search split, for values on paired resamples.
    """
    store = session.stores.open("search")
    known = read(store.note(OFFERED), len(trials))
    if known is None:
        shortlist = Shortlist.of(session.space, session.study.objectives, trials)
        known = shortlist.offered(_resampled(session, shortlist))
        store.set_note(OFFERED, {"trials": len(trials), "chances": known})
    return known


def read(note: Any, trials: int) -> dict[str, float] | None:
    """Read the note on this many trials; None for anything else, also where trials have been added since."""
    if not isinstance(note, Mapping) or note.get("trials") != trials or not isinstance(note.get("chances"), Mapping):
        return None
    chances = note["chances"]
    return dict(chances) if all(type(chance) is float for chance in chances.values()) else None


def _resampled(session: Session, shortlist: Shortlist) -> dict[str, Trial]:
    """Trials of the shortlist with resamples, by key; without those that failed."""
    objectives = [with_resamples(objective) for objective in shortlist.compared]
    asks = [Ask(number, trial.ask.candidate) for number, trial in enumerate(shortlist.trials)]
    if not objectives or len(asks) < 2:
        return {}
    watch = Stopwatch(session.folder.seconds("report"))
    tell, resampled = watch.watching(session.progress), {}
    tell(PHASE, 0, len(asks))
    with evaluator(session, "search", objectives, len(asks)) as workers:
        for count, trial in enumerate(workers.run(asks), start=1):
            resampled[trial.key] = trial
            tell(PHASE, count, len(asks))
    watch.write()
    return resampled
