"""Text tables that fit a terminal: a first column that names candidates and baselines, and columns of numbers.

Names stay readable at any width. Where values of all layers find no room beside the numbers, every value becomes a
letter that a legend explains; where columns find no room even so, they stand in several tables, one below the other.
"""

from __future__ import annotations

import re
import string
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from searchkit.errors import one_line
from searchkit.records import Candidate, Scalar

GAP: Final = "  "
HEADING: Final = 18  # characters of a heading's line, unless the cells below are longer
NAME: Final = 20  # characters of a name in narrow tables; longer ones are numbered
STRIP: Final = 3  # values of a dimension from which on letters save room
NAMING: Final = frozenset(("baseline", "rival", "weights", "runtime", "dtype"))  # the family of a candidate says these
BETWEEN: Final = " | "  # two dimensions
ASCII: Final = {"±": "+-", "…": "...", "—": "-"}
_LEFT: Final = (True, False, False, True, False)  # the parts of a number that are padded on the left
_NUMBER: Final = re.compile(r"([-+]?\d+)(\.\d+)?(?:( (?:±|\+-) )(\d+)(\.\d+)?)?|-|")


@dataclass(frozen=True)
class Numbers:
    """Column of numbers, a cell for each row; an `optional` one is left out where there is no room."""

    heading: str
    unit: str
    cells: Sequence[str]
    optional: bool = False


@dataclass(frozen=True)
class Name:
    """Name of a row: a family of baselines, or empty, and the candidate."""

    family: str
    candidate: Candidate

    def of(self, dimension: str) -> tuple[Scalar, ...]:
        """Values of the candidate in a dimension."""
        if dimension not in self.candidate:
            return ()
        value = self.candidate[dimension]
        return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True)
class Layout:
    """Layout of the names: one for each row, their heading, and a legend."""

    heading: str
    names: Sequence[str]
    legend: Sequence[str] = ()

    @property
    def width(self) -> int:
        return max(map(len, (self.heading, *self.names)))


def tables(names: Sequence[Name], numbers: Sequence[Numbers], width: int, *, ascii_only: bool = False) -> str:
    """Format the rows in lines of at most `width` characters; an empty line separates families."""
    columns = [_Column.of(column, ascii_only) for column in numbers]
    kept = [column for column, given in zip(columns, numbers, strict=True) if not given.optional]
    layouts = (in_full(names), in_full(names, listed=True), in_letters(names))
    for chosen in (columns, kept):
        for layout in filter(None, layouts):
            if _width(layout, chosen) <= width:
                return _text(names, layout, [chosen], width)
    layout = next((fitting for fitting in layouts if fitting and fitting.width <= NAME), None) or in_numbers(names)
    return _text(names, layout, list(_chunks(layout, kept, width)), width)


def in_full(names: Sequence[Name], *, listed: bool = False) -> Layout:
    """Layout of all values, those of a layer below one another; with `listed`, long names of baselines are numbered."""
    dimensions, widths = _dimensions(names), {}
    for dimension in dimensions:
        rows = [[brief(value) for value in name.of(dimension)] for name in names if not name.family]
        slots = max(map(len, rows), default=0)
        widths[dimension] = [max(len(row[slot]) for row in rows if slot < len(row)) for slot in range(slots)]

    shares = any(brief(value).startswith(".") for name in names for axis in dimensions for value in name.of(axis))

    def member(name: Name) -> str:
        values = {axis: zip(map(brief, name.of(axis)), widths[axis], strict=False) for axis in dimensions}
        texts = (" ".join(_padded(value, width, shares) for value, width in of) for of in values.values())
        return BETWEEN.join(text or "-" for text in texts)

    return _layout(names, _heading(dimensions), [member(name) for name in names if not name.family], listed)


