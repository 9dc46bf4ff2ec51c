"""Words that survive under a member of a run's front: for examples of the report split, or for texts of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit._internal.checks import check_count
from searchkit._internal.progress import Progress, silent
from searchkit.errors import DataError, StudyError
from searchkit.evaluate.baselines import plan_of
from searchkit.records import Candidate
from searchkit.reduction.loading import load_model
from searchkit.reduction.survival import survival
from searchkit.report.words import Survivors, Word, WordsOf
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.pick import member
from searchkit.runs.reopen import check_trained, reopened
from searchkit.runs.session import Session
from searchkit.runs.stored import stored_results
from searchkit.tasks.pieces import COLUMNS, Pieces, pieces, texts_of
from searchkit.tasks.rationales import COLUMN
from searchkit.tasks.spans import best_spans
from searchkit.tasks.unlabelled import table_of
from searchkit.training.packing import as_tokens
from searchkit.training.pretrained import load_tokenizer

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from searchkit.reduction.model import AdaptiveModel
    from searchkit.reduction.plan import ReductionPlan
    from searchkit.tasks.base import Encoded

MOST: Final = 1000  # examples shown at once


def words(
    folder: Folder,
    text: str | None = None,
    second: str | None = None,
    *,
    key: str | None = None,
    where: Sequence[str] = (),
    best: str | None = None,
    confident: bool = False,
    measured: str | None = None,
    rows: Sequence[int] = (),
    examples: int = 3,
    progress: Progress = silent,
) -> Survivors:
    """Words of a text, or of examples of the report split, under a member of a finished run's front.

    text, second: a text of one's own (and the second of a pair, or the context of the question `text`); rows: rows of
    the report split, otherwise as many `examples` are drawn, the same every time. The member is that of `key`, or what
    `pick` chooses. Everything runs on the CPU in float32. StudyError or DataError, in one line.
    """
    results = stored_results(folder)
    chosen = member(folder, results, key, where, best, confident, measured)
    reader = Reader.of(folder, progress)
    if text is not None:
        table, numbers = own_text(reader.report, text, second), []
    else:
        numbers = chosen_rows(reader.report, rows, examples)
        table = reader.report.iloc[numbers].reset_index(drop=True)
    shown = read(reader, table, chosen.ask.candidate, numbers, labelled=text is None)
    return Survivors(str(results.study.get("name")), chosen.key, chosen.ask.candidate.to_json(), tuple(shown))


@dataclass(frozen=True, eq=False)
class Reader:
    """Trained model, tokenizer and data of a run, to see single tokens by."""

    session: Session

    @classmethod
    def of(cls, folder: Folder, progress: Progress = silent) -> Reader:
        """Open the run; StudyError where its study or its supernet is not there any more."""
        session = reopened(folder, Conditions(runs=folder.path.parent, device="cpu", dtype="fp32"), progress)
        check_trained(session)
        return cls(session)

    @cached_property
    def model(self) -> AdaptiveModel:
        return load_model(str(self.session.supernet.folder)).frozen()

    @cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(str(self.session.supernet.folder))

    @property
    def report(self) -> pd.DataFrame:
        """Table of the report split."""
        return self.session.tables.report

    def plan(self, candidate: Candidate, data: Encoded) -> ReductionPlan:
        recipe, head = self.session.study.supernet.recipe, self.model.head.name
        return plan_of(candidate, recipe, self.model.shape.layers, data.marks, head)

    def encoded(self, table: pd.DataFrame) -> Encoded:
        return self.session.study.task.encode(table, self.tokenizer)


def chosen_rows(table: pd.DataFrame, given: Sequence[int], examples: int) -> list[int]:
    """Rows of the report split: those that are given, or drawn ones."""
    for row in given:
        if not 0 <= row < len(table):
            raise StudyError(f"--row {row}: the report split has the rows 0 to {len(table) - 1}")
    check_count("--examples", examples, MOST)
    return list(given) or sorted(np.random.default_rng(0).permutation(len(table))[:examples].tolist())


def own_text(example: pd.DataFrame, text: str, second: str | None) -> pd.DataFrame:
    """Table of a text of one's own, like `example`."""
    names = next(names for names in COLUMNS if all(name in example for name in names))
    if (second is None) != (len(names) == 1):
        need = f"--text and --second are its {' and '.join(names)}" if second is None else "leave out --second"
        raise StudyError(f"an example of this study has {' and '.join(names)}: {need}")
    given = {name: part for name, part in zip(names, (text, second), strict=False) if part is not None}
    for name, part in given.items():
        if not part.strip():
            raise DataError(f"the {name} is empty")
    return table_of({name: [part] for name, part in given.items()}, example)


