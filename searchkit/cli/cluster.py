"""Commands for a run that is a job on a Ray cluster: submit it, show its state, stop it, copy it here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from searchkit.cli.options import Parameter, RunFolder, Runs, StudyFile, parameters
from searchkit.cli.terminal import out, say
from searchkit.errors import StudyError

if TYPE_CHECKING:
    from searchkit.cluster.jobs import State
    from searchkit.cluster.submission import Submitted


MoreOptions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[-- OPTIONS]", help="Further options of `searchkit run`, after --; their paths are the cluster's."
    ),
]
Address = Annotated[
    str,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS",
        help="The cluster's job server, which is its dashboard: the forwarded port of the head, usually.",
    ),
]
JobWorkers = Annotated[int, typer.Option(min=1, help="Processes that evaluate; one per GPU, or per few cores.")]
JobGpusPerWorker = Annotated[
    float | None, typer.Option(min=0, help="GPUs per worker, may be a fraction; default: as the job's node has.")
]
JobThreads = Annotated[
    int | None, typer.Option(min=0, help="CPU threads of training and of each worker; default: torch's own.")
]
Include = Annotated[
    list[Path] | None,
    typer.Option(help="A file or folder to send along, below the current one: a module, small data. Repeat."),
]
PythonEnvironment = Annotated[
    Literal["cluster", "pip"],
    typer.Option(
        help="cluster: take the packages that are installed on the nodes, and stop if searchkit or torch differ "
        "from those here. pip: install the versions that are here, on every node, once."
    ),
]
DriverCpus = Annotated[float, typer.Option(min=0, help="CPUs held for the job's own process.")]
DriverGpus = Annotated[
    float, typer.Option(min=0, help="GPUs held for the job's own process, which trains the supernet.")
]
Wait = Annotated[bool, typer.Option(help="Follow the log until the job is over; its exit code becomes ours.")]


def submit(
    context: typer.Context,
    study: StudyFile,
    options: MoreOptions = None,
    param: Parameter = None,
    address: Address = "http://127.0.0.1:8265",
    workers: JobWorkers = 1,
    gpus_per_worker: JobGpusPerWorker = None,
    threads: JobThreads = None,
    runs: Runs = "runs",
    include: Include = None,
    environment: PythonEnvironment = "cluster",
    driver_cpus: DriverCpus = 0,
    driver_gpus: DriverGpus = 0,
    wait: Wait = False,
) -> None:
    """Run a study on a Ray cluster, as a job of its own: this machine may go.

    The study file and searchkit's code travel along. Everything else has to be there: data and models at absolute paths
    that the cluster sees, or sent with --include; and RUNS, a folder that this machine and the cluster share, or a URL.

    Afterwards `searchkit status`, `stop` and `fetch` take runs/<study>. Submit again to go on, whatever ended the job.

    The token that Ray asks for is taken from where Ray keeps it: RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.
    """
    from searchkit.cluster.submit import submit as submit_job
    from searchkit.runs.study_file import load

    loaded = load(study, parameters(param))
    given = ["--workers", str(workers), *(options or [])]
    if threads is not None:
        given += ["--threads", str(threads)]
    if gpus_per_worker is not None:
        given += ["--gpus-per-worker", str(gpus_per_worker)]
    _refuse_unknown(context, ["STUDY", *given])
    submitted, mib = submit_job(
        loaded,
        given,
        address=address,
        runs=runs,
        include=include or [],
        environment=environment,
        driver_cpus=driver_cpus,
        driver_gpus=driver_gpus,
    )
    folder = Path("runs", submitted.study)
    place = f"{submitted.runs}/{submitted.study}"
    say(f"submitted {submitted.job} to {submitted.address} ({mib:.1f} MiB); it runs in {place}")
    say(f"searchkit status {folder} says how far it is, searchkit stop {folder} ends it")
    if wait:
        raise typer.Exit(followed(submitted, folder))


def stop(run: RunFolder) -> None:
    """Stop a submitted run's job. What is done is kept; submit it again and it goes on.

    The exit code is 0 once the job is over, 1 if it still runs after two minutes.
    """
    from searchkit.cluster.jobs import stop as stop_job
    from searchkit.cluster.submission import Submitted

    submitted = Submitted.read(run)
    job_state = stop_job(submitted, run)
    show_job(job_state, submitted)
    if job_state.code is None:
        raise typer.Exit(1)


def fetch(run: RunFolder) -> None:
    """Copy a submitted run from where it is to RUN: report, tables, plots and journal, all or none of them.

    It may still be running. Files that are only in RUN stay there.
    """
    from searchkit.cluster.fetch import fetch as fetch_run
    from searchkit.cluster.submission import Submitted

    submitted = Submitted.read(run)
    files, size = fetch_run(submitted.runs, submitted.study, run, submitted.file)
    say(f"{run}: {files} files, {size / 2**20:.1f} MiB, from {submitted.runs}/{submitted.study}")


def _refuse_unknown(submitting: typer.Context, arguments: list[str]) -> None:
    """Refuse options that `searchkit run` does not take, or that `submit` sets itself, before anything is sent."""
    command = submitting.find_root().command
    assert isinstance(command, typer.core.TyperGroup)
    context = command.commands["run"].make_context("run", arguments)
    for name in ("runs", "ray_address", "param"):
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise StudyError(f"{option} does not stand after --; `submit` has its own, or needs none")


def followed(submitted: Submitted, folder: Path) -> int:
    """Follow the job's log, and return its exit code; Ctrl-C leaves the job alone."""
    from searchkit.cluster.jobs import follow

    def write(text: str) -> None:
        out.file.write(text)
        out.file.flush()

    try:
        job_state = follow(submitted, write)
    except KeyboardInterrupt:
        say(
            f"\ndetached, the job goes on: searchkit status --follow {folder} follows it again, "
            f"searchkit stop {folder} ends it"
        )
        return 130
    show_job(job_state, submitted)
    return job_state.code or 0


def show_job(job_state: State, submitted: Submitted) -> None:
    code = f", exit code {job_state.code}" if job_state.code else ""
    message = f", {job_state.message}" if job_state.message else ""
    say(f"job {submitted.job} at {submitted.address}: {job_state.name}{code}{message}")