def in_letters(names: Sequence[Name]) -> Layout | None:
    """Layout with a letter for each value of a candidate; None where that saves nothing, or letters do not suffice.

    Long names of baselines are numbered and listed.
    """
    members = [name for name in names if not name.family]
    dimensions, letters, legend = _dimensions(names), dict[str, dict[str, str]](), []
    for dimension in dimensions:
        if any(len(name.of(dimension)) >= STRIP for name in members):
            by_value = _letters(members, dimension)
            if by_value is None:
                return None
            letters[dimension] = by_value
            explained = ", ".join(f"{letter} {value}" for value, letter in by_value.items())
            legend.append(f"{in_words(dimension)}, a letter for each layer: {explained}")
    if not letters:
        return None

    def strip(name: Name, dimension: str) -> str:
        values = [brief(value) for value in name.of(dimension)]
        by_value = letters.get(dimension)
        return ("".join(by_value[value] for value in values) if by_value else " ".join(values)) or "-"

    texts = [BETWEEN.join(strip(name, dimension) for dimension in dimensions) for name in members]
    return _layout(names, _heading(dimensions), texts, listed=True, legend=legend)


def in_numbers(names: Sequence[Name]) -> Layout:
    """Layout with a number for each candidate; the legend lists all."""
    members = [name for name in names if not name.family]
    numbers = [str(number) for number, _ in enumerate(members, start=1)]
    legend = [f"{number}: {_values(name)}" for number, name in zip(numbers, members, strict=True)]
    return _layout(names, "candidate", numbers, listed=True, legend=legend)


def _layout(
    names: Sequence[Name], heading: str, members: Sequence[str], listed: bool, legend: Sequence[str] = ()
) -> Layout:
    """Layout of the texts of members and baselines, in order; with `listed`, long baselines stand in the legend."""
    texts, explained, counts, left = [], list(legend), dict[str, int](), iter(members)
    for name in names:
        text = named(name.family, name.candidate) if name.family else next(left)
        if name.family and listed and len(text) > NAME:
            kind = name.family if len(name.family) < NAME else name.family.split()[0]
            counts[kind] = counts.get(kind, 0) + 1
            text = f"{kind} #{counts[kind]}"
            explained.append(f"{text}: {_values(name)}")
        texts.append(text)
    return Layout(heading, texts, explained)


def _values(name: Name) -> str:
    if "rival" in name.candidate:
        return short(name.candidate, "rival")
    dimensions = [dimension for dimension, _ in name.candidate.items if dimension not in NAMING]
    return BETWEEN.join(f"{in_words(dimension)} {short(name.candidate, dimension)}" for dimension in dimensions)


def in_words(name: str) -> str:
    """Identifier with spaces instead of underscores; one of a record may be any text, so it is made printable."""
    return one_line(name.replace("_", " "))


def named(family: str, candidate: Candidate) -> str:
    """Name of a baseline by its family and its distinguishing value: `truncation .3`."""
    return " ".join([family, *(short(candidate, name) for name, _ in candidate.items if name not in NAMING)])


def short(candidate: Candidate, dimension: str) -> str:
    """Values of a dimension, numbers with at most two decimals; `-` without it."""
    return " ".join(map(brief, Name("", candidate).of(dimension))) or "-"