def read(
    reader: Reader, table: pd.DataFrame, candidate: Candidate, rows: Sequence[int] = (), *, labelled: bool = True
) -> list[WordsOf]:
    """Words of the examples of a table under a candidate; a question has one example for each of its windows.

    rows: what the rows of the table are called
    """
    data, model = reader.encoded(table), reader.model
    layers = model.shape.layers
    fallen, predicted = survival(model, as_tokens(data), reader.plan(candidate, data))
    answers, units = _predictions(model, predicted.logits.float().numpy(), data), data.units.tolist()
    shown = []
    for example, unit in enumerate(units):
        tokens = slice(*data.offsets[example : example + 2])
        found = pieces(texts_of(table, unit), data.ids[tokens].tolist(), reader.tokenizer)
        rationale = table[COLUMN].iloc[unit] if labelled and COLUMN in table else None
        words_of_example = joined(found, fallen[tokens].numpy(), layers, rationale)
        name = _name(rows[unit] if rows else None, units, example)
        label = _label(model, table, unit) if labelled else ""
        shown.append(WordsOf(found.texts, tuple(words_of_example), layers, name, label, answers[unit]))
    return shown


def _name(row: int | None, units: list[int], example: int) -> str:
    """Name of an example, and its window where its question has several."""
    windows = [number for number, unit in enumerate(units) if unit == units[example]]
    name = [f"example {row}"] if row is not None else []
    window = [f"window {windows.index(example) + 1} of {len(windows)}"] if len(windows) > 1 else []
    return ", ".join(name + window)


def joined(
    found: Pieces, fallen: NDArray[np.int64], layers: int, rationale: Sequence[Sequence[int]] | None
) -> list[Word]:
    """Join the pieces of an example to words; a word lives as long as one of its pieces does.

    fallen: (n,) the layer that drops each token, `layers` + 1 for none
    """
    pieces_of: dict[int, list[int]] = {}
    for token, word in enumerate(found.words.tolist()):
        if word >= 0:
            pieces_of.setdefault(word, []).append(token)
    made = []
    for tokens in pieces_of.values():
        side, begin, end = int(found.sides[tokens[0]]), int(found.begins[tokens].min()), int(found.ends[tokens].max())
        last = int(fallen[tokens].max())
        marked = None if rationale is None else any(touches(span, side, begin, end) for span in rationale)
        made.append(Word(found.texts[side][begin:end], side, begin, end, last if last <= layers else None, marked))
    return made


def touches(span: Sequence[int], side: int, begin: int, end: int) -> bool:
    """Return whether a span (side, begin, end) of a rationale has a character of `begin` to `end`."""
    return span[0] == side and span[1] < end and span[2] > begin


def _predictions(model: AdaptiveModel, logits: NDArray[np.float32], data: Encoded) -> list[str]:
    """Prediction of each unit as a text; empty for a head of one's own."""
    if model.head.name == "question_answering" and data.answers:
        found = best_spans(logits, data).texts(data.answers.contexts)
        return [repr(answer) if answer else "no answer" for answer in found]
    if model.head.named_outputs:
        return [_class(model, number) for number in logits.argmax(1).tolist()]
    return [f"{row[0]:.3g}" if model.head.name == "regression" else "" for row in logits[: len(data)]]


def _label(model: AdaptiveModel, table: pd.DataFrame, row: int) -> str:
    if "answers" in table:
        golds = dict.fromkeys(table["answers"].iloc[row])
        return " or ".join(repr(answer) if answer else "no answer" for answer in golds)
    label = table["label"].iloc[row]
    return _class(model, int(label)) if model.head.named_outputs else f"{label:.3g}"


def _class(model: AdaptiveModel, number: int) -> str:
    names: Mapping[int, str] = model.stock.config.id2label
    return str(names[number])
