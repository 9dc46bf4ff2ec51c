from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit.errors import DataError
from searchkit.tasks import QuestionAnswering, TextClassification

Row = dict[str, Any]


def answers(text: Sequence[Any], start: Sequence[Any]) -> dict[str, Any]:
    return {"text": list(text), "answer_start": list(start)}


def questions(titles: Sequence[str], per_title: int = 3) -> list[Row]:
    return [
        {
            "title": title,
            "question": f"{title} {number}?",
            "context": f"{title} says yes {number} times",
            "answers": answers(["yes"], [len(title) + 6]),
        }
        for title in titles
        for number in range(per_title)
    ]


def write(folder: Path, kind: str = "parquet", **splits: Sequence[Row]) -> str:
    for split, rows in splits.items():
        path = folder / f"{split}.{kind}"
        if kind == "parquet":
            pd.DataFrame(list(rows)).to_parquet(path)
        elif kind == "csv":
            as_json = [{**row, "answers": json.dumps(row["answers"])} for row in rows]
            pd.DataFrame(as_json).to_csv(path, index=False)
        else:
            path.write_text(json.dumps(list(rows)))
    return str(folder)


def titles(table: pd.DataFrame) -> set[str]:
    return {context.split()[0] for context in table["context"]}


@pytest.mark.parametrize("kind", ["parquet", "json", "csv"])
def test_every_format_gives_the_same_questions(tmp_path: Path, kind: str) -> None:
    given = [
        {"question": "what?", "context": "so it is", "answers": answers(["it", "so it"], [3, 0])},
        {"question": "why?", "context": "no", "answers": answers([], [])},
    ]
    tables = QuestionAnswering(write(tmp_path, kind, train=given, validation=given, test=given)).tables(0)
    assert tables.report.to_dict("list") == {
        "question": ["what?", "why?"],
        "context": ["so it is", "no"],
        "answers": [("it", "so it"), ("",)],
        "start": [3, -1],
    }
    assert tables.labels == ("start", "end")


def test_search_is_carved_by_title_and_validation_is_the_report(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(20)]
    data = write(tmp_path, train=questions(names), validation=questions(["v"]))
    tables = QuestionAnswering(data, search_fraction=0.25).tables(0)
    assert titles(tables.report) == {"v"}
    assert titles(tables.train) | titles(tables.search) == set(names)
    assert not titles(tables.train) & titles(tables.search)
    assert (len(tables.train), len(tables.search)) == (45, 15)  # five titles of three questions
    assert titles(QuestionAnswering(data, search_fraction=0.25).tables(1).search) != titles(tables.search)


def test_train_alone_gives_three_splits_without_a_common_title(tmp_path: Path) -> None:
    tables = QuestionAnswering(write(tmp_path, train=questions([f"t{number}" for number in range(20)]))).tables(0)
    found = [titles(tables[split]) for split in ("train", "search", "report")]
    assert sum(map(len, found)) == len(set.union(*found)) == 20


@pytest.mark.parametrize("column", ["context", "topic"])
def test_other_groups_are_kept_together(tmp_path: Path, column: str) -> None:
    rows = questions([f"t{number}" for number in range(9)])
    for row in rows:
        row["topic"] = row.pop("title")
        if column == "context":
            row["context"] = f"{row['topic']} says yes"
    data = write(tmp_path, train=rows, validation=rows)
    tables = QuestionAnswering(data, **({} if column == "context" else {"group": column})).tables(0)
    assert not titles(tables.train) & titles(tables.search)


def test_one_title_cannot_be_carved(tmp_path: Path) -> None:
    data = write(tmp_path, train=questions(["t"]), validation=questions(["v"]))
    with pytest.raises(DataError, match=r"3 rows in 1 group\(s\) are too few to carve 1 by whole groups"):
        QuestionAnswering(data, search_fraction=0.2).tables(0)


@pytest.mark.parametrize("as_list", [True, False])
def test_rows_of_train_whose_answer_is_guessed_are_left_out(tmp_path: Path, as_list: bool) -> None:
    sources = ["unique", "heuristic", "unique"]

    def marked(rows: list[Row]) -> list[Row]:
        return [
            {**row, "start_source": [source] if as_list else source} for row, source in zip(rows, sources, strict=True)
        ]

    data = write(tmp_path, **{split: marked(questions([split])) for split in ("train", "validation", "test")})
    tables = QuestionAnswering(data).tables(0)
    assert tables.train["question"].tolist() == ["train 0?", "train 2?"]
    assert [len(tables[split]) for split in ("search", "report")] == [3, 3]
    data = write(tmp_path, train=[{**row, "start_source": ["heuristic"]} for row in questions(["t"])])
    with pytest.raises(DataError, match="nothing is left to train on"):
        QuestionAnswering(data).tables(0)


def test_a_limit_counts_what_is_left_after_guesses_are_out(tmp_path: Path) -> None:
    rows = [{**row, "start_source": ["heuristic" if i % 2 else "unique"]} for i, row in enumerate(questions("ab", 10))]
    data = write(tmp_path, train=rows, validation=rows, test=rows)
    tables = QuestionAnswering(data, limit=8).tables(0)
    assert [len(tables[split]) for split in ("train", "search", "report")] == [8, 8, 8]


def test_a_test_split_without_answers_does_not_count(tmp_path: Path) -> None:
    rows = questions(["a", "b", "c"])
    hidden = [{name: row[name] for name in ("title", "question", "context")} for row in rows]
    tables = QuestionAnswering(write(tmp_path, train=rows, validation=questions(["v"]), test=hidden)).tables(0)
    assert titles(tables.report) == {"v"}


