"""Ray cluster for evaluation: the connection, the resources of a worker, and the environment of its processes."""

from __future__ import annotations

import io
import logging
import math
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from searchkit.errors import QUOTED, StudyError, one_line

log = logging.getLogger(__name__)

RUNTIME_ENV_VARS: Final[Mapping[str, str]] = {}  # environment of every worker process, here and on other machines
# Ray's hook for `uv run` sends the current folder along, and takes `uv run` for the workers' python
NO_HOOKS: Final = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
# of the enclosing Ray job or of the user, with files and a python that a cluster of our own does not have
INHERITED: Final = ("RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_RUNTIME_ENV_HOOK")
# The python beside Ray's own code, quoted: Ray puts the path of its interpreter into a shell command as it is, where a
# space ends it (ray-project/ray#5288). The first argument is ENVIRONMENT/lib/python3.11/.../default_worker.py.
PYTHON: Final = """bash -c 'p="${0%/lib*/python*}/bin/python"; [ -x "$p" ] || p=python; exec "$p" "$0" "$@"'"""
ON_LOOPBACK: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: no node but this one, so that nothing else may listen in
SOCKET_BYTES: Final = 107  # the longest name of a Unix socket
SOCKET: Final = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
ANSWER_S: Final = 10.0  # timeout of the head of a cluster
SMALLEST: Final = 1e-4  # part of a resource that Ray counts
STUDY: Final = "searchkit_study_"  # prefix of the module names of study files
OURS: Final = ("searchkit", "objectives", "studies")


@dataclass(frozen=True)
class Resources:
    """Resources that Ray reserves for one worker: CPU cores, GPUs (fractions share one), and those that nodes have
    by name."""

    cpus: float = 1
    gpus: float = 0
    custom: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, amount in {"cpus": self.cpus, "gpus": self.gpus, **self.custom}.items():
            if not 0 <= amount < math.inf:
                raise StudyError(f"a worker's {name} must be a number of 0 or more, got {amount}")
            if 0 < amount < SMALLEST:
                raise StudyError(f"a worker's {name} must be 0 or at least {SMALLEST}, got {amount}")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise StudyError(f"a worker's gpus must be a whole number, or a part of one GPU, got {self.gpus}")
        for name in self.custom:
            if not name or name in ("CPU", "GPU", "memory", "object_store_memory"):
                raise StudyError(f"a worker's resource {name!r}: expected a name that nodes were given, such as A100")

    @property
    def named(self) -> dict[str, float]:
        """Resources by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus, **self.custom}

    def __str__(self) -> str:
        return ", ".join(f"{amount:g} {name}" for name, amount in self.named.items() if amount)


ONE_CORE: Final = Resources()


def check_workers(workers: int, address: str | None, resources: Resources, sent: Mapping[str, object]) -> None:
    """Raise StudyError, before anything is trained, for what would keep workers from starting.

    sent: what travels to the workers, by its name in messages
    """
    ray = imported(address)
    if address:
        check_reachable(address)
    elif not ray.is_initialized():
        _check_machine(workers, resources)
    travel_by_value(ray)
    for name, thing in sent.items():
        try:
            ray.cloudpickle.dump(thing, io.BytesIO())
        except Exception as error:  # errors of the user's own classes too
            raise StudyError(
                f"{name} cannot be sent to workers: {one_line(error, QUOTED)}; keep files, locks and connections out "
                "of it, or search without --workers"
            ) from error


def _check_machine(workers: int, resources: Resources) -> None:
    """Raise StudyError where this machine, as a local cluster, lacks the resources of the workers."""
    import torch

    if resources.custom:
        raise StudyError(f"a cluster on this machine has no {', '.join(resources.custom)}: leave --resource out")
    gpus, per_worker = torch.cuda.device_count(), resources.gpus
    fit = (
        workers if not per_worker else int(gpus // per_worker) if per_worker > 1 else gpus * int(1 / per_worker + 1e-9)
    )
    if fit < workers:
        have = f"{gpus} GPU{'s' * (gpus != 1)}" if gpus else "no GPU"
        raise StudyError(
            f"--workers {workers} with {per_worker:g} GPUs each: this machine has {have}, which is enough for {fit}"
        )
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "")
    folder = Path(os.environ.get(name) or tempfile.gettempdir())
    if (size := len(os.fsencode(folder / SOCKET))) > SOCKET_BYTES:
        raise StudyError(
            f"{name}={folder}: Ray's sockets in it would have names of {size} bytes, and {SOCKET_BYTES} are possible; "
            "set RAY_TMPDIR to a shorter folder, such as /tmp"
        )
    above = next(parent for parent in (folder / "ray", *(folder / "ray").parents) if parent.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise StudyError(
            f"{name or 'the temporary folder'} {folder}: Ray cannot write there; set RAY_TMPDIR to another"
        )


def check_reachable(address: str) -> None:
    """Raise StudyError where nothing listens at HOST:PORT; Ray itself would try for a quarter of an hour."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, or something that Ray says more about
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise StudyError(f"cannot reach the Ray cluster at {address}: {error}") from error


