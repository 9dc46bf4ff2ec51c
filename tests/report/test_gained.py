"""The sentence on what a front gained in time, on fronts whose fastest member is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.report.gained import gained
from searchkit.report.notes import notes
from searchkit.report.results import UNREDUCED, Results
from searchkit.report.summary import summary
from searchkit.stats import RESAMPLES
from tests.report.searches import staircase, unmeasurable

TIMED = Objective("latency", "ms at batch 1", "lower", unmeasurable)
IN_ONNX = replace(TIMED, name="latency_onnx", unit="ms at batch 1 in ONNX Runtime")


def timed(ratio: float, width: float = 0.02) -> Estimate:
    ends = {"ratio": ratio, "ratio_low": ratio - width, "ratio_high": ratio + width}
    return Estimate(10 * ratio, 0.1, 10, {**ends, "settled": 1.0})


def trial(number: int, accuracy: float, macs: float, **times: Estimate) -> Trial:
    values = {"accuracy": Estimate(accuracy, 0.01, 1000), "macs": Estimate(macs, 0.0, 1000), **times}
    return Trial(Ask(number, Candidate.of(lengths=(1.0, macs))), Measured(values), 0.1)


def front(*members: Trial, names: tuple[Objective, ...] = (TIMED,)) -> Results:
    whole = Trial(Ask(0, Candidate.of(baseline=UNREDUCED)), Measured({"accuracy": Estimate(0.9, 0.01, 1000)}), 0.1)
    return staircase(
        trials=members,
        front_objectives=names,
        report={member.key: member for member in members},
        baselines={UNREDUCED: (whole,)},
    )


SLOWER, FASTER, WORSE = (
    trial(1, 0.905, 0.8, latency=timed(1.1)),
    trial(2, 0.892, 0.5, latency=timed(0.5)),
    trial(3, 0.85, 0.2, latency=timed(0.25)),
)


def test_the_fastest_within_a_point_is_named_with_what_it_gains_and_loses() -> None:
    (found,) = gained(front(SLOWER, FASTER, WORSE))
    assert found.member == FASTER
    assert found.is_faster
    assert found.speedup == pytest.approx((2.0, 1 / 0.52, 1 / 0.48))
    assert found.lost.value == pytest.approx(0.008)
    assert found.text == (
        "The fastest member within one point has passes 2.00 (1.92 to 2.08) times as fast as unreduced at batch 1 in "
        f"PyTorch, 0.8 points lost on the report split: {FASTER.key}."
    )
    assert notes(front(SLOWER, FASTER, WORSE))[-1] == found.text
    (written,) = summary(front(SLOWER, FASTER, WORSE))["gained"]
    assert written["key"] == FASTER.key
    assert written["quality"] == "accuracy"
    assert written["speedup"] == pytest.approx({"value": 2.0, "low": 1 / 0.52, "high": 1 / 0.48})
    assert (written["lost"]["value"], written["is_faster"]) == (pytest.approx(0.008), True)


def test_a_front_that_is_no_faster_says_so() -> None:
    (found,) = gained(front(SLOWER, WORSE))
    assert not found.is_faster
    assert found.text == (
        "No member within one point of the unreduced accuracy is surely faster; the best has passes 0.91 (0.89 to "
        "0.93) times as fast as unreduced at batch 1 in PyTorch."
    )
    (found,) = gained(front(WORSE))
    assert (found.member, found.is_faster) == (None, False)
    assert found.text == "No member is within one point of the unreduced accuracy."
    (written,) = summary(front(WORSE))["gained"]
    assert (written["key"], written["speedup"], written["lost"], written["is_faster"]) == (None, {}, None, False)


def test_an_interval_that_holds_one_is_not_faster() -> None:
    (found,) = gained(front(trial(1, 0.9, 0.5, latency=timed(0.99, 0.02))))
    assert not found.is_faster
    assert found.lost.value == 0


def test_each_runtime_has_its_own_and_what_was_not_timed_none() -> None:
    both = trial(1, 0.9, 0.5, latency=timed(0.9), latency_onnx=timed(0.6))
    texts = [each.text for each in gained(front(both, names=(TIMED, IN_ONNX)))]
    assert ["in PyTorch" in text for text in texts] == [True, False]
    assert "1.67 (1.61 to 1.72) times as fast as unreduced at batch 1 in ONNX Runtime, 0 points lost" in texts[1]
    assert list(gained(front(trial(1, 0.9, 0.5)))) == []
    assert list(gained(replace(front(FASTER), baselines={}))) == []


def test_the_loss_has_the_interval_of_the_paired_difference() -> None:
    found = next(gained(front(FASTER)))
    whole = replace(found.whole["accuracy"], resamples=(0.9,) * RESAMPLES)
    own = replace(found.own["accuracy"], resamples=tuple(np.linspace(0.88, 0.9, RESAMPLES)))
    found = replace(found, whole={"accuracy": whole}, own={**found.own, "accuracy": own})
    low, high = np.quantile(0.9 - np.linspace(0.88, 0.9, RESAMPLES), [0.025, 0.975])
    assert (found.lost.low, found.lost.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))
    assert "0.8 (0.05 to 1.9) points lost on the report split" in found.text
