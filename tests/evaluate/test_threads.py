"""Batches side by side: the same numbers on any number of threads, in order, and torch's own number afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from searchkit.evaluate.threads import parallel_map
from tests.evaluate.test_bench import CANDIDATES, bench


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("head", ["classification", "question_answering"])
def test_the_passes_do_not_depend_on_the_number_of_threads(head: str) -> None:
    made = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        own = replace(bench(head), token_budget=128)
        assert len(own.split.batches) > 2
        made.append(own.passes([own.plan(one) for one in CANDIDATES]))
    for others in made[1:]:
        for (logits, trace), (other, seen) in zip(made[0], others, strict=True):
            assert torch.equal(logits, other)
            assert torch.equal(trace.attention, seen.attention)


def test_items_come_back_in_order_from_several_threads() -> None:
    torch.set_num_threads(3)
    met = threading.Barrier(3, timeout=20)  # passes only if three are under way at once

    def function(item: int) -> tuple[int, int]:
        met.wait()
        return item, torch.get_num_threads()

    assert parallel_map(function, range(6)) == [(item, 1) for item in range(6)]
    assert torch.get_num_threads() == 3
    assert parallel_map(lambda item: item, []) == []


def test_threads_that_are_left_over_go_to_the_products() -> None:
    torch.set_num_threads(4)
    assert parallel_map(lambda _: torch.get_num_threads(), range(2)) == [2, 2]
    assert parallel_map(lambda _: torch.get_num_threads(), range(1)) == [4]


def test_an_error_is_raised_here_and_the_number_of_threads_comes_back() -> None:
    torch.set_num_threads(2)
    with pytest.raises(ValueError, match="no 3"):
        parallel_map(lambda item: (_ for _ in ()).throw(ValueError(f"no {item}")) if item == 3 else item, range(5))
    assert torch.get_num_threads() == 2
