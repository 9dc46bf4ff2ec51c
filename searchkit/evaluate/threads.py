"""Parallel computation of batches, one thread each.

Between the products of a packed pass stand many small operations, which no library spreads over threads; whole batches
side by side keep every core busy, and each product is computed on one thread whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map `function` over the items, in order, by as many threads as torch may use."""
    threads = torch.get_num_threads()
    at_once = min(threads, len(items))
    if at_once < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads // at_once,)) as pool:
        try:
            return list(pool.map(function, items))
        finally:
            torch.set_num_threads(threads)  # the number that threads to come begin with
