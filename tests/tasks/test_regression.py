from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from searchkit.errors import DataError
from searchkit.tasks import TextClassification, TextRegression, word_tokenizer

GOOD = {"text": ["a", "b", "c"], "label": [0.0, 2.5, 1.0]}


def write(folder: Path, **splits: Mapping[str, Sequence[Any]]) -> str:
    for split, columns in splits.items():
        pd.DataFrame(columns).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def rows(prefix: str, labels: Sequence[Any]) -> dict[str, list[Any]]:
    return {"text": [f"{prefix} {i}" for i in range(len(labels))], "label": list(labels)}


@pytest.mark.parametrize("labels", [[0.0, 2.5, 1.0], [0, 3, 1], np.array([0.5, 1, 2], dtype=np.float16)])
def test_labels_are_numbers_as_they_are(tmp_path: Path, labels: Any) -> None:
    frame = {"text": ["a", "b", "c"], "score": labels}
    task = TextRegression(write(tmp_path, train=frame, validation=frame, test=frame), label="score")
    tables = task.tables(0)
    assert tables.labels == ("score",)
    assert tables.report["label"].tolist() == [float(value) for value in labels]
    data = task.encode(tables.report, word_tokenizer(["a", "b", "c"]))
    assert data.labels.dtype == np.float32
    assert data.labels.tolist() == [float(value) for value in labels]


def test_carving_takes_a_random_choice_and_keeps_copies_of_a_text_together(tmp_path: Path) -> None:
    frame = {"text": [f"t {i // 2}" for i in range(200)], "label": [i / 7 for i in range(200)]}
    tables = TextRegression(write(tmp_path, train=frame), search_fraction=0.2, report_fraction=0.1).tables(3)
    splits = [tables.train, tables.search, tables.report]
    assert [len(split) for split in splits] == [120, 60, 20] or sum(map(len, splits)) == 200
    texts = [set(split["text"]) for split in splits]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 100
    means = [split["label"].mean() for split in splits[1:]]
    assert np.abs(np.array(means) - 199 / 14).max() < 4 * (200 / 7 / 12**0.5) / 10**0.5  # uniform, ten groups


def test_pairs_and_limits_are_as_in_classification(tmp_path: Path) -> None:
    frame = {"one": [f"p {i}" for i in range(20)], "two": ["q"] * 20, "label": [i / 2 for i in range(20)]}
    data = write(tmp_path, train=frame, validation=frame, test=frame)
    numbers = TextRegression(data, text=("one", "two"), limit={"train": 5, "report": 3}).tables(4)
    whole = [{**frame, "label": [str(value) for value in frame["label"]]}] * 3
    classes = TextClassification(
        write(tmp_path, train=whole[0], validation=whole[1], test=whole[2]),
        text=("one", "two"),
        limit={"train": 5, "report": 3},
    ).tables(4)
    for split in ("train", "search", "report"):
        assert numbers[split][["text", "text_pair"]].equals(classes[split][["text", "text_pair"]])
    assert (len(numbers.train), len(numbers.search), len(numbers.report)) == (5, 20, 3)


@pytest.mark.parametrize("hidden", [[None, None], [-1.0, -1.0], "no column"])
def test_a_test_split_without_labels_does_not_count(tmp_path: Path, hidden: Any) -> None:
    test = {"text": ["x 0", "x 1"]} | ({} if hidden == "no column" else {"label": hidden})
    data = write(tmp_path, train=rows("t", [i / 3 for i in range(40)]), validation=rows("v", [0.1, 0.2]), test=test)
    assert TextRegression(data).tables(0).report["text"].tolist() == ["v 0", "v 1"]


def test_minus_one_is_a_number_where_train_has_it(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [-1, 0.5]), validation=rows("v", [0.1]), test=rows("x", [-1.0]))
    assert TextRegression(data).tables(0).report["label"].tolist() == [-1.0]


