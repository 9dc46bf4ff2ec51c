"""Best answer span of a question, from the logits of its windows. Q questions, T tokens in all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from searchkit.tasks.base import Encoded

N_BEST: Final = 20  # starts, and ends, of a window that are paired
MAX_ANSWER: Final = 30  # tokens of the longest answer


@dataclass(frozen=True, eq=False)
class Spans:
    """Answers of Q questions: characters `begins` to `ends` (exclusive) of each context, -1 and -1 for the answer "".

    scores: start + end logit of the answer, of [CLS] where that is ""; -inf where no span was allowed
    """

    begins: NDArray[np.int64]  # (Q,)
    ends: NDArray[np.int64]  # (Q,)
    scores: NDArray[np.float64]  # (Q,)

    def texts(self, contexts: Sequence[str]) -> tuple[str, ...]:
        """(Q,) the answers as texts."""
        found = zip(contexts, self.begins.tolist(), self.ends.tolist(), strict=True)
        return tuple("" if begin < 0 else context[begin:end] for context, begin, end in found)


def best_answers(
    logits: NDArray[np.float32], data: Encoded, n_best: int = N_BEST, max_answer: int = MAX_ANSWER
) -> tuple[str, ...]:
    """(Q,) the text of the span with the highest start + end logit over all windows of each question.

    logits: (T, 2). A span lies in the context, has at most `max_answer` tokens, and begins and ends at one of the
    `n_best` best tokens of its window; of equal ones the first counts. A question without any has the answer "". Where
    the data have questions without an answer, "" wins if [CLS] scores higher than the best span in every window that
    may hold one: the lowest null score of the windows counts, since a window without the answer rightly prefers it.
    ValueError for data without answers.

    >>> import numpy as np
    >>> from searchkit.tasks import GeneratedQuestions, best_answers, word_tokenizer
    >>> task = GeneratedQuestions(train=2, search=2, report=2)
    >>> data = task.encode(task.tables(0).train, word_tokenizer(task.words()))
    >>> logits = np.zeros((len(data.ids), 2), np.float32)
    >>> for end in (0, 1):  # a model that knows the labels
    ...     logits[data.offsets[:-1] + data.labels[:, end], end] = 1
    >>> best_answers(logits, data) == tuple(golds[0] for golds in data.answers.golds)
    True
    """
    spans = best_spans(logits, data, n_best, max_answer)
    return spans.texts(data.answers.contexts if data.answers else ())


def best_spans(logits: NDArray[np.float32], data: Encoded, n_best: int = N_BEST, max_answer: int = MAX_ANSWER) -> Spans:
    """Spans that `best_answers` takes as texts. logits: (T, 2). ValueError for data without answers."""
    answers = data.answers
    if answers is None:
        raise ValueError("these examples have no answers")
    scores = np.full(len(answers.contexts), -np.inf)  # (Q,)
    nulls = np.full(len(answers.contexts), np.inf)  # (Q,)
    edges = np.full((2, len(answers.contexts)), -1, dtype=np.int64)  # begins and ends
    wide = logits.astype(np.float64)
    for question, tokens in _windows(answers.questions, data.offsets):
        nulls[question] = min(nulls[question], wide[tokens.start].sum())
        begins = answers.begins[tokens]
        score, first, last = best_span(wide[tokens], begins >= 0, n_best, max_answer)
        if score > scores[question]:
            scores[question] = score
            edges[:, question] = begins[first], answers.ends[tokens][last]
    empty = (nulls > scores) & answers.nullable
    edges[:, empty] = -1
    return Spans(edges[0], edges[1], np.where(empty, nulls, scores))


def best_span(
    logits: NDArray[np.float64], allowed: NDArray[np.bool_], n_best: int, max_answer: int
) -> tuple[float, int, int]:
    """Score, first and last token of the best span of a window's (L, 2) logits; -inf where there is none."""
    inside = np.flatnonzero(allowed)
    if not len(inside):
        return -np.inf, 0, 0
    # in order of position, so that the argmax takes the first of equal spans
    starts, ends = (np.sort(inside[np.argsort(-column, kind="stable")[:n_best]]) for column in logits[inside].T)
    scores = logits[starts, 0][:, None] + logits[ends, 1][None, :]  # (starts, ends)
    tokens = ends[None, :] - starts[:, None] + 1
    scores[(tokens < 1) | (tokens > max_answer)] = -np.inf
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[first, last]), int(starts[first]), int(ends[last])


def _windows(questions: NDArray[np.int64], offsets: NDArray[np.int64]) -> Iterator[tuple[int, slice]]:
    """Question number and tokens of every window."""
    for window, question in enumerate(questions.tolist()):
        yield question, slice(int(offsets[window]), int(offsets[window + 1]))
