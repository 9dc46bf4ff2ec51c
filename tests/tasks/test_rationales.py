"""Rationales: every form that data sets use becomes the same spans; what fits no text is named with its row."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit.errors import DataError
from searchkit.tasks import Generated, GeneratedQuestions, TextClassification, TextRegression

TEXT = "a film  that is good"
SAME = {
    "characters": [[2, 6], [16, 20]],
    "marks": [0, 1, 0, 0, 1],
    "texts": ["film", "good"],
    "eraser": [{"start_token": 1, "end_token": 2}, {"start_token": 4, "end_token": 5}],
}


def task(folder: Path, values: list[Any], text: Any = "text", suffix: str = "jsonl", **more: Any) -> TextClassification:
    rows = {"text": [TEXT] * len(values), "label": [0, 1] * (len(values) // 2), "why": values, **more}
    for split in ("train", "validation", "test"):
        table = pd.DataFrame(rows)
        if suffix == "csv":
            table["why"] = [value if value is None else json.dumps(value) for value in values]
            table.to_csv(folder / f"{split}.csv", index=False)
        elif suffix == "parquet":
            table.to_parquet(folder / f"{split}.parquet")
        else:
            table.to_json(folder / f"{split}.jsonl", orient="records", lines=True)
    return TextClassification(str(folder), text=text, rationales="why")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("form", sorted(SAME))
def test_every_form_gives_the_same_spans(form: str, suffix: str, tmp_path: Path) -> None:
    table = task(tmp_path, [SAME[form], None] * 2, suffix=suffix).tables(0).report
    assert table["rationale"][0] == ((0, 2, 6), (0, 16, 20))
    assert table["rationale"][1] is None


def test_rationales_of_pairs_name_their_text(tmp_path: Path) -> None:
    value = {"other": [[0, 3]], "text": ["is good"]}
    pairs = task(tmp_path, [value, {}] * 2, ("text", "other"), other=["why not"] * 4)
    assert pairs.tables(0).report["rationale"].tolist()[:2] == [((0, 13, 20), (1, 0, 3)), ()]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[2, 99]], "0 <= first < end <= 20 characters, got 2 to 99"),
        ([[5, 5]], "got 5 to 5"),
        ([0, 1], "one for|for each of the 5 words between blanks, got 2"),
        (["bad"], "'bad' does not stand in the text"),
        ("good", "in JSON"),
        (7, "a rationale is a list"),
        ([{"start": 1}], "a rationale is a list"),
        ([{"start_token": 4, "end_token": 6}], "5 words between blanks, got 4 to 6"),
    ],
)
def test_what_is_no_rationale_is_one_line_with_its_row(value: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as raised:
        task(tmp_path, [SAME["marks"], value]).tables(0)
    assert "column 'why', row 1" in str(raised.value)


def test_rationales_are_no_part_of_a_studys_identity_and_need_a_column_of_their_own(tmp_path: Path) -> None:
    with_them = task(tmp_path, [SAME["marks"]] * 4)
    assert with_them.describe() == TextClassification(str(tmp_path)).describe()
    assert "rationale" not in TextClassification(str(tmp_path)).tables(0).report
    with pytest.raises(ValueError, match="a column of their own"):
        TextClassification(str(tmp_path), rationales="label")
    with pytest.raises(DataError, match="unknown column 'whi'"):
        TextClassification(str(tmp_path), rationales="whi").tables(0)
    numbers = TextRegression(str(tmp_path), rationales="why").tables(0)
    assert numbers.report["rationale"][0] == ((0, 2, 6), (0, 16, 20))


def test_generated_evidence_is_of_the_words_that_decide() -> None:
    made = Generated(train=40, search=2, report=2)
    lexicon = made.lexicon
    for text, rationale in zip(made.tables(0).train["text"], made.tables(0).train["rationale"], strict=True):
        marked = [text[begin:end].split() for _, begin, end in rationale]
        words = text.split()
        assert len(marked) in (3, 5)
        decisive = {*lexicon.positive, *lexicon.negative}
        assert sorted(piece[-1] for piece in marked) == sorted(word for word in words if word in decisive)
        assert all(piece[0] in lexicon.negator for piece in marked if len(piece) == 2)
        negated = sum(a in lexicon.negator and b in decisive for a, b in itertools.pairwise(words))
        assert sum(len(piece) == 2 for piece in marked) == negated


def test_generated_questions_mark_the_fact_that_holds_the_answer() -> None:
    row = GeneratedQuestions(train=1, search=1, report=1).tables(0).train.iloc[0]
    ((side, begin, end),) = row["rationale"]
    key = row["question"].split()[-1]
    assert (side, row["context"][begin:end]) == (1, f"{key} is {row['answers'][0]}")
