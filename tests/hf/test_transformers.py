"""What users of transformers do with a folder: pipelines, Trainer, loading, without remote code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

import searchkit
from searchkit.errors import DataError
from searchkit.tasks import word_tokenizer
from searchkit.testing.models import bert
from tests.hf.shipped import PLANS, notes, shipped
from tests.reduction.models import MODELS, classifier, reader, tokens

WORDS = [f"w{number}" for number in range(40)]
TEXTS = ["w1 w2 w3", "w5", " ".join(WORDS[:30]), "w9 w8 w7 w6 w5 w4"]


def save(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    word_tokenizer(WORDS).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return save(shipped(classifier("bert")), tmp_path)


class Rows(Dataset[Any]):
    def __init__(self, folder: str, **labels: Any) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.rows = [
            dict(tokenizer(text)) | {name: values[number] for name, values in labels.items()}
            for number, text in enumerate(TEXTS)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        return self.rows[number]


def test_a_pipeline_gives_the_packed_passs_probabilities_under_any_budget(folder: str) -> None:
    classify = pipeline("text-classification", folder, top_k=None, device="cpu")
    ids = classify.tokenizer(TEXTS)["input_ids"]
    for key in PLANS:
        with classify.model.budget(plan=key), torch.no_grad():
            given = classify(TEXTS, batch_size=3)
            expected = classifier("bert")(tokens(ids), PLANS[key]).logits.softmax(-1)
        for row, scores in zip(expected, given, strict=True):
            by_label = {entry["label"]: entry["score"] for entry in scores}
            assert [by_label[f"LABEL_{number}"] for number in range(3)] == pytest.approx(row.tolist(), abs=1e-5)
    assert set(classify.model.traffic.read()) == set(PLANS)


def test_a_pipeline_of_a_regression_gives_the_number_itself(tmp_path: Path) -> None:
    model = bert(labels=1)
    folder = save(shipped(model), tmp_path)
    score = pipeline("text-classification", folder, device="cpu")
    ids = score.tokenizer(TEXTS)["input_ids"]
    with torch.no_grad():
        expected = model(tokens(ids), PLANS["half"]).logits.squeeze(1)
    assert [out["score"] for out in score(TEXTS)] == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("head", ["classes", "numbers", "answers"])
def test_trainer_trains_through_the_reduced_pass_and_evaluates(head: str, tmp_path: Path) -> None:
    model = {"classes": classifier, "numbers": lambda _: bert(labels=1), "answers": reader}[head]("bert")
    folder = save(shipped(model), tmp_path / "model")
    labels: dict[str, Any] = {
        "classes": {"label": [0, 2, 1, 0]},
        "numbers": {"label": [0.5, 1.0, -2.0, 0.0]},
        "answers": {"start_positions": [1, 0, 3, 2], "end_positions": [2, 0, 9, 4]},
    }[head]
    auto = AutoModelForQuestionAnswering if head == "answers" else AutoModelForSequenceClassification
    one = auto.from_pretrained(folder)
    before = {name: weight.clone() for name, weight in one.state_dict().items()}
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=1,
        learning_rate=1e-3,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=3,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
    )
    data = Rows(folder, **labels)
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    trainer = Trainer(one, arguments, train_dataset=data, eval_dataset=data, data_collator=collate)
    trainer.train()
    moved = [name for name, weight in one.state_dict().items() if not torch.equal(weight, before[name])]
    assert any("layer.0.attention" in name for name in moved)
    loss = trainer.evaluate()["eval_loss"]
    with torch.no_grad():
        batches = [collate([dict(row) for row in data.rows[start : start + 3]]) for start in (0, 3)]
        losses = [one.eval()(**batch).loss for batch in batches]
    assert loss == pytest.approx(float((3 * losses[0] + losses[1]) / 4), abs=1e-5)
    out = trainer.predict(data)
    assert out.metrics["test_loss"] == pytest.approx(loss, abs=1e-6)
    trainer.save_model(str(tmp_path / "tuned"))
    again = auto.from_pretrained(tmp_path / "tuned")
    assert again.plans == one.plans
    with torch.no_grad():
        torch.testing.assert_close(again(**batches[1]).loss, losses[1])


@pytest.mark.parametrize("name", ["bert", "modernbert reader", "roberta"])
def test_load_gives_the_right_head_in_eval_mode(name: str, tmp_path: Path) -> None:
    folder = save(shipped(MODELS[name]()), tmp_path)
    model = searchkit.load(tmp_path)
    assert type(model).__name__.startswith("Searchkit")
    assert type(model).__name__.endswith("QuestionAnswering" if "reader" in name else "SequenceClassification")
    assert not model.training
    assert model.plan == "half"
    assert searchkit.load(folder).plans == model.plans


def test_load_refuses_what_is_no_shipped_folder_in_one_line(tmp_path: Path, folder: str) -> None:
    stock = tmp_path / "stock"
    classifier("bert").stock.save_pretrained(stock)
    with pytest.raises(DataError, match="a bert model without plans, not one that searchkit shipped"):
        searchkit.load(stock)
    with pytest.raises(DataError, match="there is no such model folder"):
        searchkit.load(tmp_path / "none")
    config = Path(folder) / "config.json"
    given = json.loads(config.read_text())
    for changes, said in (
        ({"searchkit": given["searchkit"] | {"plan": "hlaf"}}, f"{folder}: searchkit: unknown plan 'hlaf'"),
        ({"searchkit": given["searchkit"] | {"predictors": {"gaet": {}}}}, "unknown predictor 'gaet'"),
        ({"searchkit": [1]}, folder),
        ({"num_hidden_layers": 2, "searchkit": notes({}) | {"plan": "unreduced"}}, "no place for weights"),
    ):
        config.write_text(json.dumps(given | changes))
        with pytest.raises(DataError) as raised:
            searchkit.load(folder)
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)


def test_load_refuses_weights_that_are_missing_or_damaged(folder: str) -> None:
    from safetensors.torch import load_file, save_file

    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    save_file({name: weight for name, weight in weights.items() if "layer.1" not in name}, path, {"format": "pt"})
    with pytest.raises(DataError, match="lacks"):
        searchkit.load(folder)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match="damaged"):
        searchkit.load(folder)
