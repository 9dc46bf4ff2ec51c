"""Generated classification task: documents in which a few evidence words, some of them negated, decide the label.

It needs no download, and a tiny encoder learns it from scratch in a minute. Nothing in it favours one way of scoring
tokens by construction; `docs/tasks.md` says how each cue is closed.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from searchkit._internal.checks import check_count, check_fields
from searchkit.tasks.base import SPLITS, Encoded, Tables
from searchkit.tasks.encode import encode_table
from searchkit.tasks.rationales import COLUMN, Rationale

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION: Final = 1  # version of the generator: raise it when the same parameters give other documents
EVIDENCE: Final = (3, 5)  # evidence words of a document, equally likely; odd, so that there is no tie
AGREES: Final = 0.95  # chance that a piece of evidence speaks for the label, before a wrong majority is redrawn
NEGATED: Final = 0.4  # chance that a negator precedes a piece of evidence
IDLE: Final = 1  # negators that may precede a distractor, each with the same chance
WORDS_PER_TOKEN: Final = 2  # words of the lexicon per expected token of their kind in a document
CONSONANTS: Final = "bdfgklmnprstvz"
VOWELS: Final = "aeiou"
STREAMS: Final = {"lexicon": 0, "train": 1, "search": 2, "report": 3}

Rng = np.random.Generator


@dataclass(frozen=True)
class Lexicon:
    """Vocabulary by kind of word. Every word is expected equally often, whatever its kind."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    negator: tuple[str, ...]
    distractor: tuple[str, ...]


@dataclass(frozen=True)
class Generated:
    """Generated documents of two balanced classes; `length` is the least and the greatest number of words.

    `seed` decides every word, and the seed given to `tables` nothing: there is nothing to carve. A split does not
    change when another one is made larger. ValueError for splits and lengths that are too small.

    >>> from searchkit.tasks import Generated
    >>> tables = Generated(train=4, search=2, report=2).tables(seed=0)
    >>> sorted(tables.train["label"]), 14 <= len(tables.train["text"][0].split()) <= 26
    ([0, 0, 1, 1], True)
    """

    train: int = 20_000  # documents
    search: int = 1_000
    report: int = 2_000
    length: tuple[int, int] = (14, 26)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_count("Generated: seed", self.seed, least=0)
        for split in SPLITS:
            if getattr(self, split) < 2:
                raise ValueError(f"a split needs at least 2 documents, got {split}={getattr(self, split)}")
        fewest = 2 * (max(EVIDENCE) + IDLE)  # every possible negator, and the word after it
        low, high = self.length
        if not fewest <= low <= high:
            raise ValueError(f"length must be (fewest, most) words, {fewest} at least, got {self.length=}")

    @property
    def head(self) -> str:
        return "classification"

    @property
    def max_length(self) -> int:
        """Tokens of the longest document with [CLS] and [SEP]."""
        return self.length[1] + 2

    @cached_property
    def lexicon(self) -> Lexicon:
        """Vocabulary: as many words of each kind as make every word equally frequent; forms are assigned at random."""
        sizes = _sizes(sum(self.length) / 2)
        rng = np.random.default_rng([self.seed, STREAMS["lexicon"]])
        forms = rng.permutation(word_forms())[: sum(sizes)]
        return Lexicon(*(tuple(kind.tolist()) for kind in np.split(forms, np.cumsum(sizes)[:-1])))

    def words(self) -> list[str]:
        """Every word, in alphabetical order, which says nothing about its kind."""
        lexicon = self.lexicon
        return sorted(lexicon.positive + lexicon.negative + lexicon.negator + lexicon.distractor)

    def tables(self, seed: int) -> Tables:
        """Generate the documents, the same ones for every `seed`."""
        return Tables(**{split: self._split(split) for split in SPLITS}, labels=("negative", "positive"))

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table; no document is cut by the tokenizer of `words()`."""
        return encode_table(table, tokenizer, self.max_length)

    def describe(self) -> dict[str, Any]:
        """Describe the parameters and the version of the generator, which decide every word."""
        return {"kind": "generated", "version": VERSION, **asdict(self), "length": list(self.length)}

    def _split(self, split: str) -> pd.DataFrame:
        count = getattr(self, split)
        rng = np.random.default_rng([self.seed, STREAMS[split]])
        labels = rng.permutation(np.arange(count, dtype=np.int64) % 2)
        texts, evidence = zip(*(write(label, self.length, self.lexicon, rng) for label in labels.tolist()), strict=True)
        known = pd.Series(evidence, dtype=object)
        return pd.DataFrame({"text": pd.Series(texts, dtype="str"), "label": labels, COLUMN: known})


def write(label: int, length: tuple[int, int], lexicon: Lexicon, rng: Rng) -> tuple[str, Rationale]:
    """One document of the class `label` (0 negative, 1 positive), and its evidence, each piece with its negator."""
    kinds = _layout(int(rng.integers(length[0], length[1] + 1)), rng)
    evidence = [position for position, kind in enumerate(kinds) if kind == "evidence"]
    agreeing = _majority(len(evidence), rng)
    for rank, position in enumerate(rng.permutation(evidence).tolist()):
        negated = position > 0 and kinds[position - 1] == "negator"
        positive = bool(label) ^ (rank >= agreeing) ^ negated
        kinds[position] = "positive" if positive else "negative"
    drawn = zip((getattr(lexicon, kind) for kind in kinds), rng.random(len(kinds)).tolist(), strict=True)
    words = [forms[int(share * len(forms))] for forms, share in drawn]
    starts = list(itertools.accumulate((len(word) + 1 for word in words), initial=0))
    firsts = [place - (place > 0 and kinds[place - 1] == "negator") for place in evidence]
    spans = ((0, starts[first], starts[last + 1] - 1) for first, last in zip(firsts, evidence, strict=True))
    return " ".join(words), tuple(spans)


def _layout(words: int, rng: Rng) -> list[str]:
    """Kind of every word: shuffled units, then rotated, so that all positions have the same distribution.

    A cut between a negator and its evidence leaves a negator at the end, which negates nothing.
    """
    count = EVIDENCE[int(rng.integers(len(EVIDENCE)))]
    negated = int(rng.binomial(count, NEGATED))
    idle = int(rng.binomial(IDLE, NEGATED))
    units = [("negator", "evidence")] * negated + [("evidence",)] * (count - negated)
    units += [("negator", "distractor")] * idle
    units += [("distractor",)] * (words - sum(map(len, units)))
    wheel = [kind for unit in rng.permutation(len(units)).tolist() for kind in units[unit]]
    cut = int(rng.integers(words))
    return wheel[cut:] + wheel[:cut]


def _majority(count: int, rng: Rng) -> int:
    """Number of `count` pieces of evidence that agree with the label: binomial, given that most do."""
    while True:
        agreeing = int(rng.binomial(count, AGREES))
        if 2 * agreeing > count:
            return agreeing


def _sizes(mean_length: float) -> tuple[int, int, int, int]:
    """Words of each kind (positive, negative, negator, distractor) in proportion to its expected tokens."""
    evidence = float(np.mean(EVIDENCE))
    negators = (evidence + IDLE) * NEGATED
    side = round(WORDS_PER_TOKEN * evidence / 2)
    return side, side, round(WORDS_PER_TOKEN * negators), round(WORDS_PER_TOKEN * (mean_length - evidence - negators))


def word_forms() -> list[str]:
    """All words of two syllables, like "bado": 4,900 of them, all of one length."""
    syllables = [consonant + vowel for consonant in CONSONANTS for vowel in VOWELS]
    return [first + second for first in syllables for second in syllables]
