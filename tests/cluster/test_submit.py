"""Submitting: what is refused, in one line, before anything is sent."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from searchkit.cluster import jobs
from searchkit.cluster.entrypoint import check
from searchkit.cluster.jobs import follow, lacking, state
from searchkit.cluster.package import Needs
from searchkit.cluster.server import _is_near, check_address
from searchkit.cluster.submission import Submitted
from searchkit.cluster.submit import submit
from searchkit.errors import SearchkitError, StoreError, StudyError
from searchkit.evaluate.ray_cluster import PYTHON
from searchkit.runs.study_file import load
from tests.cluster.head import ROOT
from tests.faults.malformed import Said
from tests.studies import small_study

SENT = Submitted("http://127.0.0.1:1", "small-1", "small", "/shared/runs", "/home/s.py", "2026-01-01T00:00:00+00:00")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    return tmp_path


@pytest.fixture
def other_server() -> Iterator[str]:
    """A web server that is not Ray's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:8265", "expected the job server's URL"),
        ("auto", "expected the job server's URL"),
        ("ray://127.0.0.1:10001", "expected the job server's URL"),
        ("http://", "expected the job server's URL"),
        ("", "expected the job server's URL"),
        ("http://host:0", "expected the job server's URL"),
        ("http://host:99999", "Port out of range"),
        ("http://host:x", "Port could not be cast"),
        ("http://[::1", "Invalid IPv6"),
        ("http://me:hunter2@host:8265", "holds a password"),
        ("http://hunter2@host:8265", "no user or password in it"),
        ("http://host:8265/?token=hunter2", "holds a password"),
        ("file:///etc/passwd", "expected the job server's URL"),
    ],
)
def test_malformed_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        check_address(address)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_server_and_another_server_are_told_apart(here: Path, other_server: str) -> None:
    loaded = load(small_study(here))
    with pytest.raises(StudyError, match=r"no job server answers at http://127\.0\.0\.1:1 .*refused"):
        submit(loaded, [], address="http://127.0.0.1:1", runs="runs")
    with pytest.raises(StudyError, match=r"something else than Ray's job server answers \(404\)"):
        submit(loaded, [], address=other_server, runs="runs")
    assert not (here / "runs").exists()  # nothing was submitted, and nothing says so


