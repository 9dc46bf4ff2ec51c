"""Studies as jobs of a Ray cluster: submit, ask for the state, follow the log, stop.

Everything goes through Ray's job server and its token authentication. The token is Ray's to find and to send; searchkit
neither reads nor stores it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from searchkit._files import replace_whole
from searchkit.cluster.package import Needs, mib, packed, paths, pins, versions
from searchkit.errors import QUOTED, StoreError, StudyError, one_line
from searchkit.storage.remote import provider, refuse_credentials

if TYPE_CHECKING:
    from searchkit.runs.study_file import Loaded

log = logging.getLogger(__name__)

RECORD: Final = "submitted.json"
OVER: Final = {"SUCCEEDED": 0, "STOPPED": 130, "FAILED": 1}  # state -> exit code, where the job gave none
ANSWER_S: Final = 10.0
STOP_S: Final = 120  # until a job that is stopped is killed; it writes what it has first
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Submitted:
    """A study that was submitted, as `submitted.json` in its folder keeps it. No secrets.

    address: of the job server; job: its id there; runs: where the run folder is, a folder or a URL; file: the study's
    """

    address: str
    job: str
    study: str
    runs: str
    file: str
    date: str

    @classmethod
    def read(cls, folder: Path, own: bool = True) -> Submitted:
        """StudyError if the folder was never submitted; StoreError if what it says cannot be used.

        own: only what this user wrote, since the user's token goes to the address in it
        """
        path = folder / RECORD
        try:
            if own and path.stat().st_uid != os.getuid():
                raise StudyError(f"{path} is another user's: copy it if you trust its address, your token goes there")
            found = cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            raise StudyError(f"{folder}: was not submitted from here, it has no {RECORD}") from None
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}); submit the study again") from error
        texts = asdict(found).values()
        if not all(isinstance(text, str) for text in texts) or not all(map(NAME.fullmatch, (found.job, found.study))):
            raise StoreError(f"{path} is damaged; submit the study again")
        return found

    @property
    def folder(self) -> Path | None:
        """The run's folder, where it is shared with the cluster; None if it is at a URL."""
        return None if "://" in self.runs else Path(self.runs, self.study)

    def write(self, folder: Path) -> None:
        replace_whole(folder / RECORD, (json.dumps(asdict(self), indent=2) + "\n").encode())


@dataclass(frozen=True)
class State:
    """Of a job: PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED.

    message: why, where the job's log does not say it; code: its exit code, None while it runs
    """

    name: str
    message: str
    code: int | None


def submit(
    loaded: Loaded,
    options: Sequence[str],
    *,
    address: str,
    runs: str,
    include: Sequence[Path] = (),
    environment: Literal["cluster", "pip"] = "cluster",
    driver_cpus: float = 0,
    driver_gpus: float = 0,
) -> tuple[Submitted, float]:
    """Send the study to run there with these options of `searchkit run`; returns what was noted, and the MiB sent.

    What was noted is in `runs/<study>/` of the current folder, and in the run folder if `runs` is a folder. StudyError
    where the study, the cluster or what it needs is not as it has to be, also if it is being run there already.

    driver_cpus, driver_gpus: held for the job's own process, which trains the supernet
    """
    study, is_url = loaded.study.name, "://" in runs
    check_address(address)
    for text in (*options, *loaded.parameters.values()):
        refuse_credentials(text.partition("://")[0], text)
    place = runs.rstrip("/") if is_url else str(Path(runs).resolve())
    reached = (provider(place),) if is_url else ()
    if place.startswith("memory://"):
        raise StudyError(f"--runs {runs}: memory:// ends with its process; use a shared folder, or a URL such as s3://")
    sent = Submitted(
        address=address,
        job=f"{study}-{uuid.uuid4().hex[:8]}",
        study=study,
        runs=place,
        file=str(loaded.required_file("submit").resolve()),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    needs = Needs(sent.job, study, versions(*reached), paths(loaded, include), "" if is_url else place)
    folders = {Path("runs", study).resolve()} | (set() if is_url else {Path(place, study)})
    with tempfile.TemporaryDirectory(prefix="searchkit-") as temporary, _server(address) as client:
        _refuse_twice(folders)
        package = Path(temporary)
        name = packed(package, loaded.required_file("submit"), include)
        needs.write(package)
        given = [text for item in loaded.parameters.items() for text in ("-p", "=".join(item))]
        command = [
            "python",
            "-m",
            "searchkit.cluster.entrypoint",
            "run",
            name,
            *given,
            "--runs",
            place,
            "--ray-address",
            "auto",
            *options,
        ]
        with _noted(sent, folders):
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=sent.job,
                runtime_env={
                    "working_dir": str(package),
                    # a job that is stopped ends as on Ctrl-C: it keeps what is done
                    "env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)},
                    **({"pip": pins(needs.versions)} if environment == "pip" else {}),
                },
                metadata={"study": study},
                entrypoint_num_cpus=driver_cpus,
                entrypoint_num_gpus=driver_gpus,
            )
        return sent, mib(package)


def state(of: Submitted) -> State:
    """How the job is now."""
    with _server(of.address) as client:
        return _state(client, of)


def last_lines(of: Submitted, count: int) -> list[str]:
    """The end of the job's log."""
    with _server(of.address) as client:
        lines: list[str] = client.get_job_logs(of.job).splitlines()
        return lines[-count:]


