"""Input that means harm: no code of it runs, nothing is written outside the run's folder, nothing enters reports."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pickle
import shutil
import socket
import stat
import xml.etree.ElementTree as ElementTree
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from searchkit import Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit._internal.files import replace_whole
from searchkit.errors import StoreError, one_line
from searchkit.evaluate.baselines import baselines
from searchkit.objective import Objective
from searchkit.records import Ask
from searchkit.runs.config import Conditions
from searchkit.runs.phases import train_only
from searchkit.runs.study_file import load
from searchkit.storage.store import Store
from tests.faults.malformed import Said, files, study_file
from tests.figures import with_figures

# Pickles


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return open, (str(self.marker), "w")


def bomb(marker: Path, *, zipped: bool) -> bytes:
    """The bytes of a pickle, or of a file that torch saved."""
    if not zipped:
        return pickle.dumps(Bomb(marker))
    import torch

    buffer = io.BytesIO()
    torch.save(Bomb(marker), buffer)
    return buffer.getvalue()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What exists once code has run."""
    marker = tmp_path / "owned"
    with contextlib.suppress(Exception):
        pickle.loads(bomb(marker, zipped=False)).close()
    assert marker.exists(), "the bomb works"
    marker.unlink()
    return marker


PICKLES = (
    "pytorch_model.bin",
    "model.bin",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "vocab.pkl",
    "tokenizer.pkl",
    "predictors.bin",
    "train.pkl",
    "train.pt",
)


def plant(folder: Path, marker: Path) -> None:
    for number, name in enumerate(PICKLES):
        (folder / name).write_bytes(bomb(marker, zipped=bool(number % 2)))
    code = f"open({str(marker)!r}, 'w')\n"
    for name in ("modeling.py", "data.py", "train.py", "__init__.py", "setup.py", "tokenization.py"):
        (folder / name).write_text(code)


def test_pickles_and_code_beside_models_data_and_caches_stay_unread(
    finished: Path, tmp_path: Path, said: Said, marker: Path
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    cached = next(path.parent for path in (tmp_path / "runs" / "supernets").glob("*/searchkit.json"))
    shutil.copytree(cached, tmp_path / "model")
    (tmp_path / "model" / "searchkit.json").unlink()
    config = tmp_path / "model" / "config.json"
    code = {"auto_map": {"AutoConfig": "modeling.Mine", "AutoModelForSequenceClassification": "modeling.Mine"}}
    config.write_text(json.dumps(json.loads(config.read_text()) | code))
    settings = tmp_path / "model" / "tokenizer_config.json"
    code = {"auto_map": {"AutoTokenizer": ["tokenization.T", None]}}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | code))
    (tmp_path / "data").mkdir()
    rows = [{"text": f"word{i % 7}", "label": i % 2} for i in range(40)]
    (tmp_path / "data" / "train.json").write_text(json.dumps(rows))
    for folder in (tmp_path / "data", tmp_path / "model", cached, tmp_path / "runs" / "small"):
        plant(folder, marker)
    study = study_file(tmp_path)
    assert said.code("run", study, "-p", "evaluations=10", "--threads", "1")[0] == 0
    study_file(
        tmp_path,
        name="'other'",
        task="TextClassification('data', max_length=16)",
        supernet="Supernet('./model', FineTune(epochs=1))",
    )
    assert "the format of train.pkl is not read" in said.error("train", study)
    (tmp_path / "data" / "train.pkl").unlink()
    code, _, err = said.code("train", study)
    assert code == 0, err
    assert not marker.exists()


def interrupted(folder: Path) -> Path:
    """A training that stopped after some checkpoints; where they are."""

    def stop(phase: str, done: int, total: int, note: str = "") -> None:
        if done == 6:
            raise InterruptedError

    supernet = "Supernet(Scratch(layers=1, width=8, heads=2, feed_forward=8), recipe=FineTune(epochs=1, batch_size=8))"
    loaded = load(study_file(folder, supernet=supernet))
    with pytest.raises(InterruptedError):
        train_only(loaded, Conditions(runs=folder / "runs", device="cpu"), stop)
    (stage,) = (folder / "runs" / "supernets").glob("*.partial/finetune")
    assert len(list(stage.glob("checkpoint-*"))) == 2
    return stage


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "pytorch_model.bin", "scaler.pt"])
def test_a_training_goes_on_without_running_what_a_checkpoint_holds(
    tmp_path: Path, said: Said, marker: Path, name: str, zipped: bool
) -> None:
    for checkpoint in interrupted(tmp_path).glob("checkpoint-*"):
        (checkpoint / name).write_bytes(bomb(marker, zipped=zipped))
        if name == "pytorch_model.bin":
            (checkpoint / "model.safetensors").unlink()
    code, _, err = said.code("train", tmp_path / "small_study.py", "--device", "cpu")
    assert not marker.exists()
    assert code in (0, 2), err
    if code == 2:
        assert [line for line in err.splitlines() if line.startswith("error: ")], err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
