"""Figures as files: the kinds by name, with title and conditions, the same bytes for the same results."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.files import replace_whole
from searchkit.errors import StudyError, one_line
from searchkit.objective import Objective
from searchkit.records import Scalar
from searchkit.report.environment import environments, in_short
from searchkit.report.figures.quality import most_examples
from searchkit.report.figures.style import DARK, SETTINGS, figure_of, name_of, new_axes
from searchkit.report.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: Final[dict[str, dict[str, Any]]] = {  # suffix -> what would differ from one writing to the next
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
DPI: Final = 160


def save(draw: Callable[[Axes], Any], runs: Sequence[Results], *files: Path) -> None:
    """Draw a figure of these runs and write it as the suffixes of the files say; StoreError if unwritable.

    StudyError for a suffix that is none of `FORMATS`.
    """
    for file in files:
        check_suffix(file)
    with _figure(runs) as axes:
        draw(axes)
    write(figure_of(axes), *files)


def check_suffix(file: Path) -> None:
    """Raise StudyError for a file of no known kind."""
    if file.suffix.lower().removeprefix(".") not in FORMATS:
        raise StudyError(f"{file}: a figure's file ends in .{', .'.join(FORMATS)}")


def write(figure: Figure, *files: Path) -> None:
    """Write the figure as files."""
    import matplotlib.style

    with matplotlib.style.context(["default", SETTINGS]):
        for file in files:
            kind, buffer = file.suffix.lower().removeprefix("."), io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=FORMATS[kind])
            replace_whole(file, buffer.getvalue())


@contextmanager
def _figure(runs: Sequence[Results]) -> Iterator[Axes]:
    """Make axes under the title of the runs, above the conditions of their measurements."""
    import matplotlib.style

    with matplotlib.style.context(["default", SETTINGS]):
        axes = new_axes()
        axes.set_title(title(runs), fontsize=11)
        yield axes
        below = "\n".join(dict.fromkeys(filter(None, map(conditions, runs))))
        figure_of(axes).supxlabel(below, x=0.005, horizontalalignment="left", fontsize=8, color=DARK)


def title(runs: Sequence[Results]) -> str:
    """Title: the study, and the number of examples in each split; of several runs their number."""
    if len(runs) != 1:
        return f"{len(runs)} runs"
    results = runs[0]
    name = "\n".join(textwrap.wrap(name_of(results), 70))
    splits = {"search": results.trials, "report": tuple(results.report.values())}
    sizes = {split: most_examples(trials, results.quality) for split, trials in splits.items()}
    counts = ", ".join(f"{count} {split} examples" for split, count in sizes.items() if count)
    return f"{name}\n{counts}" if counts else name


def conditions(results: Results) -> str:
    """Environment of the measurements, of either split where they differ."""
    splits = {"search": environments(results.trials), "report": environments(results.on_report)}
    texts = {split: _in_short(settings) for split, settings in splits.items() if settings}
    if len(set(texts.values())) == 1:
        return f"measured on {next(iter(texts.values()))}"
    return "\n".join(f"{split} split measured on {where}" for split, where in texts.items())


def _in_short(settings: Mapping[str, Mapping[str, Scalar]]) -> str:
    if len(settings) == 1:
        return in_short(next(iter(settings.values())))
    return one_line(f"{len(settings)} environments: {', '.join(settings)}", 200)


def of_run(results: Results, folder: Path) -> None:
    """Write the figures of a run's folder as PNG and SVG: `pareto`, the same over each objective that only the front
    was measured in (`pareto_latency`), and `hypervolume`. StoreError if unwritable.
    """
    from searchkit.report.figures.progress import hypervolume
    from searchkit.report.figures.quality import pareto

    def over(objective: Objective) -> Callable[[Axes], Any]:
        return lambda axes: pareto(results, axes, cost=objective.name)

    figures: dict[str, Callable[[Axes], Any]] = {"pareto": lambda axes: pareto(results, axes)}
    figures |= {f"pareto_{objective.name}": over(objective) for objective in results.measured_apart}
    figures["hypervolume"] = lambda axes: hypervolume(results, axes)
    for name, draw in figures.items():
        save(draw, [results], folder / f"{name}.png", folder / f"{name}.svg")
