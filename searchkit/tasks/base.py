"""Tasks: raw tables for the three splits, and tokenised examples packed without padding.

N examples, T tokens in all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from searchkit.tasks.answers import Answers

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

SPLITS: Final = ("train", "search", "report")
LABELS: Final = ("int64", "float32")  # number formats; which of them, and the shape, is up to the head

Labels = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokenised split: example i holds `ids[offsets[i]:offsets[i + 1]]`; arrays and texts, cheap to send to workers.

    For questions an example is a window of the context, and `answers` holds the question it belongs to. ValueError for
    arrays whose number format, shape or lengths do not fit.

    >>> from searchkit.tasks import Generated, word_tokenizer
    >>> task = Generated(train=4, search=2, report=2)
    >>> data = task.encode(task.tables(0).train, word_tokenizer(task.words()))
    >>> len(data), len(data.lengths), data.take([2, 0]).lengths.tolist() == data.lengths[[2, 0]].tolist()
    (4, 4, True)
    """

    ids: NDArray[np.int32]  # (T,)
    types: NDArray[np.int32]  # (T,) token type (segment) ids
    offsets: NDArray[np.int64]  # (N + 1,)
    labels: Labels  # (N, ...) as the head says: classes int64 (N,), numbers float32 (N,), answers int64 (N, 2)
    marks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # (T,) tokens of a kind: "sep", "question"
    answers: Answers | None = None  # questions only

    def __post_init__(self) -> None:
        for name, dtype in {"ids": np.int32, "types": np.int32, "offsets": np.int64}.items():
            array = getattr(self, name)
            if array.ndim != 1 or array.dtype != dtype:
                raise ValueError(f"{name} must be one {dtype.__name__} axis, got {array.dtype} {array.shape}")
        if str(self.labels.dtype) not in LABELS or self.labels.ndim < 1:
            allowed = " or ".join(LABELS)
            raise ValueError(
                f"labels must be {allowed}, a row per example, got {self.labels.dtype} {self.labels.shape}"
            )
        for name, mark in self.marks.items():
            if mark.dtype != np.bool_ or mark.shape != self.ids.shape:
                raise ValueError(f"mark {name!r} must be bool, one per token, got {mark.dtype} {mark.shape}")
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.ids):
            raise ValueError(
                f"offsets must run from 0 to {len(self.ids)} tokens, got {self.offsets[:1]}..{self.offsets[-1:]}"
            )
        if (np.diff(self.offsets) < 1).any():
            raise ValueError("every example must hold at least one token")
        if len(self.types) != len(self.ids) or len(self.labels) != len(self.offsets) - 1:
            raise ValueError(f"lengths disagree: {len(self.ids)=} {len(self.types)=} {len(self)=} {len(self.labels)=}")
        if self.answers and (len(self.answers.questions), len(self.answers.begins)) != (len(self), len(self.ids)):
            raise ValueError(f"answers are of {len(self.answers.questions)} windows, the examples are {len(self)}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens of each example."""
        return np.diff(self.offsets)

    @property
    def units(self) -> NDArray[np.int64]:
        """(N,) the unit of each example, which is resampled and scored as a whole: its question, or the example."""
        return self.answers.questions if self.answers else np.arange(len(self), dtype=np.int64)

    def take(self, indices: ArrayLike) -> Encoded:
        """Take the chosen examples, in the order given."""
        chosen = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[chosen]  # (n,)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)  # (n + 1,)
        # token t of the result is token t - (its example's new start) + (its example's old start) of this one
        tokens = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], lengths)
        marks = {name: mark[tokens] for name, mark in self.marks.items()}
        answers = self.answers.take(chosen, tokens) if self.answers else None
        return Encoded(self.ids[tokens], self.types[tokens], offsets, self.labels[chosen], marks, answers)

    def batches(self, token_budget: int) -> list[NDArray[np.int64]]:
        """Example indices, shortest first (stable), cut so that examples x longest <= `token_budget`.

        An example longer than the budget is a batch of its own.
        """
        if token_budget < 1:
            raise ValueError(f"token_budget must be at least 1, got {token_budget=}")
        lengths = self.lengths
        order = np.argsort(lengths, kind="stable").astype(np.int64)
        batches, start = [], 0
        for stop in range(1, len(order) + 1):
            # lengths rise along the order, so the next example would be the longest of the batch
            if stop == len(order) or (stop - start + 1) * lengths[order[stop]] > token_budget:
                batches.append(order[start:stop])
                start = stop
        return batches

    def even_batches(self, token_budget: int) -> list[NDArray[np.int64]]:
        """Cut `batches` of about equal size, an even number of them, so that threads that share them end together."""
        needed = len(self.batches(token_budget))
        allowed = min(needed + needed % 2, len(self))
        low, high = int(self.lengths.max(initial=1)), token_budget
        while low < high:  # search for the lowest budget that needs so few batches and holds the longest example
            middle = (low + high) // 2
            low, high = (low, middle) if len(self.batches(middle)) <= allowed else (middle + 1, high)
        return self.batches(high)

    def digest(self) -> str:
        """32 hex digits of the content, the same on every machine."""
        arrays = [self.ids, self.types, self.offsets, self.labels, *(self.marks[name] for name in sorted(self.marks))]
        if self.answers:
            arrays += [self.answers.questions, self.answers.begins, self.answers.ends]
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(len(array).to_bytes(8, "little"))
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        if self.answers:
            digest.update(json.dumps([self.answers.contexts, self.answers.golds, self.answers.nullable]).encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Tables:
    """Raw rows of a task in three disjoint splits, index 0..n-1; `labels` are the names of the outputs.

    Texts have the columns `text`, `text_pair` (pairs only) and `label`: a class index (int64; the outputs are the
    classes in index order) or a number (float32; one output). Questions have `question`, `context`, `answers` (a tuple
    of right texts, ("",) if there is none) and `start` (the first character of the first of them, -1 if there is none);
    their outputs are "start" and "end". Where people marked the reasons for the labels, a column `rationale` holds them
    (see `tasks.rationales`).

    >>> from searchkit.tasks import Generated
    >>> tables = Generated(train=4, search=2, report=2).tables(0)
    >>> tables.labels, list(tables["search"].columns), len(tables.train)
    (('negative', 'positive'), ['text', 'label', 'rationale'], 4)
    """

    train: pd.DataFrame
    search: pd.DataFrame
    report: pd.DataFrame
    labels: tuple[str, ...]

    def __getitem__(self, split: str) -> pd.DataFrame:
        if split not in SPLITS:
            raise KeyError(f"the splits are {', '.join(SPLITS)}, got {split!r}")
        table: pd.DataFrame = getattr(self, split)
        return table


class Task(Protocol):
    """Labelled data in three splits. The search never sees the rows that the report is made on.

    A task of your own needs these five members and no base class:

    >>> from dataclasses import dataclass
    >>> from searchkit.tasks import Generated, Task
    >>> @dataclass(frozen=True)
    ... class Shortened:
    ...     task: Task
    ...     max_length: int = 16
    ...     head: str = "classification"
    ...
    ...     def tables(self, seed):
    ...         return self.task.tables(seed)
    ...
    ...     def encode(self, table, tokenizer):
    ...         return self.task.encode(table.assign(text=table["text"].str[:40]), tokenizer)
    ...
    ...     def describe(self):
    ...         return {"kind": "shortened", "of": self.task.describe()}
    >>> Shortened(Generated(train=4, search=2, report=2)).tables(0).labels
    ('negative', 'positive')
    """

    @property
    def head(self) -> str:
        """The kind of output, a name of `reduction.heads.HEADS`."""

    @property
    def max_length(self) -> int:
        """Maximum number of tokens of an example, special tokens included."""
        ...

    def tables(self, seed: int) -> Tables:
        """Read the raw data; `seed` decides what is carved and what a limit leaves. Raises DataError."""
        ...

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table, at most `max_length` tokens an example, [CLS] first. Raises DataError."""
        ...

    def describe(self) -> dict[str, Any]:
        """The JSON that identifies the data in a fingerprint; local files by their content, not their path."""
        ...
