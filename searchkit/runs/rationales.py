"""Survivors of a run's member against the rationales of its report split, beside random, attention and saliency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from searchkit._internal.progress import Progress, silent
from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.survival import attention_received, survival
from searchkit.report.rationales import Agreement, Marked, Rationalised, agreements
from searchkit.runs.folder import Folder
from searchkit.runs.pick import member
from searchkit.runs.stored import stored_results
from searchkit.runs.words import Reader, touches
from searchkit.tasks.pieces import pieces, texts_of
from searchkit.tasks.rationales import COLUMN
from searchkit.training.saliency import saliency
from searchkit.training.stage import batch_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from searchkit.tasks.base import Encoded

TOKEN_BUDGET = 4096


def rationales(
    folder: Folder,
    *,
    key: str | None = None,
    where: Sequence[str] = (),
    best: str | None = None,
    confident: bool = False,
    measured: str | None = None,
    progress: Progress = silent,
) -> Rationalised:
    """Compare what a member of a finished run's front leaves with the rationales of the report split.

    The member is that of `key`, or what `pick` chooses. StudyError where the task has no rationales.
    """
    results = stored_results(folder)
    chosen = member(folder, results, key, where, best, confident, measured)
    table = marked_rows(folder, reader := Reader.of(folder, progress))
    share, found = compared(reader, table, chosen.ask.candidate, progress)
    about = str(results.study.get("name")), chosen.key, chosen.ask.candidate.to_json()
    return Rationalised(*about, len(table), share, tuple(found))


def marked_rows(folder: Folder, reader: Reader) -> pd.DataFrame:
    """Rows of the report split that have a rationale."""
    report = reader.report
    if COLUMN not in report:
        raise StudyError(
            f"{folder.path}: the task of this run has no rationales; name their column in the study: "
            'TextClassification(..., rationales="column")'
        )
    rows = report[[bool(rationale) for rationale in report[COLUMN]]].reset_index(drop=True)
    if not len(rows):
        raise StudyError(f"{folder.path}: no row of the report split has a rationale")
    return rows


def compared(
    reader: Reader, table: pd.DataFrame, candidate: Candidate, progress: Progress = silent
) -> tuple[float, list[Agreement]]:
    """Share of the tokens that are evidence, and the agreement of the survivors under a candidate, after each layer."""
    data, model = reader.encoded(table), reader.model
    plan, batches = reader.plan(candidate, data), data.batches(TOKEN_BUDGET)
    rows_of, fallen, attention, salient = [], [], [], []
    for number, rows in enumerate(batches):
        progress("words", number, len(batches), "")
        batch = batch_of(data, torch.as_tensor(rows), torch.device("cpu"))
        rows_of.append(rows)
        fallen.append(survival(model, batch.tokens, plan)[0].numpy())
        attention.append(attention_received(model, batch.tokens).numpy())
        salient.append(saliency(model, batch, gold=False).numpy())
    progress("words", len(batches), len(batches), "")
    marked, chosen = _marked(reader, table, data, np.concatenate(rows_of))
    found = agreements(
        marked,
        np.concatenate(fallen)[chosen],
        list(np.concatenate(attention, axis=1)[:, chosen]),
        np.concatenate(salient)[chosen],
    )
    return float(marked.evidence.mean()), found


def _marked(
    reader: Reader, table: pd.DataFrame, data: Encoded, order: NDArray[np.int64]
) -> tuple[Marked, NDArray[np.bool_]]:
    """Tokens of words of the examples in this order, and which of all their tokens these are."""
    examples, evidence, chosen = [], [], []
    for number, example in enumerate(order.tolist()):
        unit, tokens = int(data.units[example]), slice(*data.offsets[example : example + 2])
        found = pieces(texts_of(table, unit), data.ids[tokens].tolist(), reader.tokenizer)
        inside = found.words >= 0
        columns = (column[inside].tolist() for column in (found.sides, found.begins, found.ends))
        places = zip(*columns, strict=True)
        spans = table[COLUMN].iloc[unit]
        evidence += [any(touches(span, *place) for span in spans) for place in places]
        examples += [number] * int(inside.sum())
        chosen.append(inside)
    return Marked(np.array(examples, dtype=np.int64), np.array(evidence, dtype=np.bool_)), np.concatenate(chosen)
