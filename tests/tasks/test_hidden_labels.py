"""Splits whose labels are kept secret, and files beside the splits: told, never scored or passed over in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit.errors import DataError
from searchkit.tasks import QuestionAnswering, TextClassification, TextRegression

EMPTY: dict[str, list[Any]] = {"text": [], "answer_start": []}


def texts(count: int, *labels: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {"text": [f"{count} {n}" for n in range(count)], "label": [labels[n % len(labels)] for n in range(count)]}
    )


def questions(count: int, answers: Any = None) -> pd.DataFrame:
    right = {"text": ["red"], "answer_start": [0]}
    rows = [{"question": "what", "context": f"red {count} {n}", "answers": answers or right} for n in range(count)]
    return pd.DataFrame(rows)


def lines(folder: Path, name: str, table: pd.DataFrame) -> None:
    table.to_json(folder / name, orient="records", lines=True)


@pytest.mark.parametrize("label", [-1, None])
def test_a_test_split_without_labels_is_left_out_with_a_line(
    tmp_path: Path, label: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    lines(tmp_path, "train.jsonl", texts(40, 0, 1))
    lines(tmp_path, "test.jsonl", texts(10, label))
    assert len(TextClassification(str(tmp_path)).tables(0).report) == 4
    assert "test.jsonl: the test split has no labels and is left out" in caplog.text


@pytest.mark.parametrize("task", [TextClassification, TextRegression])
def test_a_split_of_one_label_is_told(tmp_path: Path, task: Any, caplog: pytest.LogCaptureFixture) -> None:
    lines(tmp_path, "train.jsonl", texts(40, 0, 1))
    lines(tmp_path, "test.jsonl", texts(10, 0))
    assert len(task(str(tmp_path)).tables(0).report) == 10
    assert "test.jsonl (test split): all 10 labels are the same: are they hidden?" in caplog.text


@pytest.mark.parametrize("hidden", ["empty", "null", "absent"])
def test_a_test_split_without_answers_is_left_out_with_a_line(
    tmp_path: Path, hidden: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All of them would count as questions that have none."""
    lines(tmp_path, "train.jsonl", questions(40))
    test = questions(9, EMPTY)
    if hidden != "empty":
        test = test.assign(answers=None) if hidden == "null" else test.drop(columns="answers")
    lines(tmp_path, "test.jsonl", test)
    assert len(QuestionAnswering(str(tmp_path)).tables(0).report) == 4
    assert "test.jsonl (test split): it has no answers and is left out" in caplog.text


def test_a_validation_split_without_answers_is_refused(tmp_path: Path) -> None:
    lines(tmp_path, "train.jsonl", questions(40))
    lines(tmp_path, "validation.jsonl", questions(9, EMPTY))
    with pytest.raises(DataError, match=r"\(validation split\): the column 'answers' holds no answer"):
        QuestionAnswering(str(tmp_path)).tables(0)


def test_questions_that_have_no_answer_stay_where_others_have_one(tmp_path: Path) -> None:
    lines(tmp_path, "train.jsonl", questions(40))
    lines(tmp_path, "test.jsonl", pd.concat([questions(9, EMPTY), questions(1)]))
    assert [answers == ("",) for answers in QuestionAnswering(str(tmp_path)).tables(0).report["answers"]].count(
        True
    ) == 9


def test_files_beside_the_splits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train.csv", "heldout.csv", "data/test.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        texts(40, "a", "b").to_csv(tmp_path / name, index=False)
    (tmp_path / "dataset_infos.json").write_text("{}")
    TextClassification(str(tmp_path)).tables(0)
    assert "files that are not read, as their names mean no split: heldout.csv, data/test.csv" in caplog.text
    assert "infos" not in caplog.text


def test_testing_means_test_as_training_means_train(tmp_path: Path) -> None:
    for name, count in {"training": 40, "testing": 12}.items():
        texts(count, "a", "b").to_csv(tmp_path / f"{name}.csv", index=False)
    assert len(TextClassification(str(tmp_path)).tables(0).report) == 12
