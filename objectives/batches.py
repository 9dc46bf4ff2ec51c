"""Batches of real examples for measurements on the device: time, memory, energy."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.checks import check_count
from searchkit.errors import StudyError
from searchkit.objective import Subject
from searchkit.reduction.device import synchronize
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.tasks.base import Encoded

MOST_EXAMPLES: Final = 100_000  # upper limit of a batch, and of batches
SHORTEST: Final = 3  # tokens: one beside [CLS] and [SEP]


def check_batches(objective: str, batch_size: int, length: int | None, batches: int) -> None:
    """Raise StudyError for numbers that no batch can have."""
    check_count(f"{objective}: batch_size", batch_size, MOST_EXAMPLES)
    check_count(f"{objective}: batches", batches, MOST_EXAMPLES)
    if length is not None:
        check_count(f"{objective}: length", length, least=SHORTEST)


def real_batches(subject: Subject, batch_size: int, length: int | None, batches: int) -> list[Tokens]:
    """Draw `batches` batches of `batch_size` examples, as they are or, with a `length`, all of so many tokens.

    A rival has the same texts in its own tokens, unless it cuts them into another number of windows.
    """
    if length is None:
        lengths = subject.reference.lengths
        shared = lengths if len(lengths) == len(subject.lengths) else subject.lengths
        return [subject.tokens(rows) for rows in drawn(shared, batch_size, batches)]
    if "question" in subject.data.marks:
        raise StudyError("a stated length is for single texts, this task has questions; leave length out")
    if length > subject.limit:
        raise StudyError(f"a stated length is at most what the encoder takes, {subject.limit}, got {length}")
    starts = np.linspace(0, len(subject.data), batches, endpoint=False).astype(int)
    return [_of_length(subject.data, int(start), batch_size, length).to(subject.device) for start in starts]


def _of_length(data: Encoded, start: int, batch_size: int, length: int) -> Tokens:
    """Make examples of one length, by joining real ones from `start` on, without their first and last tokens."""
    inner: list[int] = []
    example = start
    while len(inner) < batch_size * (length - 2):
        first, stop = data.offsets[example % len(data)], data.offsets[example % len(data) + 1]
        inner += data.ids[first + 1 : max(first + 2, stop - 1)].tolist()  # of the shortest one token, so that it ends
        example += 1
    ends = [int(data.ids[data.offsets[0]]), int(data.ids[data.offsets[1] - 1])]
    whole = [inner[number * (length - 2) : (number + 1) * (length - 2)] for number in range(batch_size)]
    tokens = Tokens.of_examples([[ends[0], *part, ends[1]] for part in whole])
    last = tokens.layout.positions == length - 1
    marks = {name: last if name == "sep" else last & False for name in data.marks}
    return Tokens(tokens.ids, tokens.types, Layout(tokens.layout.offsets, tokens.layout.positions, marks))


def drawn(lengths: NDArray[np.int64], batch_size: int, batches: int) -> list[NDArray[np.int64]]:
    """Draw `batches` batches of examples spread evenly over the sorted lengths; neighbours in length share a batch."""
    order = np.argsort(lengths, kind="stable")
    starts = np.linspace(0, max(len(order) - batch_size, 0), min(batches, len(order))).round().astype(int)
    return [order[start : start + batch_size] for start in starts]


def seconds(subject: Subject, tokens: Tokens) -> float:
    """Seconds of one pass, as deployed."""
    device = subject.device
    synchronize(device)
    start = time.perf_counter()
    subject.forward(tokens)
    synchronize(device)
    return time.perf_counter() - start
