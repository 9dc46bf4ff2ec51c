from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from searchkit.errors import DataError
from searchkit.tasks import TextClassification, word_tokenizer


def write(folder: Path, **splits: Mapping[str, Sequence[Any]] | pd.DataFrame) -> str:
    for split, columns in splits.items():
        pd.DataFrame(columns).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def rows(prefix: str, labels: Sequence[Any]) -> dict[str, list[Any]]:
    return {"text": [f"{prefix} {i}" for i in range(len(labels))], "label": list(labels)}


def prefixes(table: pd.DataFrame) -> set[str]:
    return {text.split()[0] for text in table["text"]}


def test_three_splits_are_taken_as_they_are(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [0, 1, 1]), validation=rows("v", [1, 0]), test=rows("x", [0, 1]))
    tables = TextClassification(data).tables(0)
    assert tables.train.to_dict("list") == rows("t", [0, 1, 1])
    assert tables.search.to_dict("list") == rows("v", [1, 0])
    assert tables.report.to_dict("list") == rows("x", [0, 1])
    assert tables.train["label"].dtype == np.int64
    assert tables.labels == ("0", "1")


@pytest.mark.parametrize("other", ["validation", "test"])
def test_with_one_more_split_the_report_is_made_on_it_and_search_is_carved_from_train(
    tmp_path: Path, other: str
) -> None:
    data = write(tmp_path, train=rows("t", [0, 1] * 50), **{other: rows("o", [1, 0])})
    tables = TextClassification(data, search_fraction=0.2).tables(0)
    assert prefixes(tables.report) == {"o"}
    assert prefixes(tables.train) == prefixes(tables.search) == {"t"}
    assert (len(tables.train), len(tables.search)) == (80, 20)
    assert set(tables.train["text"]) | set(tables.search["text"]) == set(rows("t", [0, 1] * 50)["text"])


def test_with_train_alone_both_are_carved_from_it(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [0] * 300 + [1] * 100))
    tables = TextClassification(data, search_fraction=0.1, report_fraction=0.2).tables(0)
    assert Counter(tables.report["label"]) == {0: 60, 1: 20}
    assert Counter(tables.search["label"]) == {0: 30, 1: 10}
    texts = [set(tables[split]["text"]) for split in ("train", "search", "report")]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 400


@pytest.mark.parametrize("hidden", [[-1, -1], [None, None], [-1.0, None], "no column"])
def test_a_test_split_without_labels_does_not_count(tmp_path: Path, hidden: Any) -> None:
    test = {"text": ["x 0", "x 1"]} | ({} if hidden == "no column" else {"label": hidden})
    data = write(tmp_path, train=rows("t", [0, 1] * 20), validation=rows("v", [1, 0]), test=test)
    tables = TextClassification(data).tables(0)
    assert prefixes(tables.report) == {"v"}
    assert prefixes(tables.search) == {"t"}


def test_minus_one_is_a_label_where_train_has_it(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [-1, 1] * 5), validation=rows("v", [1, -1]), test=rows("x", [-1, -1]))
    tables = TextClassification(data).tables(0)
    assert tables.labels == ("-1", "1")
    assert tables.report["label"].tolist() == [0, 0]


def test_carving_follows_the_seed(tmp_path: Path) -> None:
    task = TextClassification(write(tmp_path, train=rows("t", [0, 1] * 100)))
    for split in ("train", "search", "report"):
        assert task.tables(5)[split].equals(task.tables(5)[split])
        assert not task.tables(5)[split].equals(task.tables(6)[split])


def test_a_smaller_search_split_does_not_change_the_report_split(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [0, 1] * 100))
    assert (
        TextClassification(data, search_fraction=0.05)
        .tables(0)
        .report.equals(TextClassification(data, search_fraction=0.3).tables(0).report)
    )


