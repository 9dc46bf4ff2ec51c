"""What is offered to the report split: the front, and whoever luck with the examples may hide from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit import Ask, Candidate, Estimate, Front, Lengths, Measured, Objective, Pruned, Space, Trial
from searchkit.search.shortlist import OFFERED, Shortlist
from searchkit.stats import resampled


def unmeasured(subject: Any) -> Estimate:
    raise AssertionError("outcomes are given")


def resample(subject: Any, rows: Any) -> Any:
    raise AssertionError("resamples are given")


ACCURACY = Objective("accuracy", "fraction", "higher", unmeasured, resample=resample)
MACS = Objective("macs", "of unreduced", "lower", unmeasured, traced=True)
SPACE = Space(Lengths(8, layers=3))
GENOMES = list(SPACE.genomes())


def trial(number: int, right: Any, genome: Any = None, cost: float | None = None) -> Trial:
    """A trial of which is known which examples it gets right; it costs the mean of its lengths."""
    candidate = SPACE.decode(np.array(GENOMES[number] if genome is None else genome))
    lengths = np.array(candidate["lengths"], dtype=float)
    outcomes = np.asarray(right, dtype=float)
    estimate = Estimate.of_fraction(outcomes.astype(bool))
    macs = Estimate(float(lengths.mean()) if cost is None else cost, None, len(outcomes))
    return Trial(Ask(number, candidate), Measured({"accuracy": estimate, "macs": macs}), 0.0)


def with_resamples(one: Trial, right: Any) -> Trial:
    outcomes = np.asarray(right, dtype=float)
    values = resampled(lambda rows: outcomes[rows].mean(1), len(outcomes))
    accuracy = replace(one.estimates["accuracy"], resamples=tuple(values.tolist()))
    return replace(one, outcome=Measured({**one.estimates, "accuracy": accuracy}))


def offered(rights: Sequence[Any], genomes: Sequence[Any] | None = None) -> tuple[list[Trial], dict[str, float]]:
    trials = [trial(number, right, genomes and genomes[number]) for number, right in enumerate(rights)]
    shortlist = Shortlist.of(SPACE, (ACCURACY, MACS), trials)
    resamples = {one.key: with_resamples(one, rights[one.ask.number]) for one in shortlist.trials}
    return trials, shortlist.offered(resamples)


def drawn(seed: int, examples: int = 200, count: int = 40) -> list[Any]:
    """Outcomes of candidates whose true accuracy grows with their lengths, on examples that are hard or not."""
    rng = np.random.default_rng(seed)
    hard = rng.random(examples)
    means = [0.6 + 0.3 * np.mean(GENOMES[number]) / 7 for number in range(count)]
    return [(0.6 * hard + 0.4 * rng.random(examples)) < mean for mean in means]


def test_a_dear_candidate_that_a_cheap_one_beats_by_luck_is_offered_with_its_chance() -> None:
    right = np.ones(100)
    cheap, dear = right.copy(), right.copy()
    cheap[:20], dear[10:30] = 0, 0  # as many, twenty examples apart
    trials, chances = offered([cheap, dear], [[2, 2, 2], [5, 5, 5]])
    assert [one.key for one in Front.of(trials, (ACCURACY, MACS))] == [trials[0].key]
    assert list(chances) == [trials[0].key, trials[1].key]
    assert chances[trials[0].key] == 1.0  # nothing is as cheap
    assert chances[trials[1].key] == pytest.approx(
        0.46, abs=0.08
    )  # P(more right of the 40 that differ), ties or half of them


def test_without_noise_the_front_alone_is_offered() -> None:
    def exact(one: Trial) -> Trial:
        accuracy = replace(one.estimates["accuracy"], standard_error=0.0)
        return replace(one, outcome=Measured({**one.estimates, "accuracy": accuracy}))

    trials = [exact(trial(number, right)) for number, right in enumerate(drawn(0))]
    shortlist = Shortlist.of(SPACE, (ACCURACY, MACS), trials)
    assert shortlist.compared == []
    chances = shortlist.offered({})
    assert set(chances) == {one.key for one in Front.of(trials, (ACCURACY, MACS))}
    assert set(chances.values()) == {1.0}


def test_whoever_is_far_behind_is_not_looked_at() -> None:
    rights = drawn(1)
    rights[20] = np.arange(200) < 40  # a fifth of the answers, in the middle of the costs
    trials = [trial(number, right) for number, right in enumerate(rights)]
    shortlist = Shortlist.of(SPACE, (ACCURACY, MACS), trials)
    assert trials[20].key not in {one.key for one in shortlist.trials}


@given(st.integers(0, 10_000), st.integers(2, 60))
@settings(max_examples=10, deadline=None)
def test_the_whole_front_and_few_others_are_offered_whatever_the_order(seed: int, count: int) -> None:
    rights = drawn(seed, count=count)
    trials, chances = offered(rights)
    front = [one.key for one in Front.of(trials, (ACCURACY, MACS))]
    assert set(front) <= set(chances)
    assert len(chances) <= max(OFFERED, len(front))
    assert all(0 <= chance <= 1 for chance in chances.values())
    assert offered(rights) == (trials, chances)


def test_a_value_that_neighbours_contradict_is_taken_for_luck() -> None:
    """The truth grows smoothly: a model of all outcomes is nearer to it than what was measured."""
    errors, modelled = [], []
    for seed in range(5):
        rights = drawn(seed, examples=100)
        trials = [trial(number, right) for number, right in enumerate(rights)]
        shortlist = Shortlist.of(SPACE, (ACCURACY, MACS), trials)
        truth = np.array([0.6 + 0.3 * np.mean(GENOMES[one.ask.number]) / 7 for one in shortlist.trials])
        measured = np.array([one.estimates["accuracy"].value for one in shortlist.trials])
        # one split is easier for all: what counts are differences
        errors.append(np.std(measured - truth))
        modelled.append(np.std(-shortlist.losses[:, 0] - truth))
    assert np.mean(modelled) < 0.9 * np.mean(errors)


def test_what_lost_a_race_is_known_to_the_model_and_not_offered() -> None:
    trials = [trial(number, right) for number, right in enumerate(drawn(3))]
    seen = Estimate(0.2, 0.02, 50)
    lost = Trial(Ask(99, SPACE.decode(np.array(GENOMES[90]))), Pruned("behind", 50, seen={"accuracy": seen}), 0.0)
    with_it = Shortlist.of(SPACE, (ACCURACY, MACS), [*trials, lost])
    assert lost.key not in {one.key for one in with_it.trials}
    without = Shortlist.of(SPACE, (ACCURACY, MACS), trials)
    assert with_it.losses.shape != without.losses.shape or not np.allclose(with_it.losses, without.losses)


@pytest.mark.parametrize("trials", [[], [Trial(Ask(0, Candidate.of(lengths=(1.0, 1.0, 1.0))), Pruned("dear", 0), 0.0)]])
def test_nothing_measured_offers_nothing(trials: list[Trial]) -> None:
    assert Shortlist.of(SPACE, (ACCURACY, MACS), trials).offered({}) == {}


def test_three_objectives_are_compared_too() -> None:
    size = Objective("size", "MB", "lower", unmeasured)
    rights = drawn(4, count=12)
    trials = []
    for number, right in enumerate(rights):
        one = trial(number, right)
        trials.append(replace(one, outcome=Measured({**one.estimates, "size": Estimate(float(-number), None, 1)})))
    shortlist = Shortlist.of(SPACE, (ACCURACY, MACS, size), trials)
    chances = shortlist.offered({one.key: with_resamples(one, rights[one.ask.number]) for one in shortlist.trials})
    assert {one.key for one in Front.of(trials, (ACCURACY, MACS, size))} <= set(chances)
