"""The command that verifies a GPU: all of it at a tiny size on the CPU, also where most libraries are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import checks, kernels, passes
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.checks import CannotRunError, Check, Figures, TimeUp, run_all
from benchmarks.gpu.made import SMOKE, Setting
from searchkit.errors import StudyError
from searchkit.reduction import flash

ROOT = Path(__file__).parents[2]
ABSENT = "ray,optuna,pymoo,datasets,accelerate,moocore,matplotlib,rich,typer,torchmetrics"
SETTING = Setting(torch.device("cpu"), SMOKE, smoke=True)


def bare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process for which the absent libraries are not installed."""
    (folder / "sitecustomize.py").write_text(Path(__file__).with_name("without.py").read_text())
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "ABSENT": ABSENT, "OUT": str(folder)}
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("bare")
    done = bare(folder, "verify", "--smoke")
    return done, json.loads((folder / "gpu_verify.json").read_text())


def test_verify_runs_without_the_libraries_of_a_search(verified: Any) -> None:
    done, record = verified
    assert done.returncode == 0, done.stdout + done.stderr
    found = record["figures"]["checks"]
    assert [name for name, check in found.items() if check["outcome"] == "FAILED"] == []
    assert found["training.lengthdrop"]["why"] == "accelerate is not installed"
    assert record["conditions"]["ray"] is None
    assert record["conditions"]["device"] == "cpu"


def test_verify_checks_every_family_on_a_cpu_too(verified: Any) -> None:
    found = verified[1]["figures"]["checks"]
    for family in ("bert", "distilbert", "roberta", "electra", "modernbert"):
        for head in ("classification", "question_answering"):
            for dtype in ("fp32", "bf16"):
                figures = found[f"passes.{family}.{head}.{dtype}"]["figures"]
                assert figures["choices"] > 100
                assert figures["logits"] <= figures["logits_limit"]
    cannot = {name for name, check in found.items() if check["outcome"] == "skipped"}
    on_gpus = {name for name in found if name.endswith(".fp16") or "varlen_attn" in name or "smaller_batches" in name}
    assert cannot <= on_gpus | {"training.lengthdrop", "energy", "kernels.column_sums.bf16"}


def test_each_check_prints_a_line(verified: Any) -> None:
    done, record = verified
    *lines, last = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(record["figures"]["checks"])
    assert last == "{ok} ok, {failed} failed, {skipped} skipped".format(**record["figures"])


def test_speed_measures_everything_at_a_tiny_size(tmp_path: Path) -> None:
    assert main(["speed", "--smoke", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "gpu_speed.json").read_text())["figures"]["checks"]
    assert {name.split(".")[0] for name, check in found.items() if check["outcome"] == "ok"} == {
        *("products", "realised", "search", "training", "where_the_time_goes")
    }
    assert found["runtimes.compiled_pass"]["why"] == "searchkit has no compiled pass yet"
    row = found["realised.tiny.16.4"]["figures"]["rows"][0]
    assert row["macs_speedup"] > 1
    assert min(row["stock_ms"], row["unreduced_ms"], row["reduced_ms"]) > 0


