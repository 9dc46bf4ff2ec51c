"""Words of examples, each shaded by the layer that dropped it under the selected member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from searchkit._internal.checks import json_count, json_of
from searchkit.report.page.markup import Markup, tag

SHADES: Final = 10
MOST: Final = 60_000  # words of all examples of a run, times members; later examples are left out
NOT_KEPT: Final = "Words are not kept for this member; searchkit words RUN --key KEY shows them."


@dataclass(frozen=True)
class Example:
    """Example as words, and for each member the layer that dropped each of them.

    layers: of the encoder; dropped: key of a member -> for each word the layer that dropped it: 0 before the first
    layer, `layers` + 1 where none did; headline: what is said of it, such as its label; evidence: whether people called
    the word decisive, empty where nobody was asked; predicted: key of a member -> its prediction

    >>> Example(("a", "fine", "film"), 2, {"k": (0, 3, 1)}, evidence=(False, True, False)).shades("k")
    [0, 10, 3]
    """

    words: tuple[str, ...]
    layers: int
    dropped: Mapping[str, tuple[int, ...]]
    headline: str = ""
    evidence: tuple[bool, ...] = ()
    predicted: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(self.words), *map(len, self.dropped.values()), len(self.evidence or self.words)}
        if len(counts) > 1:
            raise ValueError(f"an example needs one number for each of its {len(self.words)} words, got {counts}")
        if any(layer > self.layers + 1 for own in self.dropped.values() for layer in own):
            raise ValueError(f"a word is dropped by layer 0 to {self.layers + 1}, got {dict(self.dropped)}")

    def shades(self, key: str) -> list[int | None]:
        """Shade of each word, 0 (dropped at once) to 10 (kept by all layers); None for a member that is not known."""
        if key not in self.dropped:
            return [None] * len(self.words)
        return [round(SHADES * layer / (self.layers + 1)) for layer in self.dropped[key]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Example:
        """Read the record; TypeError, KeyError or ValueError for anything else."""
        json_of(data, dict)
        dropped, predicted = (json_of(data[name], dict) for name in ("dropped", "predicted"))
        return cls(
            tuple(json_of(word, str) for word in json_of(data["words"], list)),
            json_count(data["layers"]),
            {key: tuple(map(json_count, json_of(own, list))) for key, own in dropped.items()},
            json_of(data["headline"], str),
            tuple(json_of(word, bool) for word in json_of(data["evidence"], list)),
            {key: json_of(text, str) for key, text in predicted.items()},
        )


def fitting(examples: Sequence[Example]) -> list[Example]:
    """The first examples, whose words are few enough for a page."""
    chosen, numbers = [], 0
    for example in examples:
        numbers += len(example.words) * len(example.dropped)
        if numbers > MOST:
            break
        chosen.append(example)
    return chosen


def words_section(run: int, examples: Sequence[Example], key: str, named: str, *, hidden: bool) -> Markup | None:
    """Section of the words that survive, as a member keeps them; None without examples. named: the run, or empty."""
    shown = fitting(examples)
    if not shown:
        return None
    layers = max(example.layers for example in shown)
    marked = any(any(example.evidence) for example in shown)
    return tag(
        "section",
        tag("h2", f"Words that survive{' in ' if named else ''}{named}"),
        tag(
            "p",
            "Examples of the report split under the selected member: the darker a word, the later it is dropped; "
            "without a shade before the first layer, in the full shade never.",
            " Underlined words are those that people called decisive." if marked else None,
        ),
        tag(
            "label",
            "Strike out what is dropped up to layer ",
            tag("input", type="range", min=0, max=layers, value=0, class_="layer"),
            tag("output", "0"),
            f" of {layers}",
            class_="js",
        ),
        tag("p", NOT_KEPT, class_="note unknown", hidden=any(key in example.dropped for example in shown)),
        [_example(example, key) for example in shown],
        class_="words",
        data_run=run,
        hidden=hidden,
    )


def _example(example: Example, key: str) -> tuple[Markup, Markup]:
    evidence = example.evidence or (False,) * len(example.words)
    spans = [
        (tag("u" if decisive else "span", word, class_=None if shade is None else f"k{shade}"), " ")
        for word, shade, decisive in zip(example.words, example.shades(key), evidence, strict=True)
    ]
    predicted = tag("b", _predicted(example.predicted.get(key, "")), class_="predicted")
    return tag("p", example.headline, predicted, class_="note"), tag("p", spans, class_="text")


def _predicted(text: str) -> str:
    return f", predicted {text}" if text else ""


def words_data(examples: Sequence[Example], members: Mapping[str, int]) -> list[dict[str, Any]]:
    """What the script shows words by: for each example its layers, and by row of the member layers and prediction."""
    return [
        {
            "layers": example.layers,
            "dropped": {row: example.dropped[key] for key, row in members.items() if key in example.dropped},
            "predicted": {row: _predicted(example.predicted.get(key, "")) for key, row in members.items()},
        }
        for example in fitting(examples)
    ]