@pytest.mark.parametrize(
    ("labels", "names", "indices"),
    [
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        ([10.0, 9.0, 10.0], ("9", "10"), [1, 0, 1]),
        (["b", "a", "B"], ("B", "a", "b"), [2, 1, 0]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (pd.Categorical(["no", "yes", "no"]), ("no", "yes"), [0, 1, 0]),
        (np.array([2, 0, 1], dtype=np.int8), ("0", "1", "2"), [2, 0, 1]),
    ],
)
def test_labels_become_indices_of_the_sorted_classes(
    tmp_path: Path, labels: Any, names: tuple[str, ...], indices: list[int]
) -> None:
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": labels})
    tables = TextClassification(write(tmp_path, train=frame, validation=frame, test=frame)).tables(0)
    assert tables.labels == names
    assert tables.report["label"].tolist() == indices


def test_pairs_have_two_columns(tmp_path: Path) -> None:
    frame = {"premise": ["p", "q"], "hypothesis": ["h", "i"], "gold": ["yes", "no"]}
    data = write(tmp_path, train=frame, validation=frame, test=frame)
    tables = TextClassification(data, text=("premise", "hypothesis"), label="gold").tables(0)
    assert tables.search.to_dict("list") == {"text": ["p", "q"], "text_pair": ["h", "i"], "label": [1, 0]}


def test_shards_are_one_split_and_errors_name_the_shard(tmp_path: Path) -> None:
    pd.DataFrame(rows("t", [0, 1] * 10)).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    pd.DataFrame(rows("u", [0, 1] * 10)).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    tables = TextClassification(str(tmp_path)).tables(0)
    assert sum(len(tables[split]) for split in ("train", "search", "report")) == 40
    pd.DataFrame({"text": ["a", None], "label": [0, 1]}).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet .*'text', row 1 .*missing"):
        TextClassification(str(tmp_path)).tables(0)


@pytest.mark.parametrize(("limit", "sizes"), [(3, (3, 3, 2)), ({"train": 5}, (5, 10, 2)), (None, (20, 10, 2))])
def test_a_limit_caps_the_rows(tmp_path: Path, limit: Any, sizes: tuple[int, ...]) -> None:
    data = write(tmp_path, train=rows("t", [0, 1] * 10), validation=rows("v", [0, 1] * 5), test=rows("x", [0, 1]))
    tables = TextClassification(data, limit=limit).tables(0)
    assert tuple(len(tables[split]) for split in ("train", "search", "report")) == sizes


def test_a_limit_keeps_all_classes_and_takes_a_random_choice(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [0] * 50 + [1] * 50), validation=rows("v", [0, 1]), test=rows("x", [0, 1]))
    tables = TextClassification(data, limit={"train": 20}).tables(0)
    assert tables.labels == ("0", "1")
    assert set(tables.train["label"]) == {0, 1}
    assert not tables.train.equals(TextClassification(data, limit={"train": 20}).tables(1).train)


GOOD = {"text": ["a", "b", "c"], "label": [0, 1, 0]}


@pytest.mark.parametrize(
    ("split", "change", "message"),
    [
        ("train", {"label": [0, None, 1]}, r"train\.parquet \(train split\), column 'label', row 1 .*missing"),
        ("test", {"text": ["a", "b", None]}, r"test\.parquet \(test split\), column 'text', row 2 .*missing"),
        ("train", {"text": [1, 2, 3]}, r"column 'text', row 0 .*a text is needed, got int 1"),
        ("train", {"label": [0.0, 0.5, 1.0]}, r"column 'label', row 1 .*0\.5.*TextRegression learns numbers"),
        ("train", {"label": [0.0, float("inf"), 1.0]}, r"column 'label', row 1 .*TextRegression learns numbers"),
        ("train", {"label": [0, 0, 0]}, "holds one class only"),
        ("train", {"label": [[0], [1], [0]]}, "a label is a number or a name"),
        ("validation", {"label": [0, 1, 7]}, r"\(validation split\), column 'label', row 2 .*label 7 .*\[0, 1\]"),
        ("validation", {"label": ["0", "1", "0"]}, r"row 0 .*the label '0' is not in the train split"),
        ("validation", {"label": [-1, -1, -1]}, r"row 0 .*the label -1 is not in the train split"),
        ("test", {"label": [0, 1, -1]}, r"\(test split\), column 'label', row 2 .*label -1"),
        ("test", {"label": [0, None, 1]}, r"\(test split\), column 'label', row 1 .*missing"),
    ],
)
def test_bad_values_are_named_with_file_column_and_row(
    tmp_path: Path, split: str, change: dict[str, Any], message: str
) -> None:
    data = write(tmp_path, **({"train": GOOD, "validation": GOOD, "test": GOOD} | {split: GOOD | change}))
    with pytest.raises(DataError, match=message):
        TextClassification(data).tables(0)