GOOD: Row = {"question": "what?", "context": "so it is", "answers": answers(["it"], [3])}


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "parquet",
            {"answers": answers(["it"], [2])},
            r"row 1 .*the answer 'it' does not stand at character 2, but ' i'",
        ),
        ("parquet", {"answers": answers(["it"], [-5])}, r"row 1 .*does not stand at character -5"),
        ("parquet", {"answers": answers(["it"], [-1])}, r"row 1 .*does not stand at character -1"),
        (
            "parquet",
            {"answers": answers(["it", "is"], [3, 99])},
            r"row 1 .*'is' does not stand at character 99, but ''",
        ),
        ("parquet", {"answers": answers(["it"], [3, 4])}, r"row 1 .*lists of one length"),
        ("parquet", {"answers": answers([" "], [2])}, r"row 1 .*not empty, got ' '; no answer is two empty lists"),
        ("parquet", {"answers": None}, r"column 'answers', row 1 .*missing"),
        ("parquet", {"context": None}, r"column 'context', row 1 .*missing"),
        ("json", {"question": 7}, r"column 'question', row 1 .*a text is needed, got int 7"),
        ("json", {"answers": answers([5], [0])}, r"row 1 .*an answer is a text.* got 5"),
        ("json", {"answers": answers(["so"], [0.5])}, r"row 1 .*answer_start is a whole number, got 0\.5"),
        ("json", {"answers": answers(["so"], [True])}, r"row 1 .*answer_start is a whole number, got True"),
        ("json", {"answers": {"text": "so", "answer_start": 0}}, r"row 1 .*lists of one length"),
        ("json", {"answers": ["so"]}, r"row 1 .*answers are \{'text'"),
        ("json", {"answers": {"text": ["so"]}}, r"row 1 .*answers are \{'text'"),
        ("json", {"answers": "so"}, r"row 1 .*not JSON .*'so'"),
    ],
)
def test_bad_values_are_named_with_file_column_and_row(tmp_path: Path, kind: str, change: Row, message: str) -> None:
    data = write(tmp_path, kind, train=[GOOD], validation=[GOOD, GOOD | change])
    with pytest.raises(DataError, match=rf"validation\.{kind} \(validation split\), .*{message}") as caught:
        QuestionAnswering(data).tables(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["question", "context", "answers"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    rows = [{name: value for name, value in GOOD.items() if name != column}]
    with pytest.raises(DataError, match=rf"train\.parquet: unknown column '{column}'.*known: "):
        QuestionAnswering(write(tmp_path, train=rows)).tables(0)


def test_a_group_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.parquet: unknown column 'topic'"):
        QuestionAnswering(write(tmp_path, train=questions(["a", "b"])), group="topic").tables(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 196}, "max_length=196"),
        ({"stride": -1}, "stride=-1"),
        ({"question_length": 0}, "question_length=0"),
        ({"limit": {"dev": 3}}, "unknown split 'dev'"),
        ({"data": "./here", "subset": "x"}, "for the hub"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuestionAnswering(**arguments)


def test_the_description_changes_with_the_content_and_every_parameter(tmp_path: Path) -> None:
    data = write(tmp_path, train=questions(["a"]))
    changes: list[dict[str, Any]] = [
        {},
        {"max_length": 300},
        {"stride": 64},
        {"question_length": 32},
        {"group": "context"},
        {"limit": 2},
        {"search_fraction": 0.2},
    ]
    described = [json.dumps(QuestionAnswering(data, **change).describe()) for change in changes]
    write(tmp_path, train=questions(["b"]))
    assert len({*described, json.dumps(QuestionAnswering(data).describe())}) == len(changes) + 1
    assert QuestionAnswering().describe()["data"] == {"hub": "rajpurkar/squad", "subset": None, "revision": None}


def test_a_task_travels_to_workers_and_says_its_head() -> None:
    task = QuestionAnswering(limit={"train": 3})
    assert pickle.loads(pickle.dumps(task)) == task
    assert task.head == "question_answering"


@pytest.mark.real
def test_real_squad_has_the_published_sizes_and_titles_on_one_side(shared: Path) -> None:
    folder = shared / "data" / "squad"
    tables = QuestionAnswering(str(folder)).tables(0)
    raw = pd.read_parquet(folder / "train.parquet")
    title = dict(zip(raw["context"], raw["title"], strict=True))
    searched = {title[context] for context in tables.search["context"]}
    assert not searched & {title[context] for context in tables.train["context"]}
    guessed = raw["start_source"].str[0].eq("heuristic")
    assert guessed.sum() == 8804  # the data's SOURCE.md
    assert len(tables.search) == raw["title"].isin(searched).sum()
    assert len(tables.train) == (~raw["title"].isin(searched) & ~guessed).sum()
    assert 8760 <= len(tables.search) < 8760 + 900  # a tenth of 87,599 and at most one more article
    assert len(tables.report) == 10570


@pytest.mark.real
@pytest.mark.parametrize(("name", "text", "classes"), [("ag_news", "text", 4), ("rte", ("text", "text_pair"), 2)])
def test_real_classes_and_pairs_are_read_and_encoded(shared: Path, name: str, text: Any, classes: int) -> None:
    from transformers import AutoTokenizer

    task = TextClassification(str(shared / "data" / name), text=text, limit=100)
    tables = task.tables(0)
    data = task.encode(tables.report, AutoTokenizer.from_pretrained(shared / "models" / "minilm-l6"))
    segments = 1 + isinstance(text, tuple)
    assert len(tables.labels) == classes
    assert (len(data), set(data.labels.tolist())) == (100, set(range(classes)))
    assert set(data.types.tolist()) == set(range(segments))
    assert data.marks["sep"].sum() == 100 * segments
    assert 8 < data.lengths.mean() < 128
