"""Ctrl-C while something listens: once is a wish, twice is an order, and so is once after the grace."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable

import pytest

from searchkit.search.interrupt import MESSAGE, Interrupt


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def heard(interrupt: Interrupt) -> bool:
    deadline = time.monotonic() + 10
    while not interrupt.asked and time.monotonic() < deadline:
        time.sleep(0.001)
    return interrupt.asked


def listen(interrupt: Interrupt, search: Callable[[], None]) -> None:
    with interrupt.listening():
        search()


def test_the_first_ctrl_c_lets_the_search_finish_what_is_in_flight() -> None:
    said: queue.Queue[str] = queue.Queue()
    interrupt, finished = Interrupt(said.put), []
    before = signal.getsignal(signal.SIGINT)

    def search() -> None:
        assert not interrupt.asked
        press()
        assert heard(interrupt)
        assert said.get(timeout=10) == MESSAGE
        finished.append(True)

    with pytest.raises(KeyboardInterrupt):
        listen(interrupt, search)
    assert finished
    assert said.empty()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_stops_the_search_now() -> None:
    interrupt, reached = Interrupt(lambda text: None), []

    def search() -> None:
        press()
        reached.append(heard(interrupt))
        press()
        time.sleep(10)
        reached.append(False)

    with pytest.raises(KeyboardInterrupt):
        listen(interrupt, search)
    assert reached == [True]


def test_a_search_that_takes_longer_than_the_grace_is_stopped() -> None:
    def search() -> None:
        press()
        time.sleep(30)

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        listen(Interrupt(lambda text: None, grace_s=0.05), search)
    assert time.monotonic() - begun < 10


def test_the_usual_handler_is_back_after_a_search_without_ctrl_c() -> None:
    interrupt = Interrupt()
    listen(interrupt, lambda: None)
    assert not interrupt.asked
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_error_of_the_search_is_not_hidden_by_an_interrupt() -> None:
    interrupt = Interrupt(lambda text: None)

    def search() -> None:
        press()
        assert heard(interrupt)
        raise ValueError("of the search")

    with pytest.raises(ValueError, match="of the search"):
        listen(interrupt, search)


def test_a_search_in_another_thread_runs_without_a_handler() -> None:
    reached: list[bool] = []
    thread = threading.Thread(target=listen, args=(Interrupt(), lambda: reached.append(True)))
    thread.start()
    thread.join()
    assert reached == [True]
