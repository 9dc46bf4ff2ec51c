from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.errors import DataError
from searchkit.tasks import TextClassification
from searchkit.tasks.base import Tables
from searchkit.tasks.splits import carve, carve_groups, duplicates, limited

labels = st.lists(st.integers(0, 3), min_size=2, max_size=60)


def distinct(labels: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"text {i}" for i in range(len(labels))], "label": labels})


def carved(table: pd.DataFrame, count: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    return carve(table, count, np.random.default_rng(seed))


@given(labels, st.integers(1, 30), st.integers(0, 2**32))
def test_the_two_sides_are_disjoint_and_cover_the_rows(labels: list[int], count: int, seed: int) -> None:
    table = distinct(labels)
    try:
        rest, out = carved(table, count, seed)
    except DataError:
        # only where no label can spare a row, or too little was asked to give any label with spare rows one
        assert count < len(set(labels)) or max(Counter(labels).values()) == 1
        return
    rows = [*rest.itertuples(index=False), *out.itertuples(index=False)]
    assert sorted(rows) == sorted(table.itertuples(index=False))
    assert len(out) <= count
    for side in (rest, out):
        assert side["text"].str[5:].astype(int).is_monotonic_increasing
        assert side.index.tolist() == list(range(len(side)))


@given(labels, st.integers(1, 30))
def test_every_label_gives_its_share_and_keeps_a_row(labels: list[int], count: int) -> None:
    try:
        rest, out = carved(distinct(labels), count)
    except DataError:
        return
    left, given = Counter(rest["label"]), Counter(out["label"])
    for label, size in Counter(labels).items():
        share = min(count, len(labels)) * size / len(labels)
        assert left[label] >= 1
        assert given[label] < share + 1
        assert given[label] > share - 1 or left[label] == 1


def test_a_tenth_of_a_known_table_is_a_tenth_of_each_label() -> None:
    rest, out = carved(distinct([0] * 600 + [1] * 300 + [2] * 100), 100)
    assert Counter(out["label"]) == {0: 60, 1: 30, 2: 10}
    assert len(rest) == 900


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=4, max_size=40), st.integers(1, 10))
def test_rows_with_the_same_text_stay_on_one_side(rows: list[tuple[int, int]], count: int) -> None:
    table = pd.DataFrame({"text": [f"text {text}" for text, _ in rows], "label": [label for _, label in rows]})
    try:
        rest, out = carved(table, count)
    except DataError:
        return
    assert not set(rest["text"]) & set(out["text"])
    assert len(rest) + len(out) == len(rows)


def test_pairs_that_share_one_text_are_different_texts() -> None:
    table = pd.DataFrame({"text": ["same"] * 8, "text_pair": list("abcdefgh"), "label": [0, 1] * 4})
    rest, out = carved(table, 4)
    assert (len(rest), len(out)) == (4, 4)


def test_the_seed_decides_what_is_carved() -> None:
    table = distinct([0, 1] * 100)
    assert carved(table, 20, seed=3)[1].equals(carved(table, 20, seed=3)[1])
    assert not carved(table, 20, seed=3)[1].equals(carved(table, 20, seed=4)[1])


def test_what_is_carved_today_is_carved_on_every_machine() -> None:
    rng = np.random.default_rng(0)
    chosen = {*rng.permutation(np.arange(0, 20, 2))[:2].tolist(), *rng.permutation(np.arange(1, 20, 2))[:2].tolist()}
    _, out = carved(distinct([0, 1] * 10), 4)
    assert set(out["text"]) == {f"text {i}" for i in chosen}


def test_too_few_rows_to_carve_are_refused() -> None:
    with pytest.raises(DataError, match="2 rows are too few to carve 1"):
        carved(distinct([0, 1]), 1)


@given(st.integers(1, 30), st.integers(1, 40))
def test_a_limit_takes_a_random_choice_without_repetition(rows: int, limit: int) -> None:
    table = distinct([0] * rows)
    out = limited(table, limit, np.random.default_rng(0))
    assert len(out) == min(rows, limit)
    assert len(set(out["text"])) == len(out)
    assert set(out["text"]) <= set(table["text"])


