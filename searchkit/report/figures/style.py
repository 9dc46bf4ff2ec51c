"""One style for all figures: colours of Okabe and Ito, markers and lines that differ without colour, plain text.

Names of studies and objectives are drawn as they are, without mathematics or markup. A figure of one's own keeps its
settings, its title and its other axes: what is drawn is drawn into one `Axes`.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from searchkit.errors import one_line
from searchkit.objective import Objective
from searchkit.report.columns import in_words
from searchkit.report.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, GRID = "#555555", "#e6e6e6"
GREY, BLUE, VERMILION, GREEN, BLACK = "#999999", "#0072B2", "#D55E00", "#009E73", "#000000"
SKY, PURPLE, ORANGE = "#56B4E9", "#CC79A7", "#E69F00"
SETTINGS: Final[Any] = {"text.parse_math": False, "svg.hashsalt": "searchkit", "axes.unicode_minus": False}
LETTER: Final = 0.5  # width of a letter on average, in the size of the type
SIZE: Final = (9.5, 5.4)  # inches
SERIES: Final = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # colours of several runs, in turn
MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X")
LINES: Final[tuple[Any, ...]] = ("-", "--", "-.", ":", (0, (5, 2)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
INTERVAL: Final = (
    "measured again, with other examples of this kind, the value would mostly lie within"  # after "95 % interval"
)


class HasResults(Protocol):
    """Protocol of an opened run: its results."""

    @property
    def results(self) -> Results: ...


Runs = Results | HasResults | Sequence[Results | HasResults]


def each(runs: Runs) -> list[Results]:
    """Results of one or several runs, opened (`searchkit.open`) or not.

    >>> each([])
    []
    """
    listed = runs if isinstance(runs, Sequence) else [runs]
    return [run if isinstance(run, Results) else run.results for run in listed]


def only(runs: Runs) -> Results:
    """Results of the one run; ValueError for several."""
    results = each(runs)
    if len(results) != 1:
        raise ValueError(f"this figure is of one run, got {len(results)}")
    return results[0]


@contextmanager
def drawing(ax: Axes | None) -> Iterator[Axes]:
    """Axes to draw into: those that are given, in their own style, or new ones of pyplot, in this style."""
    import matplotlib

    if ax is not None:
        with matplotlib.rc_context(SETTINGS):
            yield ax
        return
    import matplotlib.pyplot as plt
    import matplotlib.style

    with matplotlib.style.context(["default", SETTINGS]):
        _, axes = plt.subplots(figsize=SIZE, layout="constrained")
        plain(axes)
        yield axes


def new_axes() -> Axes:
    """Axes of a figure that pyplot does not know, to be saved."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    plain(axes)
    return axes


def plain(axes: Axes) -> None:
    """Leave out what says nothing: the frame above and to the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def ink(axes: Axes) -> str:
    """Black, or white where the axes are dark."""
    from matplotlib.colors import to_rgba

    red, green, blue, alpha = to_rgba(axes.get_facecolor())
    return "#ffffff" if alpha and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else BLACK


def series(axes: Axes, count: int) -> list[dict[str, Any]]:
    """Colour, marker and line of each of `count` runs."""
    colours = [ink(axes) if colour == BLACK else colour for colour in SERIES]
    kinds = zip(itertools.cycle(colours), itertools.cycle(MARKERS), itertools.cycle(LINES), strict=False)
    return [
        {"color": colour, "marker": marker, "linestyle": line}
        for colour, marker, line in itertools.islice(kinds, count)
    ]


def legend(axes: Axes, first: str | None = None, *, reverse: bool = False) -> None:
    """Draw the legend of what has points: beside axes that are alone in a figure with a layout, else within them.

    first: the label that stands at the top; reverse: the last that was drawn is the first, as in a stack
    """
    entries = zip(*axes.get_legend_handles_labels(), strict=True)
    drawn = [(handle, label) for handle, label in entries if _has_points(handle)]
    drawn.sort(key=lambda entry: entry[1] != first)
    if not drawn:
        return
    handles, labels = zip(*drawn, strict=True)
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    where = beside if stands_alone(axes) else {"loc": "best", "fontsize": "small"}
    axes.legend(handles, labels, frameon=not stands_alone(axes), reverse=reverse, **where)


def stands_alone(axes: Axes) -> bool:
    """Return whether the axes are alone in a figure that makes room around them."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    others = [each for each in figure.axes if each is not axes and each.get_label() != "<colorbar>"]
    return not others and figure.get_layout_engine() is not None


def _has_points(handle: Any) -> bool:
    line = handle[0] if isinstance(handle, tuple) else handle  # error bars come as (line, caps, bars)
    return not hasattr(line, "get_xdata") or len(line.get_xdata()) > 0


def label_below(axes: Axes, *lines: str) -> None:
    """Label the horizontal axis with these lines, wrapped at the width of the axes."""
    inches = axes.get_position().width * figure_of(axes).get_figwidth()
    characters = max(20, int(72 * inches / float(axes.xaxis.label.get_fontsize()) / LETTER))
    axes.set_xlabel("\n".join(row for line in lines for row in textwrap.wrap(line, characters)))


def axis_label(objective: Objective) -> str:
    return f"{in_words(objective.name)} ({one_line(objective.unit, 100)}, {objective.better} is better)"


def accounting(results: Results, objective: Objective) -> str:
    """Accounting of a cost, as the end of its label."""
    text = results.accounting(objective)
    return f", {text}" if text else ""


def name_of(results: Results, longest: int = 200) -> str:
    return one_line(str(results.study.get("name", "search")), longest)


def names_of(runs: Sequence[Results]) -> list[str]:
    """Names of several runs in a legend; runs of one study are numbered."""
    names = [name_of(run, 60) for run in runs]
    numbered = [
        f"{name}, run {names[:place].count(name) + 1}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]
    return [in_lines(name) for name in numbered]


def in_lines(label: str, width: int = 30) -> str:
    """Entry of the legend in lines that leave room for the axes."""
    return "\n".join(textwrap.wrap(one_line(label, 120), width))


def say_nothing_was_measured(axes: Axes) -> None:
    axes.annotate("no trial was measured", (0.5, 0.5), xycoords="axes fraction", ha="center")


def figure_of(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure
