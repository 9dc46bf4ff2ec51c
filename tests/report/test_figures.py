"""Every kind of figure: something is drawn, labels are there and apart, the same bytes, and nothing else is touched."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from searchkit.errors import StudyError
from searchkit.evaluate.layers import LayerCosts
from searchkit.front import hypervolume, losses
from searchkit.records import Candidate, Estimate, Measured, Trial
from searchkit.report import figures
from searchkit.report.figures import saved, style
from searchkit.report.figures.kinds import KINDS, draw
from searchkit.report.results import Results, measured
from searchkit.report.words import Word, WordsOf
from tests.report.searches import noisy, staircase

LAYERS = 4


class Opened:
    """An opened run: results, and the work of its layers."""

    def __init__(self, results: Results) -> None:
        self.results = results

    @property
    def layers(self) -> Mapping[str, LayerCosts]:
        keys = [trial.key for trial in self.results.front] + [Candidate.of(baseline="unreduced").key]
        rows = np.linspace(1, 4, len(keys))[:, None] / np.arange(1, LAYERS + 1)
        return {key: LayerCosts(tuple(row), tuple(row), tuple(row), 0.2) for key, row in zip(keys, rows, strict=True)}


def search(seed: int = 0, count: int = 60) -> Opened:
    """A run with lengths and thresholds of four layers, and times on the report split."""
    rng = np.random.default_rng(seed)

    def of(trial: Trial) -> Trial:
        candidate = {
            "lengths": np.sort(rng.integers(1, 17, LAYERS) / 16)[::-1].tolist(),
            "thresholds": (rng.integers(0, 9, LAYERS) / 8).tolist(),
        }
        assert isinstance(trial.outcome, Measured)
        found = dict(trial.outcome.estimates)
        found["accuracy"] = replace(found["accuracy"], value=found["accuracy"].value - float(rng.uniform(0, 0.02)))
        ask = replace(trial.ask, candidate=Candidate.of(candidate))
        return replace(trial, ask=ask, outcome=replace(trial.outcome, estimates=found))

    trials = tuple(map(of, noisy(count).trials))
    plain = staircase(trials=trials, study={"name": "reviews"})
    report = {member.key: timed(member) for member in plain.front}
    baselines = {name: tuple(map(timed, of_name)) for name, of_name in plain.baselines.items()}
    return Opened(replace(plain, report=report, baselines=baselines))


def timed(trial: Trial) -> Trial:
    assert isinstance(trial.outcome, Measured)
    macs = trial.outcome.estimates["macs"].value
    ratio = 0.3 + 0.7 * macs
    beside = {"settled": 1.0, "ratio": ratio, "ratio_low": ratio - 0.05, "ratio_high": ratio + 0.05, "batch_size": 1.0}
    latency = Estimate(10 * ratio, 0.1, 30, beside)
    return replace(trial, outcome=Measured({**trial.outcome.estimates, "latency": latency}))


RUNS = [search(seed) for seed in range(3)]


def given(kind: str) -> list[Opened]:
    return RUNS if kind == "convergence" else RUNS[:1]


def saved_axes(kind: str, runs: list[Opened]) -> Axes:
    with saved._figure([run.results for run in runs]) as axes:
        return draw(kind, runs, axes)


def texts(axes: Axes) -> list[Text]:
    """Texts that are seen, each alone: ticks, labels, title, legend, numbers in cells and at axes."""
    legend = axes.get_legend()
    ticks = [*drawn_ticks(axes.xaxis), *drawn_ticks(axes.yaxis)]
    insets = [text for inset in axes.child_axes for text in (*drawn_ticks(inset.yaxis), inset.yaxis.label)]
    every = [*ticks, *insets, axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts]
    every += [] if legend is None else legend.get_texts()
    return [text for text in every if text.get_visible() and text.get_text().strip()]


def drawn_ticks(axis: Any) -> list[Text]:
    """Labels of the ticks within the limits; others are there and not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def overlapping(axes: Axes) -> list[tuple[str, str]]:
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    renderer = figure._get_renderer()  # type: ignore[attr-defined]
    boxes = [(text.get_text(), text.get_window_extent(renderer).padded(-0.5)) for text in texts(axes)]
    pairs = itertools.combinations(reversed(boxes), 2)
    return [(name, other) for (name, box), (other, second) in pairs if box.overlaps(second)]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_figure_has_labels_that_stand_apart_and_is_not_blank(kind: str) -> None:
    axes = saved_axes(kind, given(kind))
    assert axes.get_xlabel()
    assert axes.get_ylabel() or kind == "parallel"
    assert overlapping(axes) == []
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    box = axes.get_window_extent()
    height = pixels.shape[0]
    inside = pixels[int(height - box.y1) : int(height - box.y0), int(box.x0) : int(box.x1), :3]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) > 5
    assert (inside != 255).any(axis=-1).mean() > 0.005