def test_no_limit_leaves_the_table_as_it_is() -> None:
    table = distinct([0, 1, 0])
    assert limited(table, None, np.random.default_rng(0)) is table


def tables_of(train: list[str], search: list[str], report: list[str]) -> Tables:
    return Tables(*(pd.DataFrame({"text": texts, "label": 0}) for texts in (train, search, report)), labels=("x",))


@given(*[st.lists(st.text("ab\u00e4 ", max_size=3), min_size=1, max_size=8)] * 3)
def test_texts_that_splits_share_are_counted_once_each(train: list[str], search: list[str], report: list[str]) -> None:
    assert duplicates(tables_of(train, search, report)) == {
        "search/report": len(set(search) & set(report)),
        "train/report": len(set(train) & set(report)),
        "train/search": len(set(train) & set(search)),
    }


def test_a_pair_is_shared_as_a_whole_and_so_is_a_question_with_its_context() -> None:
    for first, second in (("text", "text_pair"), ("question", "context")):
        rows = [
            pd.DataFrame({first: list(a), second: list(b)}) for a, b in (("xyz", "uvw"), ("xyz", "vvx"), ("u", "x"))
        ]
        assert duplicates(Tables(*rows, labels=())) == {"search/report": 0, "train/report": 0, "train/search": 1}


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=2, max_size=40),
    st.integers(1, 20),
    st.integers(0, 2**32),
)
def test_carved_groups_share_neither_a_group_nor_a_question(rows: list[tuple[int, int]], count: int, seed: int) -> None:
    table = pd.DataFrame({"question": "what", "context": [f"c{c}" for c, _ in rows], "group": [g for _, g in rows]})
    try:
        rest, out = carve_groups(table, count, np.random.default_rng(seed), "group")
    except DataError:  # everything hangs together
        groups = {group: {c for c, g in rows if g == group} for _, group in rows}
        while len(groups) > 1:
            first, contexts = groups.popitem()
            near = [group for group in groups if groups[group] & contexts]
            assert near, (first, "could have been carved")
            groups[near[0]] = groups[near[0]] | contexts
        return
    assert not set(rest["group"]) & set(out["group"])
    assert not set(rest["context"]) & set(out["context"])
    assert sorted([*rest["context"], *out["context"]]) == sorted(table["context"])
    assert len(rest) > 0


def test_groups_that_share_nothing_are_carved_as_ever() -> None:
    table = pd.DataFrame(
        {"question": [f"q{i}" for i in range(30)], "context": "c", "group": [i // 3 for i in range(30)]}
    )
    _, out = carve_groups(table, 7, np.random.default_rng(4), "group")
    expected = np.random.default_rng(4).permutation(10)[:3]  # three groups of three hold the first seven rows
    assert sorted(set(out["group"])) == sorted(expected)


@pytest.mark.parametrize("files", [("train",), ("train", "test"), ("train", "validation")])
def test_what_a_task_carves_shares_no_text_with_the_rest(files: tuple[str, ...], tmp_path: Path) -> None:
    """Of what was published, only what the publishers repeat is left in two splits."""
    rng = np.random.default_rng(0)
    for part, rows in zip(files, (300, 60), strict=False):
        texts = [f"{part} {number}" for number in rng.integers(0, rows // 2, rows)]  # every text about twice
        pd.DataFrame({"text": texts, "label": rng.integers(0, 2, rows)}).to_parquet(tmp_path / f"{part}.parquet")
    for seed in range(5):
        tables = TextClassification(str(tmp_path)).tables(seed)
        assert min(len(tables[split]) for split in ("train", "search", "report")) > 10
        assert set(duplicates(tables).values()) == {0}
    everything = pd.read_parquet(tmp_path / "train.parquet")
    everything.to_parquet(tmp_path / "test.parquet")
    if "validation" not in files:
        found = duplicates(TextClassification(str(tmp_path)).tables(0))
        assert found["train/search"] == 0
        assert found["train/report"] + found["search/report"] == everything["text"].nunique()
