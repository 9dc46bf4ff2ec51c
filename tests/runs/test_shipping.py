"""Folders of front members: what transformers and ONNX Runtime predict from them, and what is refused."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import searchkit
from searchkit.cli import app
from searchkit.errors import DataError, StoreError, StudyError
from searchkit.evaluate.timing import Protocol
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.reduction.device import ONE_TEXT, threads_of_torch
from searchkit.runs import shipping
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.remeasure import measure
from searchkit.runs.shipped_front import measured_of
from searchkit.runs.shipping import Shipped, ship
from searchkit.runs.study_file import load
from searchkit.ship import check, speed
from searchkit.ship.onnx_runtime import OnnxModel
from tests.report.searches import staircase
from tests.studies import SMALL, small_study


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home, threads = tmp_path_factory.mktemp("shipping"), torch.get_num_threads()
    execute(
        load(small_study(home), {"evaluations": "16", "documents": "64"}),
        Conditions(runs=home / "runs", threads=1, dtype="fp32"),
    )
    yield home
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds, for times that nobody believes."""
    few = Protocol(width=0.5, budget_s=0.01, min_round_interval_s=0, fewest=3, most=3)
    monkeypatch.setattr(shipping, "timed", lambda sides, inputs: speed.timed(sides, inputs, few))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test in this process: starting another takes seconds."""
    monkeypatch.setattr(shipping, "logits_of", check.predicted)


def shipped(home: Path, to: Path, **chosen: Any) -> Shipped:
    return ship(Folder(home / "runs/small"), to, threads=1, **chosen)


def texts(home: Path, count: int = 24) -> tuple[Any, Any]:
    """Texts of the report split, and what the run keeps of a member's predictions on them."""
    study = load(small_study(home), {"evaluations": "16", "documents": "64"}).study
    return list(study.task.tables(study.seed).report["text"][:count]), study


def test_transformers_predict_from_the_folder_what_the_run_measured(home: Path, tmp_path: Path) -> None:
    """In a fresh process for the self-test, and here by the class that `AutoModel` finds."""
    done = shipped(home, tmp_path / "out", best="accuracy")
    assert done.agreement.largest < 1e-5
    assert done.agreement.differing == ()
    documents, _ = texts(home)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    model = searchkit.load(tmp_path / "out")
    assert model.plan == done.key
    with torch.inference_mode():
        logits = model(**tokenizer(documents, truncation=True, padding=True, return_tensors="pt")).logits
    kept = searchkit.open(home / "runs/small").predictions(done.key).iloc[: len(documents)]
    np.testing.assert_allclose(logits, kept[["logit_0", "logit_1"]], atol=1e-5)
    front = searchkit.open(home / "runs/small").front
    assert set(model.plans) >= set(front["key"])
    row = front.set_index("key").loc[done.key]
    assert done.quality["accuracy"]["member"]["value"] == pytest.approx(row["accuracy_report"])
    assert "how to load it" in (tmp_path / "out/README.md").read_text().lower()


@pytest.mark.usefixtures("in_process")
def test_a_graph_predicts_what_the_run_measured(home: Path, tmp_path: Path) -> None:
    done = shipped(home, tmp_path / "out", format="onnx", best="accuracy")
    assert [side.name for side in done.speeds] == ["unreduced", "this model"]
    documents, _ = texts(home)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    session = OnnxModel(tmp_path / "out/model.onnx")
    inputs = tokenizer(documents, truncation=True, padding=True, return_tensors="np")
    (logits,) = session.run({name: inputs[name].astype("int64") for name in session.inputs})
    kept = searchkit.open(home / "runs/small").predictions(done.key).iloc[: len(documents)]
    np.testing.assert_allclose(logits, kept[["logit_0", "logit_1"]], atol=1e-4)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert "searchkit" not in config
    assert json.loads((tmp_path / "out/searchkit.json").read_text())["plan"] == done.key


@pytest.mark.usefixtures("in_process")
def test_the_stock_folder_is_the_unreduced_model(home: Path, tmp_path: Path) -> None:
    done = shipped(home, tmp_path / "out", format="stock")
    row = done.quality["accuracy"]
    assert row["member"] == row["unreduced"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == "BertForSequenceClassification"


@pytest.mark.usefixtures("in_process")
def test_a_folder_that_predicts_otherwise_is_not_left_behind(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "logits_of", lambda folder, tokens: check.predicted(folder, tokens) + 0.1)
    with pytest.raises(DataError, match="predicts otherwise"):
        shipped(home, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"key": ""}, "--key: unknown member of the front ''"),
        ({"key": "nobody", "best": "accuracy"}, "--key names the member; --where, --best,"),
        ({"key": "nobody"}, "--key: unknown member of the front 'nobody'"),
        ({"format": "tflite"}, "--format: unknown format 'tflite'"),
        ({"int8": True}, "--int8 is for --format onnx alone"),
        ({"where": ["accuracy >= 2"]}, "no member of the front keeps every limit"),
    ],
)
def test_what_cannot_be_shipped_is_refused_in_one_line(
    home: Path, tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        shipped(home, tmp_path / "out", **chosen)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_is_one_line_and_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shipping, "write_stock", full)
    with pytest.raises(StoreError, match="make room and ship it again"):
        shipped(home, tmp_path / "out", format="stock")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(StudyError, match="it exists"):
        shipped(home, tmp_path)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="not a run folder"):
        ship(Folder(tmp_path), tmp_path / "out")


