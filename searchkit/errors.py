"""Errors of searchkit: the class says who has to act; the message says what happened, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

LONGEST: Final = 1000  # characters of a message
QUOTED: Final = 400  # characters quoted of another library's message


def one_line(text: object, longest: int = LONGEST) -> str:
    """Text on one line, safe for a terminal: control characters are spelt out, and of what is too long
    the middle is left out. For whatever searchkit quotes: a text, or another's error.
    """
    line = _cut(" ".join(part.strip() for part in str(text).splitlines() if part.strip()), longest)
    return _cut("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line), longest)


def _cut(line: str, longest: int) -> str:
    return line if len(line) <= longest else f"{line[: 2 * longest // 3]} ... {line[-(longest // 3) :]}"


class SearchkitError(Exception):
    """Base of every error that searchkit raises on purpose; the command line shows it as one line, exit code 2.

    It is one line whatever it quotes: file names, labels, the messages of other libraries.

    >>> from searchkit import Budget, SearchkitError
    >>> try:
    ...     Budget(evaluations=0)
    ... except SearchkitError as error:
    ...     print(error)
    budget: evaluations must be a whole number of at least 1, got 0
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class StudyError(SearchkitError):
    """Error that the author of the study has to mend: in the study file, a parameter, an option.

    >>> from searchkit import NSGA2, StudyError
    >>> try:
    ...     NSGA2(crossover=2)
    ... except StudyError as error:
    ...     print(error)
    crossover and mutation are shares in [0, 1], got crossover=2, mutation=1.0
    """


class DataError(SearchkitError):
    """Error of data or a checkpoint that is missing, malformed, or does not fit the study.

    >>> from searchkit import DataError, SearchkitError
    >>> issubclass(DataError, SearchkitError)
    True
    """


class TrialError(SearchkitError):
    """Error of a candidate that could not be measured: it is recorded as `Failed` of this `kind`, the search goes on.

    >>> from searchkit import TrialError
    >>> TrialError("objective 'loss' is nan", kind="nan").kind
    'nan'
    """

    def __init__(self, message: str, kind: str = "exception") -> None:
        super().__init__(message)
        self.kind = kind


class StoreError(SearchkitError):
    """Error of a run's record that cannot be read, written or trusted, which stops the run.

    >>> from searchkit import SearchkitError, StoreError
    >>> issubclass(StoreError, SearchkitError)
    True
    """


class NothingStoredError(StoreError):
    """Error of a store that does not exist yet, or does not hold the study: nothing is damaged."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for an unknown name, on one line: the closest known names first, then the others."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    ordered = close + [candidate for candidate in names if candidate not in close]
    return f"unknown {kind} {name!r}{hint} (known: {', '.join(ordered) or 'none'})"