@pytest.mark.parametrize(
    ("split", "labels", "message"),
    [
        ("train", [0.5, None, 1.0], r"train\.parquet \(train split\), column 'label', row 1 .*missing"),
        ("validation", [0.5, 1.0, float("nan")], r"\(validation split\), column 'label', row 2 .*missing"),
        ("test", ["0.5", "1", "2"], r"\(test split\), column 'label', row 0 .*a number is needed, got str '0\.5'"),
        ("train", [True, False, True], r"row 0 .*a number is needed, got bool True"),
        ("train", [0.5, float("inf"), 1.0], r"row 1 .*inf is not finite"),
        ("test", [0.5, 1.0, 1e39], r"row 2 .*1e\+39 is not finite in float32"),
        ("train", [0.5, 0.5, 0.5], r"train\.parquet: the column 'label' holds one number only: \[0\.5\]"),
        ("train", [[0.5], [1.0], [2.0]], r"row 0 .*a number is needed"),
    ],
)
def test_bad_values_are_named_with_file_column_and_row(
    tmp_path: Path, split: str, labels: list[Any], message: str
) -> None:
    data = write(tmp_path, **({"train": GOOD, "validation": GOOD, "test": GOOD} | {split: GOOD | {"label": labels}}))
    with pytest.raises(DataError, match=message):
        TextRegression(data).tables(0)


def test_bad_arguments_and_columns_are_refused_as_in_classification(tmp_path: Path) -> None:
    for arguments, message in (({"max_length": 7}, "max_length=7"), ({"limit": 0}, "at least 1 row")):
        with pytest.raises(ValueError, match=message):
            TextRegression("some/set", **arguments)
    with pytest.raises(DataError, match=r"train\.parquet: unknown column 'scores'.*label"):
        TextRegression(write(tmp_path, train=GOOD), label="scores").tables(0)


def test_the_same_data_is_described_otherwise_than_for_classification(tmp_path: Path) -> None:
    data = write(tmp_path, train=GOOD)
    numbers, classes = TextRegression(data).describe(), TextClassification(data).describe()
    assert json.loads(json.dumps(numbers)) == numbers
    assert {**numbers, "kind": "text-classification"} == classes
    assert numbers["kind"] != classes["kind"]


def test_a_task_travels_to_workers_and_says_its_head() -> None:
    task = TextRegression("some/set", text=("a", "b"))
    assert pickle.loads(pickle.dumps(task)) == task
    assert task.head == "regression"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([2e9 + number for number in range(40)], "the number 2000000001.0 is 2000000000 in float32"),
        ([20240101, 20240102, 20240731], "the number 20240101 is 20240100 in float32"),
        ([10**15 + number for number in range(3)], "the number 1000000000000000 is 999999986991104 in float32"),
        ([1e6 + number / 100 for number in range(9)], r"1000000\.0 and 1000000\.01 are one number in float32"),
    ],
)
def test_numbers_that_float32_changes_or_cannot_tell_apart_are_refused(
    tmp_path: Path, labels: list[float], message: str
) -> None:
    with pytest.raises(DataError, match=rf"row \d+ .*{message}, .*: subtract what they share, or scale them"):
        TextRegression(three(tmp_path, labels)).tables(0)


LAST_DIGITS = (
    [0.3, 0.1 + 0.2, 1.0],
    [0, 2**24, 2**24 + 1],
    [2e9 + 256 * number for number in range(9)],
    [1e-30, 2e-30],
)


@pytest.mark.parametrize("labels", LAST_DIGITS)
def test_numbers_that_differ_in_their_last_digits_or_stay_apart_are_learnt(tmp_path: Path, labels: list[float]) -> None:
    assert TextRegression(three(tmp_path, labels)).tables(0).report["label"].tolist() == np.float32(labels).tolist()


def test_big_integers_of_json_are_compared_as_they_are_written(tmp_path: Path) -> None:
    rows = [{"text": f"t {number}", "label": 10**30 + number * 10**9} for number in range(4)]  # one number in float64
    (tmp_path / "train.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match="in float32, in which labels are learnt"):
        TextRegression(str(tmp_path)).tables(0)


def three(folder: Path, labels: list[Any]) -> str:
    return write(folder, **dict.fromkeys(("train", "validation", "test"), rows("t", labels)))