def test_a_supernet_that_is_gone_is_not_trained_again(home: Path, tmp_path: Path) -> None:
    (home / "runs/supernets").rename(home / "runs/elsewhere")
    try:
        with pytest.raises(StudyError, match="the trained supernet of this run is not there"):
            shipped(home, tmp_path / "out")
    finally:
        (home / "runs/elsewhere").rename(home / "runs/supernets")


@pytest.mark.parametrize(
    ("conditions", "chosen", "message"),
    [
        ({}, {"runtime": "tensorrt"}, "--runtime: unknown runtime 'tensorrt'"),
        ({}, {"int8": True}, "--int8 is for --runtime onnxruntime alone"),
        ({"dtype": "bf16"}, {"runtime": "onnxruntime"}, "got --device auto --dtype bf16"),
        ({"device": "cuda"}, {"runtime": "onnxruntime"}, "got --device cuda"),
    ],
)
def test_a_runtime_that_cannot_be_had_is_refused(
    home: Path, conditions: dict[str, Any], chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        measure(Folder(home / "runs/small"), Conditions(runs=home / "runs", **conditions), **chosen)


@pytest.mark.usefixtures("in_process")
def test_the_command_tells_what_was_gained_and_where_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["searchkit", "ship", str(home / "runs/small"), "--threads", "1", *words])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capsys.readouterr()
        return out.splitlines() if not ended.value.code else err.splitlines()[-1:]

    key = searchkit.open(home / "runs/small").front["key"][0]
    lines = said("--to", str(tmp_path / "out"), "--key", key)
    assert lines[0] == f"{key} is in {tmp_path / 'out'} (pytorch)"
    assert [line.split(":")[0].strip() for line in lines[2:5]] == ["unreduced", "unreduced, stock class", "this model"]
    gained = r"  [\d.]+ times as fast as unreduced at batch 1 in PyTorch \([\d.]+ to [\d.]+\); accuracy [\d.]+"
    assert re.match(gained, lines[5]), lines[5]
    assert lines[-1] == f"how to load it: {tmp_path / 'out/README.md'}"
    assert said("--to", str(tmp_path / "out"))[0].endswith("it exists; name a new folder, or remove it first")
    assert said("--to", str(tmp_path / "stock"), "--format", "stock")[0].startswith("the unreduced model is in")


def test_times_are_of_the_threads_that_the_study_states_unless_others_are_asked_for(
    tmp_path: Path, in_process: None
) -> None:
    """In the search's report, in what is shipped, and in what is measured anew, in either runtime."""
    timed = "latency(batches=2, rounds=3, width=0.5, min_round_interval_s=0, budget_s=0.01, threads=1)"
    text = SMALL.replace("import accuracy, macs", "import accuracy, latency, macs")
    text = text.replace("objectives=[accuracy, macs]", f"objectives=[accuracy, macs], front_objectives=[{timed}]")
    conditions, threads = Conditions(runs=tmp_path / "runs", dtype="fp32"), torch.get_num_threads()
    with threads_of_torch(2):
        execute(load(small_study(tmp_path, text), {"evaluations": "8", "documents": "64"}), conditions)
        run, asked = Folder(tmp_path / "runs/small"), replace(conditions, threads=2)
        done = ship(run, tmp_path / "out", best="accuracy")
        assert done.where["threads"] == 1
        assert ship(run, tmp_path / "two", best="accuracy", threads=2).where["threads"] == 2
        plans = searchkit.load(tmp_path / "out").plans.values()
        assert {timed["setting"]["threads"] for plan in plans for timed in plan["latency"]} == {1}
        for more in ({}, {"runtime": "onnxruntime"}):
            own, other = measure(run, conditions, **more), measure(run, asked, **more)
            assert (own.setting["timed_threads"], "timed_threads" in other.setting) == (1, False)
            assert [trial.estimates["latency"].beside.get("threads") for trial in (own.trials[0], other.trials[0])] == [
                1.0,
                None,
            ]
            assert own.setting["threads"] == (1 if more else 2)  # of the sessions of ONNX Runtime
            assert other.setting["threads"] == 2
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("environment", "batch", "dtype"),
    [
        ({"dtype": "bf16", ONE_TEXT: "fp32"}, 1, "float32"),
        ({"dtype": "bf16", ONE_TEXT: "fp32"}, 8, "bfloat16"),
        ({"dtype": "bf16"}, 1, "bfloat16"),
        ({"dtype": "int8", "runtime": "onnxruntime"}, 1, "int8"),
    ],
)
def test_a_shipped_latency_names_the_format_that_was_timed(environment: dict[str, Any], batch: int, dtype: str) -> None:
    timed = Estimate(3.0, 0.1, 10, {"batch_size": float(batch), "speedup": 1.5})
    trial = Trial(Ask(0, Candidate.of(lengths=(0.5,))), Measured({"latency": timed}), 0.1, environment)
    (found,) = measured_of(trial, staircase())["latency"]
    assert (found["setting"]["dtype"], found["setting"]["batch"]) == (dtype, batch)
