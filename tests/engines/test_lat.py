"""LAT's search where the published one has no answer: small spaces, failures, shares, bad settings; and how it ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from searchkit.engines import LAT, Engine
from searchkit.engines.lat import constant_ratio
from searchkit.errors import StudyError
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate, Failed, Measured, Outcome, Trial
from searchkit.space import Integer, Lengths, Space, Thresholds


def _unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("an engine never measures")


QUALITY = Objective("accuracy", "fraction", "higher", _unmeasurable)
COST = Objective("cost", "tokens", "lower", _unmeasurable)
TOKENS = Space(Lengths(range(2, 65), basis="tokens", layers=4))


def judged(candidate: Candidate) -> Outcome:
    lengths = np.array(candidate["lengths"], dtype=float)
    kept = lengths / 64
    quality = float(1 - np.mean(np.exp(-4 * kept)))
    return Measured({"accuracy": Estimate(quality, None, 1), "cost": Estimate(float(kept.mean()), None, 1)})


def finished(engine: Engine, judge: Callable[[Candidate], Outcome] = judged, n: int = 1000) -> list[list[Candidate]]:
    """What is asked for until nothing is, generation by generation."""
    generations = []
    while asks := engine.ask(n):
        engine.tell([Trial(ask, judge(ask.candidate), 0.0) for ask in asks])
        generations.append([ask.candidate for ask in asks])
    return generations


def every(generations: list[list[Candidate]]) -> list[Candidate]:
    return list(itertools.chain.from_iterable(generations))


def test_after_its_iterations_nothing_more_is_asked_for() -> None:
    config = LAT(iterations=3, initial=4, mutations=6, crossovers=5)
    engine = config.start(TOKENS, (QUALITY, COST), seed=0)
    generations = finished(engine)
    assert engine.ask(10) == []
    assert [len(one) for one in generations[:1]] == [6]
    assert len(generations) == 4
    assert all(len(one) <= 11 for one in generations[1:])
    assert config.population == 11
    assert sum(map(len, generations)) <= config.evaluations == 39


def test_no_ask_reaches_beyond_its_iteration() -> None:
    config = LAT(iterations=2, initial=4, mutations=6, crossovers=5)
    whole = finished(config.start(TOKENS, (QUALITY, COST), seed=0))
    in_parts = finished(config.start(TOKENS, (QUALITY, COST), seed=0), n=4)
    assert [len(one) for one in in_parts[:2]] == [4, 2]
    assert every(in_parts) == every(whole)


@pytest.mark.parametrize(("levels", "layers"), [(range(2, 17), 2), (range(2, 4), 1), ([2], 3), (range(2, 200), 1)])
def test_a_neighbourhood_that_is_exhausted_ends_the_search(levels: Any, layers: int) -> None:
    """The published code loops for ever here: L = 16 and two layers never leave its first iteration."""
    space = Space(Lengths(levels, basis="tokens", layers=layers))
    asked = every(finished(LAT().start(space, (QUALITY, COST), seed=0)))
    assert len(set(asked)) == len(asked) <= space.size


def test_the_first_population_fits_depth_and_length_of_the_encoder() -> None:
    (first, *_) = finished(LAT(initial=3).start(TOKENS, (QUALITY, COST), seed=0))
    assert [one["lengths"] for one in first[:2]] == [constant_ratio(64, 4, 0.2), (64,) * 4]
    means = [float(np.mean(one["lengths"])) for one in first]  # type: ignore[arg-type]
    even = [means[0] + (64 - means[0]) * place / 4 for place in (1, 2, 3)]
    assert means[2:] == pytest.approx(even, abs=1.0)


def test_a_space_of_shares_is_searched_level_by_level_and_the_pinned_ends_stay() -> None:
    space = Space(Lengths(16, first=1.0, layers=6), last_idle=True)
    asked = every(finished(LAT(iterations=4).start(space, (QUALITY, COST), seed=0)))
    assert len(set(asked)) == len(asked) > 100
    assert all(space.decode(space.encode(one)) == one and one["lengths"][0] == 1.0 for one in asked)  # type: ignore[index]


def test_failures_are_never_parents_and_never_asked_for_again() -> None:
    broken: list[Candidate] = []

    def judge(candidate: Candidate) -> Outcome:
        if int(candidate.key, 16) % 3 == 0 or len(broken) < 22:  # the whole first population, and a third of the others
            broken.append(candidate)
            return Failed("nan", "loss is NaN")
        return judged(candidate)

    engine: Any = LAT(iterations=6).start(TOKENS, (QUALITY, COST), seed=0)
    asked = every(finished(engine, judge))
    assert len(set(asked)) == len(asked) > 200
    keys = {tuple((np.array(one["lengths"]) - 2).tolist()) for one in broken}
    assert keys.isdisjoint(engine._front())


def test_the_cost_that_is_given_decides_what_the_lower_bound_turns_down() -> None:
    def last(candidate: Candidate) -> float:
        lengths = candidate["lengths"]
        assert isinstance(lengths, tuple)
        return float(lengths[-1])  # type: ignore[arg-type]

    config = LAT(iterations=10)
    free, bounded = (
        every(finished(engine))
        for engine in (
            config.start(TOKENS, (QUALITY, COST), seed=0),
            config.start_at(TOKENS, (QUALITY, COST), 0, last),
        )
    )
    lowest = constant_ratio(64, 4, 0.2)[-1]
    assert min(map(last, bounded)) == lowest > min(map(last, free))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"iterations": 0}, "LAT: iterations must be at least 1, got 0"),
        ({"initial": 0}, "LAT: initial must be at least 1, got 0"),
        ({"mutations": True}, "LAT: mutations must be a whole number, got True"),
        ({"crossovers": 2.5}, "LAT: crossovers must be a whole number, got 2.5"),
        ({"mutation": 0}, "mutation is a probability"),
        ({"mutation": float("nan")}, "LAT: mutation must be a finite number"),
        ({"drop": 1.0}, "drop a share in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        LAT(**values)


@pytest.mark.parametrize(
    ("space", "objectives", "message"),
    [
        (Space(Lengths(4, layers=3), Integer("heads", 1, 4)), (QUALITY, COST), "Lengths alone, got lengths, heads"),
        (Space(Thresholds(layers=3)), (QUALITY, COST), "Lengths alone, got thresholds"),
        (TOKENS, (QUALITY,), "better when lower, got accuracy"),
        (TOKENS, (COST,), "better when lower, got cost"),
    ],
)
def test_a_space_or_objectives_that_lat_cannot_search_are_refused(space: Space, objectives: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        LAT().start(space, objectives, seed=0)
