"""Words that survive as a figure: the text as it was read, every word shaded by the layer that dropped it."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from searchkit.errors import one_line
from searchkit.report.figures.saved import check_suffix, write
from searchkit.report.figures.style import SETTINGS, VERMILION, drawing, figure_of
from searchkit.report.words import Word, WordsOf

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS: Final = 84  # characters of a line
ROW: Final = 1.75  # height of a line, in widths of a character times 2
WIDE: Final = 0.602  # width of a character of DejaVu Sans Mono, in its size
LIGHT: Final = 0.08  # shade of what is dropped first, of 1 for black
MOST_CHARACTERS: Final = 12_000


def words(example: WordsOf, ax: Axes | None = None, *, columns: int = COLUMNS) -> Axes:
    """Draw the words of one example: the darker, the longer a word stays; those to the end are white on dark blue.

    Words that people marked as evidence are underlined. columns: characters of a line. The axes take the limits that
    the text needs. Returns the axes: `ax`, or new ones of pyplot.

    >>> import searchkit
    >>> from searchkit.report import figures
    >>> shown = searchkit.open("runs/quickstart").words("a text of your own")  # doctest: +SKIP
    >>> axes = figures.words(shown.examples[0])  # doctest: +SKIP
    """
    rows = list(_rows(example, columns))
    with drawing(ax) as axes:
        axes.set_axis_off()
        axes.set_xlim(0, columns)
        axes.set_ylim(len(rows), -1.2)
        size = _size(axes, columns)
        shades = _shades(example)
        for line, row in enumerate(rows):
            for column, text, word in row:
                _draw(axes, column, line, text, word, shades, size)
        if example.headline:
            headline = textwrap.shorten(example.headline, columns, placeholder=" ...")
            axes.set_title(headline, loc="left", fontsize=max(size, 8))
        _key(axes, example, shades)
    return axes


def height(example: WordsOf, columns: int = COLUMNS) -> float:
    """Height of the axes, in their width, at which the lines stand well apart."""
    return (len(list(_rows(example, columns))) + 1.2) * ROW * 2 / columns


def _rows(example: WordsOf, columns: int) -> list[list[tuple[int, str, Word]]]:
    """Words by line, each with its column; a text begins a line of its own."""
    rows: list[list[tuple[int, str, Word]]] = []
    for _, of_side in itertools.groupby(example.words, key=lambda word: word.side):
        rows.append([])
        column = 0
        for word in of_side:
            text = one_line(word.text, columns - 2)
            if column + len(text) > columns - 1 and rows[-1]:
                rows.append([])
                column = 0
            rows[-1].append((column, text, word))
            column += len(text) + 1
    return rows or [[]]


def _shades(example: WordsOf) -> dict[int | None, tuple[float, ...]]:
    """Colour of the words that each layer dropped, and of those that stay (None)."""
    import matplotlib

    blues = matplotlib.colormaps["Blues"]
    steps: list[int | None] = [*sorted({word.layer for word in example.words if word.layer is not None}), None]
    return {step: tuple(blues(share)) for step, share in zip(steps, np.linspace(LIGHT, 1.0, len(steps)), strict=True)}


def _draw(axes: Axes, column: int, line: int, text: str, word: Word, shades: dict[Any, Any], size: float) -> None:
    shade = shades[word.layer]
    dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 0.55
    axes.text(
        column + 0.5,
        line,
        text,
        family="DejaVu Sans Mono",
        fontsize=size,
        color="#ffffff" if dark else "#333333",
        verticalalignment="center",
        bbox={"facecolor": shade, "edgecolor": "none", "boxstyle": "square,pad=0.12"},
    )
    if word.evidence:
        axes.plot([column + 0.5, column + 0.5 + len(text)], [line + 0.42] * 2, color=VERMILION, linewidth=1.6)


def _size(axes: Axes, columns: int) -> float:
    """Size of the type, in points, at which the columns fill the axes."""
    figure = figure_of(axes)
    inches = axes.get_position().width * figure.get_figwidth()
    return 72 * inches / columns / WIDE * 0.97


def _key(axes: Axes, example: WordsOf, shades: dict[Any, Any]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def name(step: int | None) -> str:
        return (
            "stays to the end"
            if step is None
            else "dropped before layer 1"
            if step == 0
            else f"dropped by layer {step}"
        )

    handles: list[Any] = [
        Patch(facecolor=shade, edgecolor="#999999", label=name(step)) for step, shade in shades.items()
    ]
    if example.has_evidence:
        handles.append(Line2D([], [], color=VERMILION, linewidth=1.6, label="evidence: marked as the reason"))
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 0.0),
        ncols=min(len(handles), 4),
        frameon=False,
        fontsize="small",
        borderaxespad=0.2,
    )


def save(examples: Sequence[WordsOf], file: Path) -> None:
    """Write a figure of the examples; StudyError for an unknown suffix, StoreError where it cannot be written."""
    import matplotlib.style

    check_suffix(file)
    with matplotlib.style.context(["default", SETTINGS]):
        write(stacked(examples), file)


def stacked(examples: Sequence[WordsOf]) -> Figure:
    """Figure of several examples, one below the other, of the heights that they need."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, heights = 9.5, [max(9.2 * height(each), 0.6) + 0.9 for each in examples]
    figure = Figure(figsize=(width, sum(heights)))
    FigureCanvasAgg(figure)
    top = sum(heights)
    below = 0.0
    for example, tall in zip(examples, heights, strict=True):
        box = (0.15 / width, (top - below - tall + 0.55) / top, 9.2 / width, (tall - 0.9) / top)
        words(example, figure.add_axes(box))
        below += tall
    return figure
