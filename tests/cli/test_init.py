"""`searchkit init`: the study that it writes runs, and what it cannot tell it asks for or refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit.cli import init
from searchkit.errors import SearchkitError, StudyError
from searchkit.runs.draft import Answers, drafted
from searchkit.runs.study_file import load
from searchkit.study import Study
from searchkit.tasks import QuestionAnswering, TextClassification, TextRegression
from searchkit.tasks.files import Part
from searchkit.tasks.guess import Columns, guessed
from tests.faults.malformed import Said

WORDS = [f"w{number}" for number in range(40)]
TEXTS = [" ".join(WORDS[(7 * row + word) % 40] for word in range(3 + row % 9)) for row in range(60)]
FRAMES: dict[str, dict[str, list[Any]]] = {
    "classes": {"id": [*range(60)], "review": TEXTS, "verdict": ["bad", "good"] * 30},
    "pairs": {"premise": TEXTS, "hypothesis": TEXTS[::-1], "label": [0, 1, 2] * 20},
    "numbers": {"sentence1": TEXTS, "sentence2": TEXTS[::-1], "score": [row % 11 / 2 for row in range(60)]},
    "questions": {
        "question": TEXTS,
        "context": [f"{text} w1 w2" for text in TEXTS],
        "answers": [{"text": [text[:2].strip()], "answer_start": [0]} for text in TEXTS],
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of tiny untrained models: an encoder alone, a classifier of two classes with names, one without."""
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("models")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    named = {"id2label": {0: "Good", 1: "Bad"}, "label2id": {"Good": 0, "Bad": 1}}
    for name, labels in {"encoder": {}, "named": named, "unnamed": {}}.items():
        config = BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes, **labels)
        model = BertModel(config) if name == "encoder" else BertForSequenceClassification(config)
        model.save_pretrained(folder / name)
        BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder / name)
    return folder


def written(folder: Path, frame: dict[str, list[Any]], ending: str = "parquet") -> Path:
    folder.mkdir()
    table = pd.DataFrame(frame)
    if ending == "csv":
        table.to_csv(folder / "train.csv", index=False)
    else:
        table.to_parquet(folder / "train.parquet")
    return folder


def study_of(said: Said, folder: Path, model: Path, data: Path, *options: str) -> Study:
    code, out, err = said.code("init", "made.py", "--model", str(model), "--data", str(data), *options)
    assert code == 0, err
    assert out.splitlines()[-1] == "next: searchkit run made.py"
    return load(folder / "made.py").study


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_the_study_of_a_fine_tuned_model_runs(
    said: Said, hurried: None, tmp_path: Path, models: Path, ending: str
) -> None:
    data = written(tmp_path / "reviews", FRAMES["classes"], ending)
    study = study_of(said, tmp_path, models / "named", data)
    assert (study.task.text, study.task.label, study.task.max_length) == ("review", "verdict", 16)
    assert study.name == "reviews"
    assert study.supernet.recipe.start is None
    assert len((tmp_path / "made.py").read_text().splitlines()) <= 35
    if ending == "csv":
        code, _, err = said.code("run", "made.py", "-p", "epochs=1", "-p", "evaluations=8", "-p", "limit=40")
        assert code == 0, err
        assert (tmp_path / "runs" / "reviews-40" / "front.csv").is_file()


@pytest.mark.parametrize("frame", ["pairs", "numbers", "questions"])
def test_the_study_of_an_encoder_begins_with_a_new_head(said: Said, tmp_path: Path, models: Path, frame: str) -> None:
    study = study_of(said, tmp_path, models / "encoder", written(tmp_path / "data", FRAMES[frame]))
    assert study.supernet.recipe.start is not None
    if frame == "questions":
        assert isinstance(study.task, QuestionAnswering)
        assert study.task.max_length == 64  # all that the model takes
        assert [objective.name for objective in study.objectives] == ["f1", "macs"]
    else:
        assert isinstance(study.task, TextClassification if frame == "pairs" else TextRegression)
        assert study.task.text == tuple(name for name in FRAMES[frame] if name not in ("label", "score"))
    assert len(study.task.tables(0).train) == 48