def test_a_private_address_is_reached_past_the_proxy(
    here: Path, other_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://me:hunter2@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.org")
    with pytest.raises(StudyError, match=r"something else than Ray's job server answers \(404\)$"):
        state(replace(SENT, address=other_server))
    assert os.environ["no_proxy"] == "example.org"
    assert "NO_PROXY" not in os.environ


def test_a_proxy_on_the_way_is_named_without_its_password(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:hunter2@127.0.0.1:1")
    monkeypatch.setattr("searchkit.cluster.server._is_near", lambda host: False)
    with pytest.raises(StudyError, match=r"the way there is the proxy 127\.0\.0\.1 of http_proxy") as caught:
        state(replace(SENT, address="http://cluster.example:8265"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "near"), [("127.0.0.1", True), ("localhost", True), ("10.0.0.5", True), ("::1", True), ("8.8.8.8", False)]
)
def test_no_proxy_leads_to_private_networks(host: str, near: bool) -> None:
    assert _is_near(host) is near


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_the_jobs_own_resources_are_numbers(amount: float, here: Path) -> None:
    with pytest.raises(StudyError, match="--driver-gpus must be a number of 0 or more"):
        submit(load(small_study(here)), [], address="http://127.0.0.1:1", runs="runs", driver_gpus=amount)


def test_missing_resources_are_named_one_by_one() -> None:
    nodes = {"10.0.0.1": {"CPU": 4.0, "GPU": 1.0}, "10.0.0.2": {"CPU": 8.0}}
    message = lacking({"CPU": 8, "GPU": 1}, nodes)
    assert message.startswith("its own process asks for 8 CPU, 1 GPU, and no node has so much")
    assert message.endswith("(10.0.0.1 has 4 CPU, 1 GPU; 10.0.0.2 has 8 CPU, 0 GPU)")
    assert "others hold them" in lacking({"CPU": 8}, nodes)


@pytest.mark.parametrize("home", ["a space/.venv", "it's"])
def test_the_python_beside_rays_code_is_found_in_any_path(home: str, tmp_path: Path) -> None:
    """As Ray runs it: the words of a shell command, of which it quotes all but the first."""
    worker = tmp_path / home / "lib" / "python3.11" / "site-packages" / "ray" / "default_worker.py"
    python = tmp_path / home / "bin" / "python"
    for path, text in {worker: "", python: '#!/bin/bash\nprintf \'%s\\n\' "$0" "$@"\n'}.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    python.chmod(0o755)
    command = f"exec {PYTHON} {shlex.join([str(worker), '--node', 'two words'])}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [str(python), str(worker), "--node", "two words"]


def test_a_token_file_that_is_missing_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray aborts the whole process."""
    monkeypatch.setattr("searchkit.cluster.server._check_reachable", lambda address: None)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(here / "nowhere"))
    with pytest.raises(StudyError, match=r"RAY_AUTH_TOKEN_PATH=.*nowhere: there is no token that can be read"):
        state(SENT)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"runs": "memory://runs"}, "ends with its process"),
        ({"runs": "s3://key:hunter2@bucket"}, "holds a password"),
        ({"runs": "nowhere://bucket"}, "no kind of place"),
        ({"options": ["--storage", "postgresql://me:hunter2@db/studies"]}, "holds a password"),
        ({"options": ["--storage=postgresql://db/studies?password=hunter2"]}, "holds a password"),
    ],
)
def test_options_with_a_password_and_runs_that_would_be_lost_are_refused(
    option: dict[str, str], message: str, here: Path
) -> None:
    given = {"options": [], "runs": "runs", "address": "http://127.0.0.1:1", **option}
    with pytest.raises(StudyError, match=message) as caught:
        submit(load(small_study(here)), **given)  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (None, StudyError),
        ("", StoreError),
        ("[]", StoreError),
        ('{"job": "x"}', StoreError),
        (json.dumps({**vars(SENT), "job": "../../api/x"}), StoreError),
        (json.dumps({**vars(SENT), "study": "../up"}), StoreError),
        (json.dumps({**vars(SENT), "runs": 3}), StoreError),
        (json.dumps({**vars(SENT), "more": "x"}), StoreError),
    ],
)
def test_a_folder_that_was_not_submitted_or_a_damaged_note(
    content: str | None, kind: type[SearchkitError], tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "submitted.json").write_text(content)
    with pytest.raises(kind, match="was not submitted" if content is None else "submit the study again"):
        Submitted.read(tmp_path)


def test_a_note_of_another_user_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token goes to the address in it."""
    SENT.write(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(StudyError, match="is another user's"):
        Submitted.read(tmp_path)
    assert Submitted.read(tmp_path, own=False) == SENT


def test_a_note_reads_back_as_it_was_written(tmp_path: Path) -> None:
    SENT.write(tmp_path)
    assert Submitted.read(tmp_path) == SENT


def test_a_job_stops_where_it_does_not_see_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"/nowhere/data: the cluster does not see it"):
        check(Needs("small-1", "small", {}, ["/nowhere/data"], ""))
    SENT.write(tmp_path / "small")
    for job, runs in (("small-1", tmp_path / "nowhere"), ("small-2", tmp_path)):
        with pytest.raises(StudyError, match="the cluster does not see the folder that the study was submitted from"):
            check(Needs(job, "small", {}, [], str(runs)))
    replace(SENT, stopped="2026-01-01T00:00:00+00:00").write(tmp_path / "small")
    with pytest.raises(StudyError, match="small-1 was stopped before it started; submit the study again"):
        check(Needs("small-1", "small", {}, [], str(tmp_path)))


def test_without_the_extra_one_line_names_it(tmp_path: Path) -> None:
    (tmp_path / "aiohttp.py").write_text("raise ImportError('hidden', name='aiohttp')")
    code = (
        "import searchkit.cluster.server as s, searchkit.cli.app as c; "
        "s._check_reachable = lambda address: None; c.main()"
    )
    SENT.write(tmp_path / "runs" / "small")
    result = subprocess.run(
        [sys.executable, "-c", code, "stop", "runs/small"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 2
    assert "aiohttp is missing): pip install 'searchkit[cluster]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "small_study.py", "--address", "http://127.0.0.1:1"], "no job server answers"),
        (["stop", "runs/small"], "was not submitted from here"),
        (["submit", "small_study.py", "--", "--runs", "elsewhere"], "--runs does not stand after --"),
    ],
)
def test_the_command_line_refuses_in_one_line(here: Path, said: Said, arguments: list[str], message: str) -> None:
    small_study(here)
    assert message in said.error(*arguments)


def test_an_option_of_the_job_that_does_not_exist_is_refused(here: Path, said: Said) -> None:
    small_study(here)
    code, _, err = said.code("submit", "small_study.py", "--", "--wrokers", "3")
    assert code == 2
    assert "No such option" in err


def test_the_manifest_is_a_rayjob_that_runs_a_study() -> None:
    manifest = yaml.safe_load((ROOT / "docs" / "cluster" / "rayjob.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    assert spec["entrypoint"].startswith("searchkit run /studies/my_study.py --runs /runs --ray-address auto")
    assert spec["backoffLimit"] > 0
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in constraints
    head = cluster["headGroupSpec"]["template"]["spec"]
    mounted = {mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    assert mounted == {"/runs", "/studies"}
    assert {volume["name"] for volume in head["volumes"]} == {
        mount["name"] for mount in head["containers"][0]["volumeMounts"]
    }
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["template"]["spec"]["containers"]


def test_a_log_whose_connection_stays_open_ends_with_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following looks at the state of the job itself."""

    class Client:
        """Ray's client, as far as a log is followed."""

        over = False

        def get_job_info(self, job: str) -> SimpleNamespace:
            status = SimpleNamespace(value="SUCCEEDED" if self.over else "RUNNING")
            return SimpleNamespace(status=status, driver_exit_code=0 if self.over else None, message=None)

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            yield "one\n"
            self.over = True
            await asyncio.Event().wait()

        def get_job_logs(self, job: str) -> str:
            return "one\ntwo\n"

    @contextmanager
    def connected(address: str) -> Iterator[Client]:
        yield Client()

    monkeypatch.setattr(jobs, "server", connected)
    monkeypatch.setattr(jobs, "SILENT_S", 0.05)
    written: list[str] = []
    assert follow(SENT, written.append).name == "SUCCEEDED"
    assert "".join(written) == "one\ntwo\n"
