"""Generated question answering task: contexts with a few facts among distractors; a question asks for one fact.

They need no download, and a tiny encoder can learn them from scratch; `docs/tasks.md` says under which conditions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from searchkit._internal.checks import check_count, check_fields
from searchkit.tasks.base import SPLITS, Encoded, Tables
from searchkit.tasks.generated import Rng, word_forms
from searchkit.tasks.rationales import COLUMN
from searchkit.tasks.windows import encode_questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION: Final = 1  # version of the generator: raise it when the same parameters give other contexts
FACTS: Final = (2, 3)  # facts of a context, equally likely
VALUE: Final = (1, 2)  # words of a value, equally likely
KEYS: Final = 10
VALUES: Final = 4  # words that the values of a key are made of; no other key has them
DISTRACTORS: Final = 80
QUESTION: Final = 3  # words: what is <key>
STRIDE: Final = 4  # tokens that windows share where a tokenizer makes pieces of the words
STREAMS: Final = {"lexicon": 0, "train": 1, "search": 2, "report": 3}


@dataclass(frozen=True)
class Lexicon:
    """Vocabulary: the keys, each with the words of its values, and the distractors."""

    values: dict[str, tuple[str, ...]]
    distractors: tuple[str, ...]


@dataclass(frozen=True)
class GeneratedQuestions:
    """Generated contexts with facts "<key> is <value>", and questions "what is <key>"; a value has one word or two.

    A key has value words of its own, as colours are not places, and stands in a context once at most.
    `length` is the fewest and the most words of a context. `seed` decides every word, and the seed given to `tables`
    nothing: there is nothing to carve. A split does not change when another one is made larger. ValueError for splits
    and lengths that are too small.

    >>> from searchkit.tasks import GeneratedQuestions
    >>> row = GeneratedQuestions(train=1, search=1, report=1).tables(seed=0).train.iloc[0]
    >>> row["question"].startswith("what is "), row["context"][row["start"] :].startswith(row["answers"][0])
    (True, True)
    """

    train: int = 20_000  # questions, each with a context of its own
    search: int = 1_000
    report: int = 2_000
    length: tuple[int, int] = (12, 20)
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_count("GeneratedQuestions: seed", self.seed, least=0)
        for split in SPLITS:
            if getattr(self, split) < 1:
                raise ValueError(f"a split needs at least 1 question, got {split}={getattr(self, split)}")
        fewest = max(FACTS) * (2 + max(VALUE))
        low, high = self.length
        if not fewest <= low <= high:
            raise ValueError(f"length must be (fewest, most) words, {fewest} at least, got {self.length=}")

    @property
    def head(self) -> str:
        return "question_answering"

    @property
    def max_length(self) -> int:
        """Tokens of the longest context and a question, with [CLS] and two [SEP]."""
        return self.length[1] + QUESTION + 3

    @cached_property
    def lexicon(self) -> Lexicon:
        """Vocabulary; the forms are assigned at random."""
        rng = np.random.default_rng([self.seed, STREAMS["lexicon"]])
        forms = rng.permutation(word_forms()).tolist()
        keys, values, distractors = (
            forms[:KEYS],
            forms[KEYS : KEYS * (1 + VALUES)],
            forms[KEYS * (1 + VALUES) :][:DISTRACTORS],
        )
        own = {key: tuple(values[number::KEYS]) for number, key in enumerate(keys)}
        return Lexicon(own, tuple(distractors))

    def words(self) -> list[str]:
        """Every word, in alphabetical order."""
        lexicon = self.lexicon
        return sorted(
            {"what", "is", *lexicon.values, *chain.from_iterable(lexicon.values.values()), *lexicon.distractors}
        )

    def tables(self, seed: int) -> Tables:
        """Generate the questions, the same ones for every `seed`."""
        return Tables(**{split: self._split(split) for split in SPLITS}, labels=("start", "end"))

    def encode(self, table: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Tokenise a table; by the tokenizer of `words()` a question is one window."""
        return encode_questions(table, tokenizer, self.max_length, STRIDE, 2 * QUESTION)

    def describe(self) -> dict[str, Any]:
        """Describe the parameters and the version of the generator, which decide every word."""
        return {"kind": "generated-questions", "version": VERSION, **asdict(self), "length": list(self.length)}

    def _split(self, split: str) -> pd.DataFrame:
        rng = np.random.default_rng([self.seed, STREAMS[split]])
        return pd.DataFrame([write(self.length, self.lexicon, rng) for _ in range(getattr(self, split))])


def write(length: tuple[int, int], lexicon: Lexicon, rng: Rng) -> dict[str, Any]:
    """One question with its context: facts and distractors in random order, one of the facts chosen for."""
    keys = rng.permutation(list(lexicon.values))[: rng.choice(FACTS)].tolist()
    values = [" ".join(rng.choice(lexicon.values[key], rng.choice(VALUE)).tolist()) for key in keys]
    facts = [f"{key} is {value}" for key, value in zip(keys, values, strict=True)]
    rest = int(rng.integers(length[0], length[1] + 1)) - sum(len(fact.split()) for fact in facts)
    units = [*facts, *rng.choice(lexicon.distractors, rest).tolist()]
    order = rng.permutation(len(units)).tolist()
    chosen = int(rng.integers(len(facts)))
    before = "".join(f"{units[unit]} " for unit in order[: order.index(chosen)])
    return {
        "question": f"what is {keys[chosen]}",
        "context": " ".join(units[unit] for unit in order),
        "answers": (values[chosen],),
        "start": len(before) + len(f"{keys[chosen]} is "),
        COLUMN: ((1, len(before), len(before) + len(facts[chosen])),),
    }
