"""Figures: what is drawn, where the axes end, and that nothing in a name breaks them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from searchkit.front import hypervolume, losses, reference_point
from searchkit.records import Measured
from searchkit.report.figures import hypervolume as draw_hypervolume
from searchkit.report.figures import pareto, quality, saved
from searchkit.report.figures.progress import hypervolume_curve
from searchkit.report.figures.style import new_axes
from searchkit.report.results import Results
from tests.report.searches import cut, noisy, paired, questions, staircase, trial


@contextmanager
def drawn(results: Results) -> Iterator[Any]:
    axes = Figure().add_subplot()
    pareto(results, axes)
    yield axes


def labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def line(axes: Any, label: str) -> tuple[list[float], list[float]]:
    (found,) = [item for item in axes.get_lines() if item.get_label() == label]
    return list(found.get_xdata()), list(found.get_ydata())


def test_both_splits_and_the_baselines_are_drawn_where_they_were_measured() -> None:
    with drawn(staircase()) as axes:
        assert line(axes, "front, search split") == ([0.2, 0.4, 0.8], [0.6, 0.8, 0.9])
        assert line(axes, "constant ratio, report split") == ([0.3, 0.5, 0.9], [0.5, 0.7, 0.84])
        assert line(axes, "truncation, report split") == ([0.25, 0.9], [0.45, 0.86])
        assert line(axes, "random tokens, report split") == ([0.3, 0.9], [0.4, 0.5])
        assert line(axes, "unreduced model, report split") == ([1.0], [0.9])
        assert line(axes, "all measured trials, search split")[0] == [0.2, 0.4, 0.8, 0.9]
        bars, _ = axes.containers  # of the front, and of the unreduced model
        assert list(bars.lines[0].get_xdata()) == [0.21, 0.81]
        _, segments = [item.get_segments() for item in bars.lines[2]]
        np.testing.assert_allclose(
            [segment[:, 1] for segment in segments], [(0.5604, 0.5996), (0.8304, 0.8696)], atol=1e-6
        )
        assert len(labels(axes)) == 7


def test_the_legend_names_only_what_is_there() -> None:
    with drawn(staircase(report={}, baselines={})) as axes:
        assert labels(axes) == ["front, search split", "all measured trials, search split"]


def test_kinds_of_points_differ_without_colour() -> None:
    kinds = (quality.FRONT_ON_SEARCH, quality.UNREDUCED_MODEL, quality.TRIALS, *quality.FAMILIES.values())
    markers = [kind["marker"] for kind in kinds] + [quality.FRONT_ON_REPORT["fmt"][0]]
    assert len(set(markers)) == len(markers) == 8
    lines = [str(kind["linestyle"]) for kind in kinds if kind["linestyle"] != "none"] + ["-"]
    assert len(set(lines)) == 6


def test_baselines_far_below_do_not_squeeze_the_front_and_are_counted() -> None:
    far = {
        name: tuple(cut(name, share, share / 10, share) for share in (0.3, 0.6))
        for name in ("truncation", "random tokens")
    }
    with drawn(noisy()) as axes:
        before = axes.get_ylim()
    plain = noisy()
    with drawn(staircase(trials=plain.trials, report=plain.report, baselines=plain.baselines | far)) as axes:
        assert axes.get_ylim() == before
        assert axes.get_xlabel().endswith("beyond the axes: truncation 2, random tokens 2")


def test_hopeless_trials_do_not_squeeze_the_front_and_are_counted() -> None:
    with drawn(noisy()) as axes:
        before = axes.get_ylim()
        assert "beyond" not in axes.get_xlabel()
    with drawn(noisy(give_up=9)) as axes:
        assert axes.get_ylim()[0] > 0.5
        assert axes.get_ylim() == pytest.approx(before, abs=0.05)
        assert axes.get_xlabel().endswith("beyond the axes: trials 9")


def test_the_whole_front_is_inside_the_axes() -> None:
    for results in (staircase(), noisy(), noisy(give_up=40)):
        with drawn(results) as axes:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            for member in (*results.front, *results.report.values()):
                if isinstance(member.outcome, Measured):
                    estimates = member.outcome.estimates
                    assert left < estimates["macs"].value < right
                    assert bottom < estimates["accuracy"].value < top


def test_axes_say_unit_and_direction() -> None:
    with drawn(staircase()) as axes:
        assert axes.get_xlabel().splitlines() == [
            "macs (of unreduced, lower is better), pads counted on neither side",
            "bars: 95 % interval on the report split, n = 400",
            "(measured again, with other examples of this kind, the value would",
            "mostly lie within)",
        ]
        assert axes.get_ylabel() == "accuracy (fraction, higher is better)"


def test_whiskers_are_the_interval_that_was_measured_and_inside_the_axes() -> None:
    results = paired()
    with drawn(results) as axes:
        _, segments = [item.get_segments() for item in axes.containers[0].lines[2]]
        shown = [results.report[member.key] for member in results.reported_front]
        assert len(shown) < len(results.members)  # one is dominated there
        expected = [one.outcome.estimates["accuracy"] for one in shown]  # type: ignore[union-attr]
        ends = [(estimate.low, estimate.high) for estimate in expected]
        np.testing.assert_allclose([segment[:, 1] for segment in segments], ends)
        bottom, top = axes.get_ylim()
        assert bottom < min(low for low, _ in ends)
        assert top > results.baselines["unreduced"][0].outcome.estimates["accuracy"].high  # type: ignore[union-attr]
        assert "pads counted on neither side" in axes.get_xlabel()


def test_a_cost_that_says_nothing_of_pads_is_not_said_to_leave_them_out() -> None:
    bare = tuple(
        replace(one, outcome=Measured({n: replace(e, beside={}) for n, e in one.outcome.estimates.items()}))
        for one in noisy(12).trials
        if isinstance(one.outcome, Measured)
    )
    with drawn(staircase(trials=bare, report={}, baselines={})) as axes:
        assert "pads" not in axes.get_xlabel()


def test_the_hypervolume_after_every_evaluation_is_that_of_the_trials_so_far() -> None:
    results = noisy(30)
    failed, pruned = staircase().trials[4:]
    results = staircase(trials=(*results.trials[:10], failed, *results.trials[10:], pruned))
    rows = [item.outcome.estimates if isinstance(item.outcome, Measured) else None for item in results.trials]
    every = losses([row for row in rows if row is not None], results.objectives)
    expected = []
    for count in range(1, len(rows) + 1):
        so_far = [row for row in rows[:count] if row is not None]
        expected.append(hypervolume(losses(so_far, results.objectives), reference_point(every)))
    np.testing.assert_allclose(hypervolume_curve(results), expected, rtol=1e-12)


NAMES = ["demo", '<b>bold</b> & "quoted" -- $x_1$ \\frac{', "$", "$\\frac{$", "_hidden", "a_b^c", "long-name-" * 20]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_as_it_is(name: str, tmp_path: Path) -> None:
    results = noisy(12, name=name)
    saved.of_run(results, tmp_path)
    for figure in ("pareto", "hypervolume"):
        assert (tmp_path / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        ElementTree.parse(tmp_path / f"{figure}.svg")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{figure}.{kind}" for figure in ("pareto", "hypervolume") for kind in ("png", "svg")
    }


def test_the_legend_stands_beside_the_axes_and_inside_the_figure(tmp_path: Path) -> None:
    axes = pareto(staircase(), new_axes())
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    legend = axes.get_legend().get_window_extent()
    assert legend.x0 >= axes.get_window_extent().x1
    assert legend.x1 <= figure.bbox.x1
    assert legend.y0 >= figure.bbox.y0


def test_a_search_for_answers_is_drawn_by_its_own_objectives(tmp_path: Path) -> None:
    with drawn(questions()) as axes:
        assert axes.get_ylabel() == "exact match (fraction, higher is better)"
        assert line(axes, "truncation, report split") == ([0.25, 0.9], [0.45, 0.86])
    saved.save(lambda axes: draw_hypervolume(questions(), axes), [questions()], tmp_path / "it.png")


def test_the_title_says_study_and_examples() -> None:
    assert saved.title([noisy(12)]) == "demo\n872 search examples, 1821 report examples"


def test_figures_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        saved.of_run(noisy(12), tmp_path / folder)
    for name in ("pareto.png", "pareto.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_settings_of_the_caller_neither_matter_nor_change(tmp_path: Path) -> None:
    saved.of_run(noisy(12), tmp_path / "plain")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30, "text.parse_math": True}):
        before = dict(matplotlib.rcParams)
        saved.of_run(noisy(12), tmp_path / "loud")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "plain" / "pareto.svg").read_bytes() == (tmp_path / "loud" / "pareto.svg").read_bytes()


@pytest.mark.parametrize("trials", [(), staircase().trials[4:], (trial(0, 0.5, 0.5),), (trial(0, 0.0, 0.0),)])
def test_searches_with_next_to_nothing_still_make_figures(trials: Any, tmp_path: Path) -> None:
    results = staircase(trials=trials, report={}, baselines={})
    saved.of_run(results, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
