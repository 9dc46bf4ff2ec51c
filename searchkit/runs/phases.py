"""Phases of a run in order: train, search, report. Each resumes where it was stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from searchkit._internal.files import replace_whole
from searchkit._internal.progress import Progress, silent, step, steps_shown
from searchkit.report.notes import timing_notes, unmeasured
from searchkit.report.results import Results
from searchkit.runs.config import HERE, Conditions
from searchkit.runs.folder import PAGE
from searchkit.runs.forecast import known_supernet
from searchkit.runs.opening import opened
from searchkit.runs.paces import expected_s, in_words, keep, paced, training_work
from searchkit.runs.page import write_page
from searchkit.runs.page_words import keep_words
from searchkit.runs.report_phase import report
from searchkit.runs.results import DUPLICATES, counts, write
from searchkit.runs.search_phase import search
from searchkit.runs.session import Session
from searchkit.runs.study_file import Loaded
from searchkit.search.interrupt import Interrupt
from searchkit.tasks.splits import duplicates
from searchkit.training.cache import Trained

log = logging.getLogger(__name__)


def execute(
    loaded: Loaded,
    conditions: Conditions = HERE,
    progress: Progress = silent,
    interrupt: Interrupt | None = None,
) -> Results:
    """Train, search and report; returns the results that were written to `runs/<study>/`.

    With `interrupt` one Ctrl-C lets the search finish what is in flight; KeyboardInterrupt in any case.
    """
    with steps_shown(progress) as shown:
        return _executed(Session(loaded, conditions, shown), interrupt)


def _executed(session: Session, interrupt: Interrupt | None) -> Results:
    with opened(session):
        trained(session)  # before the splits are compared and the search's seconds begin
        count_duplicates(session)
        with paced(session, "search"):
            search(session, interrupt)
        with paced(session, "report"):
            results = report(session)
        for note in [*unmeasured(results), *timing_notes(results)]:
            log.warning("%s", note)
        step("writing tables and figures")
        write(results, session.folder)
        keep_words(session, results)  # after the tables, which must not wait for what is only shown
        write_page([(session.folder, results)], session.folder.path / PAGE)
    return results


def train_only(loaded: Loaded, conditions: Conditions, progress: Progress = silent) -> Trained:
    """Train the study's supernet, or find it in the cache."""
    session = Session(loaded, conditions, progress)
    with opened(session):
        return trained(session)


def trained(session: Session) -> Trained:
    """The supernet, trained now or from the cache; the run keeps how long its training took."""
    is_new = known_supernet(session) is None
    if is_new and (seconds := expected_s(session, "train", training_work(session))):
        step(f"the training takes {in_words(seconds)}")
    supernet = session.supernet
    if is_new:
        keep(session, "train", supernet.train_s, training_work(session))
    replace_whole(session.folder.seconds("train"), str(supernet.train_s).encode())
    return supernet


def count_duplicates(session: Session) -> Mapping[str, int]:
    """Count the texts that splits share, pair by pair; done once for each run, and kept in its store."""
    store = session.stores.open("search")
    shared = counts(store.note(DUPLICATES))
    if shared is None:
        step("looking for texts that are in two splits")
        shared = duplicates(session.tables)
        store.set_note(DUPLICATES, shared)
    for pair, count in shared.items():
        if count:
            log.warning("%d texts are in two splits: %s", count, pair)
    return shared
