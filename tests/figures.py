"""Runs without figures, and with them where a test looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from searchkit.runs import results

DRAW = results.draw


@contextmanager
def without_figures() -> Iterator[None]:
    """Runs in this process draw nothing."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(results, "draw", lambda *_: None)
        yield


@contextmanager
def with_figures() -> Iterator[None]:
    """Runs in this process draw, as outside tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(results, "draw", DRAW)
        yield
