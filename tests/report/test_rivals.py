"""Rivals in a report: what is said of them, in which cost, and how they are named and drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from matplotlib.figure import Figure

from searchkit.records import Trial
from searchkit.report.console import console_text
from searchkit.report.figures import pareto
from searchkit.report.results import Results
from searchkit.report.summary import summary
from searchkit.report.table import baselines_frame
from searchkit.report.verdict import Verdict, rival_verdicts, sentences, verdicts
from tests.report.searches import LATENCY, MACS, staircase, trial

# The members of the staircase on the report split are (accuracy, macs, latency) = (.58, .21, 2) and (.85, .81, 8);
# every accuracy has a standard error of .01, so that differences of more than .01414 count.

NAME = "distilbert-base-uncased-finetuned-sst-2-english"


def small(accuracy: float, macs: float, latency: float, name: str = "small") -> Trial:
    return trial(0, accuracy, macs, 400, latency, rival=name, weights="0f0f0f0f")


def with_rivals(*points: tuple[float, float, float], name: str = "small", **changes: Any) -> Results:
    """The staircase with a rival, and with the supernet's first layers at these (accuracy, macs, latency)."""
    first, *others = points
    depth = tuple(
        trial(0, *point[:2], 400, point[2], rival="depth", layers=number) for number, point in enumerate(others, 1)
    )
    families = {f"rival {name}": (small(*first, name),), **({"depth": depth} if depth else {})}
    return staircase(baselines={**staircase().baselines, **families}, **changes)


@pytest.mark.parametrize(
    ("point", "macs", "latency", "said"),
    [
        ((0.9, 0.5, 1.0), -1, -1, "Rival small: it beats the front at equal macs and at equal latency."),
        ((0.7, 0.9, 3.0), 1, -1, "Rival small: the front beats it at equal macs; it beats the front at equal latency."),
        # cheaper than the whole front: as good as its cheapest member it wins, worse it does not
        ((0.58, 0.1, 1.0), -1, -1, "Rival small: it beats the front at equal macs and at equal latency."),
        ((0.5, 0.1, 1.0), 0, 0, "Rival small: neither beats the other at equal macs and at equal latency."),
    ],
)
def test_a_rival_is_held_against_the_front_in_every_cost(
    point: tuple[float, float, float], macs: int, latency: int, said: str
) -> None:
    results = with_rivals(point)
    found = rival_verdicts(results)["rival small"]
    expected = {"macs": macs, "latency": latency}
    assert found == {cost: Verdict(1, int(sign > 0), int(sign < 0), 1) for cost, sign in expected.items()}
    assert said in sentences(results)


def test_several_depths_are_counted() -> None:
    results = with_rivals((0.7, 0.9, 3.0), (0.3, 0.3, 2.5), (0.9, 0.5, 4.0))
    found = rival_verdicts(results)["depth"]
    assert found == {"macs": Verdict(2, 1, 1, 2), "latency": Verdict(2, 1, 1, 2)}
    assert "Depth: the front is better at 1 of 2 points, worse at 1, at equal macs and at equal latency." in sentences(
        results
    )
    counts = summary(results)["baselines"]["depth"]["at_equal"]
    assert counts["latency"] == {"points": 2, "better": 1, "worse": 1, "unpaired": 2, "beaten": False}
    json.dumps(counts)


def test_baselines_are_judged_as_without_rivals() -> None:
    assert verdicts(with_rivals((0.9, 0.5, 1.0), (0.9, 0.5, 4.0))) == verdicts(staircase())


def test_a_rival_is_judged_in_latency_alone_where_nothing_else_was_searched_as_a_cost() -> None:
    results = with_rivals((0.9, 0.5, 1.0), objectives=staircase().objectives[:1], front_objectives=(MACS, LATENCY))
    assert list(rival_verdicts(results)["rival small"]) == ["macs", "latency"]


def test_nothing_is_said_of_a_rival_where_no_member_was_measured() -> None:
    assert rival_verdicts(with_rivals((0.9, 0.5, 1.0), report={})) == {}


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_long_name_does_not_part_the_table(width: int) -> None:
    text = console_text(with_rivals((0.9, 0.5, 1.0), (0.3, 0.3, 2.5), name=NAME), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert NAME in " ".join(text.split())
    assert "weights" not in text
    assert any(line.startswith("depth 1 ") for line in lines)
    listed = f"rival #1: {NAME}" in lines
    assert listed or any(line.startswith(f"rival {NAME} ") for line in lines)


def test_their_rows_name_the_model_and_its_weights() -> None:
    frame = baselines_frame(with_rivals((0.9, 0.5, 1.0), (0.3, 0.3, 2.5)))
    rows = frame[frame["family"].isin(["rival small", "depth"])]
    assert rows["rival"].tolist() == ["small", "depth"]
    assert rows["weights"].tolist()[0] == "0f0f0f0f"
    assert rows["layers"].tolist()[1] == 1
    assert rows["latency_report"].tolist() == [1.0, 2.5]


def drawn(results: Results) -> Any:
    axes = Figure().add_subplot()
    pareto(results, axes, cost=LATENCY.name)
    return axes


def test_every_rival_has_a_marker_of_its_own() -> None:
    axes = drawn(with_rivals((0.9, 0.5, 1.0), (0.3, 0.3, 2.5), name=NAME))
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    (rival,) = (line for label, line in lines.items() if label.replace("-\n", "-").startswith(f"rival {NAME}"))
    assert (list(rival.get_xdata()), list(rival.get_ydata())) == ([1.0], [0.9])
    markers = [line.get_marker() for label, line in lines.items() if "report split" in label]
    assert len(set(markers)) == len(markers)
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "depth, report split" in legend
    assert max(len(line) for text in legend for line in text.splitlines()) <= 31


def test_the_axes_show_a_rival_that_is_as_good_as_the_front_however_fast_it_is() -> None:
    low, high = drawn(with_rivals((0.85, 0.5, 0.01), (0.3, 0.3, -90.0))).get_xlim()
    assert low < 0.01 < high
    assert low > -90  # one that guesses is counted, not shown