def imported(address: str | None) -> Any:
    """Import Ray, which reads these variables when it is imported."""
    os.environ.update(NO_HOOKS)
    if address is None:
        os.environ.setdefault(ON_LOOPBACK, "0")
    import ray

    return ray


def connect(address: str | None, cpus: float) -> Any:
    """Connect Ray to the cluster at the address, or to a local one of this many cores; StudyError if that fails."""
    ray = imported(address)
    if address:
        check_reachable(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            with _own_environment():
                ray.init(address="local", num_cpus=max(1, round(cpus)), include_dashboard=False, **quiet)
    except Exception as error:  # Ray raises bare ones too, where a node is slow to start
        cluster = f"the Ray cluster at {address}" if address else "a local Ray cluster"
        raise StudyError(f"cannot reach {cluster}: {one_line(error, QUOTED)}") from error
    return ray


@contextmanager
def _own_environment() -> Iterator[None]:
    """Environment of the processes of a local cluster."""
    before = dict(os.environ)
    for name in INHERITED:
        os.environ.pop(name, None)
    os.environ.update(RUNTIME_ENV_VARS)
    if not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        yield
    finally:
        for name in {*INHERITED, *RUNTIME_ENV_VARS, "RAY_AUTH_TOKEN"}:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]


def _has_token() -> bool:
    """Return whether Ray has a token, or can write one to the home folder."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    home = Path(os.path.expanduser("~"), ".ray")
    return given or (home / "auth_token").exists() or os.access(home if home.exists() else home.parent, os.W_OK)


def runtime_env(address: str | None) -> dict[str, Any]:
    """Ray's `runtime_env` of a worker, where its environment does not come from this process or the job."""
    if not address or not RUNTIME_ENV_VARS:
        return {}
    in_job = {} if INHERITED[0] in os.environ else {"py_executable": PYTHON}
    return {"env_vars": dict(RUNTIME_ENV_VARS), **in_job}


def on_every_node(function: Callable[[Sequence[str]], Any], names: Sequence[str]) -> dict[str, Any]:
    """Call a function on every node, for a job in its own environment: address -> result."""
    ray = connect("auto", 0)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    try:
        task = ray.remote(function)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        answers = [
            task.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(names)
            for node in nodes
        ]
        return dict(zip((node["NodeManagerAddress"] for node in nodes), ray.get(answers), strict=True))
    except ray.exceptions.RayError as error:
        raise StudyError(f"a node of the cluster cannot run the study: {one_line(error, QUOTED)}") from error
    finally:
        ray.shutdown()


def travel_by_value(ray: Any) -> None:
    """Pickle the study file and the modules beside it by value, since workers cannot import them."""
    files = {name: file for name, module in list(sys.modules.items()) if (file := getattr(module, "__file__", None))}
    folders = {Path(file).resolve().parent for name, file in files.items() if name.startswith(STUDY)}
    for name, file in files.items():
        beside = Path(file).resolve().parents[Path(file).name == "__init__.py"]
        if "." not in name and name not in OURS and beside in folders:
            ray.cloudpickle.register_pickle_by_value(sys.modules[name])
