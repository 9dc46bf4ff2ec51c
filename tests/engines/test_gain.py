"""Expected gain in hypervolume, against draws and against moocore."""

from __future__ import annotations

import numpy as np
import pytest

from searchkit.engines.gain import expected_gains, expected_shortfall
from searchkit.front import hypervolume

FRONT = np.array([[0.2, 0.8], [0.5, 0.5], [0.8, 0.1]])
REFERENCE = np.array([1.0, 1.0])


def drawn(mean: np.ndarray, deviation: np.ndarray, draws: int = 20_000) -> float:
    """The gain of one candidate, by draws of its losses."""
    points = mean + np.random.default_rng(1).standard_normal((draws, len(mean))) * deviation
    base = hypervolume(FRONT[:, : len(mean)], REFERENCE[: len(mean)])
    return float(np.mean([hypervolume(np.vstack([FRONT, point]), REFERENCE) - base for point in points]))


@pytest.mark.parametrize("mean", [(0.4, 0.4), (0.1, 0.9), (0.9, 0.9), (0.6, 0.05), (1.2, 0.3)])
def test_with_one_loss_known_it_is_the_mean_over_draws(mean: tuple[float, float]) -> None:
    at, deviation = np.array(mean), np.array([0.15, 0.0])
    (gain,) = expected_gains(FRONT, REFERENCE, at[None], deviation[None])
    assert gain == pytest.approx(drawn(at, deviation, 4_000), abs=3e-3)


def test_which_loss_is_known_makes_no_difference() -> None:
    mean, deviation = np.array([[0.4, 0.3]]), np.array([[0.1, 0.0]])
    (gain,) = expected_gains(FRONT, REFERENCE, mean, deviation)
    (mirrored,) = expected_gains(FRONT[:, ::-1], REFERENCE, mean[:, ::-1], deviation[:, ::-1])
    assert mirrored == pytest.approx(gain, rel=1e-12)


def test_with_both_losses_known_it_is_the_gain_itself() -> None:
    points = np.random.default_rng(0).uniform(0, 1.1, (50, 2))
    base = hypervolume(FRONT, REFERENCE)
    exact = [hypervolume(np.vstack([FRONT, point]), REFERENCE) - base for point in points]
    assert expected_gains(FRONT, REFERENCE, points, np.zeros_like(points)) == pytest.approx(exact, abs=1e-12)


def test_with_both_losses_uncertain_it_is_near_the_mean_over_draws() -> None:
    mean, deviation = np.array([0.45, 0.4]), np.array([0.1, 0.03])
    (gain,) = expected_gains(FRONT, REFERENCE, mean[None], deviation[None])
    assert gain == pytest.approx(drawn(mean, deviation, 4_000), rel=0.05)


def test_of_one_loss_it_is_the_expected_improvement() -> None:
    (gain,) = expected_gains(np.array([[0.5]]), np.array([1.0]), np.array([[0.4]]), np.array([[0.0]]))
    assert gain == pytest.approx(0.1)


def test_of_three_losses_it_is_positive_where_something_can_be_gained_and_none_beyond_the_reference() -> None:
    front, reference = np.array([[0.5, 0.5, 0.5]]), np.ones(3)
    mean, deviation = np.array([[0.3, 0.3, 0.3], [0.6, 0.6, 0.6], [1.5, 0.1, 0.1]]), np.full((3, 3), 1e-9)
    gains = expected_gains(front, reference, mean, deviation)
    assert gains == pytest.approx([0.7**3 - 0.5**3, 0.0, 0.0], abs=1e-6)


def test_an_empty_front_leaves_all_to_gain() -> None:
    (gain,) = expected_gains(np.empty((0, 2)), REFERENCE, np.array([[0.25, 0.5]]), np.zeros((1, 2)))
    assert gain == pytest.approx(0.75 * 0.5)


def test_shortfall_against_numerical_integration() -> None:
    x = np.linspace(-8, 8, 200_001)
    density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)
    exact = np.trapezoid(np.maximum(0, 0.3 - (0.5 + 0.2 * x)) * density, x)
    assert float(expected_shortfall(0.3, np.array(0.5), np.array(0.2))) == pytest.approx(float(exact), rel=1e-6)
