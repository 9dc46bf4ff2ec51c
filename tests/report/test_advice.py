"""Advice of a report: small search splits, and fronts that save little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from searchkit.records import Measured, Trial
from searchkit.report.advice import advice, few_examples
from searchkit.report.notes import notes
from searchkit.report.results import Results
from tests.report.searches import cut, drawn, staircase, trial


def searched(examples: int, kept: float = 0.9, macs: float = 0.4, random_tokens: float = 0.4) -> Results:
    """One member that gets a share of the examples right; the unreduced model gets 0.9; report: 1,000 examples."""
    rng = np.random.default_rng(0)
    easy = rng.random(1000)
    right, whole = easy < kept, rng.permutation(easy) < 0.9
    member: Trial = drawn(right[:examples], macs, 1, lengths=(1.0, 0.5))
    fields: dict[str, Any] = {
        "trials": (member,),
        "report": {member.key: drawn(right, macs, 1, lengths=(1.0, 0.5))},
        "front_objectives": (),
        "baselines": {
            "unreduced": (drawn(whole, 1.0, baseline="unreduced"),),
            "random tokens": (cut("random tokens", 0.5, random_tokens, 0.5),),
        },
    }
    return staircase(**fields)


def test_a_small_search_split_is_told_with_the_points_that_it_tells_apart() -> None:
    (said,) = few_examples(searched(408))
    assert said.startswith("408 examples of the search split tell candidates apart that are ")
    points = float(said.split(" that are ")[1].split()[0])
    # a fifth of the answers differ: 1.96 * sqrt(0.18 / 408)
    assert points == pytest.approx(100 * 1.96 * np.sqrt(0.18 / 408), abs=0.4)
    assert said in notes(searched(408))


def test_a_large_search_split_is_not_mentioned() -> None:
    member = searched(1000)
    wide = tuple(replace(one, outcome=Measured(_with_n(one, 100_000))) for one in member.trials)
    assert few_examples(replace(member, trials=wide)) == []


def _with_n(one: Trial, n: int) -> dict[str, Any]:
    return {name: replace(estimate, n=n) for name, estimate in one.estimates.items()}


@pytest.mark.parametrize(
    ("kept", "macs", "random_tokens", "said"),
    [
        (0.9, 0.4, 0.4, None),
        (0.8, 0.4, 0.4, "its search split is too small"),
        (0.8, 0.4, 0.999, "its scores lack training"),
        (0.9, 0.9, 0.4, "its search split is too small"),
    ],
)
def test_a_front_that_saves_little_says_why(kept: float, macs: float, random_tokens: float, said: str | None) -> None:
    sentences = [line for line in advice(searched(400, kept, macs, random_tokens)) if line.startswith("No member")]
    assert len(sentences) == (0 if said is None else 1)
    if said is not None:
        assert said in sentences[0]
        assert ("loses" in sentences[0]) == (macs < 0.6)


def test_with_enough_examples_the_supernet_is_to_blame() -> None:
    results = staircase(front_objectives=())  # no resamples: nothing is known of the split
    (said,) = advice(results)
    assert "the best of that cost loses 32.0" in said
    assert "the supernet loses too much" in said


def test_nothing_is_said_without_members_or_a_relative_cost() -> None:
    assert advice(staircase(trials=(trial(0, 0.5, 0.5),), report={})) == []
    results = staircase()
    accuracy, macs = results.objectives
    assert advice(replace(results, objectives=(accuracy, replace(macs, unit="GFLOP")))) == []