def test_a_repeat_of_one_check_runs_that_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--smoke", "--only", "kernels.torch_sums.*", "--only", "repeat.fp32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [
        *(["ok", f"kernels.torch_sums.{dtype}"] for dtype in ("fp16", "bf16")),
        ["ok", "repeat.fp32"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "--smoke", "--only", "pases.bert"], "--only: unknown check 'pases.bert'"),
        (["verify", "--smoke", "--seconds", "0"], "--seconds must be above 0"),
        (["verify", "--smoke", "--seconds", "soon"], "argument --seconds: invalid float value: 'soon'"),
        (["verify", "--device", "tpu"], "--device 'tpu': expected auto, cpu, cuda or cuda:n"),
        (["train", "--smoke", "--task", "sst3"], "argument --task: invalid choice: 'sst3'"),
        (["train", "--smoke", "--task", "sst2"], "name a folder for the checkpoint with --out"),
        (["train", "--smoke", "--task", "sst2", "--minutes", "-1", "--out", "x"], "--minutes must be above 0"),
        (["join", "nowhere"], "nowhere: there is no checkpoint.json"),
        (["fly"], "invalid choice: 'fly'"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OUT", raising=False)
    try:
        code: Any = main(arguments)
    except SystemExit as error:
        code = error.code
    told = capsys.readouterr()
    assert code == 2
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 2
    assert "there is no GPU here; --smoke runs all of it" in capsys.readouterr().err


def fine(figures: Figures) -> None:
    figures.at_most("difference", 1e-7, 1e-5)


def wrong(figures: Figures) -> None:
    figures.at_most("difference", float("nan"), 1e-5)
    figures.holds("same_digits", False)


def impossible(figures: Figures) -> None:
    raise CannotRunError("no such device")


def broken(figures: Figures) -> None:
    raise ZeroDivisionError("a mishap\nof two lines")


def endless(figures: Figures) -> None:
    figures.tell(begun=True)
    while True:
        time.sleep(0.01)


def test_checks_fail_alone_and_say_why(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [fine, wrong, impossible, broken]
    every = [Check(kind.__name__, kind) for kind in kinds] + [Check("needy", fine, needs=("no_such_library",))]
    found = {one.name: (one.outcome, one.why) for one in run_all(every, 60, lambda found: None)}
    assert found == {
        "fine": ("ok", ""),
        "wrong": ("FAILED", "difference is nan, at most 1e-05 is allowed; not same_digits"),
        "impossible": ("skipped", "no such device"),
        "broken": ("FAILED", "ZeroDivisionError: a mishap of two lines"),
        "needy": ("skipped", "no_such_library is not installed"),
    }
    assert len(capsys.readouterr().out.splitlines()) == len(every)


def test_when_the_time_is_up_what_is_known_is_kept() -> None:
    kept: list[dict[str, Any]] = []
    every = [Check("fine", fine), Check("endless", endless), Check("late", fine)]
    run_all(every, 0.3, lambda found: kept.append(checks.figures_of(found)))
    last = kept[-1]["checks"]
    assert [check["outcome"] for check in last.values()] == ["ok", "skipped", "skipped"]
    assert last["endless"]["figures"] == {"begun": True}
    assert (last["endless"]["why"], last["late"]["why"]) == ("the time was up meanwhile", "the time was up before")
    assert len(kept) == 4  # after each check, and at the end


def test_time_that_is_up_is_no_fault_of_a_candidate() -> None:
    assert not issubclass(TimeUp, Exception)


def test_only_takes_names_and_patterns() -> None:
    every = [Check(name, fine) for name in ("a.b", "a.c", "d")]
    assert [check.name for check in checks.chosen(every, ["a.*", "d"])] == ["a.b", "a.c", "d"]
    with pytest.raises(StudyError, match=r"--only: unknown check 'e'"):
        checks.chosen(every, ["e"])


def test_a_weight_that_is_wrong_on_the_device_fails_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    right = passes.on_device

    def wrong(*given: Any) -> Any:
        model = right(*given)
        with torch.inference_mode():
            model.view.output.weight[0] *= 1.01
        return model

    monkeypatch.setattr(passes, "on_device", wrong)
    figures = Figures()
    passes.compare(figures, SETTING, "bert", "classification", "fp32")
    assert [text.split(" is ")[0] for text in figures.broken] == ["logits"] * len(figures.broken)
    assert figures.broken


def test_tokens_that_go_by_other_scores_are_no_near_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    from searchkit.reduction.attention import WrittenMap

    ours, right = passes.on_device("bert", "classification", "fp32", SETTING), WrittenMap.received
    exact = passes.reference("bert", "classification", "fp32", SMOKE)
    plan, given = passes.plans("classification", SMOKE.layers)["LengthDrop lengths"], passes.texts(SMOKE)
    expected = passes.choices(exact, given, plan)
    gone, distances = passes.parted(expected, passes.choices(ours, given, plan), len(SMOKE.texts))
    assert (gone.any(), distances) == (False, [])
    monkeypatch.setattr(WrittenMap, "received", lambda own: -right(own))
    gone, distances = passes.parted(expected, passes.choices(ours, given, plan), len(SMOKE.texts))
    assert gone.any()
    assert max(distances) > passes.TIES["fp32"]


def test_sums_that_are_wrong_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    right = flash.plain_sums
    monkeypatch.setattr(flash, "plain_sums", lambda *given: right(*given) * 1.02)
    figures = Figures()
    kernels.plain(figures, SETTING, "bf16")
    assert figures.broken[0].startswith("sums is 0.02")
