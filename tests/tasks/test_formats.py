"""Files are read as they are written: Python's csv and json modules, pyarrow and datasets say what stands in them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from searchkit.errors import DataError
from searchkit.tasks import TextClassification, TextRegression
from searchkit.tasks.formats import ROWS_AT_ONCE, read

# numbers, codes, words for nothing, dates, quotes, separators, line breaks
TRICKY = (
    "007",
    "1e5",
    "1.0",
    "True",
    "NA",
    "null",
    "None",
    "nan",
    "inf",
    "2020-01-01",
    "1,000",
    'a "b"',
    "x\r\ny",
    " ",
)
fields = st.sampled_from(TRICKY) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(fields, min_size=2, max_size=2), min_size=1, max_size=5),
    st.sampled_from([".csv", ".tsv", ".csv.gz"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
def test_separated_values_are_those_of_the_csv_module(
    folder: Path, rows: list[list[str]], ending: str, quoting: Any, mark: bool
) -> None:
    delimiter = "\t" if ending == ".tsv" else ","
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([["text", "label"], *rows])
    content = text.getvalue().encode("utf-8-sig" if mark else "utf-8")
    path = written(folder / f"train{ending}", gzip.compress(content) if ending.endswith("gz") else content)
    found = read(path)
    assert found.as_text
    expected = list(csv.DictReader(io.StringIO(text.getvalue(), newline=""), delimiter=delimiter))
    assert found.rows.fillna("").to_dict("records") == expected == [{"text": a, "label": b} for a, b in rows]


values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | fields


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"text": fields, "label": values}), min_size=1, max_size=5), st.booleans())
def test_json_values_are_those_of_the_json_module(folder: Path, rows: list[dict[str, Any]], lines: bool) -> None:
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    found = read(written(folder / "train.json", text.encode("utf-8-sig"))).rows.to_dict("records")
    for row, expected in zip(found, rows, strict=True):
        assert {name: repr(row[name]) for name in ("text", "label")} == {k: repr(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("row", "line"),
    [("good, but long,1", 2), ("good", 2), ("a,1\nb", 3), ("a,1\n,b,1", 3), ('"a\nb",1\nc,1,', 4), ("a,1\nb,1,2,3", 3)],
)
def test_a_row_of_more_or_fewer_fields_than_the_header_is_refused_by_its_line(
    tmp_path: Path, row: str, line: int
) -> None:
    with pytest.raises(DataError, match=rf"train\.csv .*Expected 2 fields \('text', 'label'\) in line {line}, got"):
        read(written(tmp_path / "train.csv", f"text,label\n{row}\n"))


@pytest.mark.parametrize("rows", [ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 1])
def test_every_row_of_a_long_file_is_read_and_a_late_one_that_does_not_fit_is_named(tmp_path: Path, rows: int) -> None:
    body = "".join(f'"text, {number}",{number}\n\n' for number in range(rows))  # with blank lines between
    found = read(written(tmp_path / "train.csv", f"text,label\n{body}")).rows
    assert found["text"].tolist() == [f"text, {number}" for number in range(rows)]
    assert found["label"].tolist() == [str(number) for number in range(rows)]
    for last, reason in {"a,b,1": "got 3: 'a'", "a": "got 1: 'a'", '"a"b,1': "a quote within"}.items():
        with pytest.raises(DataError, match=rf"line {2 * rows + 2}\b.*{reason}"):
            read(written(tmp_path / "train.csv", f"text,label\n{body}{last}\n"))


def test_an_index_that_pandas_wrote_moves_no_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": [0, 1]}, index=["r1", "r2"])
    frame.to_csv(tmp_path / "train.csv")
    assert read(tmp_path / "train.csv").rows.to_dict("list") == {"text": ["a", "b"], "label": ["0", "1"]}
    frame.set_index("text").to_parquet(tmp_path / "train.parquet")
    assert read(tmp_path / "train.parquet").rows["text"].tolist() == ["a", "b"]
    with pytest.raises(DataError, match="in line 2, got 3: 'r1'"):  # as R writes them
        read(written(tmp_path / "train.csv", "text,label\nr1,a,0\n"))


def test_columns_without_a_name_may_repeat_and_others_may_not(tmp_path: Path) -> None:
    found = read(written(tmp_path / "train.csv", ",text,label,,\n0,a,1,,\n"))
    assert found.rows.to_dict("records") == [{"text": "a", "label": "1"}]
    with pytest.raises(DataError, match="the column 'text' is there twice"):
        read(written(tmp_path / "train.csv", "text,text\na,b\n"))


def test_texts_of_any_length_are_read(tmp_path: Path) -> None:
    text = "long, " * 50_000
    before = csv.field_size_limit()
    assert read(written(tmp_path / "train.csv", f'text,label\n"{text}",1\n')).rows["text"].tolist() == [text]
    assert csv.field_size_limit() == before


def labelled(folder: Path, labels: list[str]) -> str:
    rows = "".join(f"text {number},{label}\n" for number, label in enumerate(labels * 10))
    for split in ("train", "validation", "test"):
        written(folder / f"{split}.csv", f"text,label\n{rows}")
    return str(folder)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1.0", "0.0"], ("0", "1")),
        ([" 1", " 0"], ("0", "1")),
        (["7", "007", "12"], ("007", "12", "7")),
        (["1e5", "100000"], ("100000", "1e5")),
        (["+1", "-1"], ("+1", "-1")),
        (["1_0", "10"], ("10", "1_0")),
        (["True", "False"], ("False", "True")),
        (["NA", "null", "None"], ("NA", "None", "null")),
        (["2020-01-02", "2020-01-01"], ("2020-01-01", "2020-01-02")),
        (["9" * 200, "1"], ("1", "9" * 200)),
    ],
)
def test_labels_of_csv_are_integers_where_they_are_written_so_and_names_otherwise(
    tmp_path: Path, labels: list[str], names: tuple[str, ...]
) -> None:
    tables = TextClassification(labelled(tmp_path, labels)).tables(0)
    assert tables.labels == names
    index = {name: number for number, name in enumerate(names)}
    numbers = [index.get(label, index.get(label.strip().removesuffix(".0"))) for label in labels]
    assert tables.report["label"].tolist() == numbers * 10


def test_the_train_split_decides_what_labels_of_csv_are(tmp_path: Path) -> None:
    data = labelled(tmp_path, ["a1", "007"])
    written(tmp_path / "test.csv", "text,label\nx,007\n")
    assert TextClassification(data).tables(0).report["label"].tolist() == [0]
    written(tmp_path / "test.csv", "text,label\nx,-1\n")  # a test split without labels
    assert len(TextClassification(data).tables(0).report) == 20


@pytest.mark.parametrize(("labels", "row"), [(["0", "1", "NaN"], 2), (["x", "1"], 1), (["1", "inf"], 1)])
def test_numbers_and_names_in_one_column_are_refused(tmp_path: Path, labels: list[str], row: int) -> None:
    with pytest.raises(DataError, match=rf"column 'label', row {row} .*mixes numbers and names as labels"):
        TextClassification(labelled(tmp_path, labels)).tables(0)


def test_numbers_of_csv_are_those_of_float(tmp_path: Path) -> None:
    numbers = ["007", "1e5", ".5", "5.", "+3", " 2 ", "-1.25", "12345"]
    assert TextRegression(labelled(tmp_path, numbers)).tables(0).report["label"].tolist() == [*map(float, numbers)] * 10
    for text in ("1_0", "0x10", "True", "NaN", "1 000", "٣"):
        with pytest.raises(DataError, match=r"row 1 .*a number is needed, got str"):
            TextRegression(labelled(tmp_path, ["1", text])).tables(0)


def test_true_and_one_are_different_labels(tmp_path: Path) -> None:
    rows = [{"text": f"t {number}", "label": label} for number, label in enumerate([True, 1, False, 0])]
    written(tmp_path / "train.json", json.dumps(rows))
    with pytest.raises(DataError, match=r"row 1 .*mixes numbers and names"):
        TextClassification(str(tmp_path)).tables(0)


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "train.json", '[{"text": "a", "label": 1}, {"text": "b\\ud800", "label": 0}]')
    with pytest.raises(DataError, match=r"row 1 .*a lone surrogate.*\\ud800"):
        TextClassification(str(tmp_path)).tables(0)


def arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def feather(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "train.parquet": lambda path, table: pq.write_table(table, path),
    "Train.PARQUET": lambda path, table: pq.write_table(table, path),
    "train.arrow": arrow,
    "valid-00000-of-00001.arrow": feather,
    "data/train-00000-of-00001.parquet": lambda path, table: pq.write_table(table, path),
    "train/data-00000-of-00001.arrow": arrow,
    "train.jsonl.gz": lambda path, table: written(
        path, gzip.compress("\n".join(map(json.dumps, table.to_pylist())).encode())
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_and_layout_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    from searchkit.tasks.files import digests, read_folder

    table = pa.table({"text": ["a", "NA"], "label": pa.array([2**60 + 1, None])})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    WRITERS[name](tmp_path / name, table)
    ((part,),) = read_folder(tmp_path).values()
    assert part.rows["text"].tolist() == ["a", "NA"]
    assert part.rows["label"].tolist()[0] == 2**60 + 1
    assert part.rows["label"].isna().tolist() == [False, True]
    assert list(digests(tmp_path)) == [name]


def test_a_saved_dataset_dict_is_read_as_datasets_reads_it(tmp_path: Path) -> None:
    import datasets

    names = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": [f"t {i}" for i in range(30)], "label": [1, 0, 0] * 10}, features=names)
    saved = datasets.DatasetDict({"train": rows.shuffle(seed=1), "test": rows.select(range(5, 9)), "extra": rows})
    saved.save_to_disk(str(tmp_path), num_shards={"train": 3, "test": 1, "extra": 1})
    tables = TextClassification(str(tmp_path)).tables(0)
    assert tables.labels == ("no", "yes")
    assert tables.report["text"].tolist() == saved["test"]["text"][:]
    assert tables.report["label"].tolist() == saved["test"]["label"][:]
    assert sorted([*tables.train["text"], *tables.search["text"]]) == sorted(rows["text"][:])
    (tmp_path / "train" / "data-00001-of-00003.arrow").unlink()
    with pytest.raises(DataError, match="a shard is missing"):
        TextClassification(str(tmp_path)).tables(0)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.xlsx",), r"the format of train\.xlsx is not read; read are parquet, arrow"),
        (("train.csv", "validation.txt"), r"the format of validation\.txt is not read"),
        (("Train.csv", "train.csv"), "train split is ambiguous"),
        (("train.csv", "train.csv.gz"), r"several formats \(\.csv, \.csv\.gz\)"),
        (
            ("plain_text/train-00000-of-00001.parquet",),
            r"its sub-folder plain_text holds such files: give",
        ),
        (("state.json", "data-00000-of-00001.arrow"), "one data set of `save_to_disk`, without splits"),
        (("train/data-00000-of-00001.arrow", "training/data-00000-of-00001.arrow"), "two sub-folders mean the train"),
        (("train/data-00000-of-00002.arrow",), "a shard is missing"),
        (("reviews.csv",), r"no file is named by its split.*it holds reviews\.csv; read are parquet"),
    ],
)
def test_a_folder_in_another_layout_is_refused_with_the_reason(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        TextClassification(str(tmp_path)).tables(0)


def test_a_saved_choice_of_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    arrow(tmp_path / "train" / "data-00000-of-00001.arrow", pa.table({"text": ["a", "b"], "label": [0, 1]}))
    written(tmp_path / "train" / "state.json", '{"_indices_data_files": [{"filename": "indices.arrow"}]}')
    with pytest.raises(DataError, match=r"a choice of the rows .* flatten_indices"):
        TextClassification(str(tmp_path)).tables(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ncaf\u00e9,1\n".encode("latin-1"), "the byte 0xe9 in line 2 is not utf-8: save it as UTF-8"),
        ("text,label\na,1\n".encode("utf-16"), "it is utf-16 or utf-32, not utf-8: save it as UTF-8"),
        ("text,label\na,1\n".encode("utf-16-be"), "it is utf-16"),
        ("text;label\na, b;1\n", "the header is 'text;label': save it with commas"),
        ("text\tlabel\na, b\t1\n", r"rename the file to \.tsv"),
        ('text,label\n"a "b" c",1\n', "line 2: .*a quote within a quoted field is doubled"),
        ('text,label\na,1\n"b,1\nc,1\n', "line 3: unexpected end of data"),
    ],
)
def test_text_files_that_cannot_be_read_name_line_and_way_out(
    tmp_path: Path, content: bytes | str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(written(tmp_path / "train.csv", content))