def brief(value: Scalar) -> str:
    """Short number 1, .5, .06, .003, 12.5: at most two decimals, one digit below that; other values as text."""
    if not isinstance(value, float):
        return one_line(str(value))
    text = f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.01 or value == 0 else f"{value:.1g}"
    return text.removeprefix("0") or "0"


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Wrap the text in lines of whole words; lines after the first begin with `indent`."""
    joined = text.replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.wrap(joined, max(width, 20), subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines] or [""]


@dataclass(frozen=True)
class _Column:
    """Printed column: lines of its heading, and cells of one width, aligned at the decimal point."""

    heading: Sequence[str]
    cells: Sequence[str]
    width: int

    @classmethod
    def of(cls, column: Numbers, ascii_only: bool) -> _Column:
        texts = [one_line(cell) for cell in column.cells]
        if ascii_only:
            texts = [_in_ascii(text) for text in texts]
        cells = _aligned(texts)
        widest = max(map(len, cells), default=0)
        heading = [line for text in (column.heading, column.unit) for line in _fitting(text, max(widest, HEADING))]
        return cls(heading, cells, max([widest, *map(len, heading)]))


def _fitting(text: str, width: int) -> list[str]:
    return textwrap.wrap(one_line(text), width, break_on_hyphens=False) or [""]


def _in_ascii(text: str) -> str:
    for sign, plain in ASCII.items():
        text = text.replace(sign, plain)
    return text


def _aligned(cells: Sequence[str]) -> list[str]:
    """Align cells at decimal points and signs of error; where a cell is no number, align at the right."""
    matches = [_NUMBER.fullmatch(cell) for cell in cells]
    if not cells or not all(matches):
        return [cell.rjust(max(map(len, cells), default=0)) for cell in cells]
    rows = [_parts(match) for match in matches if match]
    widths = [max(len(row[part]) for row in rows) for part in range(len(_LEFT))]
    return ["".join(map(_justified, row, widths, _LEFT)) for row in rows]


def _padded(value: str, width: int, is_share: bool) -> str:
    """Pad shares, which begin with their decimal point or are 1, on the right; others on the left."""
    return value.ljust(width) if is_share else value.rjust(width)


def _justified(text: str, width: int, left_of_point: bool) -> str:
    return text.rjust(width) if left_of_point else text.ljust(width)


def _parts(match: re.Match[str]) -> list[str]:
    """Parts of a cell: whole number, decimals, sign of an error, its whole number, its decimals."""
    return [match[0], "", "", "", ""] if match[1] is None else [match[part] or "" for part in range(1, 6)]


def _dimensions(names: Sequence[Name]) -> list[str]:
    """Dimensions of the candidates that are no baselines."""
    return sorted({dimension for name in names if not name.family for dimension, _ in name.candidate.items})


def _heading(dimensions: Sequence[str]) -> str:
    return BETWEEN.join(in_words(dimension) for dimension in dimensions) or "candidate"


def _letters(names: Sequence[Name], dimension: str) -> dict[str, str] | None:
    """Letters by value as text, A for the largest; None where there are more values than letters."""
    values = {brief(value): value for name in names for value in name.of(dimension)}

    def order(text: str) -> tuple[bool, float, str]:
        value = values[text]
        if isinstance(value, int | float):
            return False, -float(value), text
        return True, 0.0, text

    if len(values) > len(string.ascii_uppercase):
        return None
    return dict(zip(sorted(values, key=order), string.ascii_uppercase, strict=False))


def _width(layout: Layout, columns: Sequence[_Column]) -> int:
    return layout.width + sum(column.width + len(GAP) for column in columns)


def _chunks(layout: Layout, columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """Group the columns so that each group fits beside the names."""
    group: list[_Column] = []
    for column in columns:
        if group and _width(layout, [*group, column]) > width:
            yield group
            group = []
        group.append(column)
    yield group


def _text(names: Sequence[Name], layout: Layout, chunks: Sequence[Sequence[_Column]], width: int) -> str:
    lines: list[str] = []
    for columns in chunks:
        lines += [*([""] if lines else []), *_table(names, layout, columns)]
    lines += [""] * bool(layout.legend)
    for line in layout.legend:
        lines += wrapped(line, width, GAP)
    return "\n".join(line.rstrip() for line in lines)


def _table(names: Sequence[Name], layout: Layout, columns: Sequence[_Column]) -> Iterator[str]:
    deep = max((len(column.heading) for column in columns), default=1)
    for line in range(deep):
        label = layout.heading if line == deep - 1 else ""
        above = [([""] * deep + list(column.heading))[line - deep] for column in columns]
        yield _line(label, above, layout, columns)
    yield "-" * _width(layout, columns)
    before = names[0].family if names else ""
    for row, (label, name) in enumerate(zip(layout.names, names, strict=True)):
        if name.family and not before:
            yield ""
        before = name.family
        yield _line(label, [column.cells[row] for column in columns], layout, columns)


def _line(label: str, cells: Sequence[str], layout: Layout, columns: Sequence[_Column]) -> str:
    beside = (cell.rjust(column.width) for cell, column in zip(cells, columns, strict=True))
    return GAP.join([label.ljust(layout.width), *beside])
