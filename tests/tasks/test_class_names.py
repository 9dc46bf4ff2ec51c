"""Names of classes that stand in the metadata of a file reach the task's outputs, and decide which class is meant."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from searchkit.errors import DataError
from searchkit.tasks import TextClassification


def split(folder: Path, name: str, labels: list[Any], names: list[Any] | None = None) -> str:
    table = pa.table({"text": [f"{name} {number}" for number in range(len(labels))], "label": labels})
    if names is not None:
        feature = {"names": names, "_type": "ClassLabel"}
        info = {"info": {"features": {"label": feature, "text": {"dtype": "string", "_type": "Value"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, folder / f"{name}.parquet")
    return str(folder)


def three(folder: Path, labels: list[Any], names: list[Any] | None = None) -> str:
    for name in ("train", "validation", "test"):
        split(folder, name, labels, names)
    return str(folder)


def test_the_names_of_the_train_split_are_those_of_the_outputs(tmp_path: Path) -> None:
    tables = TextClassification(three(tmp_path, [0, 1, 1, 2], ["neg", "neu", "pos"])).tables(0)
    assert tables.labels == ("neg", "neu", "pos")
    assert tables.report["label"].tolist() == [0, 1, 1, 2]


def test_names_without_a_row_in_train_are_no_outputs(tmp_path: Path) -> None:
    data = three(tmp_path, [0, 2], ["neg", "neu", "pos"])
    assert TextClassification(data).tables(0).labels == ("neg", "pos")


def test_minus_one_has_no_name(tmp_path: Path) -> None:
    data = three(tmp_path, [-1, 0, 1], ["neg", "pos"])
    assert TextClassification(data).tables(0).labels == ("-1", "neg", "pos")


def test_files_that_number_the_same_names_differently_are_matched_by_name(tmp_path: Path) -> None:
    split(tmp_path, "train", [0, 1], ["neg", "pos"])
    split(tmp_path, "validation", [0, 1], ["pos", "neg"])
    data = split(tmp_path, "test", [1, 1])  # no names: the numbers of train
    tables = TextClassification(data).tables(0)
    assert tables.search["label"].tolist() == [1, 0]
    assert tables.report["label"].tolist() == [1, 1]


def test_names_match_the_texts_that_train_has_as_labels(tmp_path: Path) -> None:
    split(tmp_path, "train", ["neg", "pos"])
    split(tmp_path, "validation", [0, 1], ["pos", "neg"])
    data = split(tmp_path, "test", ["pos"])
    assert TextClassification(data).tables(0).search["label"].tolist() == [1, 0]


def test_a_name_that_train_does_not_have_is_refused(tmp_path: Path) -> None:
    split(tmp_path, "train", [0, 1], ["neg", "pos"])
    split(tmp_path, "validation", [0, 1], ["neg", "neutral"])
    with pytest.raises(DataError, match=r"validation.*row 1 .*'neutral' is not in the train split.*'neg', 'pos'"):
        TextClassification(split(tmp_path, "test", [0], ["neg", "pos"])).tables(0)


def test_shards_of_train_that_disagree_are_refused(tmp_path: Path) -> None:
    split(tmp_path, "train-00000-of-00002", [0, 1], ["neg", "pos"])
    data = split(tmp_path, "train-00001-of-00002", [0, 1], ["pos", "neg"])
    with pytest.raises(DataError, match="different names"):
        TextClassification(data).tables(0)


@pytest.mark.parametrize("names", [["a", "a"], ["a", 1]])
def test_class_names_that_are_missing_or_repeated_are_refused(tmp_path: Path, names: list[Any]) -> None:
    with pytest.raises(DataError, match=r"train\.parquet .*'label' need names that differ"):
        TextClassification(split(tmp_path, "train", [0, 1], names)).tables(0)


def test_the_hub_s_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: dict.fromkeys(("train", "validation", "test"), rows))
    tables = TextClassification("some/set").tables(0)
    assert tables.labels == ("no", "yes")
    assert tables.train["label"].tolist() == [1, 0]


def test_the_log_lists_the_classes_and_those_that_look_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = three(tmp_path, ["pos", "pos ", "Pos", "neg"])
    with caplog.at_level(logging.INFO):
        assert TextClassification(data).tables(0).labels == ("Pos", "neg", "pos", "pos ")
    assert "4 classes in the column 'label': 'Pos', 'neg', 'pos', 'pos '" in caplog.text
    assert "differ by blanks or capital letters only: 'Pos' and 'pos '" in caplog.text
