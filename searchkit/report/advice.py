"""Advice where a search gave little: whether examples, scores or training are lacking, and what to change."""

from __future__ import annotations

import math
from statistics import median
from typing import Final

from searchkit.report.columns import in_words
from searchkit.report.gained import POINT
from searchkit.report.paired import difference
from searchkit.report.results import RANDOM_TOKENS, Results, estimates, measured
from searchkit.report.verdict import verdicts

FEW: Final = 2.0  # points that a search split of enough examples tells apart
SAVED: Final = 1.5  # times cheaper that a member should be within a point


def advice(results: Results) -> list[str]:
    """Sentences on a search split that is small, and on a front that saves little within a point, with the reason."""
    few = few_examples(results)
    return [*few, *_little_saved(results, bool(few))]


def few_examples(results: Results) -> list[str]:
    """Sentence on a search split that tells candidates apart only where they are more than two points apart.

    How far that is follows from the members' paired differences to the unreduced model on the report split.
    """
    axis = results.quality
    paired = (difference(results, member, axis) for member in results.members)
    widths = [(each.high - each.low) / 2 for each in paired if each and each.low is not None and each.high is not None]
    seen = [trial.estimates[axis.name].n for trial in results.front if axis.name in trial.estimates]
    report = estimates(results.unreduced, [axis])
    if axis.unit != "fraction" or axis.better != "higher" or not widths or not seen or report is None:
        return []
    points = 100 * median(widths) * math.sqrt(report[axis.name].n / max(seen))
    if points <= FEW:
        return []
    return [
        f"{max(seen)} examples of the search split tell candidates apart that are {points:.1f} points apart (95 %): "
        "luck chose among closer ones; a larger search split would tell more."
    ]


def _little_saved(results: Results, few: bool) -> list[str]:
    """Sentence where no member within a point of the unreduced quality costs two thirds of unreduced or less."""
    quality, cost = results.quality, results.cost
    whole = estimates(results.unreduced, [quality])
    known = (quality.unit, quality.better) == ("fraction", "higher") and cost.unit.startswith("of unreduced")
    reported = measured((results.report.get(trial.key) for trial in results.members), [quality, cost])
    cheap = [row[quality.name].value for row in reported if row[cost.name].value <= 1 / SAVED]
    if whole is None or not known or not reported:
        return []
    lost = 100 * (whole[quality.name].value - max(cheap, default=-math.inf))
    if lost <= 100 * POINT + 1e-9:
        return []
    most = f"No member within one point of unreduced is {SAVED:g} times cheaper in {in_words(cost.name)}"
    nearest = f" (the best of that cost loses {lost:.1f})" if cheap else ""
    if _no_better_than_random(results):
        why = "the words that it keeps serve it no better than random ones, so its scores lack training: more epochs"
    elif few:
        why = "its search split is too small to find what there may be: more examples there, then more epochs"
    else:
        why = (
            "the supernet loses too much: more epochs, more training data, or a recipe that trains scores (Transkimmer)"
        )
    return [f"{most}{nearest}: {why}."]


def _no_better_than_random(results: Results) -> bool:
    """Return whether random tokens were met at equal cost, and never beaten."""
    axes = [results.quality, results.cost]
    met = [row[results.cost.name].value for row in measured(results.baselines.get(RANDOM_TOKENS, ()), axes)]
    own = [row[results.cost.name].value for row in measured(results.report.values(), axes)]
    verdict = verdicts(results).get(RANDOM_TOKENS)
    return bool(met and own and verdict and max(met) >= min(own) and not verdict.better)