def test_labels_that_mix_numbers_and_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n')
    with pytest.raises(DataError, match="mixes numbers and names as labels: 'x', 1"):
        TextClassification(str(tmp_path)).tables(0)


def test_a_missing_column_is_named_with_the_closest_one_there_is(tmp_path: Path) -> None:
    data = write(tmp_path, train={"sentence": ["a", "b"], "label": [0, 1], "idx": [0, 1]})
    with pytest.raises(DataError, match=r"train\.parquet: unknown column 'sentense'; did you mean 'sentence'.*idx"):
        TextClassification(data, text="sentense").tables(0)
    with pytest.raises(DataError, match=r"train\.parquet: unknown column 'labels'; did you mean 'label'"):
        TextClassification(data, text="sentence", label="labels").tables(0)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_refused(tmp_path: Path, split: str) -> None:
    data = write(tmp_path, **({"train": GOOD, "validation": GOOD, "test": GOOD} | {split: {"text": [], "label": []}}))
    with pytest.raises(DataError, match=rf"{split}\.parquet \({split} split\) holds no rows"):
        TextClassification(data).tables(0)


def test_data_without_a_train_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train split, only test, validation"):
        TextClassification(write(tmp_path, validation=GOOD, test=GOOD)).tables(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": ""}, "data must name"),
        ({"text": ("a", "b", "c")}, "a column or a pair"),
        ({"text": ("a", "a")}, "different columns"),
        ({"text": "label"}, "different columns"),
        ({"max_length": 7}, "max_length=7"),
        ({"limit": 0}, "at least 1 row"),
        ({"limit": {"validation": 3}}, "limit: unknown split 'validation'"),
        ({"search_fraction": 0.0}, "search_fraction=0.0"),
        ({"search_fraction": 0.5, "report_fraction": 0.5}, "leave something"),
        ({"data": "./here", "revision": "main"}, "for the hub"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextClassification(**({"data": "some/set"} | arguments))


def test_the_description_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here, there = (write(tmp_path / name, train=GOOD) for name in ("here", "there"))
    described = TextClassification(here).describe()
    assert described == TextClassification(there).describe() == json.loads(json.dumps(described))
    write(tmp_path / "there", train=GOOD | {"label": [0, 1, 1]})
    assert described != TextClassification(there).describe()
    assert described != TextClassification(here, limit=2).describe()
    hub = TextClassification("nyu-mll/glue", subset="sst2", revision="abc").describe()
    assert hub["data"] == {"hub": "nyu-mll/glue", "subset": "sst2", "revision": "abc"}


def test_encoding_cuts_at_the_length_of_the_task(tmp_path: Path) -> None:
    task = TextClassification(write(tmp_path, train=GOOD), max_length=10)
    table = pd.DataFrame({"text": ["a " * 30, "b"], "label": [1, 0]})
    assert task.encode(table, word_tokenizer(["a", "b"])).lengths.tolist() == [10, 3]


def test_a_task_travels_to_workers() -> None:
    task = TextClassification("some/set", text=("a", "b"), limit={"train": 3})
    assert pickle.loads(pickle.dumps(task)) == task


class FakeSplit:
    def __init__(self, frame: dict[str, list[Any]]) -> None:
        self.frame = frame

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(self.frame)


def test_a_hub_name_goes_to_datasets_and_other_splits_are_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def load(*arguments: Any, **named: Any) -> dict[str, FakeSplit]:
        asked.append((arguments, named))
        frame = FakeSplit({"text": ["a", "b"], "label": [0, 1]})
        return {"train": frame, "validation": frame, "test": frame, "unsupervised": frame}

    monkeypatch.setattr("datasets.load_dataset", load)
    tables = TextClassification("some/set", subset="small", revision="abc").tables(0)
    assert asked == [(("some/set", "small"), {"revision": "abc"})]
    assert tables.report["text"].tolist() == ["a", "b"]
    assert "ignoring the splits unsupervised" in caplog.text


def test_a_hub_that_cannot_be_reached_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(DataError, match=r"'some/set' could not be loaded .*ConnectionError: no route.*give a folder"):
        TextClassification("some/set").tables(0)


def test_two_hub_splits_of_the_same_meaning_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = FakeSplit(rows("t", [0, 1]))
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: {"train": frame, "dev": frame, "validation": frame})
    with pytest.raises(DataError, match="two splits mean the same"):
        TextClassification("some/set").tables(0)


def test_importing_the_tasks_imports_no_heavy_library() -> None:
    heavy = "('pandas', 'datasets', 'torch', 'transformers')"
    program = f"import sys, searchkit.tasks; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_local_folder_needs_neither_datasets_nor_torch(tmp_path: Path) -> None:
    data = write(tmp_path, train=rows("t", [0, 1] * 10))
    program = (
        "import sys; from searchkit.tasks import TextClassification; TextClassification(sys.argv[1]).tables(0);"
        "print([m for m in ('datasets', 'torch', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program, data], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "sizes", "classes"), [("sst2_sentences", (6920, 872, 1821), 2), ("ag_news", (4502, 497, 7600), 4)]
)
def test_real_data_have_the_published_sizes(shared: Path, name: str, sizes: tuple[int, ...], classes: int) -> None:
    tables = TextClassification(str(shared / "data" / name)).tables(0)
    assert tuple(len(tables[split]) for split in ("train", "search", "report")) == sizes
    assert len(tables.labels) == classes


@pytest.mark.real
def test_real_pairs_without_a_test_split_have_search_carved_from_train(shared: Path) -> None:
    tables = TextClassification(str(shared / "data" / "rte"), text=("text", "text_pair")).tables(0)
    assert len(tables.train) + len(tables.search) == 2490
    assert 249 <= len(tables.search) <= 251  # a tenth, and the copies of the two pairs that stand twice in train
    assert len(tables.report) == 277


@pytest.mark.real
def test_real_sentences_have_the_known_mean_length(shared: Path) -> None:
    task = TextClassification(str(shared / "data" / "sst2_sentences"))
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    encoded = task.encode(task.tables(0).search, tokenizer)
    assert round(encoded.lengths.mean()) == 24  # the data's README: 24 word pieces on validation
    assert round(np.quantile(encoded.lengths, 0.95)) == 41
    assert len(encoded) == sum(map(len, encoded.batches(4096)))


@pytest.mark.real
def test_real_pairs_are_encoded_as_the_tokenizer_does_one_by_one(shared: Path) -> None:
    task = TextClassification(str(shared / "data" / "rte"), text=("text", "text_pair"), max_length=64, limit=50)
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6")
    table = task.tables(0).report
    encoded = task.encode(table, tokenizer)
    for i, row in enumerate(table.itertuples()):
        alone = tokenizer(row.text, row.text_pair, truncation=True, max_length=64)
        assert encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]].tolist() == alone["input_ids"]
        assert encoded.types[encoded.offsets[i] : encoded.offsets[i + 1]].tolist() == alone["token_type_ids"]
