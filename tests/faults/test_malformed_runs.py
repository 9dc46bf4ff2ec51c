"""Run folders, caches, storages and addresses that are damaged or wrong: one line that names the file or address.

Every row is one mistake: what it is called, how a finished run is changed, the command, what the line says.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.malformed import Said, files, study_file

Change = Callable[[Path], object]
MORE = ("run", "small_study.py", "-p", "evaluations=10", "--threads", "1")
STATUS, REPORT, VERIFY = ("status", "runs/small"), ("report", "runs/small"), ("verify", "runs/small")


def supernet(folder: Path) -> Path:
    """The cached supernet of the finished run."""
    return next(path.parent for path in (folder / "runs" / "supernets").glob("*/searchkit.json"))


def replaced(name: str, content: bytes) -> Change:
    return lambda folder: (folder / "runs" / "small" / name).write_bytes(content)


def record(**changed: Any) -> Change:
    """study.json with other values; those that are Ellipsis are left out."""

    def change(folder: Path) -> None:
        file = folder / "runs" / "small" / "study.json"
        data = json.loads(file.read_text()) | changed
        file.write_text(json.dumps({name: value for name, value in data.items() if value is not ...}))

    return change


def trial(**changed: Any) -> Change:
    """The journal with other values in the record of its sixth trial."""

    def change(folder: Path) -> None:
        def changed_line(line: str) -> str:
            entry = json.loads(line)
            stored = entry.get("user_attrs", {}).get("searchkit")
            if isinstance(stored, dict) and stored["number"] == 5:
                stored.update(changed)
            entry.pop("crc", None)  # as a line that Optuna itself wrote, or somebody who means harm
            return json.dumps(entry, separators=(",", ":"))

        journal = folder / "runs" / "small" / "journal.log"
        journal.write_text("\n".join(map(changed_line, journal.read_text().splitlines())) + "\n")

    return change


def in_supernet(name: str, content: bytes | None) -> Change:
    def change(folder: Path) -> None:
        file = supernet(folder) / name
        file.unlink()
        if content is not None:
            file.write_bytes(content)

    return change


def torn_line(folder: Path) -> None:
    journal = folder / "runs" / "small" / "journal.log"
    lines = journal.read_bytes().split(b"\n")
    lines[7] = lines[7][: len(lines[7]) // 2]
    journal.write_bytes(b"\n".join(lines))


def other_study(folder: Path) -> None:
    study_file(folder, space="Space(Lengths(levels=5))")


def link(name: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / "runs" / "small" / name
        path.unlink(missing_ok=True)
        path.symlink_to(folder / "elsewhere")

    return change


ESTIMATE = {"accuracy": {"value": 1, "standard_error": 0, "n": 1}, "macs": {"value": 1, "standard_error": 0, "n": 1}}

RUNS: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "record torn": (replaced("study.json", b'{"description"'), STATUS, r"study.json: cannot be read: Expecting"),
    "record empty": (replaced("study.json", b""), REPORT, r"study.json: cannot be read"),
    "record a list": (replaced("study.json", b"[]"), VERIFY, r"study.json: not written by searchkit"),
    "record a number": (replaced("study.json", b"7"), STATUS, r"study.json: not written by searchkit"),
    "record no JSON": (replaced("study.json", b"\x80\x04\xff"), STATUS, r"study.json: cannot be read"),
    "record nested": (replaced("study.json", b"[" * 200_000), STATUS, r"study.json: cannot be read: .*recursion"),
    "record torn, more": (replaced("study.json", b"{"), MORE, r"study.json: cannot be read"),
    "no description": (record(description=...), STATUS, r"not written by searchkit: 'description' is None"),
    "description a text": (record(description="small"), REPORT, r"'description' is 'small'"),
    "no name": (record(description={}), STATUS, r"name and parameters are texts"),
    "engine a text": (record(description={"name": "small", "engine": "nsga2"}), STATUS, r"the engine is 'nsga2'"),
    "population a text": (
        record(description={"name": "small", "engine": {"population": "24"}}),
        STATUS,
        r"the engine is .*'24'",
    ),
    "parameters a list": (record(parameters=["evaluations"]), VERIFY, r"'parameters' is \['evaluations'\]"),
    "parameters numbers": (record(parameters={"evaluations": 9}), VERIFY, r"name and parameters are texts"),
    "no objectives": (record(objectives=[]), STATUS, r"its objectives|it has no objectives"),
    "objectives of texts": (record(objectives=["macs"]), STATUS, r"its objectives"),
    "objectives sideways": (record(objectives=[{"name": "a", "unit": "", "better": "up"}]), REPORT, r"its objectives"),
    "other objectives": (
        record(objectives=[{"name": "macs", "unit": "of unreduced", "better": "lower"}]),
        STATUS,
        r"was made for accuracy \(fraction, higher is better\), macs",
    ),
    "storage a number": (record(storage=5), STATUS, r"'storage' is 5"),
    "storage a database": (record(storage="nosuch://u:s3cret@h/d"), REPORT, r"cannot open nosuch://u:\*\*\*@h/d"),
    "no layers": (record(layers=...), REPORT, r"study.json: layers must be a whole number, got None"),
    "layers endless": (record(layers=10**9), REPORT, r"study.json: layers must be at most 10000, got 1000000000"),
    "places a text": (record(places="2"), REPORT, r"study.json: places must be a whole number, got '2'"),
    "study gone": (lambda folder: (folder / "small_study.py").unlink(), VERIFY, r"there is no such study file"),
    "study changed": (other_study, VERIFY, r"describes another study than the one that ran in runs/small"),
    "study changed, more": (other_study, MORE, r"holds a run of another study \(different: space\)"),
    "study broken": (lambda folder: study_file(folder, "def study(:"), VERIFY, r"small_study.py:1: SyntaxError"),
    "journal torn": (torn_line, STATUS, r"journal.log, line 8 is damaged: not a JSON object"),
    "journal torn, more": (torn_line, MORE, r"journal.log, line 8 is damaged"),
    "journal torn, report": (torn_line, REPORT, r"journal.log, line 8 is damaged"),
    "journal of objects": (replaced("journal.log", b'{"a": 1}\n{"b": 2}\n'), STATUS, r"journal.log.* is damaged"),
    "journal of lists": (replaced("journal.log", b"[1]\n[2]\n"), STATUS, r"journal.log, line 1 is damaged"),
    "journal a pickle": (replaced("journal.log", b"\x80\x04cos\nsystem\n.\n\n"), STATUS, r"journal.log, line 1 is dam"),
    "journal a folder": (
        lambda folder: [(folder / "runs/small/journal.log").unlink(), (folder / "runs/small/journal.log").mkdir()],
        STATUS,
        r"journal.log: IsADirectoryError",
    ),
    "number a text": (trial(number="5"), STATUS, r"trial \d in .*journal.log is no record of searchkit: TypeError"),
    "number a list": (trial(number=[5]), MORE, r"trial \d in .*journal.log is no record of searchkit"),
    "number negative": (trial(number=-5), REPORT, r"a count is 0 or more, got -5"),
    "number twice": (trial(number=4), STATUS, r"already holds ask 4"),
    "candidate a text": (trial(candidate="lengths"), STATUS, r"a dict is needed, got 'lengths'"),
    "candidate nested": (trial(candidate={"lengths": [[1]]}), STATUS, r"a candidate holds finite numbers"),
    "candidate other": (
        trial(candidate={"lengths": [1.0, 0.9]}),
        MORE,
        r"trial \d in .* says something else",
    ),
    "candidate other, verify": (
        trial(candidate={"lengths": [1.0, 0.3, 0.3]}),
        VERIFY,
        r"trial \d in .* says something else",
    ),
    "status unknown": (trial(status="perfect"), STATUS, r"no record of searchkit: KeyError\('perfect'\)"),
    "status a list": (trial(status=[]), STATUS, r"no record of searchkit: TypeError"),
    "outcome a text": (trial(outcome="1.0"), STATUS, r"a dict is needed, got '1.0'"),
    "estimates a list": (trial(outcome={"estimates": [1]}), STATUS, r"a dict is needed, got \[1\]"),
    "an estimate missing": (trial(outcome={"estimates": {"macs": 1}}), STATUS, r"no record of searchkit"),
    "a value a text": (
        trial(outcome={"estimates": ESTIMATE | {"macs": {"value": "0", "standard_error": None, "n": 1}}}),
        STATUS,
        r"a float is needed, got '0'",
    ),
    "a value NaN": (
        trial(outcome={"estimates": ESTIMATE | {"macs": {"value": float("nan"), "standard_error": None, "n": 1}}}),
        STATUS,
        r"a measured value is finite, got macs=nan",
    ),
    "a value endless": (
        trial(outcome={"estimates": ESTIMATE | {"macs": {"value": 10**400, "standard_error": None, "n": 1}}}),
        STATUS,
        r"that a float can hold",
    ),
    "seconds a text": (trial(seconds="long"), STATUS, r"a float is needed, got 'long'"),
    "environment a list": (trial(environment=["cpu"]), STATUS, r"a dict is needed, got \['cpu'\]"),
    "no record": (lambda folder: trial(candidate=None)(folder), STATUS, r"a dict is needed, got None"),
    "supernet record torn": (in_supernet("searchkit.json", b"{"), MORE, r"searchkit.json is damaged"),
    "supernet record a list": (in_supernet("searchkit.json", b"[]"), MORE, r"searchkit.json is damaged"),
    "supernet record gone": (in_supernet("searchkit.json", None), MORE, r"it has no searchkit.json; remove the folder"),
    "supernet config torn": (in_supernet("config.json", b'{"model'), MORE, r"config.json is damaged"),
    "supernet config a list": (in_supernet("config.json", b"[]"), MORE, r"config.json is damaged"),
    "supernet weights torn": (in_supernet("model.safetensors", b"\0" * 64), MORE, r"the safetensors file is damaged"),
    "supernet weights gone": (in_supernet("model.safetensors", None), MORE, r"no safetensors weights"),
    "supernet tokenizer torn": (in_supernet("tokenizer.json", b"{"), MORE, r"cannot load the tokenizer"),
    "lock a link": (link(".lock"), MORE, r"runs/small/.lock is a link to .*elsewhere, where no run writes"),
    "log a link": (link("run.log"), MORE, r"runs/small/run.log is a link to .*elsewhere"),
    "journal a link": (link("journal.log"), MORE, r"runs/small/journal.log is a link to .*elsewhere"),
}

STORAGES = {  # a URL or path, what is said
    "no driver": ("nosuch://ann:s3cret@host/db", r"cannot open nosuch://ann:\*\*\*@host/db"),
    "no host": ("://", r"cannot open"),
    "web address": ("https://ann:s3cret@example.org/db", r"cannot open https://ann:\*\*\*@example.org/db"),
    "in memory": ("sqlite:///:memory:", r"is in memory and would be lost"),
    "sqlite in a file": ("sqlite:///small_study.py/run.db", r"cannot open"),
    "sqlite no database": ("sqlite:///small_study.py", r"cannot open.*not a database"),
    "sqlite of others": ("sqlite:///others.db", r"cannot open"),
    "bad port": ("postgresql://ann:s3cret@host:port/db", r"cannot open"),
    "a folder": ("runs", r"cannot open runs: IsADirectoryError"),
    "below a file": ("small_study.py/journal.log", r"cannot open small_study.py/journal.log"),
    "no journal": ("small_study.py", r"small_study.py, line 2 is damaged|is damaged"),
}


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run to damage."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    record(file=str(tmp_path / "small_study.py"))(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", RUNS)
def test_a_damaged_run(run: Path, said: Said, case: str) -> None:
    change, command, message = RUNS[case]
    change(run)
    before = files(run)
    line = said.error(*command)
    assert re.search(message, line), line
    assert "s3cret" not in line
    after = files(run)
    kept = {name: content for name, content in before.items() if not name.endswith((".log", "study.json", "seconds"))}
    assert {name: after.get(name) for name in kept} == kept
    if command != MORE:
        assert after.get("runs/small/journal.log") == before.get("runs/small/journal.log")


@pytest.mark.parametrize("case", STORAGES)
def test_a_storage_that_cannot_be_used(run: Path, said: Said, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    storage, message = STORAGES[case]
    shutil.rmtree(run / "runs" / "small")
    with sqlite3.connect(run / "others.db") as database:
        database.execute("create table studies (a text)")
    database.close()
    if "s3cret" in storage:  # which the command line refuses, for the list of processes
        assert "***" in said.error(*MORE, "--storage", storage)
        monkeypatch.setenv("SEARCHKIT_STORAGE", storage)
    before = (run / "small_study.py").read_bytes()
    line = said.error(*MORE, *([] if "s3cret" in storage else ["--storage", storage]))
    assert re.search(message, line), line
    assert "s3cret" not in line
    assert (run / "small_study.py").read_bytes() == before


def test_the_run_that_is_damaged_above_is_right(run: Path, said: Said) -> None:
    for command in (STATUS, REPORT, VERIFY, MORE):
        code, _, err = said.code(*command)
        assert code == 0, err


def test_baselines_that_are_kept_for_other_studies_are_measured_again_where_they_are_damaged(
    run: Path, said: Said
) -> None:
    (kept,) = (run / "runs" / "supernets").glob("*-baselines-*.json")
    (run / "runs" / "small").rename(run / "runs" / "before")
    kept.write_text('[{"number": 0, "candidate"')
    code, _, err = said.code("run", "small_study.py", "--threads", "1")
    assert code == 0, err
    assert json.loads(kept.read_text())


def test_a_renamed_run_is_itself_and_not_the_one_that_took_its_place(run: Path, said: Said) -> None:
    shutil.copytree(run / "runs" / "small", run / "runs" / "kept")
    trial(candidate={"lengths": [1.0, 0.3, 0.3]})(run)
    assert said.code("verify", "runs/kept")[0] == 0
    assert said.code("verify", "runs/small")[0] == 2


def test_a_report_is_made_without_the_study_and_its_model(run: Path, said: Said) -> None:
    before = files(run / "runs" / "small")
    (run / "small_study.py").write_text("raise SystemExit('this must not run')")
    shutil.rmtree(run / "runs" / "supernets")
    code, out, err = said.code(*REPORT)
    assert code == 0, err
    after = files(run / "runs" / "small")
    assert {name for name in before if before[name] != after[name]} <= set()
    assert "front" in out


ADDRESSES = {
    "garbage": ("not an address", r"cannot reach the Ray cluster at not an address"),
    "no port": ("localhost", r"cannot reach the Ray cluster at localhost"),
    "no number": ("localhost:port", r"cannot reach the Ray cluster at localhost:port"),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_without_a_cluster(run: Path, said: Said, case: str) -> None:
    address, message = ADDRESSES[case]
    line = said.error(*MORE, "--workers", "1", "--ray-address", address)
    assert re.search(message, line), line
