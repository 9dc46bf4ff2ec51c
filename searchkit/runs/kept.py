"""Predictions of the front and the unreduced model on the report split, kept in the folder as they are measured."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from searchkit.errors import StoreError, StudyError
from searchkit.evaluate.predictions import Predicted, Predictions
from searchkit.records import Candidate, Trial
from searchkit.reduction.heads import HEADS
from searchkit.runs.session import Session

log = logging.getLogger(__name__)


class KeptPredictions:
    """The predictions file of a run, for the candidates that are `wanted`; written at the end, whatever ends it.

    What stands there of other candidates, or of another study, is left out.
    """

    def __init__(self, session: Session, wanted: Sequence[Candidate]) -> None:
        self._session = session
        self._wanted = {candidate.key: candidate for candidate in wanted} if _applies(session) else {}
        self._members, self._changed = self._stored(), False

    def _stored(self) -> dict[str, Predicted]:
        path = self._session.folder.predictions
        if not self._wanted or not path.exists():
            return {}
        try:
            stored = Predictions.read(path)
        except (StoreError, StudyError) as error:
            log.warning("%s: they are made again", error)
            return {}
        return dict(stored.members) if stored.study == self._session.fingerprint else {}

    @property
    def lacking(self) -> list[Candidate]:
        """Candidates without predictions."""
        return [candidate for key, candidate in self._wanted.items() if key not in self._members]

    def only(self, keys: Container[str]) -> None:
        """Keep those of these keys alone."""
        self._wanted = {key: candidate for key, candidate in self._wanted.items() if key in keys}

    def take_outputs(self, trial: Trial) -> Trial:
        """Take what the trial brings along; return the trial without it."""
        if trial.outputs is not None and trial.key in self._wanted:
            self._members[trial.key], self._changed = trial.outputs, True
        return replace(trial, outputs=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._changed:
            return
        session, head = self._session, self._session.study.task.head
        members = {key: self._members[key] for key in self._wanted if key in self._members}
        kept = Predictions(session.fingerprint, "report", head, tuple(session.tables.labels), members)
        kept.write(session.folder.predictions)


def _applies(session: Session) -> bool:
    """Return whether the head has outputs for each unit; one's own that reads every token has not."""
    head = HEADS.look_up(session.study.task.head)
    return head.reads != "tokens" or head.name == "question_answering"
