from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.tasks import Generated, word_tokenizer
from searchkit.tasks.generated import EVIDENCE, IDLE, NEGATED, Lexicon

SMALL = Generated(train=4_000, search=400, report=400)


def label_of(text: str, lexicon: Lexicon) -> int:
    """The rule, word by word: evidence votes, and a negator just before it turns the vote."""
    votes, before = 0, ""
    for word in text.split():
        vote = (word in lexicon.positive) - (word in lexicon.negative)
        votes += -vote if before in lexicon.negator else vote
        before = word
    assert votes % 2 == 1
    return int(votes > 0)


def kinds(text: str, lexicon: Lexicon) -> list[str]:
    names = ("positive", "negative", "negator", "distractor")
    return [next(name for name in names if word in getattr(lexicon, name)) for word in text.split()]


@given(st.integers(0, 2**32), st.integers(12, 20), st.integers(0, 20))
@settings(max_examples=15, deadline=None)
def test_the_label_is_the_sign_of_the_votes(seed: int, fewest: int, more: int) -> None:
    task = Generated(train=40, search=2, report=2, length=(fewest, fewest + more), seed=seed)
    table = task.tables(0).train
    assert [label_of(text, task.lexicon) for text in table["text"]] == table["label"].tolist()
    lengths = table["text"].str.split().str.len()
    assert fewest <= lengths.min()
    assert lengths.max() <= fewest + more


def test_the_classes_are_balanced_in_every_split() -> None:
    tables = SMALL.tables(0)
    for split in ("train", "search", "report"):
        assert tables[split]["label"].mean() == 0.5


@pytest.mark.parametrize("length", [(12, 12), (14, 26), (21, 40)])
def test_the_lexicon_makes_every_word_equally_frequent(length: tuple[int, int]) -> None:
    task = Generated(train=3_000, search=2, report=2, length=length)
    counts = Counter(word for text in task.tables(0).train["text"] for word in text.split())
    expected = 3_000 * (sum(length) / 2) / len(task.words())
    assert sorted(counts) == task.words()
    for kind in ("positive", "negative", "negator", "distractor"):
        mean = np.mean([counts[word] for word in getattr(task.lexicon, kind)])
        assert mean == pytest.approx(expected, rel=0.03)
    assert max(counts.values()) < 1.15 * expected
    assert min(counts.values()) > 0.85 * expected


def test_every_place_of_a_document_is_alike_for_every_kind() -> None:
    task = Generated(train=20_000, search=2, report=2, length=(16, 16))
    layouts = np.array([kinds(text, task.lexicon) for text in task.tables(0).train["text"]])  # (documents, 16)
    expected = {"evidence": 4 / 16, "negator": (4 + IDLE) * NEGATED / 16}
    found = {"evidence": np.isin(layouts, ["positive", "negative"]), "negator": layouts == "negator"}
    for kind, share in expected.items():
        standard_error = np.sqrt(share * (1 - share) / len(layouts))
        assert np.abs(found[kind].mean(axis=0) - share).max() < 4 * standard_error


def test_lengths_and_evidence_counts_say_nothing_about_the_label() -> None:
    table = SMALL.tables(0).train
    layouts = [kinds(text, SMALL.lexicon) for text in table["text"]]
    positive = table["label"].to_numpy() == 1
    evidence = np.array([sum(kind in ("positive", "negative") for kind in layout) for layout in layouts])
    assert set(evidence.tolist()) == set(EVIDENCE)
    for quantity in (np.array([len(layout) for layout in layouts]), evidence, *_counts(layouts, "negator")):
        gap = quantity[positive].mean() - quantity[~positive].mean()
        assert abs(gap) < 4 * quantity.std() * np.sqrt(2 / positive.sum())


def _counts(layouts: list[list[str]], kind: str) -> list[np.ndarray]:
    return [np.array([layout.count(kind) for layout in layouts])]


def test_negators_also_stand_where_they_negate_nothing() -> None:
    followed = Counter(
        after in ("positive", "negative")
        for text in SMALL.tables(0).train["text"]
        for before, after in zip(kinds(text, SMALL.lexicon), [*kinds(text, SMALL.lexicon)[1:], ""], strict=True)
        if before == "negator"
    )
    # four of five by the parameters, less the pairs that the turn of the wheel parts: one of 20 or so
    share = followed[True] / followed.total()
    assert 0.72 < share < 4 / (4 + IDLE)


def test_a_vote_that_is_deaf_to_negation_is_far_from_right() -> None:
    table, lexicon = SMALL.tables(0).train, SMALL.lexicon
    deaf = Lexicon(lexicon.positive, lexicon.negative, (), lexicon.distractor)
    right = np.mean([label_of(text, deaf) == label for text, label in zip(table["text"], table["label"], strict=True)])
    assert 0.6 < right < 0.75


def test_word_forms_are_alike_and_their_order_tells_no_kind() -> None:
    lexicon = SMALL.lexicon
    words = SMALL.words()
    assert len(set(words)) == len(words) == sum(len(getattr(lexicon, kind)) for kind in lexicon.__dataclass_fields__)
    assert {len(word) for word in words} == {4}
    assert words == sorted(words)
    other = Generated(seed=1).lexicon
    assert set(other.positive) != set(lexicon.positive)


def test_the_seed_of_the_task_decides_every_word_and_the_other_seed_none() -> None:
    again = Generated(train=4_000, search=400, report=400)
    for split in ("train", "search", "report"):
        assert again.tables(7)[split].equals(SMALL.tables(0)[split])
    assert not Generated(train=4_000, search=400, report=400, seed=1).tables(0).train.equals(SMALL.tables(0).train)


def test_splits_share_no_document_and_do_not_change_with_each_other() -> None:
    tables = SMALL.tables(0)
    texts = [set(tables[split]["text"]) for split in ("train", "search", "report")]
    assert len(set.union(*texts)) == 4_000 + 400 + 400
    assert Generated(train=50, search=400, report=400).tables(0).search.equals(tables.search)


def test_the_tokenizer_of_the_words_knows_and_cuts_nothing() -> None:
    table = SMALL.tables(0).search
    tokenizer = word_tokenizer(SMALL.words())
    encoded = SMALL.encode(table, tokenizer)
    assert (encoded.lengths == table["text"].str.split().str.len() + 2).all()
    assert encoded.lengths.max() <= SMALL.max_length
    assert tokenizer.unk_token_id not in encoded.ids
    assert (encoded.ids[encoded.offsets[:-1]] == tokenizer.cls_token_id).all()


def test_the_description_is_json_and_changes_with_every_parameter() -> None:
    others = [Generated(train=30), Generated(search=30), Generated(report=30), Generated(length=(20, 30))]
    described = [json.dumps(task.describe()) for task in (Generated(), Generated(seed=1), *others)]
    assert len(set(described)) == 6
    assert json.loads(described[0]) == Generated().describe()


@pytest.mark.parametrize(
    "arguments", [{"length": (11, 20)}, {"length": (20, 19)}, {"train": 1}, {"search": 0}, {"report": -1}]
)
def test_impossible_documents_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        Generated(**arguments)
