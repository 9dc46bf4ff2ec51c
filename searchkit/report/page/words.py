"""Words of examples, each shaded by the last layer that kept it under the selected member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from searchkit.report.page.markup import Markup, tag

SHADES: Final = 10
MOST: Final = 60_000  # words of all examples of a run, times members; later examples are left out


@dataclass(frozen=True)
class Example:
    """Example as words, and for each member the layer that dropped each of them.

    layers: of the encoder; dropped: key of a member -> for each word the layer that dropped it: 0 before the first
    layer, `layers` + 1 where none did; headline: what is said of it, such as its label; evidence: whether people called
    the word decisive, empty where nobody was asked

    >>> Example(("a", "fine", "film"), 2, {"k": (0, 3, 1)}, evidence=(False, True, False)).shades("k")
    [0, 10, 3]
    """

    words: tuple[str, ...]
    layers: int
    dropped: Mapping[str, tuple[int, ...]]
    headline: str = ""
    evidence: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(self.words), *map(len, self.dropped.values()), len(self.evidence or self.words)}
        if len(counts) > 1:
            raise ValueError(f"an example needs one number for each of its {len(self.words)} words, got {counts}")

    def shades(self, key: str) -> list[int]:
        """Shade of each word, 0 (dropped at once) to 10 (kept by all layers)."""
        return [round(SHADES * layer / (self.layers + 1)) for layer in self.dropped[key]]


def fitting(examples: Sequence[Example], key: str) -> list[Example]:
    """The first examples, whose words are few enough for a page, of those that are known under a member."""
    chosen, numbers = [], 0
    for example in (example for example in examples if key in example.dropped):
        numbers += len(example.words) * len(example.dropped)
        if numbers > MOST:
            break
        chosen.append(example)
    return chosen


def words_section(run: int, examples: Sequence[Example], key: str) -> Markup | None:
    """Section of the words that survive, as a member keeps them; None without examples of that member."""
    shown = fitting(examples, key)
    if not shown:
        return None
    layers = max(example.layers for example in shown)
    return tag(
        "section",
        tag("h2", "Words that survive"),
        tag(
            "p",
            "The darker a word, the later the selected member drops it: without a shade before the first layer, in the "
            "full shade never. Underlined words are those that people called decisive, where the data say so.",
        ),
        tag(
            "label",
            "Strike out what is dropped by layer ",
            tag("input", type="range", min=0, max=layers, value=layers, class_="layer"),
            tag("output", str(layers)),
            f" of {layers}",
            class_="js",
        ),
        [_example(example, key) for example in shown],
        class_="words",
        data_run=run,
    )


def _example(example: Example, key: str) -> Markup:
    evidence = example.evidence or (False,) * len(example.words)
    spans = [
        (tag("u" if decisive else "span", word, class_=f"k{shade}"), " ")
        for word, shade, decisive in zip(example.words, example.shades(key), evidence, strict=True)
    ]
    return tag("p", tag("small", example.headline, " ") if example.headline else None, spans, class_="text")


def words_data(examples: Sequence[Example], key: str, members: Mapping[str, int]) -> list[dict[str, Any]]:
    """Numbers that the script shades words by: layers of each example of the section, and of its words by row."""
    return [
        {
            "layers": example.layers,
            "dropped": {row: example.dropped[member] for member, row in members.items() if member in example.dropped},
        }
        for example in fitting(examples, key)
    ]
