"""The published search, number by number, and what its front gets wrong (T-LAT-2, 7, 8)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from searchkit.engines.lat import LAT, constant_ratio
from searchkit.front import nondominated
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate, Measured, Trial
from searchkit.reduction.cost import Shape, published_macs
from searchkit.space import Lengths, Space

TOKENS, LAYERS = 384, 12
BERT_BASE = Shape(layers=LAYERS, width=768, feed_forward=3072, heads=12, labels=2)
# T-LAT-2: the drop ratios of the authors' first population
RATIOS = (
    *(0.18056, 0.16372, 0.14844, 0.13497, 0.1224, 0.11111, 0.09964, 0.09057, 0.08073, 0.07229),
    *(0.06419, 0.05556, 0.04889, 0.04167, 0.03526, 0.02915, 0.02326, 0.01724, 0.01124, 0.00546),
)
DIGITS = 5e-6  # bisection ends where a length jumps; their ratios are given to 5 digits and stand on the longer side

Genome = tuple[int, ...]
Points = list[tuple[int, float]]  # (MACs, score)


def lengths(ratio: float) -> Genome:
    return constant_ratio(TOKENS, LAYERS, ratio)


def cost(genome: Genome) -> int:
    return published_macs(list(zip((TOKENS, *genome[:-1]), genome, strict=True)), BERT_BASE, head=0)


def score(genome: Genome) -> float:
    """The synthetic score of T-LAT-7."""
    weights = np.linspace(1, 0.2, LAYERS)
    return float(88.5 - 60 * np.mean(weights * np.exp(-6 * np.minimum(np.array(genome) / 172.8, 1))))


def test_the_first_population_spaces_the_mean_length_evenly() -> None:
    """T-LAT-2: their approx_ratio is the mean of our lengths; bisection left them within 0.0022 of even spacing."""
    mean = [float(np.mean(lengths(ratio))) / TOKENS for ratio in RATIOS]
    lowest = float(np.mean(lengths(0.2))) / TOKENS
    assert lowest == pytest.approx(0.3159722, abs=1e-7)
    even = [lowest + (1 - lowest) * place / 21 for place in range(1, 21)]
    assert mean == pytest.approx(even, abs=2.2e-3)


def published_front(points: Points) -> Points:
    """Their sweep: sorted by (MACs, score), strict improvements, and the first and the last element always stay."""
    ordered = sorted(points)
    front, best = [ordered[0]], ordered[0][1]
    for point in ordered[1:-1]:
        if point[1] > best:
            front.append(point)
            best = point[1]
    return [*front, ordered[-1]]


def area(front: Points, low: int, high: int) -> float:
    """Their "hyper-volume": a left Riemann sum, in the unit of the score."""
    return sum((later[0] - one[0]) * one[1] for one, later in pairwise(front)) / (high - low)


def first_population() -> Points:
    genomes = [lengths(0.2), (TOKENS,) * LAYERS, *(lengths(ratio - DIGITS) for ratio in RATIOS)]
    return [(cost(genome), score(genome)) for genome in genomes]


def test_front_and_area_of_the_first_population_are_the_authors() -> None:
    """T-LAT-7, iteration 0: front 13, area 88.16430845."""
    points = first_population()
    front = published_front(points)
    costs = [macs for macs, _ in points]
    assert len(front) == 13
    assert area(front, min(costs), max(costs)) == pytest.approx(88.16430845, abs=1e-6)


def ours(points: Points) -> Points:
    losses = np.array([(macs, -value) for macs, value in points], dtype=float)
    return sorted(points[row] for row in np.flatnonzero(nondominated(losses)))


def unmeasurable(subject: object) -> Estimate:
    raise AssertionError("an engine never measures")


SCORE, MACS = Objective("score", "1", "higher", unmeasurable), Objective("macs", "1", "lower", unmeasurable)


def cost_of(candidate: Candidate) -> float:
    return cost(candidate["lengths"])  # type: ignore[arg-type]


def searched(config: LAT, seed: int = 0) -> list[list[Genome]]:
    """What the engine asks for, iteration by iteration, where it is told the synthetic score."""
    space = Space(Lengths(range(2, TOKENS + 1), basis="tokens", layers=LAYERS))
    engine = config.start_at(space, (SCORE, MACS), seed, cost_of)
    iterations: list[list[Genome]] = []
    while asks := engine.ask(config.population):
        genomes: list[Genome] = [ask.candidate["lengths"] for ask in asks]  # type: ignore[misc]
        found = [{"score": Estimate(score(one), None, 1), "macs": Estimate(cost(one), None, 1)} for one in genomes]
        engine.tell([Trial(ask, Measured(one), 0.0) for ask, one in zip(asks, found, strict=True)])
        iterations.append(genomes)
    return iterations


def test_the_engine_begins_with_the_authors_population() -> None:
    """T-LAT-2, as lengths."""
    (first, *_) = searched(LAT(iterations=1))
    assert first == [lengths(0.2), (TOKENS,) * LAYERS, *(lengths(ratio - DIGITS) for ratio in RATIOS)]


def test_the_engine_makes_the_authors_first_mutants() -> None:
    """T-LAT-7."""
    (_, children) = searched(LAT(iterations=1))
    assert [mutant[:3] for mutant in children[:3]] == [(342, 305, 272), (333, 289, 282), (357, 312, 291)]


def test_a_crossover_after_three_mutants_is_the_authors() -> None:
    """T-LAT-7: that is where their trace has its first one; it stands after thirty mutants in a whole search."""
    (_, children) = searched(LAT(iterations=1, mutations=3))
    assert children[3][:3] == (341, 303, 270)


def test_a_whole_search_of_thirty_iterations_is_the_authors() -> None:
    """T-LAT-7: 1,820 evaluations, area 88.337, and a front of 54, the parents of a further iteration.

    What was pruned from their population and came back is no evaluation of ours either, and is on no front: it was
    pruned by points that are still there.
    """
    genomes = [genome for iteration in searched(LAT()) for genome in iteration]
    points = [(cost(genome), score(genome)) for genome in genomes]
    front = published_front(points)
    assert len(genomes) == len(set(genomes)) == 1820
    assert len(front) == 54
    assert area(front, min(points)[0], max(points)[0]) == pytest.approx(88.337, abs=5e-4)


def test_nothing_cheaper_than_the_lower_bound_is_asked_for_and_lengths_never_grow() -> None:
    genomes = [genome for iteration in searched(LAT(iterations=5), seed=1) for genome in iteration]
    assert min(map(cost, genomes)) == cost(lengths(0.2))
    assert all(one >= other >= 2 for genome in genomes for one, other in pairwise(genome))


def test_the_published_front_keeps_dominated_points_and_equal_costs_and_ours_does_not() -> None:
    """T-LAT-8, on five points: the last stays though it is dominated, and 2 MACs stand twice."""
    points = [(1, 0.5), (2, 0.6), (2, 0.7), (3, 0.65), (4, 0.6)]
    published = published_front(points)
    assert (4, 0.6) in published
    assert [macs for macs, _ in published].count(2) == 2
    front = ours(points)
    assert front == [(1, 0.5), (2, 0.7)]
    assert len({macs for macs, _ in front}) == len(front)
