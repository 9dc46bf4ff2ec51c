"""Records: their intervals against scipy, their JSON there and back."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from searchkit.records import Estimate

finite = st.floats(allow_nan=False, allow_infinity=False)
intervals = st.tuples(finite, finite).map(sorted) | st.just([None, None])


@given(st.integers(1, 5000), st.data())
def test_the_interval_of_a_fraction_is_that_of_scipy(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    estimate = Estimate.of_fraction([True] * right + [False] * (n - right))
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert estimate.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= estimate.interval[0] <= estimate.value <= estimate.interval[1] <= 1


@pytest.mark.parametrize("right", [0, 20])
def test_the_interval_of_a_fraction_is_not_a_point_where_its_standard_error_is_zero(right: int) -> None:
    estimate = Estimate.of_fraction([place < right for place in range(20)])
    assert estimate.standard_error == 0
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.high - estimate.low > 0.15


@given(finite, finite | st.none(), st.integers(1, 9), st.dictionaries(st.text(), finite), intervals, st.data())
def test_an_estimate_comes_back_from_json_as_it_was(value, error, n, beside, ends, data) -> None:  # type: ignore[no-untyped-def]
    resamples = tuple(data.draw(st.lists(finite | st.none(), max_size=4)))
    estimate = Estimate(value, error, n, beside, *ends, resamples)
    assert Estimate.from_json(json.loads(json.dumps(estimate.to_json(), allow_nan=False))) == estimate


def test_a_record_from_before_intervals_is_read_and_written_as_it_was() -> None:
    before = {"value": 0.5, "standard_error": 0.1, "n": 25}
    assert Estimate.from_json(before) == Estimate(0.5, 0.1, 25)
    assert Estimate.from_json(before).to_json() == before


def test_without_an_interval_of_its_own_that_of_the_normal_distribution_counts() -> None:
    assert Estimate(0.5, 0.1, 25).interval == pytest.approx(stats.norm.interval(0.95, 0.5, 0.1))
    assert Estimate(0.5, 0.1, 25, low=0.2, high=0.9).interval == (0.2, 0.9)
    assert Estimate(0.5, None, 25).interval is None
    assert Estimate(0.5, math.inf, 25).interval is None


@pytest.mark.parametrize(
    "ends", [(0.2, None), (None, 0.2), (0.3, 0.2), (math.nan, 0.2), (0.1, math.nan), (0, math.inf)]
)
def test_an_interval_has_two_finite_ends_in_order(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="an interval"):
        Estimate(0.5, None, 1, low=ends[0], high=ends[1])
