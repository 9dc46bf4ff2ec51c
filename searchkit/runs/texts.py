"""Texts of the user's own, on which a front's costs are measured: their lengths, and what names them in a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from searchkit._internal.code import digest
from searchkit.errors import StudyError, one_line
from searchkit.objective import Objective
from searchkit.report.environment import OF_TEXTS
from searchkit.runs.session import Session
from searchkit.tasks.unlabelled import unlabelled
from searchkit.training.pretrained import load_tokenizer

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from searchkit.tasks.base import Encoded, Task

_SHARES: Final = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}
LONGEST: Final = 60  # characters of a file's name that are shown


@dataclass(frozen=True, eq=False)
class Texts:
    """Encoded texts of a file, without labels. Examples of questions are windows."""

    name: str
    table: pd.DataFrame
    task: Task
    data: Encoded

    @classmethod
    def read(cls, path: Path, session: Session) -> Texts:
        """Read and encode the file for the session's task; DataError in one line where it does not fit."""
        task = session.study.task
        table = unlabelled(path, task, session.tables.report)
        encoded = task.encode(table, load_tokenizer(str(session.supernet.folder)))
        return cls(one_line(path.name, LONGEST), table, task, encoded)

    def encoded(self, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """The texts in the tokens of another model."""
        return self.task.encode(self.table, tokenizer)

    @property
    def rows(self) -> int:
        return len(self.table)

    @property
    def max_length(self) -> int:
        return self.task.max_length

    @property
    def identity(self) -> str:
        """Name of the texts in a setting: the file's name, and a digest of the tokens."""
        return f"{self.name} ({self.rows} texts, {digest(self.data.digest())[:8]})"

    @property
    def lengths(self) -> Mapping[str, float]:
        """Distribution of the tokens of an example: quantiles, and the share that fills `max_length`."""
        lengths = self.data.lengths
        quantiles = {name: float(np.quantile(lengths, share)) for name, share in _SHARES.items()}
        return {**quantiles, "mean": float(lengths.mean()), "full": float((lengths >= self.max_length).mean())}

    def refuse_fewer_than(self, batch_size: int) -> None:
        """Raise StudyError where a batch is larger than all of the texts."""
        if len(self.data) < batch_size:
            raise StudyError(f"{self.name} has {len(self.data)} examples, too few for batches of {batch_size}")

    def objective(self, objective: Objective) -> Objective:
        """The objective with the texts named in its unit, so that its values are never taken for others."""
        return replace(objective, unit=f"{objective.unit}{OF_TEXTS}{self.name}")

    def __str__(self) -> str:
        """Sentence on their number and lengths."""
        told = self.lengths
        full = f"; {100 * told['full']:.0f} % fill all {self.max_length}" if told["full"] else ""
        return (
            f"{self.rows} texts of {self.name}: {told['min']:.0f} to {told['max']:.0f} tokens, "
            f"median {told['p50']:.0f}, 95 % have at most {told['p95']:.0f}{full}"
        )
