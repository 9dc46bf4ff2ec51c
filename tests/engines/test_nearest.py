"""Choice among children by their nearest known candidates, against a brute-force loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit import NSGA2, Lengths, Space
from searchkit.engines import nearest
from searchkit.engines.nearest import Nearest
from searchkit.errors import StudyError
from searchkit.records import Trial
from tests.engines.test_nsga2 import OBJECTIVES, problem


def known(rng: np.random.Generator, count: int, width: int = 3) -> tuple[Nearest, np.ndarray, np.ndarray]:
    genomes, losses = rng.integers(0, 9, (count, width)), rng.random((count, 2)) * [1.0, 50.0]
    store = Nearest()
    store.tell(list(genomes), losses)
    return store, genomes, losses


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), children=st.integers(1, 12), n=st.integers(1, 4))
def test_the_choice_equals_that_of_a_loop(seed: int, count: int, children: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    store, genomes, losses = known(rng, count)
    bred = rng.integers(0, 9, (children, 3))
    scale = np.ptp(losses, axis=0)
    scale[scale == 0] = 1.0
    scaled = losses / scale
    expected = []
    for child in bred:
        steps = [max(1, int(sum(abs(a - b) for a, b in zip(child, one, strict=True)))) for one in genomes]
        raw = [int(sum(abs(a - b) for a, b in zip(child, one, strict=True))) for one in genomes]
        closest = sorted(range(count), key=lambda place: (raw[place], place))[: nearest.NEIGHBOURS]
        weights = np.array([steps[place] ** -2.0 for place in closest])
        expected.append((scaled[closest] * weights[:, None]).sum(0) / weights.sum())
    front = [row for row in scaled if not any((other <= row).all() and (other < row).any() for other in scaled)]
    left = list(range(children))
    chosen = []
    while left and len(chosen) < n:
        promise = [min(max(member - expected[place]) for member in front) for place in left]
        best = left[int(np.argmax(promise))]
        if len(left) > 1 and len(promise) > 1 and np.sort(promise)[-1] - np.sort(promise)[-2] < 1e-12:
            return  # a tie may go either way
        chosen.append(best)
        front.append(expected[best])
        left.remove(best)
    if children > n:
        np.testing.assert_array_equal(store.promising(bred, n), bred[chosen])
    else:
        np.testing.assert_array_equal(store.promising(bred, n), bred)


def test_parts_of_the_children_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    store, _, _ = known(rng, 50)
    bred = rng.integers(0, 9, (40, 3))
    whole = store.promising(bred, 5)
    monkeypatch.setattr(nearest, "TOGETHER", 7)
    np.testing.assert_array_equal(store.promising(bred, 5), whole)


def test_there_is_no_choice_without_known_candidates_or_among_very_many() -> None:
    rng = np.random.default_rng(0)
    assert not Nearest().can_choose
    store, _, _ = known(rng, nearest.MOST)
    assert store.can_choose
    store.tell([np.zeros(3, dtype=np.int64)], np.zeros((1, 2)))
    assert not store.can_choose


def test_what_is_asked_is_the_most_promising_of_eight_times_as_many_new_children() -> None:
    space = Space(Lengths(levels=8)).bound(6)
    engine: Any = NSGA2(population=6).start(space, OBJECTIVES, seed=0)
    judge = problem(6, seed=0)
    told = [Trial(ask, judge(ask.candidate), 0.0) for ask in engine.ask(6)]
    engine.tell(told)
    offered: list[np.ndarray] = []
    choose = engine._nearest.promising

    def watched(children: np.ndarray, n: int) -> np.ndarray:
        offered.append(children)
        return choose(children, n)  # type: ignore[no-any-return]

    engine._nearest.promising = watched
    asked = {tuple(space.encode(ask.candidate).tolist()) for ask in engine.ask(6)}
    (children,) = offered
    known = {tuple(space.encode(trial.ask.candidate).tolist()) for trial in told}
    rows = [tuple(row) for row in children.tolist()]
    assert len(rows) == len(set(rows)) >= 48
    assert not known & set(rows)
    assert asked == {tuple(row) for row in choose(children, 6).tolist()}
    assert asked != set(rows[:6])


def test_one_child_for_each_ask_is_the_published_search() -> None:
    space = Space(Lengths(levels=8)).bound(6)
    assert "bred" not in NSGA2(bred=1).describe()
    assert NSGA2().describe()["bred"] == 8
    engine = NSGA2(bred=1).start(space, OBJECTIVES, seed=0)
    engine._nearest.promising = None  # type: ignore[attr-defined]  # never called
    assert len(engine.ask(30)) == 30


@pytest.mark.parametrize("bred", [0, 1_001])
def test_a_number_of_children_out_of_range_names_the_rule(bred: int) -> None:
    with pytest.raises(StudyError, match=f"NSGA2: bred must be at .*, got {bred}"):
        NSGA2(bred=bred)
