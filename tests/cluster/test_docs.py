"""The commands of docs/cluster.md, as they stand there, on a cluster of two raylets with token authentication."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.cluster.head import ROOT, Head, cluster
from tests.commands import Said
from tests.studies import SMALL

BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
# long enough to be stopped in the middle of its search, however fast the machine: every candidate takes a moment
EVALUATIONS = 400
STUDY = """
import time
from dataclasses import replace

import objectives


def unhurried(subject):
    time.sleep(0.1)
    return objectives.macs.measure(subject)


macs = replace(objectives.macs, measure=unhurried)
""" + SMALL.replace("import accuracy, macs", "import accuracy").replace(
    'name: str = "small"', 'name: str = "my-study"'
).replace("evaluations: int = 24", f"evaluations: int = {EVALUATIONS}")
OBJECTIVE = """
from searchkit import Estimate, Objective


def measure(subject):
    return Estimate(float(subject.trace.attention.sum()), None, 1)


depth = Objective("depth", "tokens", "lower", measure)
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with cluster(nodes=2, cpus=2) as running:
        yield running


def run(command: str, folder: Path, head: Head, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env={**head.environment, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def passed(command: str, folder: Path, head: Head) -> str:
    result = run(command, folder, head)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def one_after_the_other(folder: Path, head: Head, *commands: str) -> list[Said]:
    """What each command of searchkit answers, all of them in one process."""
    command = shlex.join([sys.executable, "-m", "tests.commands", *commands])
    return [Said(*each) for each in json.loads(passed(command, folder, head).splitlines()[-1])]


def test_the_page_does_what_it_says(head: Head, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    submit, status, stop, again, elsewhere = (
        block.replace("http://127.0.0.1:8265", head.url).replace("file:///mnt/shared", f"file://{tmp_path}/shared")
        for block in BLOCK.findall(text)
    )
    (tmp_path / "my_study.py").write_text(STUDY)
    assert "submitted my-study-" in passed(submit, tmp_path, head)
    run_folder = tmp_path / "runs" / "my-study"
    note = json.loads((run_folder / "submitted.json").read_text())
    assert note["address"] == head.url
    assert_the_token_shows_nowhere(head, tmp_path)
    wait_for_trials(run_folder, 6)
    output = passed(status, tmp_path, head)
    assert f"of {EVALUATIONS} evaluations" in output
    assert ": RUNNING" in output
    assert ": STOPPED" in passed(stop, tmp_path, head)
    kept = len(trials_in(run_folder))
    assert 6 <= kept < EVALUATIONS
    wanted = kept + 10
    output = passed(again.replace("--wait", f"-p evaluations={wanted} --wait"), tmp_path, head)
    assert f"search: {wanted} of {wanted}" in output
    assert ": SUCCEEDED" in output
    assert "every one is the stored one" in output
    trials = pd.read_parquet(run_folder / "trials.parquet")
    assert len(trials) == trials["key"].nunique() == wanted
    output = passed(elsewhere.replace("--wait", "-p evaluations=8 --wait"), tmp_path, head)
    assert "8 of 8" in output
    assert (tmp_path / "runs" / "elsewhere" / "pareto.png").is_file()
    assert list((tmp_path / "shared" / "runs" / "supernets").glob("*/model.safetensors"))
    assert not (tmp_path / "shared" / "runs" / "elsewhere" / "mirror.lease").exists()
    assert_the_token_shows_nowhere(head, tmp_path)


def test_mistakes_on_a_cluster_are_one_line_and_exit_code_2(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    submit = f"searchkit submit my_study.py --address {head.url}"
    (tmp_path / "wrong").write_text("0" * 64)
    (tmp_path / "home").mkdir()
    for variables in (
        {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "wrong")},
        {"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)},
    ):
        result = run(submit, tmp_path, head, **variables)
        assert result.returncode == 2, result.stderr
        assert "refused the token, or got none" in result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
    assert not (tmp_path / "runs" / "my-study" / "submitted.json").exists()
    note = {"address": head.url, "job": "gone", "study": "my-study", "runs": str(tmp_path), "file": "x", "date": "x"}
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "submitted.json").write_text(json.dumps(note))
    for result in one_after_the_other(tmp_path, head, "searchkit stop gone", "searchkit status gone"):
        assert result.code == 2, result.stderr
        assert "knows no such job" in result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr


def test_a_job_that_waits_says_why_and_can_be_stopped_and_submitted_again(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    submit = f"searchkit submit my_study.py --address {head.url} --driver-gpus 3"
    reason = "its own process asks for 3 GPU, and no node has so much (127.0.0.1 has 0 GPU"
    status, stop = "searchkit status runs/my-study", "searchkit stop runs/my-study"
    said = one_after_the_other(
        tmp_path, head, submit, status, submit, stop, status, submit, stop, "searchkit status --follow runs/my-study"
    )
    submitted, waiting, refused, stopped, then, again, once_more, following = said
    for result in (submitted, again):
        assert result.code == 0, result.stderr
        assert "submitted my-study-" in result.stdout + result.stderr
    assert f": PENDING, {reason}" in waiting.stdout
    assert refused.code == 2
    assert "searchkit stop" in refused.stderr
    for result in (stopped, once_more):
        assert f"STOPPED, exit code 130, before it started: {reason}" in result.stdout
        assert result.seconds < 60  # seconds by itself; Ray gives such a job up after 15 minutes
    assert ": STOPPED" in then.stdout
    assert (following.code, following.stderr) == (130, "")
    assert ": STOPPED" in following.stdout


def test_a_job_sees_what_is_included_and_outlives_ctrl_c(head: Head, tmp_path: Path) -> None:
    """A folder of data, and a module with an objective of one's own, which every worker unpickles."""
    (tmp_path / "reviews").mkdir()
    for split, rows in {"train": 64, "validation": 32, "test": 32}.items():
        lines = [f"{'good' if row % 2 else 'bad'} film number {row % 7},{row % 2}" for row in range(rows)]
        (tmp_path / "reviews" / f"{split}.csv").write_text("\n".join(["text,label", *lines, ""]))
    (tmp_path / "my_objectives.py").write_text(OBJECTIVE)
    study = SMALL
    for old, new in {
        "Generated(train=documents, search=120, report=100)": "TextClassification(data, max_length=8)",
        "import Generated": "import TextClassification",
        "[accuracy, macs]": "[accuracy, depth]",
        "documents: int = 320": 'data: str = "reviews"',
        "evaluations: int = 24": "evaluations: int = 8",
    }.items():
        study = study.replace(old, new)
    (tmp_path / "my_study.py").write_text(f"from my_objectives import depth\n{study}")
    submit = f"searchkit submit my_study.py --address {head.url} --workers 2 --include my_objectives.py --wait"
    alone = run(submit, tmp_path, head)
    assert alone.returncode == 2
    assert "send it along with --include reviews" in alone.stderr
    following = subprocess.Popen(
        ["bash", "-c", f"exec {submit} --include reviews"],
        cwd=tmp_path,
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert following.stdout is not None
    for line in following.stdout:
        if "Running entrypoint" in line:
            break
    following.send_signal(signal.SIGINT)
    output, _ = following.communicate(timeout=60)
    assert following.returncode == 130, output
    assert "detached, the job goes on: searchkit status --follow runs/small" in output
    assert "Traceback" not in output
    status, stop = one_after_the_other(
        tmp_path, head, "searchkit status --follow runs/small", "searchkit stop runs/small"
    )
    assert (status.code, stop.code) == (0, 0), (status, stop)
    assert "8 of 8" in status.stdout
    assert ": SUCCEEDED" in stop.stdout  # it was over already
    trials = pd.read_parquet(tmp_path / "runs" / "small" / "trials.parquet")
    assert (trials["depth"] > 0).all()


def test_a_job_that_cannot_start_says_why_and_its_code_is_ours(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    edited = "import searchkit.cluster.submit as s; s.versions = lambda *_: {'searchkit': '0.1.0', 'torch': '1.0'}; "
    code = f"{edited}from searchkit.cli.app import main; main()"
    command = shlex.join([sys.executable, "-c", code, "submit", "my_study.py", "--wait"])
    result = run(command, tmp_path, head, RAY_API_SERVER_ADDRESS=head.url)
    assert result.returncode == 2, result.stdout + result.stderr
    assert re.search(r"error: the node 127.0.0.1 has torch \S+, and the study was submitted with 1.0", result.stdout)
    assert "Traceback" not in result.stdout


def trials_in(folder: Path) -> list[str]:
    journal = folder / "journal.log"
    return [line for line in journal.read_text().splitlines() if '"searchkit"' in line] if journal.exists() else []


def wait_for_trials(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(trials_in(folder)) < count:
        assert time.monotonic() < deadline, f"{folder}: {len(trials_in(folder))} trials after five minutes"
        time.sleep(0.05)


def assert_the_token_shows_nowhere(head: Head, folder: Path) -> None:
    for process in psutil.process_iter(["cmdline"]):
        assert head.token not in " ".join(process.info["cmdline"] or [])
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert head.token.encode() not in file.read_bytes(), file
