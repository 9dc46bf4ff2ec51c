"""Searches with a hand-written outcome, for the tests of reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.report.results import Results
from searchkit.stats import RESAMPLES, resampled


def unmeasurable(subject: Any) -> Estimate:
    raise AssertionError("a report measures nothing")


ACCURACY = Objective("accuracy", "fraction", "higher", unmeasurable)
MACS = Objective("macs", "of unreduced", "lower", unmeasurable)
LATENCY = Objective("latency", "ms", "lower", unmeasurable)


def trial(
    number: int, accuracy: float, macs: float, n: int = 100, latency: float | None = None, **candidate: Any
) -> Trial:
    estimates = {
        "accuracy": Estimate(accuracy, 0.01, n),
        "macs": Estimate(macs, None, n, {"macs_per_example": macs * 1e9, "ratio_of_padded": macs / 4}),
    }
    if latency is not None:
        estimates["latency"] = Estimate(latency, 0.2, 30, {"p95_ms": latency + 1})
    values = candidate or {"lengths": (1.0, number / 100)}
    return Trial(Ask(number, Candidate.of(values)), Measured(estimates), 0.5, {"device": "cpu"})


def cut(baseline: str, share: float, accuracy: float, macs: float) -> Trial:
    return trial(0, accuracy, macs, 400, baseline=baseline, share=share)


def staircase(**changes: Any) -> Results:
    """Front: asks 1, 2, 3, cheapest first; 0 is dominated, 4 failed, 5 was pruned; on the report split 2 failed."""
    first, second, third = trial(1, 0.6, 0.2), trial(2, 0.8, 0.4), trial(3, 0.9, 0.8)
    failed = Trial(Ask(4, Candidate.of(lengths=(1.0, 0.04))), Failed("nan", "loss is NaN", "a\nb"), 0.1)
    pruned = Trial(Ask(5, Candidate.of(lengths=(1.0, 0.05))), Pruned("dominated", 64), 0.1)
    fields: dict[str, Any] = {
        "study": {"name": "demo", "fingerprint": "f00", "seed": 7},
        "objectives": (ACCURACY, MACS),
        "front_objectives": (LATENCY,),
        "trials": (trial(0, 0.55, 0.9), first, second, third, failed, pruned),
        "report": {
            first.key: trial(1, 0.58, 0.21, 400, 2.0),
            second.key: Trial(second.ask, Failed("timeout", "after 60 s"), 60.0),
            third.key: trial(3, 0.85, 0.81, 400, 8.0),
        },
        "baselines": {
            "unreduced": (trial(0, 0.9, 1.0, 400, 10.0, baseline="unreduced"),),
            "truncation": (cut("truncation", 0.8, 0.86, 0.9), cut("truncation", 0.2, 0.45, 0.25)),
            "random tokens": (cut("random tokens", 0.8, 0.5, 0.9), cut("random tokens", 0.2, 0.4, 0.3)),
            "constant ratio": (trial(1, 0.5, 0.3, 400), trial(2, 0.84, 0.9, 400), trial(3, 0.7, 0.5, 400)),
        },
        "environment": {"device": "cpu", "threads": 2},
        "seconds": {"train": 10.0, "search": 3.5, "report": 1.0},
    }
    return Results(**(fields | changes))


def noisy(count: int = 120, give_up: int = 0, name: str = "demo") -> Results:
    """Trials below a rising curve, the first of them hopeless."""
    random = np.random.default_rng(0)
    trials = []
    for number in range(count):
        macs = float(random.uniform(0.2, 1))
        bad = number < give_up
        accuracy = 0.02 if bad else float(0.9 - 0.2 * np.exp(-4 * macs) - random.uniform(0, 0.03))
        trials.append(trial(number, accuracy, macs, 872, lengths=(1.0, macs)))
    unreduced = trial(0, 0.9, 1.0, 1821, lengths=(1.0, 1.0))
    results = staircase(trials=tuple(trials), report={}, study={"name": name}, baselines={"unreduced": (unreduced,)})
    report: Mapping[str, Trial] = {
        member.key: trial(member.ask.number, 0.88, float(member.ask.candidate["lengths"][1]), 1821)  # type: ignore[index,arg-type]
        for member in results.front
    }
    return staircase(trials=results.trials, report=report, study=results.study, baselines=results.baselines)


def questions() -> Results:
    """The staircase as a search for answers: exact match in the place of accuracy, and an F1 that never changes."""

    def asked(trial: Trial) -> Trial:
        if not isinstance(trial.outcome, Measured):
            return trial
        found = dict(trial.outcome.estimates)
        quality = found.pop("accuracy")
        found |= {"exact_match": quality, "f1": Estimate(0.5, 0.01, quality.n)}
        return Trial(trial.ask, Measured(found), trial.seconds, trial.environment)

    plain = staircase()
    return staircase(
        study={"name": "questions"},
        objectives=(
            Objective("exact_match", "fraction", "higher", unmeasurable),
            Objective("f1", "fraction", "higher", unmeasurable),
            MACS,
        ),
        trials=tuple(map(asked, plain.trials)),
        report={key: asked(trial) for key, trial in plain.report.items()},
        baselines={name: tuple(map(asked, trials)) for name, trials in plain.baselines.items()},
    )


def drawn(right: np.ndarray[Any, Any], macs: float, number: int = 0, **candidate: Any) -> Trial:
    """A trial of which is known which examples it gets right, with resamples as a run takes them."""
    estimates = {
        "accuracy": replace(Estimate.of_fraction(right.astype(bool)), resamples=taken(right)),
        "macs": Estimate(macs, 0.0, len(right), low=macs, high=macs, resamples=(macs,) * RESAMPLES),
    }
    return replace(trial(number, 0, 0, **candidate), outcome=Measured(estimates))


def taken(values: np.ndarray[Any, Any]) -> tuple[float, ...]:
    return tuple(resampled(lambda rows: values[rows].mean(1), len(values)).tolist())


def paired(count: int = 5, n: int = 600, seed: int = 0) -> Results:
    """A front whose members, cheapest first, get ever more right of what the unreduced model gets right."""
    rng = np.random.default_rng(seed)
    unreduced, luck = rng.random(n) < 0.9, rng.random((count, n))
    shares = [0.5 + 0.45 * (place + 1) / count for place in range(count)]
    members = [unreduced & (luck[place] < 1 - 0.2 * (1 - share)) for place, share in enumerate(shares)]
    searched = [trial(i, 0.5 + 0.05 * i, share, 200, lengths=(1.0, share)) for i, share in enumerate(shares)]
    report = {
        one.key: drawn(right, share, i, lengths=(1.0, share))
        for i, (one, right, share) in enumerate(zip(searched, members, shares, strict=True))
    }
    baselines = {"unreduced": (drawn(unreduced, 1.0, baseline="unreduced"),)}
    return staircase(trials=tuple(searched), report=report, baselines=baselines, front_objectives=())