def test_overlapping_texts_are_noticed() -> None:
    axes = saved_axes("lengths", RUNS[:1])
    axes.set_xticks([3.0, 3.1], ["0.123456", "0.234567"])
    assert ("0.234567", "0.123456") in overlapping(axes)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_figure_is_the_same_bytes_every_time(kind: str, tmp_path: Path) -> None:
    runs = given(kind)
    for name in ("one", "two"):
        files = [tmp_path / f"{name}.{suffix}" for suffix in saved.FORMATS]
        saved.save(lambda axes: draw(kind, runs, axes), [run.results for run in runs], *files)
    for suffix in saved.FORMATS:
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_figure_of_ones_own_is_left_alone(kind: str) -> None:
    """Axes are drawn into and returned; settings, title, size and the other axes stay."""
    with matplotlib.rc_context({"font.size": 7, "axes.facecolor": "#eeeeee"}):
        figure, (left, right) = plt.subplots(1, 2)
        right.plot([1, 2], [3, 4])
        left.set_title("mine")
        before = dict(matplotlib.rcParams), figure.get_size_inches().tolist(), right.get_position().bounds
        assert draw(kind, given(kind), left) is left
        assert (dict(matplotlib.rcParams), figure.get_size_inches().tolist(), right.get_position().bounds) == before
        assert (left.get_title(), len(right.lines), len(figure.axes), figure.legends) == ("mine", 1, 2, [])
        assert figure.get_supxlabel() == ""


def test_without_axes_a_figure_of_pyplot_is_made_and_settings_stay() -> None:
    before = dict(matplotlib.rcParams)
    axes = figures.pareto(RUNS[0])
    assert axes.get_figure() is plt.gcf()
    assert dict(matplotlib.rcParams) == before


def test_on_dark_axes_nothing_is_black() -> None:
    with plt.style.context("dark_background"):
        axes = Figure().add_subplot()
        figures.pareto(RUNS[0], axes)
        figures.latency(RUNS[0], axes)
    assert not {line.get_color() for line in axes.get_lines()} & {"#000000", "black", "k"}
    assert style.ink(Figure().add_subplot()) == "#000000"


def test_fronts_of_several_runs_share_axes_and_runs_of_one_study_are_numbered() -> None:
    axes = figures.pareto(RUNS, Figure().add_subplot())
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [f"reviews, run {n}" for n in (1, 2, 3)]
    bars = [container.lines[0] for container in axes.containers]
    assert len({bar.get_marker() for bar in bars}) == len({bar.get_color() for bar in bars}) == 3
    for run, bar in zip(RUNS, bars, strict=True):
        rows = [run.results.report[member.key].estimates for member in run.results.front]
        assert list(bar.get_xdata()) == sorted(row["macs"].value for row in rows)
    assert "95 % interval" in axes.get_xlabel()


def test_runs_of_other_objectives_are_refused() -> None:
    from tests.report.searches import questions

    with pytest.raises(StudyError, match="has exact_match over macs, the first run accuracy"):
        draw("pareto", [RUNS[0], questions()])
    with pytest.raises(StudyError, match="no common hypervolume"):
        draw("convergence", [RUNS[0], questions()])


def test_hypervolumes_of_several_runs_have_one_reference_and_end_with_their_fronts() -> None:
    axes = figures.hypervolume(RUNS, Figure().add_subplot())
    rows = [losses(measured(run.results.trials, run.results.objectives), run.results.objectives) for run in RUNS]
    every = np.concatenate(rows)
    limit = every.max(axis=0) + 0.01 * (every.max(axis=0) - every.min(axis=0))
    for line, run in zip(axes.get_lines(), rows, strict=True):
        assert line.get_ydata()[-1] == pytest.approx(hypervolume(run, limit))  # type: ignore[index]


def test_seconds_are_those_of_the_evaluations_added_up() -> None:
    axes = figures.hypervolume(RUNS[0], Figure().add_subplot(), over="seconds")
    (line,) = axes.get_lines()
    assert line.get_xdata()[-1] == pytest.approx(0.5 * len(RUNS[0].results.evaluations))  # type: ignore[index]
    assert axes.get_xlabel().startswith("seconds of evaluation")


def test_the_median_of_runs_is_that_of_their_shares_of_the_best() -> None:
    axes = figures.convergence(RUNS, Figure().add_subplot())
    lines = {str(line.get_label()): np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()}
    each = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines() if line.get_color() == style.GREY][
        :3
    ]
    np.testing.assert_allclose(lines["median of 3 runs"], np.median(each, axis=0))
    assert max(row[-1] for row in each) == pytest.approx(1)


def test_the_heat_map_holds_the_values_of_the_front_cheapest_first() -> None:
    for dimension in ("lengths", "thresholds"):
        axes = figures.heat_map(RUNS[0], Figure().add_subplot(), dimension=dimension)
        expected = [member.ask.candidate[dimension] for member in RUNS[0].results.front]
        np.testing.assert_allclose(axes.images[0].get_array(), np.array(expected).T)  # type: ignore[arg-type]


