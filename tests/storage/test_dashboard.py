"""optuna-dashboard, the real one, on each storage: what its server answers is what its page shows."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from searchkit.objective import Constraint
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.storage.address import StorageAddress
from tests.storage.samples import MACS, failed, measured, opened, pruned

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
HTML = "<img src=x onerror=alert(1)>"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def dashboard(storage: str) -> Iterator[str]:
    """The address of a dashboard of the storage, on loopback; the password goes by the environment."""
    port = free_port()
    place = (
        StorageAddress(storage).kept.replace("postgresql://", "postgresql+psycopg://") if "://" in storage else storage
    )
    password = storage.split("@")[0].rpartition(":")[2] if "@" in storage else ""
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", place]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--quiet"],
        env=os.environ | {"PGPASSWORD": password},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"{address}/api/meta").close()
                    break
                except OSError:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()


def answer(address: str) -> Any:
    with urllib.request.urlopen(address) as reply:
        assert reply.headers["Content-Type"].startswith("application/json")
        return json.loads(reply.read())


def test_the_dashboard_shows_names_values_constraints_and_attributes(storage: str) -> None:
    limit = Constraint(MACS, at_most=0.5)
    store = opened(storage, choices={"scorer": ("attention", HTML)})
    estimates = {"accuracy": Estimate(0.75, 0.01, 10), "macs": Estimate(0.4, None, 10)}
    candidate = Candidate.of(lengths=(1.0, 0.5), scorer=HTML)
    allowed = Trial(Ask(0, candidate), Measured(estimates, {"macs": limit.excess(0.4)}), 0.5)
    broken = limit.verdict(0.625, 0)
    assert broken is not None
    for trial in (allowed, Trial(Ask(1, Candidate.of(lengths=(1.0, 1.0))), broken, 0.1), failed(2), pruned(3)):
        store.append(trial)
    with dashboard(storage) as address:
        (summary,) = answer(f"{address}/api/studies")["study_summaries"]
        study = answer(f"{address}/api/studies/{summary['study_id']}")
    assert (summary["study_name"], summary["directions"]) == ("demo", ["maximize", "minimize"])
    assert study["objective_names"] == ["accuracy", "macs"]
    first, second, third, fourth = study["trials"]
    assert [one["state"] for one in study["trials"]] == ["Complete", "Pruned", "Fail", "Pruned"]
    assert first["values"] == [0.75, 0.4]
    params = {one["name"]: one["param_external_value"] for one in first["params"]}
    assert params == {"lengths_1": "1.0", "lengths_2": "0.5", "scorer": HTML}  # plain data, not markup
    assert first["constraints"] == pytest.approx([-0.1])
    assert second["constraints"] == pytest.approx([0.125])
    assert fourth["constraints"] == []
    told = [{one["key"]: one["value"] for one in trial["user_attrs"]} for trial in (first, second, third)]
    assert told[0]["key"] == candidate.key
    assert told[1]["pruned_why"] == "macs is 0.625, at most 0.5 is allowed"
    assert told[2]["failure_message"] == "loss is NaN"


def test_looking_at_a_journal_changes_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    store = opened(journal)
    store.append(measured(0))
    before = journal.read_bytes()
    with dashboard(str(journal)) as address:
        assert answer(f"{address}/api/studies")["study_summaries"]
        store.append(measured(1))  # the search goes on meanwhile
    assert journal.read_bytes().startswith(before)
    assert store.trials() == [measured(0), measured(1)]
