"""Interruption by Ctrl-C: the first lets a search finish the asks in flight, the second stops it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

log = logging.getLogger(__name__)

GRACE_S: Final = 30.0  # time limit of asks in flight; then the first Ctrl-C counts as the second
MESSAGE: Final = "finishing what is in flight; press Ctrl-C again to stop now"


class Interrupt:
    """SIGINT handler of a running search; elsewhere Ctrl-C stops at once, as usual.

    say: writes one line to the terminal, in a thread of its own, because a signal may come in the middle of a print
    """

    def __init__(self, say: Callable[[str], None] = log.warning, grace_s: float = GRACE_S) -> None:
        self._say, self._grace_s = say, grace_s
        self._over = threading.Event()
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """The main thread's first SIGINT sets `asked`, the second raises; KeyboardInterrupt at the end if `asked`."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._once)
        try:
            yield
        finally:
            self._over.set()
            signal.signal(signal.SIGINT, before)
        if self.asked:
            raise KeyboardInterrupt

    def _once(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        log.info("Ctrl-C: %s", MESSAGE)
        self._say(MESSAGE)
        if not self._over.wait(self._grace_s):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
