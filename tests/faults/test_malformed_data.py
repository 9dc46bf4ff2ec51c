"""Data and checkpoints that cannot be used: one line that names the file, the value and what is allowed.

Every row is one mistake: what it is called, what is on disk, what the line says (a regular expression).
"""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.faults.malformed import Said, files, study_file

TEXTS = "TextClassification('data', max_length=32)"
NUMBERS = "TextRegression('data', max_length=32)"
PAIRS = "TextClassification('data', text=('text', 'other'), max_length=32)"
QUESTIONS = "QuestionAnswering('data', max_length=64, stride=8, question_length=16)"


def csv(n: int = 24, text: str = "word", label: str = "{}") -> bytes:
    return "".join(["text,label\n", *(f"{text}{i % 7} more,{label.format(i % 2)}\n" for i in range(n))]).encode()


def rows(**column: Any) -> bytes:
    """A JSON table of 24 rows, one column replaced."""
    table = [{"text": f"word{i % 7} more", "label": i % 2} | column for i in range(24)]
    return json.dumps(table).encode()


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


def answer(**changed: Any) -> bytes:
    row = {"question": "what is it", "context": "it is red", "title": "t"}
    row |= {"answers": {"text": ["red"], "answer_start": [6]}} | changed
    return json.dumps([row] * 4).encode()


GOOD = {f"{split}.csv": csv() for split in ("train", "validation", "test")}
NESTED = b"[" * 200_000
Files = dict[str, bytes | None]

