"""A run goes on in its number format and with its threads, or is refused before anything is written."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from searchkit.errors import StudyError
from searchkit.reduction.device import dtype_of
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.opening import opened
from searchkit.runs.phases import execute
from searchkit.runs.session import Session
from searchkit.runs.study_file import load
from tests.studies import small_study

FP32 = {"dtype": "fp32", "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight candidates in fp32 with one thread, as asked for by option."""
    folder = tmp_path_factory.mktemp("numerics")
    execute(load(small_study(folder), {"evaluations": "8"}), Conditions(runs=folder / "runs", **FP32))
    return folder


def again(home: Path, runs: Path, evaluations: int = 8, **changed: object) -> Session:
    """The session of the same study, under conditions that differ as said."""
    conditions = replace(Conditions(runs=runs, **FP32), **changed)  # type: ignore[arg-type]
    return Session(load(home / "small_study.py", {"evaluations": str(evaluations)}), conditions)


def refused(session: Session) -> str:
    with pytest.raises(StudyError) as told, opened(session):
        pass
    return str(told.value)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose own number format is bf16."""
    monkeypatch.setattr("searchkit.reduction.device.fast_in_bf16", lambda _: True)


@pytest.mark.parametrize("recorded", [True, False], ids=["of today", "of before"])
def test_another_format_or_number_of_threads_is_refused_and_changes_nothing(
    home: Path, tmp_path: Path, recorded: bool
) -> None:
    runs = shutil.copytree(home / "runs", tmp_path / "runs")
    file = runs / "small/study.json"
    if not recorded:
        record = json.loads(file.read_text())
        file.write_text(json.dumps({name: record[name] for name in record if name not in ("options", "numerics")}))
    before = file.read_bytes()
    line = refused(again(home, runs, dtype="bf16"))
    assert f"{runs}/small has values of dtype fp32, and --dtype bf16 would mix others with them" in line
    assert "go on with --dtype fp32, or begin a run of its own under another name or --runs folder" in line
    assert "\n" not in line
    line = refused(again(home, runs, threads=2))
    assert "has values of threads 1, and --threads 2 would mix others with them: go on with --threads 1" in line
    assert file.read_bytes() == before
    with opened(again(home, runs)):
        pass


def test_a_format_that_was_asked_for_is_not_left_by_auto(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = shutil.copytree(home / "runs", tmp_path / "runs")
    monkeypatch.setattr("searchkit.reduction.device.fast_in_bf16", lambda _: False)
    with opened(again(home, runs, dtype="auto")):
        pass  # the same format here
    assert json.loads((runs / "small/study.json").read_text())["options"][-2:] == ["--dtype", "fp32"]
    elsewhere(monkeypatch)
    assert "--dtype auto (here bf16) would mix" in refused(again(home, runs, dtype="auto"))


def test_what_auto_chooses_elsewhere_goes_on_and_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = shutil.copytree(home / "runs", tmp_path / "runs")
    file = runs / "small/study.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "options": []}))  # begun with auto
    elsewhere(monkeypatch)
    session = again(home, runs, 12, dtype="auto")
    with caplog.at_level(logging.WARNING):
        results = execute(session.loaded, session.conditions)
    assert "has values of dtype fp32, and goes on with bf16, which is the choice of --dtype auto here" in caplog.text
    assert {trial.environment["dtype"] for trial in results.trials} == {"fp32", "bf16"}
    assert results.environment["dtype"] == "mixed"


def test_threads_that_nobody_asks_for_any_more_are_told(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs, own = shutil.copytree(home / "runs", tmp_path / "runs"), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with caplog.at_level(logging.WARNING), opened(again(home, runs, threads=0)):
            pass
    finally:
        torch.set_num_threads(own)
    assert "has values of threads 1, and goes on with 3, which is the choice of --threads 0 here" in caplog.text


def test_a_run_without_values_takes_any(home: Path, tmp_path: Path) -> None:
    with opened(again(home, tmp_path / "runs")):
        pass
    with opened(again(home, tmp_path / "runs", dtype="bf16", threads=2)):
        pass
    assert Folder(tmp_path / "runs/small").read()["options"] == ["--device", "cpu", "--dtype", "bf16", "--threads", "2"]


def test_the_options_of_conditions_are_those_that_the_command_line_takes() -> None:
    from typer.main import get_command

    from searchkit.cli.app import app

    given = Conditions(
        workers=2,
        device="cpu",
        dtype="fp32",
        threads=3,
        ray_address="auto",
        cpus_per_worker=2,
        gpus_per_worker=0,
        custom={"A100": 1, "disk": 0.5},
        deadline_s=60.0,
        cache_mib=0,
    )
    run = get_command(app).commands["run"]  # type: ignore[attr-defined]
    parsed = run.make_context("run", ["study.py", *given.words()]).params
    assert parsed["resource"] == ["A100=1", "disk=0.5"]
    known = ("device", "dtype", "threads", "ray_address", "cpus_per_worker", "gpus_per_worker", "cache_mib")
    assert {name: parsed[name] for name in known} == {name: getattr(given, name) for name in known}
    assert parsed["deadline"] == 60
    assert Conditions().words() == []


@pytest.mark.parametrize(
    ("flags", "name", "fast"),
    [
        ({"amx_bf16", "avx512_bf16"}, "Intel Xeon", True),
        ({"avx512_bf16"}, "Intel Xeon", False),
        ({"avx512_bf16"}, "AMD EPYC", True),
        (set[str](), "AMD EPYC", False),
    ],
)
def test_the_format_of_a_processor_is_the_faster_one(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], name: str, fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {**dict.fromkeys(flags, True), "cpu_name": name})
    assert dtype_of("auto", torch.device("cpu")) == (torch.bfloat16 if fast else torch.float32)
