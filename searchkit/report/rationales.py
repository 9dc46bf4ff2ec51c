"""Survivors against rationales: how much of what is left people marked as the reason, and how much of that is left.

As AdapLeR is evaluated on ERASER (arXiv 2203.08991, sec. 5.2): the tokens of words alone, special ones count nowhere.
Counts are added over all examples, and then divided; intervals are by resampling whole examples.
Axes: N examples, T tokens in all.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit.stats import Floats, percentile_interval, resampled

FIGURES: Final = ("precision", "recall", "false_positive_rate")
MEMBER, RANDOM, ATTENTION, SALIENCY = "member", "random", "attention", "saliency"
HOW_TO_READ: Final = (
    "precision: share of what is left that is evidence; recall: share of the evidence that is left; false positives: "
    "share of all else that is left. In brackets: 95 % interval: other examples of this kind would mostly be within."
)
MEANINGS: Final = {
    MEMBER: "what the member leaves",
    RANDOM: "as many tokens by chance",
    ATTENTION: "as many by the attention they receive there in the unreduced model",
    SALIENCY: "as many by gradient x input of the unreduced model",
}


@dataclass(frozen=True)
class Agreement:
    """Agreement of the tokens that are left after a layer with the rationales.

    by: who chose as many tokens, a name of `MEANINGS`; kept: share of the tokens that are left; figures: name -> value
    and the ends of its 95 % interval, NaN where it is not defined
    """

    layer: int
    by: str
    kept: float
    figures: Mapping[str, tuple[float, float, float]]

    def to_json(self) -> dict[str, Any]:
        values: dict[str, float] = {}
        for name, (value, low, high) in self.figures.items():
            values |= {name: value, f"{name}_low": low, f"{name}_high": high}
        finite = {name: None if np.isnan(value) else value for name, value in values.items()}
        return {"layer": self.layer, "by": self.by, "kept": self.kept, **finite}


@dataclass(frozen=True)
class Rationalised:
    """Agreement with the rationales of a run's report split, layer by layer, beside other choices of as many tokens.

    >>> import searchkit
    >>> scored = searchkit.open("runs/quickstart").rationales(best="accuracy")  # doctest: +SKIP
    >>> scored.frame.query("layer == 2")[["by", "precision", "recall"]]  # doctest: +SKIP
    """

    study: str
    key: str
    candidate: Mapping[str, Any]
    examples: int  # that people marked
    evidence: float  # share of the tokens that they marked
    agreements: tuple[Agreement, ...]

    @property
    def frame(self) -> Any:
        """A pandas frame with a row for each layer and choice."""
        import pandas as pd

        return pd.DataFrame([each.to_json() for each in self.agreements])

    def to_json(self) -> dict[str, Any]:
        about = {"study": self.study, "key": self.key, "candidate": dict(self.candidate), "examples": self.examples}
        return {**about, "evidence": self.evidence, "rows": [each.to_json() for each in self.agreements]}

    @property
    def text(self) -> str:
        """Table for a terminal of 80 columns."""
        about = f"{self.study}, {self.examples} examples of the report split"
        shown = textwrap.wrap(f"{about}; {100 * self.evidence:.0f} % of their tokens are marked as evidence", 79)
        heading = f"  {'':10}{'precision':>21}{'recall':>21}{'false positives':>21}"
        for layer in dict.fromkeys(each.layer for each in self.agreements):
            rows = [each for each in self.agreements if each.layer == layer]
            shown += ["", f"after layer {layer}, {100 * rows[0].kept:.0f} % of the tokens are left", heading]
            shown += [f"  {row.by:10}" + "".join(f"{_cell(row.figures[name]):>21}" for name in FIGURES) for row in rows]
        notes = [f"  {name:10}{meaning}" for name, meaning in MEANINGS.items()]
        return "\n".join([*shown, "", *notes, *textwrap.wrap(HOW_TO_READ, 79)])

    def __str__(self) -> str:
        return self.text


def _cell(figure: tuple[float, float, float]) -> str:
    value, low, high = figure
    return "-" if np.isnan(value) else f"{value:.3f} ({low:.3f}-{high:.3f})"


@dataclass(frozen=True, eq=False)
class Marked:
    """Tokens of words, example after example: (T,) the example of each, and whether it is evidence."""

    examples: NDArray[np.int64]
    evidence: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return int(self.examples.max(initial=-1)) + 1

    def summed(self, values: NDArray[Any]) -> Floats:
        """(N,) sums of (T,) values within each example."""
        return np.bincount(self.examples, weights=values.astype(np.float64), minlength=self.count).astype(np.float64)

    def best(self, scores: NDArray[np.floating[Any]], counts: NDArray[Any]) -> NDArray[np.bool_]:
        """(T,) True for the highest of (T,) scores, as many in each example as (N,) counts say; of equals the first."""
        order = np.lexsort([np.arange(len(scores)), -scores, self.examples])
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.examples, minlength=self.count))])
        rank = np.empty(len(scores), dtype=np.int64)
        rank[order] = np.arange(len(scores)) - starts[self.examples[order]]
        return np.asarray(rank < counts[self.examples])


def agreements(
    marked: Marked, fallen: NDArray[np.int64], attention: Sequence[NDArray[np.float32]], saliency: NDArray[np.float32]
) -> list[Agreement]:
    """Agreement after each layer: of the survivors, and of as many tokens of each example by other choices.

    fallen: (T,) the layer that drops each token, beyond the last for none; attention: (T,) by layer
    """
    found = []
    for layer, received in enumerate(attention, start=1):
        kept = fallen > layer
        counts = marked.summed(kept)
        hits = {
            MEMBER: marked.summed(kept & marked.evidence),
            RANDOM: counts * marked.summed(marked.evidence) / marked.summed(np.ones(len(kept))),  # expected
            ATTENTION: marked.summed(marked.best(received, counts) & marked.evidence),
            SALIENCY: marked.summed(marked.best(saliency, counts) & marked.evidence),
        }
        found += [Agreement(layer, by, float(kept.mean()), figures(marked, counts, hit)) for by, hit in hits.items()]
    return found


def figures(marked: Marked, kept: Floats, hits: Floats) -> dict[str, tuple[float, float, float]]:
    """Figures of (N,) tokens that are kept in each example, `hits` of which are evidence, with their intervals."""
    evidence, others = marked.summed(marked.evidence), marked.summed(~marked.evidence)
    parts = {"precision": (hits, kept), "recall": (hits, evidence), "false_positive_rate": (kept - hits, others)}
    found = {}
    for name, (above, below) in parts.items():
        value = float(_ratio(above, below))
        low, high = percentile_interval(resampled(partial(_ratio, above, below), len(kept)))
        found[name] = (value, value if low is None else low, value if high is None else high)
    return found


def _ratio(above: Floats, below: Floats, rows: NDArray[np.int64] | slice = slice(None)) -> Floats:
    """Sum over these rows of one by that of the other; NaN by nothing."""
    parts, whole = above[rows].sum(-1), below[rows].sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole > 0, parts / whole, np.nan), dtype=np.float64)