DATA: dict[str, tuple[str, Files, str]] = {  # the task, files beside or instead of good ones (None: not there), message
    "no folder": ("TextClassification('./nowhere')", {}, r"nowhere is not a folder .*; give a folder with"),
    "a file": ("TextClassification('data/train.csv')", {}, r"train.csv is not a folder"),
    "no hub": ("TextClassification('nobody/nothing')", {}, r"'nobody/nothing' could not be loaded from the hub"),
    "no train": (TEXTS, {"train.csv": None}, r"data has no train split, only test, validation"),
    "nothing": (TEXTS, dict.fromkeys(GOOD), r"no file is named by its split.*it holds nothing"),
    "other names": (TEXTS, {"train_small.csv": csv()}, r"not the name of a split: train_small.csv"),
    "two formats": (TEXTS, {"train.json": rows()}, r"several formats"),
    "empty file": (TEXTS, {"train.csv": b""}, r"train.csv cannot be read as csv: No columns to parse"),
    "head alone": (TEXTS, {"validation.csv": b"text,label\n"}, r"validation.csv \(validation split\) holds no rows"),
    "no text column": (TEXTS, {"train.csv": b"sentence,label\na,1\nb,0\n"}, r"train.csv: unknown column 'text'"),
    "no label column": (TEXTS, {"train.csv": b"text,lable\na,1\n"}, r"unknown column 'label'; did you mean 'lable'"),
    "no pair column": (PAIRS, {}, r"unknown column 'other'"),
    "column twice": (TEXTS, {"train.csv": b"text,label,label\na,1,0\nb,0,1\n"}, r"the column 'label' is there twice"),
    "label missing": (TEXTS, {"train.csv": csv() + b"word,\n"}, r"column 'label', row 24.*the value is missing"),
    "label NaN": (TEXTS, {"train.csv": csv() + b"word,NaN\n"}, r"mixes numbers and names|NaN"),
    "label a half": (TEXTS, {"train.csv": csv() + b"word,0.5\n"}, r"row 24.*the label 0.5 is no class; TextRegression"),
    "label infinite": (TEXTS, {"train.csv": csv() + b"word,inf\n"}, r"row 24.*inf"),
    "one class": (TEXTS, {"train.csv": b"text,label\na,1\nb,1\n"}, r"'label' holds one class only: \[1\]"),
    "numbers and names": (TEXTS, {"train.csv": csv() + b"word,yes\n"}, r"mixes numbers and names|not in the train"),
    "label of search": (
        TEXTS,
        {"validation.csv": csv(label="{}7")},
        r"validation.csv.*row 0.*'?7'? is not in the train",
    ),
    "text empty": (TEXTS, {"train.csv": csv() + b",1\n"}, r"column 'text', row 24.*the value is missing"),
    "bad encoding": (TEXTS, {"train.csv": csv() + b"\xff\xfe,1\n"}, r"train.csv cannot be read as csv.*utf-8"),
    "utf-16": (TEXTS, {"train.csv": csv().decode().encode("utf-16")}, r"train.csv cannot be read as csv"),
    "open quote": (TEXTS, {"train.csv": csv() + b'"word,1\n'}, r"train.csv cannot be read as csv"),
    "ragged": (TEXTS, {"train.csv": csv() + b"a,1,2,3,4\n"}, r"train.csv cannot be read as csv.*Expected 2 fields"),
    "comma in every text": (
        TEXTS,
        {"train.csv": b"text,label\ngood, but long 1,1\ngood, but long 2,0\n"},
        r"train.csv cannot be read as csv: Expected 2 fields \('text', 'label'\) in line 2, got 3: 'good'",
    ),
    "a field short": (TEXTS, {"train.csv": csv() + b"word\n"}, r"Expected 2 fields .* in line 26, got 1: 'word'"),
    "semicolons": (
        TEXTS,
        {"train.csv": csv().replace(b",", b";")},
        r"separated by ',', but the header is 'text;label'",
    ),
    "tabs": (TEXTS, {"train.csv": csv().replace(b",", b"\t")}, r"rename the file to \.tsv"),
    "latin-1": (
        TEXTS,
        {"train.csv": csv() + "caf\u00e9,1\n".encode("latin-1")},
        r"0xe9 in line 26 is not utf-8: save it as",
    ),
    "thousands": (NUMBERS, {"train.csv": csv() + b'word,"1,000"\n'}, r"row 24.*a number is needed, got str '1,000'"),
    "a date": (
        NUMBERS,
        {"train.csv": csv() + b"word,2024-01-31\n"},
        r"row 24.*needed, got str '2024-01-31'",
    ),
    "a split elsewhere": (TEXTS, {"test.xlsx": b"PK"}, r"the format of test.xlsx is not read; read are parquet"),
    "few rows to carve": (TEXTS, {"train.csv": b"text,label\na,1\nb,0\n", "test.csv": None}, r"2 rows are too few"),
    "regression of names": (NUMBERS, {"train.csv": csv(label="x{}")}, r"a number is needed, got str 'x0'"),
    "regression infinite": (NUMBERS, {"train.csv": csv() + b"word,inf\n"}, r"the number inf is not finite in float32"),
    "regression of dates": (
        NUMBERS,
        {"train.csv": csv(label="2024010{}")},
        r"row 1 .*the number 20240101 is 20240100 in float32",
    ),
    "regression constant": (NUMBERS, {"train.csv": csv(label="3")}, r"holds one number only: \[3.0\]"),
}
ONE_FILE: dict[str, tuple[str, str, bytes, str]] = {  # the task, train alone in another format, message
    "name twice": (TEXTS, "train.json", b'[{"text": "a", "text": "b"}]', r"a name stands twice in \['text'\]"),
    "json torn": (TEXTS, "train.json", b'[{"text": "a", ', r"train.json cannot be read as json: Expecting"),
    "json a number": (TEXTS, "train.json", b"5", r"train.json cannot be read as json: row 0 is not an object"),
    "json of lists": (TEXTS, "train.json", b"[[1, 2]]", r"row 0 is not an object of column: value"),
    "json nested": (TEXTS, "train.json", NESTED, r"train.json cannot be read as json: .*recursion"),
    "json no rows": (TEXTS, "train.json", b"[]", r"holds no rows"),
    "json no text": (TEXTS, "train.json", b"\xff\xfe\x00", r"train.json cannot be read as json: .*utf-8"),
    "jsonl a line": (TEXTS, "train.jsonl", rows()[1:-1].replace(b"},", b"}\n") + b"\n{", r"jsonl: line 25"),
    "text a list": (TEXTS, "train.json", rows(text=["a"]), r"row 0.*a text is needed, got list \['a'\]"),
    "text a number": (TEXTS, "train.json", rows(text=5), r"row 0.*a text is needed, got int 5"),
    "text null": (TEXTS, "train.json", rows(text=None), r"row 0.*the value is missing"),
    "label a list": (TEXTS, "train.json", rows(label=[1]), r"row 0.*a label is a number or a name, got \[1\]"),
    "label an object": (TEXTS, "train.json", rows(label={"a": 1}), r"row 0.*a label is a number or a name"),
    "number endless": (NUMBERS, "train.json", rows(label=10**400), r"not finite in float32"),
    "number True": (NUMBERS, "train.json", rows(label=True), r"a number is needed, got bool True"),
    "parquet corrupt": (
        TEXTS,
        "train.parquet",
        b"PAR1" + b"\0" * 40 + b"PAR1",
        r"train.parquet cannot be read as parq",
    ),
    "parquet cut": (
        TEXTS,
        "train.parquet",
        parquet(text=["a"] * 50, label=[1] * 50)[:-60],
        r"cannot be read as parquet",
    ),
    "parquet a pickle": (
        TEXTS,
        "train.parquet",
        b"\x80\x04cposix\nsystem\n.",
        r"train.parquet cannot be read as parquet",
    ),
    "parquet of bytes": (
        TEXTS,
        "train.parquet",
        parquet(text=[b"a", b"b"], label=[0, 1]),
        r"a text is needed, got bytes",
    ),
    "parquet of dates": (
        TEXTS,
        "train.parquet",
        parquet(text=["a", "b"], label=pd.to_datetime(["2020-01-01", "2020-01-02"])),
        r"a label is a number or a name, got Timestamp|Timestamp",
    ),
    "answer elsewhere": (
        QUESTIONS,
        "train.json",
        answer(answers={"text": ["blue"], "answer_start": [6]}),
        r"column 'answers', row 0.*the answer 'blue' does not stand at character 6, but 'red'",
    ),
    "answer before": (
        QUESTIONS,
        "train.json",
        answer(answers={"text": ["red"], "answer_start": [-3]}),
        r"'red' does not stand at character -3",
    ),
    "answer at a half": (
        QUESTIONS,
        "train.json",
        answer(answers={"text": ["red"], "answer_start": [6.5]}),
        r"answer_start is a whole number, got 6.5",
    ),
    "answers unequal": (
        QUESTIONS,
        "train.json",
        answer(answers={"text": ["red"], "answer_start": []}),
        r"text and answer_start must be lists of one length",
    ),
    "answer blank": (QUESTIONS, "train.json", answer(answers={"text": [" "], "answer_start": [2]}), r"is not empty"),
    "answers a text": (QUESTIONS, "train.json", answer(answers="red"), r"row 0.*not JSON"),
    "answers nested": (QUESTIONS, "train.json", answer(answers="[" * 100_000), r"row 0.*not JSON \(.*recursion"),
    "answers missing": (QUESTIONS, "train.json", answer(answers=None), r"row 0.*the value is missing"),
    "context a number": (QUESTIONS, "train.json", answer(context=5), r"column 'context', row 0.*a text is needed"),
    "question null": (QUESTIONS, "train.json", answer(question=None), r"column 'question', row 0.*missing"),
    "one context": (QUESTIONS, "train.json", answer(), r"too few to carve.*by whole groups"),
}