def test_texts_that_the_model_cannot_hold_are_cut_and_counted(tmp_path: Path, models: Path) -> None:
    """Expected values by hand: all texts have 100 words and two special tokens."""
    frame = {"text": [" ".join([*WORDS, *WORDS, *WORDS[:19], WORDS[row % 40]]) for row in range(60)]}
    data = written(tmp_path / "data", frame | {"label": ["Good", "Bad"] * 30})
    draft = drafted(str(models / "named"), str(data), Answers(), refuse)
    assert draft.max_length == 64
    assert draft.seen[-1] == "tokens: 102 in the median, 102 at 95 %, 102 at most; 100.0 % of the texts are cut"


def test_a_large_search_split_is_searched_in_part(tmp_path: Path, models: Path) -> None:
    data = written(tmp_path / "data", FRAMES["classes"])
    few = {"review": TEXTS, "verdict": ["bad", "good"] * 30}
    pd.DataFrame({name: values * 40 for name, values in few.items()}).to_parquet(data / "validation.parquet")
    pd.DataFrame(few).to_parquet(data / "test.parquet")
    draft = drafted(str(models / "named"), str(data), Answers(), refuse)
    assert draft.seen[1] == "rows: 60 to train on, 2400 for the search (2000 of them are taken), 60 to report on"
    (tmp_path / "made.py").write_text(draft.text)
    for given, rows in ({}, [60, 2000, 60]), ({"limit": "30"}, [30, 30, 30]):
        tables = load(tmp_path / "made.py", given).study.task.tables(0)
        assert [len(tables[split]) for split in ("train", "search", "report")] == rows


def test_names_of_labels_that_do_not_match_have_to_be_told(said: Said, tmp_path: Path, models: Path) -> None:
    data = written(tmp_path / "data", FRAMES["classes"])
    code, out, err = said.code("init", "made.py", "--model", str(models / "unnamed"), "--data", str(data))
    assert (code, out) == (2, "")
    assert "its label LABEL_0 is which of the data's? Choose with --label-map LABEL_0=...: bad, good" in err
    assert not (tmp_path / "made.py").exists()
    told = ("--label-map", "LABEL_0=good", "--label-map", "LABEL_1=bad")
    assert study_of(said, tmp_path, models / "unnamed", data, *told).supernet.label_map == {
        "LABEL_0": "good",
        "LABEL_1": "bad",
    }


def test_a_file_that_is_there_is_left_as_it_is(said: Said, tmp_path: Path, models: Path) -> None:
    (tmp_path / "made.py").write_text("mine")
    data = written(tmp_path / "data", FRAMES["classes"])
    code, _, err = said.code("init", "made.py", "--model", str(models / "named"), "--data", str(data))
    assert code == 2
    assert "made.py: there is such a file already" in err
    assert (tmp_path / "made.py").read_text() == "mine"


