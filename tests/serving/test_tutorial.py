"""docs/tutorials/ship-your-model.md runs as it is written, on a checkpoint that transformers alone fine-tuned."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from searchkit.evaluate.timing import Protocol
from searchkit.runs import shipping
from searchkit.ship import check, speed
from tests.faults.malformed import Said
from tests.fine_tuned import LABELS, fine_tuned
from tests.test_docs import BLOCK, ROOT

PAGE = ROOT / "docs" / "tutorials" / "ship-your-model.md"


@pytest.fixture(autouse=True)
def _smoke_size(hurried: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Few rounds for times that nobody believes, and no fresh process for a self-test."""
    few = Protocol(width=0.5, budget_s=0.01, min_round_interval_s=0, fewest=3, most=3)
    monkeypatch.setattr(shipping, "timed", lambda sides, inputs: speed.timed(sides, inputs, few))
    monkeypatch.setattr(shipping, "logits_of", check.predicted)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def ran(line: str, said: Said, capsys: pytest.CaptureFixture[str]) -> str:
    """Output of a line of a bash block, run in this process where it is searchkit or Python."""
    command, *arguments = shlex.split(line)
    if command == "searchkit":
        code, out, err = said.code(*arguments)
        assert code == 0, f"{line}\n{err}"
        return out + err
    if command == "python":
        capsys.readouterr()
        runpy.run_path(arguments[0], run_name="__main__")
        return capsys.readouterr().out
    return subprocess.run(["bash", "-euc", line], check=True, capture_output=True, text=True).stdout


def test_from_a_fine_tuned_model_and_csv_files_to_a_faster_one(
    said: Said, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine_tuned(tmp_path / "my-model", tmp_path / "reviews", tmp_path / "traffic.csv")
    printed: dict[str, str] = {}
    for language, title, code in BLOCK.findall(PAGE.read_text()):
        if language == "python":
            (tmp_path / title).write_text(code)
            continue
        for line in code.splitlines():
            printed[line.split(" --")[0]] = printed.get(line.split(" --")[0], "") + ran(line, said, capsys)
    assert printed["python labels.py"] == f"{dict(enumerate(LABELS))}\n"
    assert "are put into the order ['negative', 'neutral', 'positive']" in printed["searchkit run my_study.py"]
    shipped = printed["searchkit ship runs/my-model"]
    assert len(re.findall(r"times as fast as unreduced at batch 1 in (?:PyTorch|ONNX Runtime)", shipped)) == 2
    (same,) = re.findall(r"for (\d+) of 150 texts", printed["python predict.py"])
    assert int(same) > 100  # a third would agree by chance
    assert "['positive', 'negative']" in printed["python budgets.py"]
    assert printed["python onnx_session.py"] == "['positive', 'negative']\n"
    assert "texts of traffic.csv" in printed["searchkit measure runs/my-model"]