def test_stacked_layers_end_at_the_cost_of_the_member_and_unreduced_at_one() -> None:
    axes = figures.layers(RUNS[0], Figure().add_subplot())
    tops = np.max([[bar.get_y() + bar.get_height() for bar in stack] for stack in axes.containers], axis=0)  # type: ignore[attr-defined]
    costs = list(RUNS[0].layers.values())
    whole = [sum(cost.macs) + cost.other_macs for cost in costs]
    np.testing.assert_allclose(tops, np.array(whole) / whole[-1])


def test_times_stand_over_macs_as_ratios_to_the_unreduced_model() -> None:
    axes = figures.latency(RUNS[0], Figure().add_subplot())
    front = axes.containers[0].lines[0]
    assert np.allclose(front.get_ydata(), 0.3 + 0.7 * np.asarray(front.get_xdata()))
    assert axes.get_ylabel() == "latency at batch 1, unreduced model = 1"


@pytest.mark.parametrize(
    ("kind", "runs", "said"),
    [
        ("pie", RUNS[:1], "unknown figure 'pie'"),
        ("lengths", RUNS, "a figure of one run, got 3"),
        ("thresholds", [staircase()], "unknown dimension 'thresholds'"),
        ("macs", [RUNS[0].results], "the work of layers is not known"),
        ("latency", [noisy(12)], "timed objectives: none"),
    ],
)
def test_what_a_run_does_not_have_is_one_line(kind: str, runs: Any, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        draw(kind, runs, Figure().add_subplot())


def test_a_file_of_another_kind_and_a_cost_of_another_figure_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"a figure's file ends in \.png"):
        saved.save(lambda axes: axes, [RUNS[0].results], tmp_path / "it.gif")
    with pytest.raises(StudyError, match="is of the figure pareto"):
        draw("lengths", RUNS[:1], cost="latency")
    with pytest.raises(StudyError, match="unknown cost 'memory'"):
        draw("pareto", RUNS[:1], Figure().add_subplot(), cost="memory")


def test_a_search_with_an_empty_front_says_so() -> None:
    empty = [staircase(trials=(), report={}, baselines={})]
    kinds = ("pareto", "hypervolume", "convergence", "lengths", "parallel")
    for kind in kinds:
        axes = draw(kind, empty, Figure().add_subplot())
        assert [text.get_text() for text in axes.texts] == ["no trial was measured"]


EXAMPLE = WordsOf(
    ("a text of $x_1$ words", "and another"),
    (
        Word("a", 0, 0, 1, 1, False),
        Word("text", 0, 2, 6, None, True),
        Word("of", 0, 7, 9, 0, False),
        Word("$x_1$", 0, 10, 15, 3, False),
        Word("another", 1, 4, 11, 1, False),
    ),
    4,
    "example 5",
    "positive",
)


def test_words_are_shaded_by_the_layer_that_dropped_them_and_evidence_is_underlined() -> None:
    axes = figures.words(EXAMPLE, style.new_axes())
    shades = {text.get_text(): text.get_bbox_patch().get_facecolor() for text in axes.texts}  # type: ignore[union-attr]
    assert list(shades) == ["a", "text", "of", "$x_1$", "another"]
    light = {word: sum(shade[:3]) for word, shade in shades.items()}
    assert light["of"] > light["a"] == light["another"] > light["$x_1$"] > light["text"]
    assert len(axes.get_lines()) == 1
    keys = [text.get_text() for text in axes.get_legend().get_texts()]
    assert keys[0] == "dropped before layer 1"
    assert keys[-2:] == ["stays to the end", "evidence: marked as the reason"]
    assert overlapping(axes) == []


def test_words_are_drawn_as_files_that_are_the_same_every_time(tmp_path: Path) -> None:
    from searchkit.report.figures.text import save

    for suffix in saved.FORMATS:
        for name in ("one", "two"):
            save([EXAMPLE, EXAMPLE], tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def in_grey(draw_it: Callable[[Axes], Any]) -> int:
    """Number of distinct greys of the fill of bars."""
    axes = Figure().add_subplot()
    draw_it(axes)
    stream = io.BytesIO()
    axes.get_figure(root=True).savefig(stream)  # type: ignore[union-attr]
    colours = [container.patches[0].get_facecolor() for container in axes.containers]  # type: ignore[attr-defined]
    return len({round(float(np.dot(colour[:3], (0.299, 0.587, 0.114))), 2) for colour in colours})


def test_layers_can_be_told_apart_in_grey() -> None:
    assert in_grey(lambda axes: figures.layers(RUNS[0], axes)) == LAYERS + 1


def test_the_help_names_every_kind() -> None:
    from searchkit.cli.figures import KINDS as LISTED

    assert LISTED.split(", ") == list(KINDS)
