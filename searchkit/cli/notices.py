"""Terminal output of training warnings, which run.log has too."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from searchkit.cli.terminal import err
from searchkit.errors import one_line

SHOWN = "searchkit.training"  # such as a head that is new, or outputs whose order was changed


class _Notices(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        err.print(f"[yellow]note:[/] {escape(one_line(record.getMessage()))}", soft_wrap=True, highlight=False)


@contextmanager
def notices() -> Iterator[None]:
    """Show warnings above the bars."""
    handler, logger = _Notices(logging.WARNING), logging.getLogger(SHOWN)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
