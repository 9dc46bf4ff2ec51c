"""The cache of supernets: number format, threads, two processes at once, full disks, the environment, old parts."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from searchkit.errors import StoreError, StudyError
from searchkit.reduction.device import dtype_of, name_of
from searchkit.tasks import Generated
from searchkit.training import LTP, AdapLeR, FineTune, InputReducer, LengthDrop, Transkimmer
from searchkit.training import trainer as trainer_module
from searchkit.training.cache import Trained, fingerprint, train
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet
from tests.disks import disk

TASK = Generated(train=64, search=20, report=20)
SCRATCH = Scratch(layers=2, width=8, heads=2, feed_forward=8)
SUPERNET = Supernet(SCRATCH, FineTune(epochs=1, learning_rate=1e-2))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(cache: Path, supernet: Supernet = SUPERNET, **settings: Any) -> Trained:
    return train(supernet, TASK, TASK.tables(0), seed=0, cache=cache, device=CPU, **settings)


def record(supernet: Trained) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((supernet.folder / "searchkit.json").read_text())
    return found


def same_weights(first: Trained, second: Trained) -> bool:
    ours, theirs = (load_file(one.folder / "model.safetensors") for one in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_number_format_reaches_the_training_and_is_kept(tmp_path: Path) -> None:
    fp32, bf16 = trained(tmp_path, dtype="fp32"), trained(tmp_path, dtype="bf16")
    assert record(fp32)["dtype"] == "fp32"
    assert record(bf16)["dtype"] == "bf16"
    assert fp32.fingerprint != bf16.fingerprint
    assert not same_weights(fp32, bf16)


def test_the_devices_own_format_is_what_auto_trains_in(tmp_path: Path) -> None:
    own = name_of(dtype_of("auto", CPU))
    by_default, on_purpose = trained(tmp_path / "a"), trained(tmp_path / "b", dtype=own)
    assert record(by_default)["dtype"] == own
    assert same_weights(by_default, on_purpose)


def test_no_supernet_is_trained_again_for_a_format_that_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = name_of(dtype_of("auto", CPU))
    by_default, on_purpose = trained(tmp_path / "a"), trained(tmp_path / "b", dtype=own)
    monkeypatch.setattr(FineTune, "train", None)  # would fail if it were called
    assert trained(tmp_path / "a", dtype=own) == by_default
    assert trained(tmp_path / "b") == on_purpose


def test_a_run_goes_on_with_the_supernet_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fp32, bf16 = trained(tmp_path, dtype="fp32"), trained(tmp_path, dtype="bf16")
    monkeypatch.setattr(FineTune, "train", None)
    assert trained(tmp_path, dtype="bf16", began_with=fp32.fingerprint) == fp32
    assert trained(tmp_path, dtype="fp32", began_with=bf16.fingerprint) == bf16
    assert trained(tmp_path, dtype="fp32", began_with="../of another kind") == fp32


def test_half_precision_takes_a_supernet_and_never_trains_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("searchkit.reduction.device.dtype_of", lambda name, device: torch.float16)
    with pytest.raises(StudyError, match="--dtype fp16 is for the search alone: train first, with --dtype bf16"):
        trained(tmp_path, dtype="fp16")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    fp32 = trained(tmp_path, dtype="fp32")
    monkeypatch.setattr("searchkit.reduction.device.dtype_of", lambda name, device: torch.float16)
    assert trained(tmp_path, dtype="fp16") == fp32


def test_threads_reach_the_training_are_kept_and_are_the_processes_own_again(tmp_path: Path) -> None:
    seen = set()

    def watch(*_: Any) -> None:
        seen.add(torch.get_num_threads())

    assert record(trained(tmp_path, threads=2, progress=watch))["threads"] == [2]
    assert seen == {2}
    assert torch.get_num_threads() == 1
    assert record(trained(tmp_path / "other"))["threads"] == [1]


def test_a_training_that_goes_on_keeps_its_format_and_names_all_threads(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(phase: str, done: int, total: int, note: str = "") -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        trained(tmp_path, threads=2, progress=stop)
    (begun,) = tmp_path.glob("*.partial/conditions.json")
    other = "fp32" if json.loads(begun.read_text())["dtype"] == "bf16" else "bf16"  # as on another machine
    begun.write_text(json.dumps({**json.loads(begun.read_text()), "dtype": other}))
    found = record(trained(tmp_path))
    assert found["threads"] == [2, 1]
    assert found["dtype"] == other


def test_settings_of_the_processors_arithmetic_are_kept_and_others_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert record(trained(tmp_path))["arithmetic"] == ["MKL_CBWR=COMPATIBLE"]
    trained(tmp_path)
    assert "arithmetic" not in caplog.text
    monkeypatch.delenv("MKL_CBWR")
    trained(tmp_path)
    assert "trained with other settings of the processor's arithmetic (MKL_CBWR=COMPATIBLE; here none)" in caplog.text


def test_a_supernet_of_the_cache_says_when_it_was_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = record(trained(tmp_path, dtype="fp32"))
    lines: list[str] = []
    with caplog.at_level(logging.INFO):
        trained(tmp_path, dtype="fp32", progress=lambda phase, done, total, note="": lines.append(note))
    line = f"from the cache, trained on {first['trained_on']}, in fp32, with 1 thread"
    assert lines == [f"supernet {line}"]
    assert line in caplog.text


SECOND = """
import sys
from pathlib import Path
from tests.training.test_cache import trained
print(trained(Path(sys.argv[1]), progress=lambda *line: print(*line, flush=True)).fingerprint)
"""


def test_a_second_process_waits_for_the_first_ones_training(tmp_path: Path) -> None:
    other: subprocess.Popen[str] | None = None
    waited = False

    def start_another(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal other, waited
        if other is None:
            other = subprocess.Popen([sys.executable, "-c", SECOND, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            assert other.stdout
            waited = "another process trains this supernet" in other.stdout.readline()

    first = trained(tmp_path, progress=start_another)
    assert waited
    assert other
    rest, _ = other.communicate(timeout=60)
    assert "train finetune" not in rest
    assert rest.splitlines()[-1] == first.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == [first.fingerprint]


def test_a_process_that_is_killed_while_it_trains_leaves_the_training_to_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SECOND, str(tmp_path)], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout
        assert killed.stdout.readline().startswith("train finetune 1")
        killed.kill()
    begin = time.monotonic()
    trained(tmp_path)
    assert time.monotonic() - begin < 30
    assert len(list(tmp_path.iterdir())) == 1


LIBRARIES: dict[str, Exception] = {
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 61376 vs 61268"),
    "C++ streams": RuntimeError("basic_ios::clear: iostream error"),
    "safetensors": Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    "Python": OSError(errno.ENOSPC, "No space left on device"),
    "a quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
}


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_full_disk_is_one_line_whatever_library_meets_it(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = trained(tmp_path / "other")
    save = trainer_module.trainer_of

    def full(*given: Any) -> Any:
        made = save(*given)
        made._save_checkpoint = lambda *_, **__: (_ for _ in ()).throw(LIBRARIES[library])
        return made

    with monkeypatch.context() as patched:
        patched.setattr("searchkit.training.loop.trainer_of", full)
        with pytest.raises(StoreError, match=r"cannot write in .*partial: (No space left|Disk quota).*make room"):
            trained(tmp_path)
    assert same_weights(trained(tmp_path), undisturbed)


def test_a_disk_without_room_for_saliency_is_one_line_and_no_signal(tmp_path: Path) -> None:
    model = trained(tmp_path / "large").folder
    with disk(tmp_path / "small", mib=1) as small, small.full(spare_bytes=150_000):
        adapler = AdapLeR(epochs=1, start=FineTune(epochs=0))
        task = Generated(train=2000, search=20, report=20)
        with pytest.raises(StoreError, match=r"(No space left on device|File too large); make room"):
            train(
                Supernet(str(model), adapler),
                task,
                task.tables(0),
                seed=0,
                cache=small.folder / "cache",
                device=CPU,
            )


def test_an_error_of_a_recipe_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Broken(FineTune):
        def train(self, *_: Any) -> None:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        trained(tmp_path, Supernet(SCRATCH, Broken()))


LAUNCHERS = {
    "a notebook under torchrun": {"LOCAL_RANK": "0"},
    "two processes": {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"},
    "mpirun": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "MASTER_ADDR": "localhost"},
    "mixed precision": {"ACCELERATE_MIXED_PRECISION": "fp16"},
    "accumulation": {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
    "FSDP": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"},
    "DeepSpeed": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    "a compiler": {"ACCELERATE_DYNAMO_BACKEND": "inductor"},
    "trackers": {"WANDB_PROJECT": "mine", "COMET_MODE": "online", "MLFLOW_TRACKING_URI": "http://localhost:1"},
    "Kubeflow": {"KUBEFLOW_TRAINER_SERVER_URL": "https://localhost:1"},
}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = trained(tmp_path_factory.mktemp("calm"))
    torch.set_num_threads(threads)
    return made


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_variables_of_launchers_and_trackers_change_nothing(
    launcher: str, calm: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert same_weights(trained(tmp_path), calm)
    assert dict(os.environ) == before


def test_a_supernet_given_as_model_brings_no_thresholds_of_its_own_recipe(tmp_path: Path) -> None:
    first = trained(tmp_path, Supernet(SCRATCH, LTP(epochs=1, hard_epochs=0, start=None)))
    assert "thresholds" in first.notes
    again = trained(tmp_path, Supernet(str(first.folder), LengthDrop(epochs=1, start=None)))
    assert again.notes == {}


def test_predictors_that_a_recipe_does_not_train_are_dropped_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = trained(tmp_path, Supernet(SCRATCH, LengthDrop(epochs=1, start=None, input=InputReducer(hidden=4))))
    assert first.notes["predictors"] == {"input": {"hidden": 4}}
    plain = trained(tmp_path, Supernet(str(first.folder), FineTune(epochs=1)))
    assert plain.notes == {}
    assert not (plain.folder / "predictors.safetensors").exists()
    assert "FineTune: the model's input of an earlier training are dropped" in caplog.text


def test_predictors_of_other_settings_begin_anew_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def gates(model: str | Scratch, width: int) -> Trained:
        return trained(tmp_path, Supernet(model, Transkimmer(epochs=1, width=width, bias=2.0, start=None, distil=0.0)))

    first = gates(SCRATCH, 4)
    wider = gates(str(first.folder), 6)
    assert wider.notes["predictors"] == {"gate": {"hidden": 6, "bias": 2.0}}
    assert {tuple(weight.shape) for name, weight in load_file(wider.folder / "predictors.safetensors").items()} >= {
        (6, 8)
    }
    assert "predictors 'gate' of the model begin anew" in caplog.text


def test_a_model_that_is_fine_tuned_already_is_taken_as_it_is(tmp_path: Path) -> None:
    first = trained(tmp_path)
    taken = trained(tmp_path, Supernet(str(first.folder), FineTune(epochs=0)))
    assert same_weights(taken, first)
    assert taken.fingerprint != first.fingerprint


def test_a_model_of_new_weights_cannot_be_taken_as_it_is() -> None:
    with pytest.raises(StudyError, match="Scratch has learnt nothing yet"):
        Supernet(SCRATCH, FineTune(epochs=0))
    Supernet(SCRATCH, LengthDrop(epochs=1, start=FineTune(epochs=0)))


def test_the_fingerprint_of_before_still_finds_a_supernet_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trained(tmp_path)
    old = {
        key: value for key, value in record(first).items() if key not in ("dtype", "threads", "device", "trained_on")
    }
    (first.folder / "searchkit.json").write_text(json.dumps(old))
    monkeypatch.setattr(FineTune, "train", None)
    assert trained(tmp_path).folder == tmp_path / fingerprint(SUPERNET, TASK, 0)
