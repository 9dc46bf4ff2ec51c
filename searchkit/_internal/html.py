"""HTML of records for notebooks: plain tables in the notebook's own style; whatever is shown is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from searchkit.errors import one_line


def cell(value: object) -> str:
    """Text of a value on one line, escaped.

    >>> cell("<b>")
    '&lt;b&gt;'
    """
    return escape(one_line(value))


def titled(title: str, *parts: str) -> str:
    """A title in bold above parts, which are HTML."""
    return f"<div><strong>{cell(title)}</strong>{''.join(parts)}</div>"


def definitions(items: Mapping[str, object]) -> str:
    """Table of names and values, a row for each."""
    rows = (
        f'<tr><th style="text-align:left">{cell(name)}</th><td style="text-align:left">{cell(value)}</td></tr>'
        for name, value in items.items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def table(headings: Sequence[object], rows: Iterable[Sequence[object]], texts: int = 1) -> str:
    """Table with a row of headings; the first `texts` columns are texts, the others numbers, to the right."""

    def row(kind: str, values: Sequence[object]) -> str:
        sides = ("left" if column < texts else "right" for column in range(len(values)))
        scope = ' scope="col"' if kind == "th" else ""
        cells = (
            f'<{kind}{scope} style="text-align:{side}">{cell(value)}</{kind}>'
            for side, value in zip(sides, values, strict=True)
        )
        return f"<tr>{''.join(cells)}</tr>"

    return (
        f"<table><thead>{row('th', headings)}</thead><tbody>{''.join(row('td', each) for each in rows)}</tbody></table>"
    )


def line(text: object) -> str:
    """A line of text below or above a table."""
    return f"<div>{cell(text)}</div>"
