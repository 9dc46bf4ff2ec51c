"""What every number has to have beside it, in every place where a reader meets it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit.records import Estimate, Measured, Trial
from searchkit.report.environment import fingerprint
from searchkit.report.figures import pareto, saved
from searchkit.report.results import Results
from searchkit.runs.folder import Folder
from searchkit.runs.results import write
from tests.figures import with_figures
from tests.report.searches import staircase

HERE = {"device": "cpu", "device_name": "Abacus 3000", "threads": 2, "dtype": "bf16", "torch": "2.13"}
THERE = HERE | {"threads": 4}
SHORT = f"Abacus 3000 (cpu), 2 threads, bf16, environment {fingerprint(HERE)}"
OBJECTIVES = ("accuracy", "macs", "latency")


def whole(report: dict[str, Any] = HERE) -> Results:
    """The staircase as a run leaves it: intervals everywhere, and what was measured where."""

    def measured(trial: Trial, where: dict[str, Any]) -> Trial:
        if not isinstance(trial.outcome, Measured):
            return replace(trial, environment=where)
        found = dict(trial.outcome.estimates)
        found["macs"] = replace(found["macs"], low=found["macs"].value - 0.01, high=found["macs"].value + 0.02)
        if "latency" in found:
            value = found["latency"].value
            found["latency"] = Estimate(value, 0.2, 60 + int(value), {"latency_ms_p95": 9.0}, value - 0.5, value + 0.7)
        return replace(trial, outcome=Measured(found), environment=where)

    plain = staircase()
    return staircase(
        trials=tuple(measured(one, HERE) for one in plain.trials),
        report={key: measured(one, report) for key, one in plain.report.items()},
        baselines={name: tuple(measured(one, report) for one in group) for name, group in plain.baselines.items()},
        environment=HERE,
    )


class Front:
    """front.csv, of the members that were measured."""

    def __init__(self, folder: Path) -> None:
        self.frame = pd.read_csv(folder / "front.csv").dropna(subset="accuracy_report")
        self.splits = [(name, split) for name in OBJECTIVES for split in ("search", "report")]
        self.splits.remove(("latency", "search"))

    def fingerprints(self) -> None:
        for split in ("search", "report"):
            assert set(self.frame[f"environment_{split}"]) == {SHORT}

    def intervals(self) -> None:
        for name, split in self.splits:
            value, low, high = (self.frame[f"{name}_{split}{end}"] for end in ("", "_low", "_high"))
            assert ((low < value) & (value < high)).all()

    def sizes(self) -> None:
        for name, split in self.splits:
            assert (self.frame[f"{name}_{split}_n"] > 0).all()

    def accounting(self) -> None:
        assert (self.frame["macs_ratio_of_padded"] == self.frame["macs_report"] / 4).all()
        assert (self.frame["macs_per_example"] > 0).all()


class Summary:
    """summary.json, of the members that were measured."""

    def __init__(self, folder: Path) -> None:
        self.data = json.loads((folder / "summary.json").read_text())
        self.members = [one for one in self.data["front"] if "status" not in one["report"]]
        families = [trial["report"] for family in self.data["baselines"].values() for trial in family["trials"]]
        splits = [one[split] for one in self.members for split in ("search", "report")]
        self.estimates = [one[name] for one in [*splits, *families] for name in OBJECTIVES if name in one]

    def fingerprints(self) -> None:
        assert self.data["environments"] == {fingerprint(HERE): HERE}
        for member in self.members:
            assert member["environment"] == {"search": fingerprint(HERE), "report": fingerprint(HERE)}
        for family in self.data["baselines"].values():
            assert all(trial["environment"] == {"report": fingerprint(HERE)} for trial in family["trials"])

    def intervals(self) -> None:
        assert all(one["low"] < one["value"] < one["high"] for one in self.estimates)

    def sizes(self) -> None:
        assert all(one["n"] > 0 for one in self.estimates)

    def accounting(self) -> None:
        told = {one["name"]: one.get("accounting") for one in self.data["objectives"]}
        assert told == {"accuracy": None, "macs": "pads counted on neither side", "latency": None}
        assert all(one["report"]["macs"]["beside"]["ratio_of_padded"] for one in self.members)


class Plots:
    """All the text of the figures, which the SVG keeps beside the shapes of its letters."""

    def __init__(self, folder: Path) -> None:
        names = ("pareto", "pareto_latency", "hypervolume")
        self.texts = {name: re.findall(r"<!-- (.+?) -->", (folder / f"{name}.svg").read_text()) for name in names}
        self.said = {name: " ".join(texts) for name, texts in self.texts.items()}

    def fingerprints(self) -> None:
        assert all(f"measured on {SHORT}" in texts for texts in self.texts.values())

    def intervals(self) -> None:
        for name in ("pareto", "pareto_latency"):
            assert "bars: 95 % interval on the report split" in self.said[name]

    def sizes(self) -> None:
        assert all("100 search examples, 400 report examples" in said for said in self.said.values())
        assert (
            "bars: 95 % interval on the report split, n = 400, of latency n = 62 to 70" in self.said["pareto_latency"]
        )

    def accounting(self) -> None:
        told = [name for name, said in self.said.items() if "pads counted on neither side" in said]
        assert told == ["pareto", "hypervolume"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("told")
    with with_figures():
        write(whole(), Folder(home))
    return home


@pytest.mark.parametrize("thing", ["fingerprints", "intervals", "sizes", "accounting"])
@pytest.mark.parametrize("place", [Front, Summary, Plots])
def test_every_table_figure_and_text_names_the_environment(place: Any, thing: str, folder: Path) -> None:
    getattr(place(folder), thing)()


def test_splits_that_were_measured_in_different_settings_are_told_apart() -> None:
    here, there = fingerprint(HERE), fingerprint(THERE)
    assert saved.conditions(whole(THERE)).splitlines() == [
        f"search split measured on Abacus 3000 (cpu), 2 threads, bf16, environment {here}",
        f"report split measured on Abacus 3000 (cpu), 4 threads, bf16, environment {there}",
    ]
    mixed = whole()
    mixed = replace(mixed, trials=(replace(mixed.trials[0], environment=THERE), *mixed.trials[1:]))
    assert saved.conditions(mixed).startswith(f"search split measured on 2 environments: {there}, {here}")
    assert saved.conditions(staircase(trials=(), report={}, baselines={})) == ""


def test_times_have_whiskers_of_their_own() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    pareto(whole(), axes, cost=staircase().front_objectives[0].name)
    assert axes.get_xlabel().splitlines()[0] == "latency (ms, lower is better)"
    across = [segment[:, 0].tolist() for segment in axes.containers[0].lines[2][0].get_segments()]  # type: ignore[index,union-attr]
    assert across == [pytest.approx([1.5, 2.7]), pytest.approx([7.5, 8.7])]
    left, right = axes.get_xlim()
    assert left < 1.5
    assert right > 10.7  # of the unreduced model
