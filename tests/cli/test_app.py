"""The command line as its users meet it: exit codes, what it writes, and one line per mistake."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import pandas as pd
import pytest
import typer

from searchkit.cli import app as cli
from searchkit.runs.study_file import load
from tests.studies import SMALL, small_study
from tests.supernets import Supernets

ROOT = Path(__file__).parents[2]
LOCAL = """
from objectives import accuracy, macs
from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
from searchkit.tasks import TextClassification
from searchkit.training import FineTune


def study(data: str = "data", model: str = "", text: str = "text", max_length: int = 32) -> Study:
    return Study(
        name="local",
        task=TextClassification(data, text=text, max_length=max_length),
        supernet=Supernet(model or Scratch(layers=2, width=8, heads=2, feed_forward=8), recipe=FineTune(epochs=1)),
        space=Space(Lengths(levels=3)),
        objectives=[accuracy, macs],
        engine=NSGA2(population=4),
        budget=Budget(evaluations=4),
    )
"""


Written = subprocess.CompletedProcess[str]


class Command(Protocol):
    def __call__(self, folder: Path, *arguments: str) -> Written: ...


@pytest.fixture
def searchkit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process, because a process for each call would take minutes."""

    def call(folder: Path, *arguments: str) -> Written:
        with monkeypatch.context() as patched:
            patched.chdir(folder)
            for name, value in {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}.items():
                patched.setenv(name, value)
            patched.setattr(sys, "argv", ["searchkit", *arguments])
            capsys.readouterr()
            with pytest.raises(SystemExit) as stopped:
                cli.main()
        written = capsys.readouterr()
        return Written(arguments, int(stopped.value.code or 0), written.out, written.err)

    return call


def in_a_process(folder: Path, *arguments: str) -> Written:
    environment = os.environ | {"COLUMNS": "200", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "searchkit", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def without_loading(text: str) -> list[str]:
    """The lines but those that a slow machine writes while libraries load."""
    return [line for line in text.splitlines() if not line.startswith("prepare:")]


def write_data(folder: Path, **splits: pd.DataFrame) -> Path:
    folder.mkdir(exist_ok=True)
    for split, table in splits.items():
        table.to_csv(folder / f"{split}.csv", index=False)
    return folder


def rows(n: int = 40, labels: int = 2) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"word{i % 7} and more" for i in range(n)], "label": [i % labels for i in range(n)]})


def a_hub_name_offline(folder: Path) -> list[str]:
    return ["-p", "model=nobody/nothing"]


def too_long_for_the_encoder(folder: Path) -> list[str]:
    _saved(folder)
    return ["-p", "model=./model", "-p", "max_length=4096"]


def _saved(folder: Path) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    from searchkit.tasks.words import word_tokenizer

    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=40,
        num_labels=2,
    )
    BertForSequenceClassification(config).save_pretrained(folder / "model")
    word_tokenizer([f"word{i}" for i in range(7)]).save_pretrained(folder / "model")
    return folder / "model"


