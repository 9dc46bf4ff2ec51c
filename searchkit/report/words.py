"""Words that survive: texts of which every word knows the layer that dropped it, and their form for terminals."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from searchkit.errors import one_line

FEW: Final = 3  # dropped words in a row that have a mark each


@dataclass(frozen=True)
class Word:
    """One word of a text: its characters there, and the layer that dropped the last of its pieces.

    side: the text that it stands in, 0 or 1 (the second of a pair, the context of a question); begin, end: its first
    character and the one after the last; layer: 0 is before the first layer, None where no layer drops it; evidence:
    whether people marked it, None where nobody was asked
    """

    text: str
    side: int
    begin: int
    end: int
    layer: int | None
    evidence: bool | None = None

    def alive_after(self, layer: int) -> bool:
        """Return whether a piece of it is left after so many layers."""
        return self.layer is None or self.layer > layer

    def to_json(self) -> dict[str, Any]:
        marked = {} if self.evidence is None else {"evidence": self.evidence}
        where = {"text": self.side, "begin": self.begin, "end": self.end}
        return {"word": self.text, **where, "layer": self.layer, **marked}


@dataclass(frozen=True)
class WordsOf:
    """Words of one example under one candidate, in order; words that were cut off are not among them.

    layers: of the encoder; name: of the example, such as "example 12"; label, predicted: as the task calls them, empty
    where they are not known
    """

    texts: tuple[str, ...]
    words: tuple[Word, ...]
    layers: int
    name: str = ""
    label: str = ""
    predicted: str = ""

    @property
    def has_evidence(self) -> bool:
        return any(word.evidence is not None for word in self.words)

    def alive_after(self, layer: int) -> int:
        """Number of words that are left after so many layers."""
        return sum(word.alive_after(layer) for word in self.words)

    @property
    def steps(self) -> list[tuple[int, int]]:
        """First and last layer of every run of layers with the same survivors, from 0, before the first layer."""
        counts = [self.alive_after(layer) for layer in range(self.layers + 1)]
        edges = [0, *(layer for layer in range(1, len(counts)) if counts[layer] < counts[layer - 1]), len(counts)]
        return [(first, after - 1) for first, after in itertools.pairwise(edges)]

    @property
    def headline(self) -> str:
        """Line with its name, label and prediction."""
        facts = [f"label {self.label}"] * bool(self.label) + [f"predicted {self.predicted}"] * bool(self.predicted)
        return one_line(": ".join([part for part in (self.name, ", ".join(facts)) if part]))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "label": self.label,
            "predicted": self.predicted,
            "layers": self.layers,
            "texts": list(self.texts),
            "words": [word.to_json() for word in self.words],
        }


@dataclass(frozen=True)
class Survivors:
    """Words of some examples under one candidate of a run.

    >>> import searchkit
    >>> shown = searchkit.open("runs/quickstart").words("a text of your own", best="accuracy")  # doctest: +SKIP
    >>> print(shown)  # doctest: +SKIP
    >>> shown.frame[["word", "layer"]].head()  # doctest: +SKIP
    """

    study: str
    key: str
    candidate: dict[str, Any]
    examples: tuple[WordsOf, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each word, as plain data: example, word, text, begin, end, layer, and evidence where known."""
        return [{"example": each.name, **word.to_json()} for each in self.examples for word in each.words]

    @property
    def frame(self) -> Any:
        """The rows as a pandas frame; `layer` is <NA> for words that no layer drops."""
        import pandas as pd

        return pd.DataFrame(self.rows).astype({"layer": "Int64"})

    def to_json(self) -> dict[str, Any]:
        examples = [each.to_json() for each in self.examples]
        return {"study": self.study, "key": self.key, "candidate": self.candidate, "examples": examples}

    def __str__(self) -> str:
        return in_paragraphs(self.examples, 80)


def lines(words: WordsOf, width: int, *, ascii_only: bool = False) -> Iterator[str]:
    """Lines of a terminal: a paragraph for each layer that drops something, a mark in the place of what is gone.

    Words that people marked as evidence stand in *asterisks*.
    """
    gone = "." if ascii_only else "·"
    if words.headline:
        yield from textwrap.wrap(words.headline, width)
    names = {step: _named(step, words) for step in words.steps}
    indent = max(map(len, names.values())) + 2
    whole = len(words.words)
    counted = len(str(whole))
    for step, name in names.items():
        alive = words.alive_after(step[0])
        head = f"{name.ljust(indent)}{str(alive).rjust(counted)}  "
        text = " ".join(_text(words, step[0], gone))
        yield from textwrap.wrap(
            head + text,
            max(width, len(head) + 20),
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
            break_long_words=True,
        )


def _named(step: tuple[int, int], words: WordsOf) -> str:
    first, last = step
    if last == 0:
        return "input"
    if first == 0:
        return f"input to layer {last}"
    return f"layer {first}" if first == last else f"layers {first}-{last}"


def _text(words: WordsOf, layer: int, gone: str) -> Iterator[str]:
    """Words alive after a layer, a run of the others as so many marks; a bar between two texts."""
    for side, of_side in itertools.groupby(words.words, key=lambda word: word.side):
        if side:
            yield "|"
        for alive, run in itertools.groupby(of_side, key=lambda word: word.alive_after(layer)):
            if alive:
                yield from (one_line(f"*{word.text}*" if word.evidence else word.text) for word in run)
            else:
                count = len(list(run))
                yield gone * count if count <= FEW else f"[{count}]"


def in_paragraphs(examples: Sequence[WordsOf], width: int, *, ascii_only: bool = False) -> str:
    """All examples for a terminal, and what the marks mean."""
    paragraphs = ["\n".join(lines(each, width, ascii_only=ascii_only)) for each in examples]
    gone = "." if ascii_only else "·"
    legend = f"{gone} is a word that is dropped by then, [12] are twelve of them; in front, the words that are left."
    if any(each.has_evidence for each in examples):
        legend += " *Words* in asterisks are the evidence: marked as the reason for the label."
    return "\n\n".join([*paragraphs, "\n".join(textwrap.wrap(legend, width))])
