"""HTML and SVG as text in which everything is escaped but what `tag` made."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any, Final

from searchkit.errors import one_line

VOID: Final = frozenset(("br", "input", "link", "meta"))  # elements of HTML that have no end
LONGEST: Final = 2000  # characters of a text


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | int | float | None | Iterable[Any]


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Make an element. Texts are escaped; None and lists of children are allowed.

    Attributes: `_` stands for `-`, and one at the end is left out (`class_`); None and False leave one out.

    >>> tag("p", "a < b", tag("b", 1), class_="note", aria_label=None)
    '<p class="note">a &lt; b<b>1</b></p>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            word = key.rstrip("_").replace("_", "-")
            text = value if isinstance(value, Markup) else escaped(value)
            words.append(word if value is True else f'{word}="{text}"')
    start = f"<{' '.join(words)}>"
    return Markup(start if name in VOID else f"{start}{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Markup:
    """Join children, escaped where they are no markup."""
    return Markup("".join(map(_child, children)))


def escaped(value: object) -> Markup:
    """Escape a text; control characters, marks of direction and lone surrogates are spelt out."""
    text = str(value)
    before, after = " " * text.startswith(" "), " " * text.endswith(" ")
    return Markup(f"{before}{html.escape(one_line(text, LONGEST))}{after}")


def lines(text: str) -> Markup:
    """Escape a text of several lines, for `pre`."""
    return Markup("\n".join(map(escaped, text.splitlines())))


def data(content: Any, **attributes: str) -> Markup:
    """Make a block of JSON that a script reads; no text in it can end the block."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return tag("script", Markup(text), type="application/json", **attributes)


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return escaped(child) if isinstance(child, str | int | float) else joined(child)
