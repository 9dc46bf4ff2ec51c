"""Workers get the asks whose prefixes they remember."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from searchkit.evaluate import routing
from searchkit.evaluate.ray import _Job, _share, _WorkerSlot
from searchkit.evaluate.routing import Routes
from searchkit.evaluate.trial import neighbours
from searchkit.records import Ask, Candidate

LEVELS = st.sampled_from((0.25, 0.5, 1.0))
plans = st.lists(st.tuples(*[LEVELS] * 4), max_size=20)
Taker = Callable[[int, tuple[Ask, ...], int], tuple[tuple[Ask, ...], tuple[Ask, ...]]]


def asks(lengths: Sequence[tuple[float, ...]], first: int = 0) -> tuple[Ask, ...]:
    return tuple(Ask(number, Candidate.of(lengths=plan)) for number, plan in enumerate(lengths, first))


def prefixes(ask: Ask) -> set[tuple[object, ...]]:
    lengths = ask.candidate["lengths"]
    assert isinstance(lengths, tuple)
    return {lengths[:depth] for depth in range(1, len(lengths) + 1)}


@given(st.lists(st.tuples(st.integers(0, 2), plans), max_size=6), plans, st.integers(0, 2), st.integers(1, 20))
def test_a_worker_takes_the_asks_of_which_it_has_cached_more_than_any_other(
    given_before: list[tuple[int, list[tuple[float, ...]]]], new: list[tuple[float, ...]], worker: int, count: int
) -> None:
    routes, known = Routes(), [set[tuple[object, ...]]() for _ in range(3)]
    for other, lengths in given_before:
        routes.give(other, asks(lengths))
        known[other] = known[other].union(*map(prefixes, asks(lengths)))

    def lead(ask: Ask) -> int:
        own, *others = (len(prefixes(ask) & known[one]) for one in (worker, *{0, 1, 2} - {worker}))
        return own - max(others)

    every = asks(new)
    assert [routes.lead(worker, ask) for ask in every] == list(map(lead, every))
    taken, left = routes.split(worker, every, count)
    assert sorted((*taken, *left), key=lambda ask: ask.number) == list(every)
    assert all(list(part) == sorted(part, key=lambda ask: ask.number) for part in (taken, left))
    assert len(taken) == min(count, len(every))
    if taken and left:
        assert min(map(lead, taken)) >= max(map(lead, left))


def test_a_job_is_split_by_what_its_worker_has_cached_unless_it_was_begun() -> None:
    routes, here, there = Routes(), _WorkerSlot(None, None), _WorkerSlot(None, None)
    every = asks([(0.25, 0.25), (0.5, 0.25), (0.5, 0.5), (1.0, 0.5)])
    routes.give(here, asks([(0.5, 1.0)]))
    routes.give(there, asks([(0.25, 1.0)]))
    job, rest = _Job(every, ("accuracy",)).cut(here, routes, 2)
    assert job.asks == every[1:3]
    assert rest is not None
    assert rest.asks == (every[0], every[3])
    assert rest.cut(there, routes, 2)[1] is None
    again = _Job(every[:1], ("accuracy",), attempt=2)
    assert again.cut(there, routes, 1) == (again, None)


def test_a_worker_that_is_gone_knows_nothing() -> None:
    routes, (one, other) = Routes(), asks([(1.0, 0.5), (0.5, 0.5)])
    routes.give("first", [one])
    routes.give("second", [other])
    routes.forget("first")
    assert (routes.lead("first", one), routes.lead("second", other)) == (0, 2)


def test_only_the_latest_asks_are_looked_back_on() -> None:
    routes, many = Routes(), asks([(float(number),) for number in range(2 * routing.MOST_KNOWN + 1)])
    routes.give("worker", many[:-1])
    assert routes.lead("worker", many[0]) == 1
    routes.give("worker", many[-1:])
    assert routes.lead("worker", many[0]) == 0
    assert all(routes.lead("worker", ask) == 1 for ask in many[-routing.MOST_KNOWN :])


def test_workers_repeat_less_than_with_neighbours_in_any_hands() -> None:
    """Generations of children of what was evaluated before, four workers in turns: prefixes that two of them make."""

    def in_order(worker: int, left: tuple[Ask, ...], count: int) -> tuple[tuple[Ask, ...], tuple[Ask, ...]]:
        return left[:count], left[count:]

    by_route, by_chance = repeated(Routes().split), repeated(in_order)
    assert by_route < 0.6 * by_chance


def repeated(take: Taker, workers: int = 4) -> int:
    rng, known = np.random.default_rng(0), [set[tuple[object, ...]]() for _ in range(workers)]
    parents = rng.choice(8, (24, 6))
    for _ in range(10):
        children = parents[rng.integers(0, 24, 24)]
        children[np.arange(24), rng.integers(0, 6, 24)] = rng.choice(8, 24)
        (left,) = neighbours(asks([tuple(map(float, child)) for child in children]), [24])
        turn = 0
        while left:
            taken, left = take(turn % workers, left, _share(len(left), workers))
            known[turn % workers].update(*map(prefixes, taken))
            turn += 1
        parents = children
    return sum(map(len, known)) - len(set().union(*known))