def laid_out(folder: Path, contents: Files) -> None:
    (folder / "data").mkdir()
    for name, content in contents.items():
        if content is not None:
            (folder / "data" / name).write_bytes(content)


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_be_used(tmp_path: Path, said: Said, case: str) -> None:
    task, contents, message = DATA[case]
    laid_out(tmp_path, GOOD | contents)
    before = files(tmp_path / "data")
    line = said.error("train", study_file(tmp_path, task=task))
    assert re.search(message, line), line
    assert files(tmp_path / "data") == before


@pytest.mark.parametrize("case", ONE_FILE)
def test_a_file_of_data_that_cannot_be_used(tmp_path: Path, said: Said, case: str) -> None:
    task, name, content, message = ONE_FILE[case]
    laid_out(tmp_path, {name: content})
    line = said.error("train", study_file(tmp_path, task=task))
    assert re.search(message, line), line
    assert (tmp_path / "data" / name).read_bytes() == content


def test_a_column_of_a_parquet_file_that_is_there_twice(tmp_path: Path, said: Said) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    laid_out(tmp_path, {})
    table = pa.Table.from_arrays([pa.array(["a", "b"]), pa.array([0, 1]), pa.array([1, 0])], ["text", "label", "label"])
    pq.write_table(table, tmp_path / "data" / "train.parquet")
    line = said.error("train", study_file(tmp_path, task=TEXTS))
    assert re.search(r"train.parquet.*label", line), line


@pytest.mark.parametrize("objective", ["pearson", "spearman"])
@pytest.mark.parametrize(("split", "name"), [("validation", "search"), ("test", "report")])
def test_a_correlation_with_constant_labels_is_refused_before_anything_is_made(
    tmp_path: Path, said: Said, objective: str, split: str, name: str
) -> None:
    constant = {f"{split}.csv": csv(label="3")}
    laid_out(tmp_path, {each: csv(label="{}.5") for each in GOOD} | constant)
    file = study_file(tmp_path, task=NUMBERS, objectives=f"[{objective}, macs]", space="Space(Lengths(levels=8))")
    line = said.error("train", file)
    assert f"objective '{objective}' is not defined on the {name} split: its 24 labels are all 3" in line
    assert not (tmp_path / "runs").exists()
    assert said.code("train", study_file(tmp_path, task=NUMBERS, objectives="[mse, macs]"))[0] == 0
    assert (tmp_path / "runs").exists()


