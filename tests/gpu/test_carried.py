"""What `train` writes can be carried in small files and put together again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import shards
from benchmarks.gpu.__main__ import main
from searchkit.errors import DataError, StudyError
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.testing.models import bert


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with predictors, and a text with letters beyond ASCII beside it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = bert()
    model.attach("gate")
    model.save(folder)
    (folder / "notes.txt").write_text("größer\n", encoding="utf-8")
    return folder


def rounded(model: AdaptiveModel) -> dict[str, torch.Tensor]:
    return {name: tensor.to(torch.bfloat16).float() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("largest", [shards.LARGEST, shards.ROOM + 4096])
def test_a_checkpoint_comes_back_as_its_rounding(checkpoint: Path, tmp_path: Path, largest: int) -> None:
    files = shards.split(checkpoint, tmp_path / "small", largest)
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == sorted(files)
    assert max((tmp_path / "small" / name).stat().st_size for name in files if "weights" in name) <= largest
    assert len(files) > (5 if largest < shards.LARGEST else 1)
    joined = shards.join(tmp_path / "small", tmp_path / "whole")
    back, own = load_model(str(joined)), rounded(load_model(str(checkpoint)))
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, own[name]), name
    assert back.notes == load_model(str(checkpoint)).notes
    assert (joined / "notes.txt").read_text(encoding="utf-8") == "größer\n"


def test_a_tensor_that_is_larger_than_a_shard_is_cut(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "checkpoint").mkdir()
    whole = {"large": torch.randn(1000, 64), "scalar": torch.tensor(2.5), "counts": torch.arange(3)}
    save_file(whole, tmp_path / "checkpoint" / "model.safetensors")
    files = shards.split(tmp_path / "checkpoint", tmp_path / "small", shards.ROOM + 30_000)
    assert len(files) == 1 + 5
    back = load_file(shards.join(tmp_path / "small", tmp_path / "whole") / "model.safetensors")
    assert torch.equal(back["large"], whole["large"].bfloat16())
    assert torch.equal(back["scalar"], whole["scalar"].bfloat16())
    assert torch.equal(back["counts"], whole["counts"])


def test_what_is_missing_or_damaged_is_named_and_nothing_is_written(checkpoint: Path, tmp_path: Path) -> None:
    small, to = tmp_path / "small", tmp_path / "whole"
    shards.split(checkpoint, small, shards.ROOM + 4096)
    (small / "weights-01.safetensors").rename(tmp_path / "kept")
    with pytest.raises(DataError, match=r"small: weights-01.safetensors is missing; checkpoint.json names \d+ shards"):
        shards.join(small, to)
    (small / "weights-01.safetensors").write_bytes((tmp_path / "kept").read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"weights-01.safetensors is damaged: its checksum"):
        shards.join(small, to)
    index = json.loads((small / shards.INDEX).read_text())
    (small / shards.INDEX).write_text(json.dumps(index | {"format": 9}))
    with pytest.raises(DataError, match=r"checkpoint.json is damaged: its format is 9, this command reads 1"):
        shards.join(small, to)
    (small / shards.INDEX).write_text(json.dumps(index | {"files": {"../evil.txt": "x"}}))
    with pytest.raises(DataError, match=r"'../evil.txt' is no name of a file"):
        shards.join(small, to)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("small", "kept")] == []


def test_a_folder_that_is_there_is_not_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    shards.split(checkpoint, tmp_path / "small")
    (tmp_path / "whole").mkdir()
    with pytest.raises(StudyError, match=r"whole exists already; name a new folder with --to"):
        shards.join(tmp_path / "small", tmp_path / "whole")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("trained")
    assert main(["train", "--smoke", "--task", "squad", "--minutes", "2", "--out", str(folder)]) == 0
    return folder, json.loads((folder / "gpu_train.json").read_text())["figures"]


def test_training_leaves_a_front_and_its_report(trained: tuple[Path, dict[str, Any]]) -> None:
    _, figures = trained
    assert figures["ended"] == "all is done"
    assert figures["share_of_the_data"] == 1.0
    assert figures["evaluations"] == 24
    unreduced, *members = figures["report"]
    assert unreduced["macs"]["value"] == 1.0
    assert [row["candidate"] for row in members] == [row["candidate"] for row in figures["front"]]
    assert set(unreduced) == {"candidate", "f1", "macs", "exact_match", "latency"}


def test_the_trained_model_is_put_together_on_the_other_side(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, figures = trained
    assert set(figures["files"]) | {"gpu_train.json"} == {path.name for path in folder.iterdir()}
    assert main(["join", str(folder), "--to", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model")
    model = load_model(str(tmp_path / "model"))
    assert model.head.name == "question_answering"
    assert all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in model.state_dict().values())
    assert (tmp_path / "model" / "tokenizer.json").is_file()


def test_training_that_has_no_time_says_where_it_stopped(tmp_path: Path) -> None:
    assert main(["train", "--smoke", "--task", "sst2", "--seconds", "0.2", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "gpu_train.json").read_text())["figures"]
    assert figures["ended"].startswith("the time was up: ")
