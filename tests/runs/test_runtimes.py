"""ONNX Runtime as the runtime of a study: searched in, reported in, with the unreduced model in others beside it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from objectives import latency
from searchkit import Scratch, Study
from searchkit.errors import SearchkitError, StudyError
from searchkit.records import Candidate
from searchkit.runs import report_phase, stored
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.placement import Placement
from searchkit.runs.remeasure import measure
from searchkit.runs.runtimes import Runtime
from searchkit.runs.stored import stored_results
from searchkit.runs.study_file import load
from searchkit.ship import sessions
from tests.faults.malformed import Said
from tests.runs.test_rivals import AS_IT_IS, TASK, checkpoint, stock_accuracy
from tests.studies import SMALL, small_study

TIMED = "latency(batches=2, rounds=3, width=0.5, min_round_interval_s=0, budget_s=0.05, {})"
IN_INT8 = TIMED.format('runtime="onnxruntime", int8=True')
STUDY = (
    SMALL.replace("LengthDrop(epochs=1, learning_rate=1e-3, start=FineTune(epochs=1, learning_rate=1e-3))", AS_IT_IS)
    .replace("Scratch(layers=3, width=16, heads=2, feed_forward=32)", '"base"')
    .replace("import accuracy, macs", "import accuracy, latency, macs, memory")
    .replace("[accuracy, macs]", f"[accuracy, {IN_INT8}], front_objectives=[macs]")
    .replace("population=8", "population=2")
    .replace("evaluations: int = 24", "evaluations: int = 2")
)
HERE = {"threads": 1}


@pytest.fixture(scope="module")
def exported() -> list[Any]:
    """The plans that graphs are exported for, of all tests of this module."""
    return []


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, exported: list[Any]) -> Iterator[Path]:
    """A folder in which a study timed in int8 has run, its only baseline the unreduced model: exports take seconds."""
    folder, threads, export = tmp_path_factory.mktemp("runtimes"), torch.get_num_threads(), sessions.export
    checkpoint(folder / "base", TASK.words(), Scratch(2, 16, 2, 32), TASK.tables(0).labels, seed=5)

    def watched(model: Any, plan: Any, *given: Any, **named: Any) -> Any:
        exported.append(plan)
        return export(model, plan, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        for module in (report_phase, stored):
            patch.setattr(module, "baselines", lambda *_: {"unreduced": (Candidate.of(baseline="unreduced"),)})
        patch.setattr(sessions, "export", watched)
        execute(load(small_study(folder, STUDY)), Conditions(runs=folder / "runs", **HERE))
        yield folder
    torch.set_num_threads(threads)


def test_a_search_is_timed_there_and_its_quality_is_that_of_the_packed_pass(home: Path, exported: list[Any]) -> None:
    results = stored_results(Folder(home / "runs/small"))
    assert results.cost.unit == "ms at batch 1 in ONNX Runtime, int8"
    for trial in results.trials:
        assert trial.estimates["latency"].value > 0
        setting = {"runtime": "onnxruntime, for times alone", "timed_dtype": "int8", "dtype": "fp32", "device": "cpu"}
        assert setting.items() <= trial.environment.items()
    assert len(exported) == 2  # of the unreduced model and of all lengths; the report took them over


def test_the_report_is_made_there_beside_the_unreduced_model_in_other_runtimes(home: Path) -> None:
    frame = pd.read_csv(home / "runs/small/baselines.csv").set_index("family")
    assert frame.index.tolist() == ["unreduced", "unreduced stock", "unreduced fp32"]
    assert frame["runtime"].tolist()[1:] == ["transformers", "onnxruntime"]
    right = stock_accuracy(home / "base", TASK.tables(0).labels)
    assert frame["accuracy_report"].tolist()[1:] == [right, right]
    assert (frame["latency_report"] > 0).all()
    assert frame["macs_report"].tolist()[::2] == [1.0, 1.0]
    assert frame["macs_report"].iloc[1] > 1  # transformers' last layer computes every token
    summary = json.loads((home / "runs/small/summary.json").read_text())
    of_report = summary["environments"][summary["baselines"]["unreduced"]["trials"][0]["environment"]["report"]]
    assert {"runtime": "onnxruntime", "dtype": "int8", "threads": 1}.items() <= of_report.items()
    assert {"onnxruntime", "isa"} <= of_report.keys()
    assert list(summary["baselines"]["unreduced stock"]["at_equal"]) == ["latency"]
    text = (home / "runs/small/report.md").read_text()
    assert "Unreduced stock: " in text
    assert "ONNX Runtime" in text


def test_measure_takes_the_runtime_of_the_study_or_another_one(home: Path, exported: list[Any], said: Said) -> None:
    before, run = len(exported), home / "runs/small"
    code, shown, err = said.code("measure", run, "--threads", "1")
    assert code == 0, err
    assert {"  runtime: onnxruntime", "  dtype: int8"} <= set(shown.splitlines())
    for name in ("unreduced", "unreduced stock", "unreduced fp32"):
        assert any(line.startswith(f"{name} ") for line in shown.splitlines())
    plain = measure(Folder(run), Conditions(runs=run.parent, threads=1), runtime="pytorch")
    assert [one.unit for one in plain.objectives if one.name == "latency"] == ["ms at batch 1"]
    assert "runtime" not in plain.setting
    assert not any("rival" in trial.ask.candidate for trial in plain.trials)
    whole = measure(Folder(run), Conditions(runs=run.parent, threads=1), runtime="onnxruntime")
    assert whole.setting["dtype"] == "fp32"
    families = [whole.families[trial.key] for trial in whole.trials if trial.key in whole.families]
    assert families == ["unreduced", "unreduced stock", "unreduced int8"]
    assert whole.trials[0].estimates["accuracy"].value == stock_accuracy(home / "base", TASK.tables(0).labels)
    assert len(exported) == before


@pytest.mark.parametrize(
    ("replaced", "conditions", "message"),
    [
        ({}, {"dtype": "bf16"}, "onnxruntime is measured on the CPU in float32 (or int8), got --device auto"),
        ({"front_objectives=[macs]": "front_objectives=[memory()]"}, {}, "the objective 'memory' is what PyTorch"),
        ({IN_INT8: 'latency(runtime="tensorrt")'}, {}, "latency: unknown runtime 'tensorrt'"),
        ({IN_INT8: "latency(int8=True)"}, {}, "latency: int8 is for runtime='onnxruntime' alone"),
        ({IN_INT8: 'latency(runtime="onnxruntime", int8=1)'}, {}, "latency: int8 must be True or False, got 1"),
    ],
)
def test_what_cannot_be_timed_there_is_said_before_anything_is_made(
    home: Path, tmp_path: Path, replaced: dict[str, str], conditions: dict[str, str], message: str
) -> None:
    with pytest.raises(SearchkitError) as caught:
        begun(home, tmp_path, replaced, **conditions)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_missing_package_is_named_before_anything_is_made(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if "onnx" in name else found(name, *rest))
    with pytest.raises(StudyError, match=r"need onnx, onnxscript, onnxruntime, .*: pip install 'searchkit\[onnx\]'$"):
        begun(home, tmp_path, {})
    assert not (tmp_path / "runs").exists()


def begun(home: Path, tmp_path: Path, replaced: dict[str, str], **conditions: str) -> None:
    """Begin a run of the study, changed so."""
    text = STUDY
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "base").symlink_to(home / "base")
    execute(load(small_study(tmp_path, text)), Conditions(runs=tmp_path / "runs", **{**HERE, **conditions}))  # type: ignore[arg-type]


def test_a_study_times_in_one_runtime() -> None:
    other = replace(latency(runtime="onnxruntime"), name="other")
    assert Runtime.of([latency(), latency(batch_size=4)]) == Runtime()
    assert Runtime.of([other]) == Runtime("onnxruntime")
    with pytest.raises(StudyError, match="a study times in one runtime, got 'latency' in pytorch and 'other' in onnx"):
        Runtime.of([latency(), other])
    with pytest.raises(StudyError, match="got 'other' in onnxruntime and 'latency' in onnxruntime, threads=2"):
        Runtime.of([other, latency(runtime="onnxruntime", threads=2)])


def test_modelled_latency_is_calibrated_in_its_runtime() -> None:
    modelled = latency(runtime="onnxruntime", int8=True, during_search="modelled")
    assert Runtime.of([modelled]) == Runtime.of([modelled.final]) == Runtime("onnxruntime", int8=True)


def test_graphs_are_measured_on_the_cpu_in_float32_whatever_trains() -> None:
    placement = Placement.of(Conditions(threads=1), exported=True)
    assert (placement.worker_device, placement.dtype, placement.dtype_name) == ("cpu", "fp32", "fp32")


def test_the_runtime_is_part_of_a_study(home: Path) -> None:
    study: Study = load(home / "small_study.py").study
    units = [axis["unit"] for axis in study.describe()["objectives"]]
    assert units == ["fraction", "ms at batch 1 in ONNX Runtime, int8"]