def test_data_that_is_odd_and_right(tmp_path: Path, said: Said) -> None:
    """Endless texts are cut, blank ones kept, labels beyond int64 are classes like others."""
    table = [{"text": f"word{i % 7} more", "label": 10**30 + i % 2} for i in range(40)]
    table[0]["text"], table[1]["text"], table[2]["text"] = "a" * 2_000_000, "b c " * 300_000, "  "
    laid_out(tmp_path, {"train.json": json.dumps(table).encode()})
    code, out, err = said.code("train", study_file(tmp_path, task=TEXTS))
    assert (code, out[:8]) == (0, "supernet"), err


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with its tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from searchkit.tasks import word_tokenizer

    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, max_position_embeddings=40, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    word_tokenizer([f"word{i}" for i in range(7)]).save_pretrained(folder)
    return folder


def config(**changed: Any) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        file = model / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))

    return change


def written(name: str, content: bytes | None) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        if content is not None:
            (model / name).write_bytes(content)

    return change


def cut(name: str, share: float) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        content = (model / name).read_bytes()
        (model / name).write_bytes(content[: int(share * len(content))])

    return change


def weights(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def changed(model: Path) -> None:
        from safetensors.torch import load_file, save_file

        save_file(change(load_file(model / "model.safetensors")), model / "model.safetensors", {"format": "pt"})

    return changed


def pickle_alone(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def sharded(name: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        index = {"metadata": {}, "weight_map": {"bert.embeddings.word_embeddings.weight": name}}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
        shutil.copy(model / "model.safetensors", model.parent / "other.safetensors")

    return change


def other_words(model: Path) -> None:
    from searchkit.tasks import word_tokenizer

    word_tokenizer([f"word{i}" for i in range(50)]).save_pretrained(model)


def no_tokenizer(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (model / name).unlink(missing_ok=True)


CHECKPOINTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no folder": (lambda model: shutil.rmtree(model), r"\./model: there is no such model folder"),
    "no config": (written("config.json", None), r"\./model: not a Hugging Face model folder: it has no config.json"),
    "config torn": (cut("config.json", 0.5), r"\./model: cannot read the model's config"),
    "config a list": (written("config.json", b"[]"), r"\./model: cannot read the model's config"),
    "config a number": (written("config.json", b"5"), r"\./model: cannot read the model's config"),
    "config no text": (written("config.json", b"\xff\xfe"), r"\./model: cannot read the model's config"),
    "config nested": (written("config.json", NESTED), r"\./model: cannot read the model's config"),
    "no family": (config(model_type=None), r"\./model: (cannot read the model's config|model_type)"),
    "unknown family": (
        written("config.json", b'{"model_type": "t5"}'),
        r"model_type 't5' is not supported; supported",
    ),
    "invented family": (config(model_type="berrt"), r"\./model: cannot read the model's config"),
    "width 0": (config(hidden_size=0), r"\./model: cannot"),
    "width NaN": (config(hidden_size=float("nan")), r"\./model: cannot"),
    "width a text": (config(hidden_size="wide"), r"\./model: cannot"),
    "no layers": (config(num_hidden_layers=0), r"layers"),
    "layers NaN": (config(num_hidden_layers=float("nan")), r"\./model: cannot|layers"),
    "layers null": (config(num_hidden_layers=None), r"\./model: cannot|layers"),
    "heads unlike width": (config(num_attention_heads=3), r"\./model: cannot"),
    "heads 0": (config(num_attention_heads=0), r"\./model: cannot"),
    "activation": (config(hidden_act="no such"), r"\./model: cannot"),
    "more layers": (config(num_hidden_layers=4), r"\./model: the file of weights lacks 32 of the encoder's, such as"),
    "wider": (
        config(hidden_size=16),
        r"LayerNorm.* has the shape \(8,\) in the file of .* config says \(16,\)",
    ),
    "more words": (
        config(vocab_size=30),
        r"word_embeddings.weight has the shape \(20, 8\) .* \(30, 8\)",
    ),
    "unknown predictor": (config(searchkit={"predictors": {"oracle": {}}}), r"\./model: cannot load the weights"),
    "odd predictor": (config(searchkit={"predictors": {"gate": {"x": 1}}}), r"\./model: cannot load the weights"),
    "predictors a list": (config(searchkit={"predictors": [1]}), r"\./model: cannot load the weights"),
    "notes a text": (config(searchkit="x"), r"\./model: cannot load the weights"),
    "no predictors": (config(searchkit={"predictors": {"gate": {}}}), r"predictors.safetensors: cannot load"),
    "weights torn": (cut("model.safetensors", 0.7), r"\./model: the safetensors file is damaged"),
    "weights empty": (written("model.safetensors", b""), r"\./model: the safetensors file is damaged"),
    "weights zeros": (written("model.safetensors", b"\0" * 100), r"\./model: the safetensors file is damaged"),
    "weights of others": (
        weights(lambda found: {f"other.{name}": one for name, one in found.items()}),
        r"\./model: the file of weights lacks \d+ of the encoder's, such as 'bert.embeddings",
    ),
    "a weight missing": (
        weights(lambda found: {name: one for name, one in found.items() if "layer.1.output.dense.w" not in name}),
        r"lacks 1 of the encoder's, such as 'bert.encoder.layer.1.output.dense.weight'",
    ),
    "a weight reshaped": (
        weights(lambda found: found | {"bert.pooler.dense.weight": found["bert.pooler.dense.weight"][:4].clone()}),
        r"\./model: bert.pooler.dense.weight has the shape \(4, 8\) in the file of weights, the config says \(8, 8\)",
    ),
    "a pickle alone": (pickle_alone, r"no safetensors weights \(only these are read, never pickles\)"),
    "no weights": (written("model.safetensors", None), r"no safetensors weights"),
    "shards above": (
        sharded("../other.safetensors"),
        r"index.json: weights are safetensors files beside it.*\.\./other",
    ),
    "shards absolute": (sharded("/etc/passwd"), r"index.json: weights are safetensors files beside it.*/etc/passwd"),
    "shards a pickle": (sharded("pytorch_model.bin"), r"index.json: weights are safetensors files beside it"),
    "index torn": (written("model.safetensors.index.json", b'{"weight'), r"index.json: not an index of safetensors"),
    "index of lists": (written("model.safetensors.index.json", b"[1]"), r"index.json: not an index of safetensors"),
    "no tokenizer": (no_tokenizer, r"\./model: the tokenizer knows no words"),
    "tokenizer torn": (cut("tokenizer.json", 0.5), r"\./model: cannot load the tokenizer"),
    "tokenizer a list": (written("tokenizer.json", b"[]"), r"\./model: cannot load the tokenizer"),
    "settings torn": (cut("tokenizer_config.json", 0.5), r"\./model: cannot load the tokenizer"),
    "other words": (other_words, r"the tokenizer gives tokens up to number 54, the encoder knows 20"),
    "remote code": (
        config(model_type="mine", auto_map={"AutoConfig": "code.Mine"}),
        r"\./model: cannot read the model's config",
    ),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_used(tmp_path: Path, said: Said, checkpoint: Path, case: str) -> None:
    change, message = CHECKPOINTS[case]
    laid_out(tmp_path, dict(GOOD))
    shutil.copytree(checkpoint, tmp_path / "model")
    change(tmp_path / "model")
    before = files(tmp_path / "model")
    line = said.error("train", study_file(tmp_path, task=TEXTS, supernet="Supernet('./model', FineTune(epochs=1))"))
    assert re.search(message, line), line
    assert files(tmp_path / "model") == before


def test_the_checkpoint_that_is_damaged_above_is_right(tmp_path: Path, said: Said, checkpoint: Path) -> None:
    laid_out(tmp_path, dict(GOOD))
    shutil.copytree(checkpoint, tmp_path / "model")
    study = study_file(tmp_path, task=TEXTS, supernet="Supernet('./model', FineTune(epochs=1))")
    code, out, err = said.code("train", study)
    assert (code, out[:8]) == (0, "supernet"), err


def test_the_pooler_of_a_checkpoint_may_be_new(tmp_path: Path, said: Said, checkpoint: Path) -> None:
    """Language models are saved without one; it is trained with the head."""
    laid_out(tmp_path, dict(GOOD))
    shutil.copytree(checkpoint, tmp_path / "model")
    weights(lambda found: {name: one for name, one in found.items() if "pooler" not in name})(tmp_path / "model")
    study = study_file(tmp_path, task=TEXTS, supernet="Supernet('./model', FineTune(epochs=1))")
    code, _, err = said.code("train", study)
    assert code == 0, err
