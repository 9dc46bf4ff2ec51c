"""Costs on unlabelled texts of the user's own: what is measured on them, how it is told apart, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import searchkit
from searchkit.errors import DataError
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.remeasure import measure
from searchkit.runs.study_file import load
from searchkit.tasks import Generated, GeneratedQuestions, TextClassification, word_tokenizer
from searchkit.tasks import unlabelled as of_files
from searchkit.tasks.unlabelled import unlabelled
from tests.faults.malformed import Said
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

TIMED = "front_objectives=[latency(batches=2, rounds=3, width=0.5, min_round_interval_s=0, budget_s=0.05)],"
TEXT = SMALL.replace("import accuracy, macs", "import accuracy, latency, macs").replace(
    "objectives=[accuracy, macs],", f"objectives=[accuracy, macs], {TIMED}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, with_trained: Supernets) -> Iterator[Path]:
    home, threads = tmp_path_factory.mktemp("texts"), torch.get_num_threads()
    loaded = load(small_study(home, TEXT), {"evaluations": "8"})
    conditions = Conditions(runs=home / "runs", threads=1, dtype="fp32")
    with_trained(conditions.runs, loaded.study)
    execute(loaded, conditions)
    yield home / "runs/small"
    torch.set_num_threads(threads)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    return Said(capsys, monkeypatch)


def write(path: Path, texts: list[str], column: str = "text") -> Path:
    pd.DataFrame({column: texts}).to_csv(path, index=False)
    return path


def test_costs_are_of_the_texts_and_quality_of_the_report_split_and_nothing_is_mixed(
    run: Path, tmp_path: Path, said: Said
) -> None:
    documents = Generated(train=2, search=2, report=40, length=(12, 13), seed=5).tables(0).report["text"].tolist()
    file = write(tmp_path / "traffic.csv", [text for text in documents for _ in range(2)])
    code, shown, err = said.code("measure", run, "--texts", file, "--dtype", "fp32", "--threads", "1")
    assert code == 0, err
    assert "small at batch 1, texts of traffic.csv, setting" in shown
    words = [len(text.split()) + 2 for text in documents]
    lengths = f"80 texts of traffic.csv: {min(words)} to {max(words)} tokens, median {np.median(words):.0f}"
    assert lengths in " ".join(shown.split())
    (table,) = [path for path in (run / "measured").glob("*.csv") if "texts" in pd.read_csv(path)]
    own = pd.read_csv(table).set_index("key")
    assert set(own["texts"].str.slice(0, 22)) == {"traffic.csv (80 texts,"}
    about = json.loads(table.with_suffix(".json").read_text())
    assert about["setting"]["texts"] == own["texts"].iloc[0]
    assert about["tokens"]["max"] == max(words)
    front = searchkit.open(run).front.set_index("key")
    members = own.loc[front.index]
    assert members["accuracy"].tolist() == front["accuracy_report"].tolist()
    assert (members["macs"] != front["macs_report"]).all()
    assert (members["latency"] > 0).all()

    plain = measure(Folder(run), Conditions(runs=run.parent, threads=1, dtype="fp32"))
    assert plain.fingerprint != table.stem
    assert [objective.unit for objective in plain.objectives] == ["fraction", "of unreduced", "ms at batch 1"]
    assert plain.frame().set_index("key").loc[front.index, "macs"].tolist() == front["macs_report"].tolist()

    code, shown, err = said.code("pick", run, "--measured", table.stem, "--best", "latency")
    assert code == 0, err
    picked = json.loads((run / "pick.json").read_text())
    assert picked["values"]["latency"]["value"] == members["latency"].min()
    assert picked["values"]["latency"]["unit"] == "ms at batch 1, texts of traffic.csv"
    assert picked["values"]["macs"]["unit"] == "of unreduced, texts of traffic.csv"
    assert picked["values"]["accuracy"]["unit"] == "fraction"
    assert "ms at batch 1, texts of traffic.csv" in shown
    assert "of texts where that is said" in shown


def test_other_texts_of_the_same_name_are_another_setting(run: Path, tmp_path: Path) -> None:
    conditions = Conditions(runs=run.parent, threads=1, dtype="fp32")
    found = []
    for number in (0, 1, 0):
        (tmp_path / str(number)).mkdir(exist_ok=True)
        file = write(tmp_path / str(number) / "traffic.csv", ["a b c", "d e f g"][number:])
        found.append(measure(Folder(run), conditions, texts=file))
    assert found[0].fingerprint != found[1].fingerprint
    assert found[0].fingerprint == found[2].fingerprint
    assert found[0].trials == found[2].trials  # not measured twice


def test_bad_texts_are_one_line_and_nothing_is_written(run: Path, tmp_path: Path, said: Said) -> None:
    before = sorted(path.name for path in (run / "measured").glob("*"))
    bad = {
        "absent.csv": (None, "there is no such file"),
        "traffic.txt": ("a", "its format is not known"),
        "torn.json": ("[{", "cannot be read as json"),
        "empty.csv": ("text\n", "it holds no texts"),
        "other.csv": ("body\nhello\n", "unknown column 'text' (known: body)"),
        "blank.csv": ('text\na\n"  "\n', "row 1 (the first is 0): the text is empty"),
        "missing.csv": ("text,more\na,b\n,c\n", "row 1 (the first is 0): the value is missing"),
        "number.jsonl": ('{"text": 3}\n', "a text is needed"),
    }
    for name, (content, expected) in bad.items():
        if content is not None:
            (tmp_path / name).write_text(content)
        code, shown, err = said.code("measure", run, "--texts", tmp_path / name, "--threads", "1")
        assert (code, shown) == (2, ""), name
        assert err.count("\n") == 1, err
        assert expected in err
    few = write(tmp_path / "few.csv", ["a", "b"])
    for more, expected in {
        ("--batch-size", "4"): "2 examples, too few for batches of 4",
        ("--length", "8"): "give one of them",
    }.items():
        code, shown, err = said.code("measure", run, "--texts", few, "--threads", "1", *more)
        assert (code, shown) == (2, "")
        assert expected in err
    assert sorted(path.name for path in (run / "measured").glob("*")) == before


def test_columns_are_those_of_the_study_or_the_usual_ones(tmp_path: Path) -> None:
    rows = pd.DataFrame({"premise": list("abcdef") * 6, "claim": sorted("abcdef" * 6), "label": ["no", "yes"] * 18})
    (tmp_path / "data").mkdir()
    rows.to_csv(tmp_path / "data/train.csv", index=False)
    task = TextClassification(str(tmp_path / "data"), text=("premise", "claim"), search_fraction=0.2)
    like = task.tables(0).report
    expected = task.encode(like.head(1), word_tokenizer(list("abcdef"))).ids.tolist()
    for names in (("premise", "claim"), ("text", "text_pair")):
        file = tmp_path / "traffic.parquet"
        pd.DataFrame([[like["text"][0], like["text_pair"][0]]] * 3, columns=list(names)).to_parquet(file)
        table = unlabelled(file, task, like)
        assert table.dtypes.equals(like.dtypes)
        assert task.encode(table, word_tokenizer(list("abcdef"))).ids.tolist() == expected * 3
    pd.DataFrame({"premise": ["a"]}).to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(DataError, match=r"unknown column 'claim' \(known: premise\); needed: premise, claim"):
        unlabelled(tmp_path / "one.csv", task, like)


def test_questions_are_cut_into_the_windows_of_the_task(tmp_path: Path) -> None:
    task = GeneratedQuestions(train=2, search=2, report=12)
    like, tokenizer = task.tables(0).report, word_tokenizer(task.words())
    like[["question", "context"]].to_json(tmp_path / "traffic.jsonl", orient="records", lines=True)
    table = unlabelled(tmp_path / "traffic.jsonl", task, like)
    assert set(table["answers"]) == {("",)}
    found, expected = (task.encode(each, tokenizer) for each in (table, like))
    assert found.ids.tolist() == expected.ids.tolist()
    assert not found.labels.any()


def test_of_many_texts_some_are_drawn_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_files, "MOST", 7)
    task = Generated(train=2, search=2, report=20)
    like = task.tables(0).report
    file = write(tmp_path / "traffic.csv", like["text"].tolist())
    table = unlabelled(file, task, like)
    assert len(table) == 7
    assert table.equals(unlabelled(file, task, like))
    assert set(table["text"]) <= set(like["text"])
    assert replace(task, report=5).tables(0).report["text"].tolist() != table["text"].tolist()