def test_what_is_not_given_is_asked_in_a_terminal(
    said: Said, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path / "data", {"title": TEXTS, "summary": TEXTS[::-1], "label": ["Bad", "Good"] * 30})
    answers = iter([str(models / "named"), str(data), "nothing", "2"])
    monkeypatch.setattr(init, "has_terminal", lambda: True)
    monkeypatch.setattr(init.typer, "prompt", lambda question: next(answers))
    code, out, err = said.code("init", "made.py")
    assert code == 0, err
    assert "  1 title\n  2 summary\n" in out
    assert load(tmp_path / "made.py").study.task.text == "summary"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--model is needed, as there is no terminal to ask in"),
        (("--model", "nowhere"), "--data is needed"),
        (("--model", "./nowhere", "--data", "data"), "./nowhere: there is no such model folder"),
        (("--model", "MODEL", "--data", "./nothing"), "nothing is not a folder"),
        (("--model", "MODEL", "--data", "data", "--text", "words"), "train.parquet: unknown column 'words'"),
        (("--model", "MODEL", "--data", "data", "--label", "verdicts"), "did you mean 'verdict'?"),
        (("--model", "MODEL", "--data", "data", "--task", "tagging"), "unknown kind of task 'tagging'"),
        (("--model", "MODEL", "--data", "data", "--label-map", "Good"), "--label-map 'Good': expected NAME=VALUE"),
        (("--model", "MODEL", "--data", "data", "--task", "regression"), "column 'verdict', row 0"),
        (("--model", "MODEL", "--data", "data", "--name", "a/b"), "a study's name is made of letters"),
        (("--model", "MODEL", "--data", "data", "--label-map", "A=bad", "--label-map", "B=good"), "label_map gives"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    said: Said, tmp_path: Path, models: Path, options: Sequence[str], message: str
) -> None:
    written(tmp_path / "data", FRAMES["classes"])
    assert message in said.error("init", *(str(models / "named") if word == "MODEL" else word for word in options))
    assert not (tmp_path / "study.py").exists()


def test_hostile_names_stay_names(tmp_path: Path, models: Path) -> None:
    text, label, one = "a\"b\n\\'{x}", "l\n# '''\"\"\"", "c\n    import os"
    data = written(tmp_path / 'da"ta', {text: TEXTS, label: [one, "Bad"] * 30})
    draft = drafted(str(models / "encoder"), str(data), Answers(), refuse)
    (tmp_path / "made.py").write_text(draft.text)
    task = load(tmp_path / "made.py").study.task
    assert (task.data, task.text, task.label) == (str(data), text, label)
    assert task.tables(0).labels == ("Bad", one)


def refuse(question: str, option: str, choices: Sequence[str]) -> str:
    raise StudyError(f"{question} {option} {json.dumps(choices)}")


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        ({"text": TEXTS, "label": ["a", "b", "c"] * 20}, Columns("classification", ("text",), "label")),
        ({"text": TEXTS, "label": [*map(str, [0, 1] * 30)]}, Columns("classification", ("text",), "label")),
        ({"body": TEXTS, "y": [True, False] * 30}, Columns("classification", ("body",), "y")),
        ({"text": TEXTS, "price": [row * 1.5 for row in range(60)]}, Columns("regression", ("text",), "price")),
        ({"text": TEXTS, "stars": [*map(str, range(60))]}, Columns("regression", ("text",), "stars")),
        ({"Text_a": TEXTS, "Text_b": TEXTS, "n": [1, 0] * 30}, Columns("classification", ("Text_a", "Text_b"), "n")),
        ({"title": TEXTS, "text": TEXTS, "label": [1, 0] * 30}, Columns("classification", ("text",), "label")),
        ({"question": TEXTS, "context": TEXTS, "answers": [{}] * 60}, Columns("question_answering")),
    ],
)
def test_columns_are_found_by_name_and_content(frame: dict[str, Any], found: Columns) -> None:
    assert guessed([Part("train.csv", "train", pd.DataFrame(frame))], refuse) == found


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"a": TEXTS, "b": TEXTS, "label": [0, 1] * 30}, 'which column holds the texts? --text ["a", "b"]'),
        ({"text": TEXTS, "a": [0, 1] * 30, "b": [0, 1] * 30}, 'which column is the label? --label ["a", "b"]'),
        ({"text": TEXTS}, "train.csv: no column looks like a label (classes or numbers): text (texts)"),
        ({"text": TEXTS, "labels": [[0, 1]] * 60}, "labels (lists); lists of labels cannot be learnt"),
        ({"label": [0, 1] * 30}, "train.csv: no column looks like texts"),
    ],
)
def test_what_columns_do_not_tell_is_asked(frame: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchkitError) as error:
        guessed([Part("train.csv", "train", pd.DataFrame(frame))], refuse)
    assert message in str(error.value)
