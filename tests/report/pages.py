"""Runs for the tests of pages: members of several layers with everything that a page can show of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from searchkit.evaluate.layers import LayerCosts
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.report.page import Example, Shown
from searchkit.report.results import Results
from tests.report.searches import ACCURACY, MACS, staircase, unmeasurable

LATENCY = Objective("latency", "ms at batch 1", "lower", unmeasurable)
LAYERS = 6
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028\u202e"


def timed(value: float) -> Estimate:
    beside = {"settled": 1.0, "ratio": value / 10, "ratio_low": value / 10 - 0.02, "ratio_high": value / 10 + 0.02}
    return Estimate(value, 0.1, 30, beside)


def measured(number: int, accuracy: float, macs: float, latency: float | None = None, **candidate: Any) -> Trial:
    estimates = {"accuracy": Estimate(accuracy, 0.01, 900), "macs": Estimate(macs, 0.002, 900)}
    estimates |= {"latency": timed(latency)} if latency else {}
    return Trial(Ask(number, Candidate.of(candidate)), Measured(estimates), 0.5, {"device": "cpu", "dtype": "fp32"})


def run(members: int = 5, trials: int = 40, name: str = "demo", layers: int = LAYERS, **changes: Any) -> Results:
    """A front of `members` on a rising curve, below it so many other trials, and baselines."""
    rng = np.random.default_rng(len(name))
    shares = np.linspace(0.3, 0.9, members)
    lengths = [tuple(round(float(share) ** (layer + 1), 4) for layer in range(layers)) for share in shares]
    curve = [0.95 - 0.3 * float(np.exp(-5 * share)) for share in shares]
    searched = [
        measured(number, quality, float(share), lengths=own)
        for number, (share, quality, own) in enumerate(zip(shares, curve, lengths, strict=True))
    ]
    costs = rng.uniform(shares[0], 1, trials)
    below = np.array(curve)[np.searchsorted(shares, costs, side="right") - 1] - rng.uniform(0.001, 0.05, trials)
    others = [
        measured(members + number, quality, cost, lengths=(1.0, number + 1.0))
        for number, (quality, cost) in enumerate(zip(below.tolist(), costs.tolist(), strict=True))
    ]
    report = {
        each.key: measured(number, curve[number] - 0.01, float(shares[number]), 10 * float(shares[number]), lengths=own)
        for number, (each, own) in enumerate(zip(searched, lengths, strict=True))
    }
    fields: dict[str, Any] = {
        "study": {"name": name, "fingerprint": "f00", "seed": 7},
        "objectives": (ACCURACY, MACS),
        "front_objectives": (LATENCY,),
        "trials": (*searched, *others),
        "report": report,
        "baselines": {
            "unreduced": (measured(0, 0.93, 1.0, 10.0, baseline="unreduced"),),
            "truncation": (measured(0, 0.85, 0.8, 8.5, baseline="truncation", share=0.8),),
            "rival small": (measured(0, 0.91, 0.5, 5.0, rival="small", weights="ab12"),),
            "onnxruntime": (measured(0, 0.93, 1.0, 4.0, rival="onnxruntime fp32", runtime="onnxruntime"),),
        },
    }
    return staircase(**(fields | changes))


def shown(results: Results | None = None, folder: str = "runs/demo", **changes: Any) -> Shown:
    """The run with everything beside it: another setting, the work of layers, and words."""
    results = results or run()
    depth = max(len(value) for _, value in results.front.members[0].ask.candidate.items if isinstance(value, tuple))
    tokens = tuple(64.0 / (layer + 1) for layer in range(depth))
    work = LayerCosts((64.0,) * depth, tokens, tuple(1e4 * count for count in tokens), 1e4)
    whole = LayerCosts((64.0,) * depth, (64.0,) * depth, (64e4,) * depth, 1e4)
    layers = dict.fromkeys(results.report, work) | {each.key: whole for each in results.baselines["unreduced"]}
    words = ("the", "plot", "is", "thin", "but", "fun")
    dropped = {
        key: tuple((number + place) % (LAYERS + 2) for place in range(6)) for number, key in enumerate(results.report)
    }
    evidence = (False, False, False, False, False, True)
    predicted = {key: f"class {number}" for number, key in enumerate(results.report)}
    example = Example(words, LAYERS, dropped, "example 3: label positive", evidence, predicted)
    fields: dict[str, Any] = {
        "settings": {"ab12cd34": in_setting(results, 4.0)},
        "layers": layers,
        "words": (example,),
    }
    return Shown(results, folder, **(fields | changes))


def in_setting(results: Results, times: float) -> Results:
    """The same values, but times so many times as long."""

    def slower(trial: Trial) -> Trial:
        assert isinstance(trial.outcome, Measured)
        estimates = dict(trial.outcome.estimates)
        estimates["latency"] = timed(times * estimates["latency"].value)
        return replace(trial, outcome=Measured(estimates), environment={"device": "cpu", "dtype": "bf16"})

    unreduced = tuple(map(slower, results.baselines["unreduced"]))
    report = {key: slower(trial) for key, trial in results.report.items()}
    return replace(results, report=report, baselines={"unreduced": unreduced})