MISTAKES: dict[Callable[[Path], list[str]], str] = {
    a_hub_name_offline: "without network access give a local folder",
    too_long_for_the_encoder: "40",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    tmp_path: Path,
    mistake: Callable[[Path], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that need a model; tests/faults has the others. In a process of its own one is checked below."""
    write_data(tmp_path / "data", train=rows(), validation=rows(12), test=rows(12))
    study = small_study(tmp_path, LOCAL)
    arguments = mistake(tmp_path)
    before = sorted(path for path in tmp_path.rglob("*") if "runs" not in path.parts)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["searchkit", "run", str(study), *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1, said
    assert MISTAKES[mistake] in said[0]
    assert "secret" not in said[0]
    assert (
        sorted(path for path in tmp_path.rglob("*") if "runs" not in path.parts and "__pycache__" not in path.parts)
        == before
    )


def test_a_mistake_in_a_process_of_its_own(tmp_path: Path) -> None:
    result = in_a_process(tmp_path, "run", "nothing.py")
    assert (result.returncode, result.stdout) == (2, "")
    assert without_loading(result.stderr) == ["error: nothing.py: there is no such study file"]


def test_a_read_only_runs_folder_is_one_line(tmp_path: Path) -> None:
    """As root too: without the capability to override permissions, root is refused like anybody."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write to read-only folders, and setpriv, which would take that right away, is not here")
    powerless = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"] if os.geteuid() == 0 else []
    study = small_study(tmp_path)
    (tmp_path / "runs").mkdir(mode=0o500)
    command = [*powerless, sys.executable, "-m", "searchkit", "run", str(study)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert result.returncode == 2, result.stderr
    assert without_loading(result.stderr) == ["error: runs/small: cannot write there: Permission denied"]
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_misspelt_command_suggests_the_right_one(tmp_path: Path, searchkit: Command) -> None:
    result = searchkit(tmp_path, "rnu", "x.py")
    assert result.returncode == 2
    assert "run" in result.stderr
    assert "Did you mean" in result.stderr or "did you mean" in result.stderr


def test_help_names_every_command_and_teaches_a_first_one(tmp_path: Path, searchkit: Command) -> None:
    text = searchkit(tmp_path, "--help").stdout
    for command in ("train", "run", "status", "report", "pick", "verify", "copy", "restore"):
        assert re.search(rf"\b{command}\b", text)
    assert "searchkit run studies/quickstart.py" in text


@pytest.fixture
def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit code, output, errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["searchkit", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        written = capsys.readouterr()
        return int(stopped.value.code or 0), written.out, written.err

    return call


Call = Callable[..., tuple[int, str, str]]


def test_the_version_is_that_of_the_package(called: Call) -> None:
    assert called("--version") == (0, f"searchkit {version('searchkit')}\n", "")


@pytest.mark.parametrize(("old", "new"), [("export", "copy RUN --to"), ("import", "restore STUDY --from")])
def test_a_former_name_of_a_command_is_refused_with_the_new_one(called: Call, old: str, new: str) -> None:
    code, out, err = called(old, "runs/small", "--to", "x.db", "--storage", "y.db")
    assert (code, out) == (2, "")
    assert err == f"error: searchkit {old} is called searchkit {new} STORAGE now\n"


def test_every_command_shows_an_example_that_its_own_options_allow(called: Call) -> None:
    from searchkit.cli.app import _COMMANDS, app

    for name, (_, example) in _COMMANDS.items():
        code, out, _ = called(name, "--help")
        assert code == 0
        assert "Example: searchkit" in " ".join(out.split())
        words = shlex.split(example)
        assert words[:2] == ["searchkit", name]
        group = typer.main.get_command(app)
        assert isinstance(group, typer.core.TyperGroup)
        group.commands[name].make_context(name, words[2:])


# in one process, since each takes seconds to start
ONE_AFTER_THE_OTHER = """
import json, sys
from searchkit.cli.app import main

for command in json.loads(sys.argv[1]):
    sys.argv = ["searchkit", *command]
    try:
        main()
    except SystemExit as ended:
        print("code", ended.code or 0, flush=True)
"""


def test_a_terminal_without_unicode_gets_plain_signs(tmp_path: Path, with_trained: Supernets) -> None:
    study = small_study(tmp_path, SMALL)
    with_trained(tmp_path / "runs", load(study).study)
    ascii_only = {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "60"}
    environment = os.environ | ascii_only | {"OMP_NUM_THREADS": "1"}
    commands = [["run", str(study), "-p", "evaluations=8", "--threads", "1"], ["status", "runs/small"]]
    result = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps(commands)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    assert b"\x1b" not in result.stdout + result.stderr
    run, status = result.stdout.split(b"code 0\n")[:2]
    for shown in (run, status):
        assert b" +- 0.0" in shown
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_commands_work_one_after_the_other(tmp_path: Path, searchkit: Command) -> None:
    study = small_study(tmp_path, SMALL)
    for command, shown in {
        ("train", str(study)): "supernet runs/supernets/",
        ("run", str(study), "-p", "evaluations=9", "--threads", "1"): "front.csv, summary.json",
        ("status", "runs/small"): "9 of 9 evaluations",
        ("report", "runs/small"): "report.html, front.csv, summary.json",
        ("report", "runs/small", "--html"): "the page is in runs/small/report.html",
        ("report", "runs/small", "./runs/small", "--html", "--to", "both.html"): "the page is in both.html",
        ("verify", "runs/small", "--again", "2", "--threads", "1"): "replayed 9 asks",
    }.items():
        result = searchkit(tmp_path, *command)
        assert result.returncode == 0, result.stderr
        assert shown in result.stdout
    one, both = ((tmp_path / file).read_text() for file in ("runs/small/report.html", "both.html"))
    members = len(pd.read_csv(tmp_path / "runs" / "small" / "front.csv"))
    assert [len(re.findall('<tr [^>]*class="member"', page)) for page in (one, both)] == [members, 2 * members]
    assert "share of its MACs" in one
    status = searchkit(tmp_path, "status", "runs/small").stdout
    assert "generation by generation: 1 done, of 8 candidates each" in status
    assert "ended: 9 evaluations are made" in status


def test_the_prefix_cache_is_set_shown_and_changes_no_value(
    tmp_path: Path, searchkit: Command, with_trained: Supernets
) -> None:
    stored = []
    for mib in ("0", "3"):
        home = tmp_path / mib
        home.mkdir()
        study = small_study(home, SMALL)
        with_trained(home / "runs", load(study).study)
        result = searchkit(home, "run", str(study), "-p", "evaluations=16", "--threads", "1", "--cache-mib", mib)
        assert result.returncode == 0, result.stderr
        assert f"up to {mib} MiB per worker" in searchkit(home, "status", "runs/small").stdout
        stored.append(pd.read_parquet(home / "runs" / "small" / "trials.parquet").filter(regex="accuracy|macs"))
    pd.testing.assert_frame_equal(*stored)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b"], "searchkit report: --to, and several runs, are for the page: add --html"),
        (["a", "--to", "x.html"], "searchkit report: --to, and several runs, are for the page: add --html"),
        (["a", "b", "--html"], "searchkit report --html: a page of several runs needs --to FILE"),
        (["a", "--html"], "a: not a run folder: it has no study.json"),
    ],
)
def test_a_mistake_in_report_is_one_line(
    tmp_path: Path, searchkit: Command, arguments: list[str], message: str
) -> None:
    result = searchkit(tmp_path, "report", *arguments)
    assert result.returncode == 2
    assert result.stderr.strip().endswith(message)
    assert not list(tmp_path.iterdir())


QUICK = "batches=2, rounds=3, width=0.5, min_round_interval_s=0, budget_s=0.1"


def timed_study(home: Path, latency: str) -> Path:
    """The small study with latency as its second objective, or as one of the front."""
    text = SMALL.replace("import accuracy, macs", "import accuracy, latency, macs")
    return small_study(home, text.replace("[accuracy, macs]", latency))


@pytest.mark.usefixtures("hurried")
def test_a_front_is_measured_again_in_another_setting_and_both_are_kept(
    tmp_path: Path, searchkit: Command, with_trained: Supernets
) -> None:
    study = timed_study(tmp_path, f"[accuracy, macs], front_objectives=[latency({QUICK})]")
    with_trained(tmp_path / "runs", load(study).study)
    assert searchkit(tmp_path, "run", str(study), "-p", "evaluations=9", "--threads", "1").returncode == 0
    before = (tmp_path / "runs" / "small" / "front.csv").read_bytes()
    for size in ("1", "4"):
        result = searchkit(tmp_path, "measure", "runs/small", "--batch-size", size, "--threads", "1")
        assert result.returncode == 0, result.stderr
        assert f"ms at batch {size}" in result.stdout
        assert "times unreduced" in result.stdout
    kept = sorted((tmp_path / "runs" / "small" / "measured").glob("*.csv"))
    assert len(kept) == 2
    for table in kept:
        frame = pd.read_csv(table)
        assert set(frame["fingerprint"].astype(str)) == {table.stem}
        assert json.loads(frame["candidate"][0]) == {"baseline": "unreduced"}
        assert (frame["latency_ratio_low"] <= frame["latency_ratio_high"]).all()
        about = json.loads(table.with_suffix(".json").read_text())
        assert {"device", "threads", "dtype", "torch", "clock", "energy", "batch_size"} <= about["setting"].keys()
    assert (tmp_path / "runs" / "small" / "front.csv").read_bytes() == before
    assert searchkit(tmp_path, "report", "runs/small", "--html").returncode == 0
    page = (tmp_path / "runs" / "small" / "report.html").read_text()
    assert [page.count(f'<th scope="col" aria-sort="none" data-name="latency@{table.stem}"') for table in kept] == [
        1,
        1,
    ]
    again = searchkit(tmp_path, "measure", "runs/small", "--batch-size", "4", "--threads", "1")
    assert pd.read_csv(kept[0]).equals(pd.read_csv(kept[0]))
    assert again.returncode == 0


@pytest.mark.usefixtures("hurried")
def test_times_of_another_setting_do_not_join_a_run(
    tmp_path: Path, searchkit: Command, with_trained: Supernets
) -> None:
    study = timed_study(tmp_path, f"[accuracy, latency({QUICK})]")
    with_trained(tmp_path / "runs", load(study).study)
    assert searchkit(tmp_path, "run", str(study), "-p", "evaluations=8", "--threads", "1").returncode == 0
    result = searchkit(tmp_path, "run", str(study), "-p", "evaluations=16", "--threads", "2")
    assert result.returncode == 2
    assert "has values of threads 1, and --threads 2 would mix others" in " ".join(result.stderr.split())
    assert searchkit(tmp_path, "run", str(study), "-p", "evaluations=16", "--threads", "1").returncode == 0


@pytest.mark.usefixtures("hurried")
def test_a_modelled_latency_is_calibrated_once_and_the_front_is_measured(
    tmp_path: Path, searchkit: Command, with_trained: Supernets
) -> None:
    study = timed_study(tmp_path, f"[accuracy, latency({QUICK}, during_search='modelled')]")
    with_trained(tmp_path / "runs", load(study).study)
    for evaluations in ("8", "16"):
        result = searchkit(tmp_path, "run", str(study), "-p", f"evaluations={evaluations}", "--threads", "1")
        assert result.returncode == 0, result.stderr
    table = json.loads((tmp_path / "runs" / "small" / "calibration.json").read_text())["latency"]
    assert table["held_out"] >= 5
    front = json.loads((tmp_path / "runs" / "small" / "summary.json").read_text())["front"]
    assert front
    assert all(member["search"]["latency"]["beside"]["modelled"] == 1 for member in front)
    assert all(member["report"]["latency"]["beside"]["rounds"] >= 3 for member in front)
    study.write_text(study.read_text().replace(", during_search='modelled'", ""))
    assert "another study" in searchkit(tmp_path, "run", str(study), "--threads", "1").stderr
    study.write_text(study.read_text().replace("width=0.5", "width=0.5, during_search='modelled'"))
    (tmp_path / "runs" / "small" / "calibration.json").write_text('{"latency"')
    torn = searchkit(tmp_path, "run", str(study), "-p", "evaluations=24", "--threads", "1")
    assert torn.returncode == 2
    assert "calibration.json: not a table of latency" in " ".join(torn.stderr.split())


def test_measuring_a_run_that_times_nothing_says_what_to_add(
    tmp_path: Path, searchkit: Command, with_trained: Supernets
) -> None:
    study = small_study(tmp_path)
    with_trained(tmp_path / "runs", load(study).study)
    assert searchkit(tmp_path, "run", str(study), "-p", "evaluations=8", "--threads", "1").returncode == 0
    result = searchkit(tmp_path, "measure", "runs/small")
    assert result.returncode == 2
    assert "add latency() to its front_objectives" in " ".join(result.stderr.split())
