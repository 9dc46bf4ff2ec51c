"""Submission of a study as a job of a Ray cluster.

Everything goes through Ray's job server and its token authentication, see `server`.
"""

from __future__ import annotations

import math
import shlex
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from searchkit._internal.files import replace_whole
from searchkit.cluster.jobs import STOP_S, state
from searchkit.cluster.package import Needs, mib, packed, paths, pins, versions
from searchkit.cluster.server import check_address, server
from searchkit.cluster.submission import RECORD, Submitted
from searchkit.errors import StudyError
from searchkit.evaluate.ray_cluster import NO_HOOKS, PYTHON, RUNTIME_ENV_VARS
from searchkit.storage.remote import provider, refuse_credentials

if TYPE_CHECKING:
    from searchkit.runs.study_file import Loaded


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
    """Submit the study to run there with these options of `searchkit run`; returns the record, and the MiB sent.

    What was noted is in `runs/<study>/` of the current folder, and in the run folder if `runs` is a folder. StudyError
    where the study, the cluster or what it needs is not as it has to be, also if it is being run there already.

    driver_cpus, driver_gpus: held for the job's own process, which trains the supernet
    """
    study, is_url = loaded.study.name, "://" in runs
    check_address(address)
    for option, amount in {"--driver-cpus": driver_cpus, "--driver-gpus": driver_gpus}.items():
        if not 0 <= amount < math.inf:
            raise StudyError(f"{option} must be a number of 0 or more, got {amount}")
    for text in (*options, *loaded.parameters.values()):
        refuse_credentials(text.partition("://")[0], text)
    runs_folder = runs.rstrip("/") if is_url else str(Path(runs).resolve())
    reached = (provider(runs_folder),) if is_url else ()
    if runs_folder.startswith("memory://"):
        raise StudyError(f"--runs {runs}: memory:// ends with its process; use a shared folder, or a URL such as s3://")
    submitted = Submitted(
        address=address,
        job=f"{study}-{uuid.uuid4().hex[:8]}",
        study=study,
        runs=runs_folder,
        file=str(loaded.required_file("submit").resolve()),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    needs = Needs(submitted.job, study, versions(*reached), paths(loaded, include), "" if is_url else runs_folder)
    folders = {Path("runs", study).resolve()} | (set() if is_url else {Path(runs_folder, study)})
    with tempfile.TemporaryDirectory(prefix="searchkit-") as temporary, server(address) as client:
        _refuse_twice(folders)
        package = Path(temporary)
        name = packed(package, loaded.required_file("submit"), include)
        needs.write(package)
        given = [text for item in loaded.parameters.items() for text in ("-p", "=".join(item))]
        command = ["python", "-m", "searchkit.cluster.entrypoint", "run", name, *given, "--runs", runs_folder]
        command += ["--ray-address", "auto", *options]
        with _noted(submitted, folders):
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=submitted.job,
                runtime_env=_runtime_env(package, needs, environment),
                metadata={"study": study},
                entrypoint_num_cpus=driver_cpus,
                entrypoint_num_gpus=driver_gpus,
            )
        return submitted, mib(package)


def _runtime_env(package: Path, needs: Needs, environment: str) -> dict[str, Any]:
    """Ray's `runtime_env` of the job: files, interpreter and environment variables."""
    # a job that is stopped ends as on Ctrl-C: it keeps what is done
    stopping = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}
    python: dict[str, Any] = {"pip": pins(needs.versions)} if environment == "pip" else {"py_executable": PYTHON}
    return {"working_dir": str(package), "env_vars": {**stopping, **NO_HOOKS, **RUNTIME_ENV_VARS}, **python}


def _refuse_twice(folders: Iterable[Path]) -> None:
    """Raise StudyError if the last submission is still running."""
    for folder in folders:
        if not (folder / RECORD).exists():
            continue
        before = Submitted.read(folder)
        try:
            job_state = state(before)
        except StudyError:  # the cluster is gone, and the job with it
            continue
        if job_state.code is None:
            raise StudyError(
                f"{before.study} was submitted as {before.job}, which is {job_state.name}: "
                f"`searchkit stop {folder}` first"
            )


@contextmanager
def _noted(submitted: Submitted, folders: Iterable[Path]) -> Iterator[None]:
    """Write the record before the submission is made, and restore the earlier one if it fails."""
    before = {folder / RECORD: (folder / RECORD).read_bytes() for folder in folders if (folder / RECORD).exists()}
    for folder in folders:
        submitted.write(folder)
    try:
        yield
    except BaseException:
        for folder in folders:
            (folder / RECORD).unlink()
        for path, content in before.items():
            replace_whole(path, content)
        raise
