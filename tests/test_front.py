"""The front: domination against a slow loop, hypervolume against closed forms, pymoo and optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from searchkit.front import Front, hypervolume, hypervolume_curve, losses, nondominated, reference_point
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Outcome, Pruned, Trial


def _unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("the front never measures")


ACCURACY = Objective("accuracy", "fraction", "higher", _unmeasurable)
FLOPS = Objective("flops", "share", "lower", _unmeasurable)
LATENCY = Objective("latency_ms", "ms", "lower", _unmeasurable)


def tables(widths: st.SearchStrategy[int], most_rows: int) -> st.SearchStrategy[Any]:
    """(N, M) arrays of so few different values that ties and equal rows are common."""
    values = st.integers(0, 4).map(float)
    return widths.flatmap(lambda m: arrays(float, st.tuples(st.integers(0, most_rows), st.just(m)), elements=values))


def estimates(values: Mapping[str, float]) -> dict[str, Estimate]:
    return {name: Estimate(value, None, 1) for name, value in values.items()}


def trial(number: int, **values: float) -> Trial:
    return Trial(Ask(number, Candidate.of(depth=number)), Measured(estimates(values)), seconds=0.0)


def trials(points: Sequence[tuple[float, float]]) -> list[Trial]:
    """Trials of (accuracy, flops), numbered in order."""
    return [trial(i, accuracy=accuracy, flops=flops) for i, (accuracy, flops) in enumerate(points)]


def numbers(front: Front) -> list[int]:
    return [member.ask.number for member in front]


def random_front(m: int, n: int, seed: int) -> np.ndarray[Any, Any]:
    """(n, m) points on a part of the unit sphere, no one dominated, and as many dominated ones."""
    direction = np.abs(np.random.default_rng(seed).normal(size=(n, m)))
    sphere = 1 - direction / np.linalg.norm(direction, axis=1, keepdims=True)
    return np.vstack([sphere, sphere + np.random.default_rng(seed + 1).random((n, m)) / 2])


# Losses


def test_losses_flip_what_is_better_when_higher() -> None:
    rows = [estimates({"accuracy": 0.9, "flops": 0.5}), estimates({"accuracy": 0.8, "flops": 0.25})]
    assert losses(rows, [ACCURACY, FLOPS]).tolist() == [[-0.9, 0.5], [-0.8, 0.25]]
    assert losses(rows, [FLOPS]).tolist() == [[0.5], [0.25]]
    assert losses([], [ACCURACY, FLOPS]).shape == (0, 2)


def test_a_missing_objective_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"unknown objective 'flops' \(known: accuracy\)"):
        losses([estimates({"accuracy": 0.9})], [FLOPS])


# Domination


@given(tables(st.integers(1, 4), most_rows=12))
def test_nondominated_agrees_with_comparing_all_pairs(rows: np.ndarray[Any, Any]) -> None:
    expected = [
        not any(
            ((other <= row).all() and (other < row).any()) or ((other == row).all() and j < i)
            for j, other in enumerate(rows)
        )
        for i, row in enumerate(rows)
    ]
    assert nondominated(rows).tolist() == expected


@pytest.mark.parametrize("m", [2, 3])
def test_nondominated_of_ten_thousand_rows_agrees_with_pymoo(m: int) -> None:
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    rows = np.random.default_rng(0).random((10_000, m))
    expected = NonDominatedSorting().do(rows, only_non_dominated_front=True)
    assert sorted(np.flatnonzero(nondominated(rows))) == sorted(expected)


def test_losses_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        nondominated(np.array([[0.0, np.nan]]))


# Hypervolume


def test_the_hypervolume_of_a_staircase_has_a_closed_form() -> None:
    """Steps at (i, n - i), i = 0..n, within (n + 1, n + 1): columns of height 1, 2, ... n + 1."""
    n = 50
    staircase = np.array([(i, n - i) for i in range(n + 1)], dtype=float)
    assert hypervolume(staircase, (n + 1, n + 1)) == (n + 1) * (n + 2) / 2


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_the_hypervolume_of_one_point_is_its_box(m: int) -> None:
    assert hypervolume(np.full((1, m), 0.5), np.ones(m)) == 0.5**m


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_hypervolume_agrees_with_pymoo_and_optuna(m: int, seed: int) -> None:
    from optuna._hypervolume import compute_hypervolume
    from pymoo.indicators.hv import HV

    rows = random_front(m, 30, seed)
    reference = np.full(m, 0.9)  # some rows lie beyond it
    inside = rows[(rows < reference).all(axis=1)]
    assert 0 < len(inside) < len(rows)
    ours = hypervolume(rows, reference)
    assert ours == pytest.approx(HV(ref_point=reference)(rows), rel=1e-9)
    assert ours == pytest.approx(compute_hypervolume(inside, reference), rel=1e-9)


@given(tables(st.integers(1, 4), most_rows=8))
def test_the_hypervolume_counts_the_unit_cells_that_a_point_dominates(rows: np.ndarray[Any, Any]) -> None:
    m, limit = rows.shape[1], 3
    cells = np.indices((limit,) * m).reshape(m, -1).T
    dominated = sum(bool((rows <= cell).all(axis=1).any()) for cell in cells)
    assert hypervolume(rows, np.full(m, limit)) == pytest.approx(dominated)


def test_points_beyond_the_reference_and_no_points_have_no_hypervolume() -> None:
    assert hypervolume(np.array([[1.0, 0.0], [0.5, 2.0]]), (1.0, 1.0)) == 0.0
    assert hypervolume(np.empty((0, 3)), (1.0, 1.0, 1.0)) == 0.0


def test_a_reference_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"losses.shape=\(1, 2\), limit.shape=\(3,\)"):
        hypervolume(np.zeros((1, 2)), (1.0, 1.0, 1.0))


@given(tables(st.integers(2, 3), most_rows=12))
def test_the_curve_is_the_hypervolume_of_every_prefix(rows: np.ndarray[Any, Any]) -> None:
    reference = np.full(rows.shape[1], 3.5)
    expected = [hypervolume(rows[: i + 1], reference) for i in range(len(rows))]
    assert hypervolume_curve(rows, reference).tolist() == pytest.approx(expected)


def test_the_curve_of_ten_thousand_evaluations_ends_at_the_hypervolume() -> None:
    """On a circle every point enters the front, which is the most work there can be."""
    angle = np.random.default_rng(0).uniform(0, np.pi / 2, 10_000)
    circle = 1 - np.stack([np.cos(angle), np.sin(angle)], axis=1)
    curve = hypervolume_curve(circle, (1.0, 1.0))
    assert (np.diff(curve) > 0).all()
    assert curve[-1] == pytest.approx(hypervolume(circle, (1.0, 1.0)), rel=1e-9)
    assert curve[-1] == pytest.approx(np.pi / 4, rel=1e-3)


def test_the_reference_point_is_one_percent_beyond_the_worst() -> None:
    rows = np.array([[0.0, -0.9, 5.0, 0.0], [2.0, -0.4, 5.0, 0.0]])
    assert reference_point(rows).tolist() == pytest.approx([2.02, -0.395, 5.05, 0.01])
    with pytest.raises(ValueError, match="at least one"):
        reference_point(np.empty((0, 2)))


# Front


def test_a_front_holds_the_nondominated_trials_cheapest_first() -> None:
    front = Front.of(trials([(0.9, 1.0), (0.8, 0.5), (0.7, 0.6), (0.5, 0.1), (0.9, 1.1)]), [ACCURACY, FLOPS])
    assert numbers(front) == [3, 1, 0]
    assert front.values("flops").tolist() == [0.1, 0.5, 1.0]
    assert front.values("accuracy").tolist() == [0.5, 0.8, 0.9]
    assert front.losses.tolist() == [[-0.5, 0.1], [-0.8, 0.5], [-0.9, 1.0]]


def test_of_equal_trials_the_first_asked_is_the_member_in_any_order_of_arrival() -> None:
    asked = trials([(0.9, 1.0), (0.9, 1.0), (0.5, 0.1), (0.5, 0.1)])
    for arrived in (asked, asked[::-1]):
        assert numbers(Front.of(arrived, [ACCURACY, FLOPS])) == [2, 0]


def test_pruned_and_failed_trials_are_no_members() -> None:
    outcomes: list[Outcome] = [Pruned("dominated", 10), Failed("nan", "loss is NaN")]
    others = [Trial(Ask(9 + i, Candidate.of(depth=9 + i)), outcome, 0.0) for i, outcome in enumerate(outcomes)]
    assert numbers(Front.of([*others, *trials([(0.9, 1.0)])], [ACCURACY, FLOPS])) == [0]
    assert numbers(Front.of(others, [ACCURACY, FLOPS])) == []


def test_without_a_cost_the_front_is_sorted_by_its_first_objective_best_first() -> None:
    robustness = Objective("robustness", "fraction", "higher", _unmeasurable)
    points = [trial(0, accuracy=0.1, robustness=0.9), trial(1, accuracy=0.9, robustness=0.1)]
    assert numbers(Front.of(points, [ACCURACY, robustness])) == [1, 0]


def test_the_hypervolume_of_a_front_is_that_of_all_trials() -> None:
    points = trials([(0.9, 1.0), (0.8, 0.5), (0.7, 0.6)])
    front = Front.of(points, [ACCURACY, FLOPS])
    assert front.hypervolume((0.0, 2.0)) == pytest.approx(0.9 * 1.0 + 0.8 * 0.5)


def test_the_knee_of_a_hinge_is_its_corner() -> None:
    """Accuracy rises steeply up to flops 0.3 and hardly beyond; there it is furthest from the line through the ends."""
    hinge = [(0.5, 0.1), (0.7, 0.2), (0.88, 0.3), (0.89, 0.6), (0.9, 1.0)]
    assert Front.of(trials(hinge), [ACCURACY, FLOPS]).knee().ask.number == 2


def test_the_knee_does_not_depend_on_the_units() -> None:
    hinge = [(0.5, 100.0), (0.7, 200.0), (0.88, 300.0), (0.89, 600.0), (0.9, 1000.0)]
    assert Front.of(trials(hinge), [ACCURACY, FLOPS]).knee().ask.number == 2


@given(st.floats(0.1, 0.9), st.integers(5, 40))
def test_the_knee_is_furthest_from_the_line_through_the_extremes(bend: float, n: int) -> None:
    cost = np.linspace(0, 1, n)
    quality = cost**bend  # convex as losses
    points = np.stack([cost, quality], axis=1)
    line = (points[-1] - points[0]) / np.linalg.norm(points[-1] - points[0])
    offset = points - points[0]
    distance = np.abs(offset[:, 0] * line[1] - offset[:, 1] * line[0])
    knee = Front.of(trials(list(zip(quality, cost, strict=True))), [ACCURACY, FLOPS]).knee()
    assert distance[knee.ask.number] == pytest.approx(distance.max())


def test_the_knee_of_few_members() -> None:
    assert Front.of(trials([(0.9, 1.0)]), [ACCURACY, FLOPS]).knee().ask.number == 0
    assert Front.of(trials([(0.9, 1.0), (0.5, 0.1)]), [ACCURACY, FLOPS]).knee().ask.number == 1
    with pytest.raises(ValueError, match="no knee"):
        Front.of([], [ACCURACY, FLOPS]).knee()


def test_the_knee_of_three_objectives_is_below_the_plane_through_the_worst_corners() -> None:
    corners = [
        trial(0, accuracy=0.9, flops=1.0, latency_ms=9.0),
        trial(1, accuracy=0.5, flops=0.1, latency_ms=9.0),
        trial(2, accuracy=0.5, flops=1.0, latency_ms=1.0),
    ]
    inner = trial(3, accuracy=0.85, flops=0.2, latency_ms=2.0)
    assert Front.of([*corners, inner], [ACCURACY, FLOPS, LATENCY]).knee().ask.number == 3