def stop(submitted: Submitted) -> State:
    """Stop the job and wait until it is over; a job that is over already stays as it is."""
    with _server(submitted.address) as client:
        found = _state(client, submitted)
        if found.code is None:
            client.stop_job(submitted.job)
        until = time.monotonic() + STOP_S + ANSWER_S
        while found.code is None and time.monotonic() < until:
            time.sleep(0.2)
            found = _state(client, submitted)
        return found


def follow(submitted: Submitted, write: Callable[[str], object]) -> State:
    """Write the job's log as it grows, and return its last state. A connection that breaks is made again."""
    shown = 0

    async def tail(client: Any) -> None:
        nonlocal shown
        passed = 0
        async for text in client.tail_job_logs(submitted.job):
            new = text[max(0, shown - passed) :]
            passed += len(text)
            if new:
                write(new)
                shown = passed

    with _server(submitted.address) as client:
        import aiohttp

        while True:
            try:
                asyncio.run(tail(client))
            except (RuntimeError, OSError, aiohttp.ClientError) as error:
                log.info("the connection to the log broke: %s", one_line(error, QUOTED))
                time.sleep(1)
            if (found := _state(client, submitted)).code is not None:
                return found
            time.sleep(0.2)  # the log ends a little before the state changes


def on_every_node(ask: Callable[[Sequence[str]], Any], names: Sequence[str]) -> dict[str, Any]:
    """Node's address -> the function's answer there; for a job, in its own environment."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    try:
        task = ray.remote(ask)
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


def check_address(address: str) -> str:
    """The address as it is used; StudyError unless it is http(s)://HOST[:PORT] without credentials."""
    refuse_credentials("--address", address)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise StudyError(f"--address {address}: {error}") from error
    if parts.username is not None:
        raise StudyError("--address: no user or password in it; Ray sends the cluster's token by itself")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or port == 0:
        raise StudyError(f"--address {address}: expected the job server's URL, such as http://127.0.0.1:8265")
    return address.rstrip("/")


def _refuse_twice(folders: Iterable[Path]) -> None:
    """StudyError if the last submission is still at work."""
    for folder in folders:
        if not (folder / RECORD).exists():
            continue
        before = Submitted.read(folder)
        try:
            found = state(before)
        except StudyError:  # that cluster is gone, and the job with it
            continue
        if found.code is None:
            raise StudyError(
                f"{before.study} was submitted as {before.job}, which is {found.name}: `searchkit stop {folder}` first"
            )


@contextmanager
def _noted(sent: Submitted, folders: Iterable[Path]) -> Iterator[None]:
    """Note the submission before it is made, and what was noted before if it is not."""
    before = {folder / RECORD: (folder / RECORD).read_bytes() for folder in folders if (folder / RECORD).exists()}
    for folder in folders:
        sent.write(folder)
    try:
        yield
    except BaseException:
        for folder in folders:
            (folder / RECORD).unlink()
        for path, content in before.items():
            replace_whole(path, content)
        raise


@contextmanager
def _server(address: str) -> Iterator[Any]:
    """Ray's client of the job server; whatever goes wrong with it becomes a StudyError of one line."""
    _check_reachable(check_address(address))
    _let_ray_send_its_token()
    try:
        import aiohttp  # noqa: F401
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise StudyError(
            f"clusters need Ray's job client ({error.name} is missing): pip install 'searchkit[cluster]'"
        ) from error
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with _address_as_given():
            client = JobSubmissionClient(address)
        yield client
    except AuthenticationError as error:
        raise StudyError(
            f"{address} refused the token, or got none: set RAY_AUTH_TOKEN_PATH to the file with the cluster's token, "
            "or put the token into ~/.ray/auth_token"
        ) from error
    except (RuntimeError, ValueError, OSError) as error:
        if "does not exist" in str(error) and "404" in str(error):
            raise StudyError(
                f"{address} knows no such job: the cluster is a new one; submit the study again"
            ) from error
        raise StudyError(f"the job server at {address}: {one_line(error, QUOTED)}") from error


def _check_reachable(address: str) -> None:
    """Ray's client would wait for ever for a server that does not answer."""
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_S):
            return
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # it is there and wants the token
            return
        raise StudyError(f"--address {address}: something else than Ray's job server answers ({error.code})") from error
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise StudyError(
            f"no job server answers at {address} ({one_line(reason, QUOTED)}): is the cluster up, its dashboard port "
            "forwarded?"
        ) from error
    except Exception as error:  # http.client's own, for what is no HTTP
        raise StudyError(f"--address {address}: something else than Ray's job server answers") from error


def _let_ray_send_its_token() -> None:
    """Ray's client sends a token only if told so, and aborts the process if it cannot read the file it is told."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(given) if given else Path.home() / ".ray" / "auth_token"
    readable = file.is_file() and os.access(file, os.R_OK) and file.stat().st_size > 0
    if os.environ.get("RAY_AUTH_TOKEN") or readable:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif given:
        raise StudyError(f"RAY_AUTH_TOKEN_PATH={given}: there is no token that can be read")


@contextmanager
def _address_as_given() -> Iterator[None]:
    """Ray prefers these variables to the address it is given."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _state(client: Any, of: Submitted) -> State:
    found = client.get_job_info(of.job)
    name, code = str(found.status.value), found.driver_exit_code
    message = one_line(found.message or "", QUOTED) if name == "FAILED" and code is None else ""
    if name in OVER:
        code = code if code in range(1, 256) else OVER[name]
    return State(name, message, code if name in OVER else None)
