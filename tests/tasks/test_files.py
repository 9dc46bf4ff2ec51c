from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from searchkit.errors import DataError
from searchkit.tasks.files import digests, looks_local, read_folder, split_files


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("dev.csv", "validation"),
        ("val.json", "validation"),
        ("eval.jsonl", "validation"),
        ("valid.parquet", "validation"),
        ("validation-00000-of-00001.parquet", "validation"),
        ("test-00000-of-00001-0a1b2c3d4e5f6071.parquet", "test"),
    ],
)
def test_names_of_splits_are_understood(tmp_path: Path, name: str, split: str) -> None:
    assert split_files(touch(tmp_path, name)) == {split: [tmp_path / name]}


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        pd.DataFrame({"n": [number]}).to_parquet(tmp_path / f"train-0000{number}-of-00003.parquet")
    assert [part.rows["n"].tolist() for part in read_folder(tmp_path)["train"]] == [[0], [1], [2]]


def test_files_that_are_no_splits_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "train.csv", "README.md", "SOURCE.md", "dataset_infos.json", "config.json", "._train.csv", "x.csv")
    assert split_files(tmp_path) == {"train": [tmp_path / "train.csv"]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.csv", "test.parquet"), r"several formats \(\.csv, \.parquet\)"),
        (("train.csv", "train.parquet"), "several formats"),
        (("validation.csv", "dev.csv"), "validation split is ambiguous.*dev.csv, validation.csv"),
        (("train.csv", "train-00000-of-00001.csv"), "train split is ambiguous"),
        (("train-00000-of-00002.csv",), "a shard is missing"),
        (("train-00000-of-00002.csv", "train-00001-of-00003.csv"), "a shard is missing"),
        (("train.csv", "validation_matched.csv"), "not the name of a split: validation_matched.csv"),
        (("a.csv", "b.txt"), "no file is named by its split.*it holds a.csv, b.txt"),
        ((), "it holds nothing"),
    ],
)
def test_a_folder_that_can_be_misread_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_files(touch(tmp_path, *names))


def test_a_file_or_a_missing_folder_is_refused(tmp_path: Path) -> None:
    for path in (touch(tmp_path, "train.csv") / "train.csv", tmp_path / "nowhere"):
        with pytest.raises(DataError, match="is not a folder"):
            split_files(path)


ROWS = [
    {"text": "NA", "label": "none"},
    {"text": "null, and\nvoid", "label": "007"},
    {"text": "2020-01-01", "label": "x"},
]


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "lines.json", "parquet"])
def test_every_format_gives_the_same_strings(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"train.{kind.removeprefix('lines.')}"
    if kind == "csv":
        pd.DataFrame(ROWS).to_csv(path, index=False)
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1))
    elif kind == "parquet":
        pd.DataFrame(ROWS).to_parquet(path)
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    (part,) = read_folder(tmp_path)["train"]
    assert part.rows.to_dict("records") == ROWS
    assert (part.origin, part.split) == (str(path), "train")


def test_an_empty_csv_field_is_missing(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nhello,1\n,0\n")
    assert read_folder(tmp_path)["train"][0].rows["text"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.csv", b"", "train.csv cannot be read as csv"),
        ("train.csv", b'a,b\n"1,2\n', "train.csv cannot be read as csv"),
        ("train.csv", b"a,b\n\xff\xfe,1\n", "train.csv cannot be read as csv"),
        ("train.parquet", b"not parquet at all", "train.parquet cannot be read as parquet"),
        ("train.json", b"[1, 2", "train.json cannot be read as json"),
        ("train.jsonl", b'{"a": 1}\n{"a": \n', "train.jsonl cannot be read as jsonl: line 2"),
        ("train.jsonl", b'{"a": 1}\n7\n', "row 1 is not an object"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path)


def test_digests_are_of_the_bytes_of_the_files_that_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "README.md")
    (tmp_path / "train.csv").write_bytes(b"text,label\n")
    assert digests(tmp_path) == {"train.csv": hashlib.blake2b(b"text,label\n", digest_size=16).hexdigest()}


def test_a_path_is_told_from_a_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not looks_local("stanfordnlp/sst2")
    (tmp_path / "stanfordnlp" / "sst2").mkdir(parents=True)
    assert all(map(looks_local, ("stanfordnlp/sst2", "./x", "../x", "~/x", "/x", str(tmp_path))))
