"""Guess of a task from the columns of a file: which of them hold texts, which the label, and what kind of label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from searchkit.errors import DataError, StudyError, unknown
from searchkit.tasks.columns import NUMBER
from searchkit.tasks.files import Part

KINDS: Final = ("classification", "regression", "question_answering")
ANSWERED: Final = ("question", "context", "answers")  # columns of SQuAD's format
LABELS: Final = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "score",
    "rating",
    "stars",
    "similarity",
)
TEXTS: Final = ("text", "sentence", "review", "content", "document", "comment", "message", "body")
PAIRS: Final = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("query", "passage"),
)
MANY: Final = 150  # distinct labels that classes may have, where a class has FEWEST rows on average
FEWEST: Final = 5
NUMBERING: Final = ("id", "idx", "index", "guid", "__index_level_0__")

# (what is asked, the option that answers it, what there is to choose from) -> the choice; StudyError where none is made
Choose = Callable[[str, str, Sequence[str]], str]


@dataclass(frozen=True)
class Columns:
    """Columns of a task; a question answering task needs none."""

    kind: str  # one of KINDS
    text: tuple[str, ...] = ()  # one, or two of pairs
    label: str = ""


def guessed(
    parts: Sequence[Part],
    choose: Choose,
    *,
    kind: str | None = None,
    text: Sequence[str] = (),
    label: str | None = None,
) -> Columns:
    """Columns of the train split, those that are given first; `choose` decides where several would do.

    DataError names the file where nothing fits; StudyError for a column that is not there.

    >>> rows = pd.DataFrame({"id": range(40), "review": [f"film {n} is good" for n in range(40)], "stars": [1, 5] * 20})
    >>> guessed([Part("train.csv", "train", rows)], choose=lambda *_: "")
    Columns(kind='classification', text=('review',), label='stars')
    """
    if kind is not None and kind not in KINDS:
        raise StudyError(f"--task: {unknown('kind of task', kind, KINDS)}")
    if len(text) > 2:
        raise StudyError(f"--text: one column, or the two of a pair, got {', '.join(text)}")
    origin, rows = parts[0].origin, pd.concat([part.rows for part in parts], ignore_index=True)
    for option, name in [("--text", name) for name in text] + [("--label", name) for name in [label] if name]:
        if name not in rows:
            raise StudyError(f"{option}: {origin}: {unknown('column', name, map(str, rows.columns))}")
    if kind == KINDS[2] or (kind is None and not text and not label and {*ANSWERED} <= {*rows.columns}):
        return Columns(KINDS[2])
    found = {name: _content(rows[name]) for name in map(str, rows.columns) if name.lower() not in NUMBERING}
    label = label or _label({name: content for name, content in found.items() if name not in text}, origin, choose)
    text = tuple(text) or _texts([name for name in found if found[name] == "texts" and name != label], origin, choose)
    return Columns(kind or (KINDS[1] if _content(rows[label]) == "numbers" else KINDS[0]), tuple(text), label)


def _content(column: pd.Series[Any]) -> str:
    """Content of a column: "classes", "numbers", "texts", "lists" or "other"; in csv numbers are written as texts."""
    values = column.dropna()
    if any(isinstance(value, Sized) and not isinstance(value, str | bytes | Mapping) for value in values):
        return "lists"
    plain = [value for value in values.tolist() if isinstance(value, str | int | float)]  # bool is an int
    if not plain or len(plain) < len(values):
        return "other"
    few = len(set(plain)) <= max(2, min(MANY, len(plain) // FEWEST))
    written = [value.strip() if isinstance(value, str) else repr(float(value)) for value in set(plain)]
    if all(map(NUMBER.fullmatch, written)):
        return "classes" if few and all(float(value).is_integer() for value in written) else "numbers"
    return "classes" if few else "texts"


def _label(found: dict[str, str], origin: str, choose: Choose) -> str:
    """Label column: by its name, or the only one of classes, or of numbers."""
    fitting = [name for name, content in found.items() if content in ("classes", "numbers")]
    named = sorted((name for name in fitting if name.lower() in LABELS), key=lambda name: LABELS.index(name.lower()))
    of_classes = [name for name in fitting if found[name] == "classes"]
    if named:
        return named[0]
    if not fitting:
        listed = ", ".join(f"{name} ({content})" for name, content in found.items())
        lists = "lists of labels cannot be learnt" if "lists" in found.values() else "choose with --label"
        raise DataError(f"{origin}: no column looks like a label (classes or numbers): {listed}; {lists}")
    if len(of_classes) == 1 or len(fitting) == 1:
        return (of_classes or fitting)[0]
    return choose(f"{origin}: which column is the label?", "--label", fitting)


def _texts(fitting: Sequence[str], origin: str, choose: Choose) -> tuple[str, ...]:
    """Text column, or the two of a known pair."""
    by_name = {name.lower(): name for name in fitting}
    for pair in PAIRS:
        if {*pair} <= {*by_name}:
            return tuple(by_name[name] for name in pair)
    if not fitting:
        raise DataError(f"{origin}: no column looks like texts; choose with --text, twice for pairs")
    named = [by_name[name] for name in TEXTS if name in by_name]
    if len(fitting) == 1 or len(named) == 1:
        return ((named or list(fitting))[0],)
    return (choose(f"{origin}: which column holds the texts?", "--text", fitting),)
