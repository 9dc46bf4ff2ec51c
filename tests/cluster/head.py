"""A Ray cluster of several raylets on loopback, with job server and token authentication, in a process of its own.

It has its own temporary folder and token: other Ray clusters of this machine, and the user's token, are left alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Head:
    """A running cluster: the URL of its job server, and the environment in which commands reach it."""

    url: str
    address: str
    environment: dict[str, str]
    token: str


@contextmanager
def cluster(nodes: int, cpus: int) -> Iterator[Head]:
    """So many raylets with so many CPUs each."""
    folder = Path(tempfile.mkdtemp(prefix="sk"))  # short: names of Unix sockets end at 107 characters
    token = secrets.token_hex(32)
    (folder / "token").write_text(token)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": path,
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's switch for staying on 127.0.0.1, see docs/cluster.md
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", "tests.cluster.head", str(nodes), str(cpus)]
    log = (folder / "head.log").open("w")
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout is not None
        answer = process.stdout.readline()
        assert answer, (folder / "head.log").read_text()
        # commands get the token's file and nothing that says so: Ray's client has to be made to send it
        commands = {name: value for name, value in environment.items() if name not in ("RAY_AUTH_MODE", "RAY_TMPDIR")}
        yield Head(**json.loads(answer), environment=commands, token=token)
    finally:
        process.communicate(timeout=60)  # closes its stdin, which ends it
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _serve(nodes: int, cpus: int) -> None:
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"num_cpus": cpus, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    head = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": port}
    started = Cluster(initialize_head=True, head_node_args={**common, **head, "dashboard_agent_listen_port": 0})
    for _ in range(nodes - 1):
        started.add_node(**common)
    print(json.dumps({"url": f"http://{started.webui_url}", "address": started.address}), flush=True)
    sys.stdin.read()
    started.shutdown()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
