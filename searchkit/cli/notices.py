"""Warnings of the training and of the run's folder, which stand in run.log too, as lines of the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from searchkit.cli.terminal import err
from searchkit.errors import one_line

# such as a head that is new, outputs whose order was changed, or code that is not known
SHOWN = ("searchkit.training", "searchkit.runs.folder")


class _Notices(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"[yellow]note:[/] {escape(one_line(record.getMessage()))}", soft_wrap=True, highlight=False)


@contextmanager
def notices() -> Iterator[None]:
    """Show warnings above the bars."""
    handler, loggers = _Notices(logging.WARNING), [logging.getLogger(name) for name in SHOWN]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