def test_a_checkpoint_with_a_torn_part_is_left_out_and_the_weights_are_the_same(
    tmp_path: Path, said: Said, name: str
) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    weights = []
    for folder in (calm, rough):
        folder.mkdir()
        stage = interrupted(folder)
        if folder == rough:
            newest = max(stage.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
            content = (newest / name).read_bytes()
            (newest / name).write_bytes(content[: len(content) // 2])
        code, _, err = said.code("train", folder / "small_study.py", "--runs", folder / "runs", "--device", "cpu")
        assert code == 0, err
        weights.append(next((folder / "runs" / "supernets").glob("*/model.safetensors")).read_bytes())
    assert weights[0] == weights[1]


# Stores, records and what is made of them

TEXTS = (
    "<script>alert(1)</script>",
    "[red]markup[/red] [link=http://example.org]here[/link]",
    "\x1b[2J\x1b]0;owned\x07\x9b31m",
    "../../escape/\x00",
    "| a | `b`\n# heading\n![x](http://example.org/x.png)",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)",
    "\u202egnp.exe\u2028",
    "\ud800 half a letter",
    "x" * 20_000,
)


def unmeasurable(subject: object) -> Estimate:
    raise AssertionError


def hostile_run(folder: Path) -> Path:
    """A run folder whose every text is one of `TEXTS`."""
    run = folder / "runs" / "hostile"
    run.mkdir(parents=True)
    objectives = [
        Objective("accuracy", TEXTS[0] + TEXTS[1], "higher", unmeasurable),
        Objective("macs", TEXTS[2] + TEXTS[4] + "$x^2$", "lower", unmeasurable),
    ]
    name = "".join(TEXTS[:9])

    def trial(number: int, text: str, outcome: Any = None) -> Trial:
        values = {"accuracy": 0.5 + number / 100, "macs": 0.1 + number / 50}
        found = Measured({one: Estimate(value, 0.01, 100) for one, value in values.items()})
        candidate = Candidate.of({"choice": text, "number": number, text[:60]: 0.5})
        return Trial(Ask(number, candidate), outcome or found, 0.1, {"device": text[:80], text[:40]: 1})

    search = Store.open(str(run / "journal.log"), f"{name}-search", objectives)
    report = Store.open(str(run / "journal.log"), f"{name}-report", objectives)
    search.set_note("duplicates", {"search/report": TEXTS[0]})
    trials = [trial(number, text) for number, text in enumerate(TEXTS)]
    for one in trials:
        search.append(one)
        report.append(one)
    for number, one in enumerate(chain.from_iterable(baselines(2, 2).values()), start=100):
        report.append(Trial(Ask(number, one), trials[0].outcome, 0.1, {"device": TEXTS[1]}))
    for number, text in enumerate(TEXTS, start=20):
        search.append(trial(number, text, Failed(text[:200], text, text) if number % 2 else Pruned(text, number)))
    record = {
        "description": {"name": name, "seed": TEXTS[2]},
        "fingerprint": TEXTS[0],
        "file": f"{folder}/evil.py",
        "parameters": {"a": TEXTS[2]},
        "objectives": [one.describe() for one in objectives],
        "front_objectives": [],
        "layers": 2,
        "places": 2,
        "storage": None,
        "evaluations": 20,
        "cache_mib": TEXTS[1],
    }
    (run / "study.json").write_text(json.dumps(record))
    (folder / "evil.py").write_text(f"open({str(folder / 'owned')!r}, 'w')\n")
    return run


def test_a_hostile_store_is_shown_and_reported_as_the_text_it_is(tmp_path: Path, said: Said) -> None:
    run = hostile_run(tmp_path)
    before = files(tmp_path)
    code, shown, err = said.code("status", run)
    assert code == 0, err
    code, told, err = said.code("report", run)
    assert code == 0, err
    for text in (shown, told, err):
        assert not {letter for letter in text if not letter.isprintable()} - {"\n"}
        assert len(text) < 60_000
    assert "[red]markup[/red]" in shown
    assert "[link=http://example.org]" in shown
    after = files(tmp_path)
    assert not (tmp_path / "owned").exists(), "a report is made of records: no code runs"
    made = {name for name in after if after[name] != before.get(name)}
    assert {Path(name).parent for name in made} == {run.relative_to(tmp_path)}
    assert before.keys() <= after.keys()


def test_a_report_of_a_hostile_store_holds_no_markup_of_it(tmp_path: Path, said: Said) -> None:
    run = hostile_run(tmp_path)
    with with_figures():
        assert said.code("report", run)[0] == 0
    markdown = (run / "report.md").read_text()
    assert "\\<script\\>" in markdown
    assert "<script" not in markdown.replace("\\<", "")
    assert "![x]" not in markdown
    assert not {letter for letter in markdown if not letter.isprintable()} - {"\n"}
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert [line for line in headings if "Front" in line or "Baselines" in line] == ["## Front", "## Baselines"]
    assert len(headings) == 3
    for figure in ("pareto.svg", "hypervolume.svg"):
        tags = {element.tag.rsplit("}", 1)[-1] for element in ElementTree.parse(run / figure).iter()}
        assert not tags & {"script", "a", "image", "foreignObject"}
    json.loads((run / "summary.json").read_text())


def test_no_cell_of_a_table_for_spreadsheets_is_a_formula_and_parquet_holds_the_text_itself(
    tmp_path: Path, said: Said
) -> None:
    run = hostile_run(tmp_path)
    assert said.code("report", run)[0] == 0
    for name in ("front.csv", "baselines.csv"):
        with (run / name).open(newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                number = pd.to_numeric(pd.Series([cell]), errors="coerce").notna().item()
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert TEXTS[5] in set(pd.read_parquet(run / "front.parquet")["choice"])
    assert f"'{TEXTS[5]}" in set(pd.read_csv(run / "front.csv")["choice"])


def test_a_name_from_a_record_leads_nowhere(tmp_path: Path, said: Said) -> None:
    """The store's name of a study may be anything; files are those of the folder that was given."""
    run = hostile_run(tmp_path)
    record = json.loads((run / "study.json").read_text())
    record["description"]["name"] = "../../../escape"
    (run / "study.json").write_text(json.dumps(record))
    before = files(tmp_path)
    assert said.code("status", run)[0] == 0
    assert said.code("report", run)[0] == 2
    assert files(tmp_path) == before


# Files


def test_a_link_in_a_run_folder_is_replaced_and_what_it_led_to_stays(
    finished: Path, tmp_path: Path, said: Said
) -> None:
    shutil.copytree(finished / "runs", tmp_path / "runs")
    outside = tmp_path / "outside"
    outside.write_text("precious")
    run = tmp_path / "runs" / "small"
    for name in ("front.csv", "summary.json", "report.md", "pareto.png"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside)
    with with_figures():
        assert said.code("report", run)[0] == 0
    assert outside.read_text() == "precious"
    assert not (run / "front.csv").is_symlink()


def test_a_run_folder_may_be_a_link(finished: Path, tmp_path: Path, said: Said) -> None:
    """Whoever moves a run to another disk and leaves a link behind goes on with it."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    (tmp_path / "runs" / "small").rename(tmp_path / "disk")
    (tmp_path / "runs" / "small").symlink_to(tmp_path / "disk")
    assert said.code("report", tmp_path / "runs" / "small")[0] == 0
    code, _, err = said.code("run", study_file(tmp_path), "-p", "evaluations=10", "--threads", "1")
    assert code == 0, err


def test_a_file_planted_under_a_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / f".table.{socket.gethostname()}.{os.getpid()}.partial").symlink_to(outside)
    replace_whole(tmp_path / "table", b"new")
    assert outside.read_text() == "precious"
    assert (tmp_path / "table").read_bytes() == b"new"


def test_nothing_in_a_run_is_writable_by_others(finished: Path) -> None:
    paths = [path for path in (finished / "runs").rglob("*") if not path.is_symlink()]
    assert paths
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o022] == []


@pytest.mark.parametrize("text", TEXTS)
def test_an_error_is_one_line_that_can_be_shown_whatever_it_quotes(text: str) -> None:
    line = str(StoreError(f"cannot read {text}: it is odd"))
    assert line.isprintable()
    assert line.startswith("cannot read ")
    assert line.endswith(": it is odd")
    assert len(line) < 1100


def test_what_can_be_shown_is_shown_as_it_is() -> None:
    assert one_line("größer als 5 µs: 日本 🙂  [a]") == "größer als 5 µs: 日本 🙂  [a]"
    assert one_line(" two\r\n\n lines ") == "two lines"
    assert one_line("\x1b[1m\u202e\ud800") == "\\x1b[1m\\u202e\\ud800"
