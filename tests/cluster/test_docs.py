"""The commands of docs/cluster.md, as they stand there, on a cluster of two raylets with token authentication."""

from __future__ import annotations

import json
import re
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
from tests.studies import SMALL

BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
# long enough to be stopped in the middle of its search
STUDY = SMALL.replace('name: str = "small"', 'name: str = "my-study"').replace(
    "evaluations: int = 24", "evaluations: int = 48"
)
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
    refused = run(submit, tmp_path, head)
    assert refused.returncode == 2
    assert "searchkit stop" in refused.stderr
    assert_the_token_shows_nowhere(head, tmp_path)
    wait_for_trials(run_folder, 6)
    said = passed(status, tmp_path, head)
    assert "of 48 evaluations" in said
    assert ": RUNNING" in said
    assert ": STOPPED" in passed(stop, tmp_path, head)
    kept = len(trials_in(run_folder))
    assert 6 <= kept < 48
    said = passed(again, tmp_path, head)
    assert "search: 48 of 48" in said
    assert ": SUCCEEDED" in said
    assert "every one is the stored one" in said
    trials = pd.read_parquet(run_folder / "trials.parquet")
    assert len(trials) == trials["key"].nunique() == 48
    said = passed(elsewhere.replace("--wait", "-p evaluations=16 --wait"), tmp_path, head)
    assert "16 of 16" in said
    assert (tmp_path / "runs" / "elsewhere" / "pareto.png").is_file()
    assert list((tmp_path / "shared" / "runs" / "supernets").glob("*/model.safetensors"))
    assert not (tmp_path / "shared" / "runs" / "elsewhere" / "mirror.lease").exists()
    assert_the_token_shows_nowhere(head, tmp_path)


def test_what_goes_wrong_is_one_line_and_exit_code_2(head: Head, tmp_path: Path) -> None:
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
    for command in ("stop", "status"):
        result = run(f"searchkit {command} gone", tmp_path, head)
        assert result.returncode == 2, result.stderr
        assert "knows no such job" in result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr


def test_what_is_included_is_there_for_the_job_and_its_workers(head: Head, tmp_path: Path) -> None:
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
    assert "8 of 8" in passed(f"{submit} --include reviews", tmp_path, head)
    trials = pd.read_parquet(tmp_path / "runs" / "small" / "trials.parquet")
    assert (trials["depth"] > 0).all()


def test_a_job_that_cannot_start_says_why_and_its_code_is_ours(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    edited = "import searchkit.cluster.submit as s; s.versions = lambda *_: {'searchkit': '0.1.0', 'torch': '1.0'}; "
    command = f'{sys.executable} -c "{edited}from searchkit.cli.app import main; main()" submit my_study.py --wait'
    result = run(command, tmp_path, head, RAY_API_SERVER_ADDRESS=head.url)
    assert result.returncode == 2, result.stdout + result.stderr
    assert re.search(r"error: the node 127.0.0.1 has torch \S+, and the study was submitted with 1.0", result.stdout)
    assert "Traceback" not in result.stdout


def test_ctrl_c_detaches_and_the_job_goes_on(head: Head, tmp_path: Path) -> None:
    (tmp_path / "my_study.py").write_text(STUDY)
    command = [sys.executable, "-m", "searchkit", "submit", "my_study.py", "--address", head.url, "--wait"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=head.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Running entrypoint" in line:
            break
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "detached, the job goes on: searchkit status --follow runs/my-study" in said
    assert "Traceback" not in said
    assert ": STOPPED" in passed("searchkit stop runs/my-study", tmp_path, head)
    assert ": STOPPED" in passed("searchkit stop runs/my-study", tmp_path, head)  # it was over already


def trials_in(folder: Path) -> list[str]:
    journal = folder / "journal.log"
    return [line for line in journal.read_text().splitlines() if '"searchkit"' in line] if journal.exists() else []


def wait_for_trials(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(trials_in(folder)) < count and time.monotonic() < deadline:
        time.sleep(0.05)


def assert_the_token_shows_nowhere(head: Head, folder: Path) -> None:
    for process in psutil.process_iter(["cmdline"]):
        assert head.token not in " ".join(process.info["cmdline"] or [])
    for file in (path for path in folder.rglob("*") if path.is_file()):
        assert head.token.encode() not in file.read_bytes(), file
