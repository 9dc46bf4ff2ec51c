"""The command line: a function for each command, thin."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never

import typer
from rich.markup import escape

from searchkit.cli.terminal import bars, err, out, say, show, show_picked, show_remeasured, show_status, warn
from searchkit.errors import SearchkitError, StudyError, one_line
from searchkit.runs.folder import Folder
from searchkit.storage.address import ENVIRONMENT, StorageAddress

if TYPE_CHECKING:
    from searchkit.cluster.submit import State, Submitted
    from searchkit.runs.study_file import Loaded

log = logging.getLogger(__name__)
LAST_LINES = 10  # of a job's log, in its status
USAGE: Any = typer.BadParameter.__base__  # a mistake in options; typer has no public name for it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train a length-adaptive encoder once, search its per-layer token lengths, and report an honest Pareto front.",
    epilog="A first run: [bold]searchkit run studies/quickstart.py[/bold]",
)

StudyFile = Annotated[
    Path, typer.Argument(metavar="STUDY", help="A Python file that defines study() -> searchkit.Study.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/quickstart.")]
Parameter = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="NAME=VALUE", help="A parameter of the study function; repeat for more."),
]
Runs = Annotated[
    str,
    typer.Option(
        metavar="FOLDER|URL",
        help="Folder of all runs; a study's own is RUNS/<study>, supernets are cached beside it. A URL, such as "
        "s3://bucket/runs, is worked on in a local copy, which goes there every minute and at the end.",
    ),
]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
Dtype = Annotated[
    str, typer.Option(help="auto (bf16 where the device has it natively, else fp32), fp32, bf16 or fp16.")
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads per worker; 0: the machine's cores over the workers.")]


def _public(context: typer.Context, option: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse a password that everybody on the machine can read in the list of processes."""
    source = context.get_parameter_source(option.name or "")
    if value and source is not None and source.name == "COMMANDLINE" and StorageAddress(value).has_secret:
        raise StudyError(
            f"--{option.name} {StorageAddress(value)}: a password on the command line can be read in the "
            f"list of processes; put the URL into {ENVIRONMENT}, or leave the password to PGPASSWORD or ~/.pgpass"
        )
    return value


_PLACES = f"a journal file or a URL (sqlite:///run.db, postgresql://user@host/db). With a password: in {ENVIRONMENT}"
Storage = Annotated[
    str | None,
    typer.Option(
        help=f"Where trials are kept: {_PLACES}. Default: journal.log in the run folder.",
        envvar=ENVIRONMENT,
        show_envvar=False,
        callback=_public,
    ),
]


@app.command(name="train")
def train_command(
    study: StudyFile,
    param: Parameter = None,
    runs: Runs = "runs",
    device: Device = "auto",
) -> None:
    """Train the study's supernet, or find it in the cache; `run` does this by itself."""
    from searchkit.runs.config import Conditions
    from searchkit.runs.phases import train_only
    from searchkit.runs.study_file import load

    loaded = load(study, _parameters(param))
    with _local(runs, loaded) as here, _keeping(Folder(here / loaded.study.name)), bars() as progress:
        trained = train_only(loaded, Conditions(runs=here, device=device), progress)
    say(f"supernet {runs}/supernets/{trained.folder.name} ({trained.train_s:.0f} s of training)")


@app.command()
def run(
    study: StudyFile,
    param: Parameter = None,
    runs: Runs = "runs",
    device: Device = "auto",
    dtype: Dtype = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Ray workers; 0 searches in this process.")] = 0,
    threads: Threads = 0,
    ray_address: Annotated[
        str | None, typer.Option(help="A running Ray cluster, such as auto or host:6379; default: a local one.")
    ] = None,
    cpus_per_worker: Annotated[float, typer.Option(min=0, help="Cores that Ray sets aside for each worker.")] = 1,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs per Ray worker, may be a fraction; default: this machine's, shared."),
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=AMOUNT", help="What else of the cluster a worker takes, such as A100=1; repeat."),
    ] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="A candidate that takes longer on a worker has failed.")
    ] = 900,
    cache_mib: Annotated[
        int,
        typer.Option(
            min=0, help="MiB that each worker may keep of prefixes that later candidates share; 0 keeps none."
        ),
    ] = 2048,
    storage: Storage = None,
) -> None:
    """Train, search, re-measure the front on the report split, and write tables and plots.

    Stop it at any moment (Ctrl-C, kill, power cut) and run the same command again: it goes on and measures nothing
    twice. Ctrl-C once lets a search finish what is in flight, twice stops it now.
    """
    from searchkit.runs.config import Conditions
    from searchkit.runs.phases import execute
    from searchkit.runs.study_file import load
    from searchkit.search.interrupt import Interrupt

    loaded = load(study, _parameters(param))
    if (ray_address or gpus_per_worker is not None or resource) and not workers:
        raise StudyError("--ray-address, --gpus-per-worker and --resource need --workers N with N at least 1")
    with _local(runs, loaded) as here:
        conditions = Conditions(
            runs=here,
            device=device,
            dtype=dtype,
            workers=workers,
            threads=threads,
            ray_address=ray_address,
            cpus_per_worker=cpus_per_worker,
            gpus_per_worker=gpus_per_worker,
            custom=_amounts(resource),
            deadline_s=deadline,
            cache_mib=cache_mib,
            storage=storage,
        )
        folder = Folder(here / loaded.study.name)
        with _keeping(folder, f"{runs}/{loaded.study.name}"), bars() as progress:
            results = execute(loaded, conditions, progress, Interrupt(warn))
        show(results, f"{runs}/{loaded.study.name}")


@app.command()
def submit(
    study: StudyFile,
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- OPTIONS]", help="Further options of `searchkit run`, after --; their paths are the cluster's."
        ),
    ] = None,
    param: Parameter = None,
    address: Annotated[
        str,
        typer.Option(
            envvar="RAY_API_SERVER_ADDRESS",
            help="The cluster's job server, which is its dashboard: the forwarded port of the head, usually.",
        ),
    ] = "http://127.0.0.1:8265",
    workers: Annotated[int, typer.Option(min=1, help="Processes that evaluate; one per GPU, or per few cores.")] = 1,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="GPUs per worker, may be a fraction; default: as the job's node has.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="CPU threads per worker; default: torch's own.")] = None,
    runs: Runs = "runs",
    include: Annotated[
        list[Path] | None,
        typer.Option(help="A file or folder to send along, below the current one: a module, small data. Repeat."),
    ] = None,
    environment: Annotated[
        Literal["cluster", "pip"],
        typer.Option(
            help="cluster: take the packages that are installed on the nodes, and stop if searchkit or torch differ "
            "from those here. pip: install the versions that are here, on every node, once."
        ),
    ] = "cluster",
    driver_cpus: Annotated[float, typer.Option(min=0, help="CPUs held for the job's own process.")] = 0,
    driver_gpus: Annotated[
        float, typer.Option(min=0, help="GPUs held for the job's own process, which trains the supernet.")
    ] = 0,
    wait: Annotated[
        bool, typer.Option(help="Follow the log until the job is over; its exit code becomes ours.")
    ] = False,
) -> None:
    """Run a study on a Ray cluster, as a job of its own: this machine may go.

    The study file and searchkit's code travel along. Everything else has to be there: data and models at absolute paths
    that the cluster sees, or sent with --include; and RUNS, a folder that this machine and the cluster share, or a URL.

    Afterwards `searchkit status`, `stop` and `fetch` take runs/<study>. Submit again to go on, whatever ended the job.

    The token that Ray asks for is taken from where Ray keeps it: RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.
    """
    from searchkit.cluster.submit import submit as submit_job
    from searchkit.runs.study_file import load

    loaded = load(study, _parameters(param))
    given = ["--workers", str(workers), *(options or [])]
    if threads is not None:
        given += ["--threads", str(threads)]
    if gpus_per_worker is not None:
        given += ["--gpus-per-worker", str(gpus_per_worker)]
    _refuse_unknown(["STUDY", *given])
    sent, mib = submit_job(
        loaded,
        given,
        address=address,
        runs=runs,
        include=include or [],
        environment=environment,
        driver_cpus=driver_cpus,
        driver_gpus=driver_gpus,
    )
    folder = Path("runs", sent.study)
    say(f"submitted {sent.job} to {sent.address} ({mib:.1f} MiB); it runs in {sent.runs}/{sent.study}")
    say(f"searchkit status {folder} says how far it is, searchkit stop {folder} ends it")
    if wait:
        raise typer.Exit(_followed(sent, folder))


@app.command()
def status(
    run: RunFolder,
    follow: Annotated[bool, typer.Option(help="Follow the log of a submitted run until its job is over.")] = False,
) -> None:
    """Say how far a run is, also while it is running: evaluations, failures by kind, the best points so far.

    Of a submitted run: its job's state and the end of its log too.
    """
    from searchkit.cluster.submit import RECORD, Submitted, last_lines, state

    sent = Submitted.read(run) if follow or (run / RECORD).exists() else None
    if follow and sent:
        raise typer.Exit(_followed(sent, run))
    folders = [Folder(path) for path in (sent and sent.folder, run) if path]
    folder = next((one for one in folders if one.study.exists()), None)
    if folder or not sent:
        show_status(folder or Folder(run))
    if sent:
        _tell_job(state(sent), sent)
        for line in last_lines(sent, LAST_LINES):
            say(f"  | {line}")
        if not sent.folder:
            say(f"the run is in {sent.runs}/{sent.study}; searchkit fetch {run} copies it here")


@app.command()
def stop(run: RunFolder) -> None:
    """Stop a submitted run's job. What is done is kept; submit it again and it goes on."""
    from searchkit.cluster.submit import Submitted
    from searchkit.cluster.submit import stop as stop_job

    sent = Submitted.read(run)
    _tell_job(stop_job(sent), sent)


@app.command()
def fetch(run: RunFolder) -> None:
    """Copy a submitted run from where it is to RUN: report, tables, plots and journal, all or none of them.

    It may still be running. Files that are only in RUN stay there.
    """
    from searchkit.cluster.fetch import fetch as fetch_run
    from searchkit.cluster.submit import Submitted

    sent = Submitted.read(run)
    files, size = fetch_run(sent.runs, sent.study, run, sent.file)
    say(f"{run}: {files} files, {size / 2**20:.1f} MiB, from {sent.runs}/{sent.study}")


@app.command()
def report(run: RunFolder) -> None:
    """Write tables and plots of a finished run again, from its storage; nothing is measured anew."""
    from searchkit.runs.results import write
    from searchkit.runs.verify import stored_results

    folder = Folder(run)
    results = stored_results(folder)
    write(results, folder)
    show(results, folder.path)


@app.command(name="pick")
def pick_command(
    run: RunFolder,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help='"NAME <= NUMBER", "NAME >= NUMBER", or relative to the unreduced model: '
            '"accuracy >= unreduced - 0.01". '
            "A name is an objective, or a figure beside one as front.csv calls it, such as latency_ms_p95. Repeat.",
        ),
    ] = None,
    best: Annotated[
        str | None,
        typer.Option(
            metavar="OBJECTIVE",
            help="The objective that decides among those within the limits, or knee. Default: the lowest cost where a "
            "limit asks for quality, the highest quality where limits are on costs alone, the knee without limits.",
        ),
    ] = None,
    confident: Annotated[
        bool,
        typer.Option("--confident", help="A limit has to hold on the whole 95 % interval, not on the value alone."),
    ] = False,
    measured: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Take the values of RUN/measured/NAME.csv, where `measure` kept a setting."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is written, as JSON.")] = False,
) -> None:
    """Choose one member of a finished run's front, and say why; RUN/pick.json keeps it.

    Values are those of the report split, and the study's own constraints are kept there too. What is relative to the
    unreduced model has the interval of the paired difference. Nothing is measured, and no code of the study runs.
    """
    from searchkit.runs.pick import picked

    found = picked(Folder(run), where or [], best, confident, measured)
    path = found.write(run)
    if as_json:
        typer.echo(path.read_text(), nl=False)
    else:
        show_picked(found, path)


@app.command(name="measure")
def measure_command(
    run: RunFolder,
    batch_size: Annotated[list[int], typer.Option(min=1, help="Examples per timed batch; repeat for more.")] = [1],  # noqa: B006
    length: Annotated[
        int | None, typer.Option(min=3, help="Tokens of every timed example; default: the examples as they are.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
) -> None:
    """Measure a run's front again on this machine and in this setting; earlier measurements are kept beside it.

    Stop other work on the machine first: rounds with a busy neighbour are thrown away and measured anew.
    """
    from searchkit.runs.config import Conditions
    from searchkit.runs.remeasure import measure

    folder = Folder(run)
    conditions = Conditions(runs=folder.path.parent, device=device, dtype=dtype, threads=threads)
    found = []
    with _keeping(folder), bars() as progress:
        for size in dict.fromkeys(batch_size):
            found.append(measure(folder, conditions, batch_size=size, length=length, progress=progress))
            found[-1].write(folder.path)
    for one in found:
        show_remeasured(one)
    for name, value in found[0].setting.items():
        if name != "batch_size":
            say(f"  {name}: {value}")
    say(f"kept in {folder.path / 'measured'}")


@app.command()
def verify(
    run: RunFolder,
    again: Annotated[int, typer.Option(min=0, help="Measure this many stored trials again and compare.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
) -> None:
    """Replay a run: the engine, told the stored outcomes in order, must ask for exactly the stored candidates."""
    from searchkit.runs.config import Conditions
    from searchkit.runs.verify import measured_again, replayed

    folder = Folder(run)
    replay = replayed(folder)
    say(f"replayed {replay} asks: every one is the stored one")
    if again:
        conditions = Conditions(runs=folder.path.parent, device=device, dtype=dtype, threads=threads)
        with bars() as progress:
            same = measured_again(folder, again, conditions, progress)
        say(f"measured {same} trials again: the same values")


@app.command(name="export")
def export_command(
    run: RunFolder,
    to: Annotated[
        str,
        typer.Option(metavar="STORAGE", help=f"{_PLACES}.", envvar=ENVIRONMENT, show_envvar=False, callback=_public),
    ],
) -> None:
    """Copy a run into another storage: its trials, its notes, and what `import` needs to make a run folder of it.

    Go on there with `searchkit run STUDY --storage STORAGE`. What is there already is not copied again.
    """
    from searchkit.runs.transfer import exported

    count = exported(Folder(run), to)
    say(f"{count} trials copied to {StorageAddress(to)}")


@app.command(name="import")
def import_command(
    study: StudyFile,
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="STORAGE", help=f"{_PLACES}.", envvar=ENVIRONMENT, show_envvar=False, callback=_public
        ),
    ],
    param: Parameter = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs; the study's own is made in it.")] = Path("runs"),
    storage: Annotated[
        str | None,
        typer.Option(help="Where the trials are copied to. Default: journal.log in the run folder.", callback=_public),
    ] = None,
) -> None:
    """Make the run folder of a study from a storage that holds its trials, put there by `export`.

    Then `status`, `report` and `run` go on as if it had run here.
    """
    from searchkit.runs.study_file import load
    from searchkit.runs.transfer import imported

    folder, count = imported(load(study, _parameters(param)), source, runs, storage)
    say(f"{count} trials copied to {folder.path}")


def main() -> None:
    """The entry point: whatever the user can mend is one line and exit code 2."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except SearchkitError as error:
        _stop(str(error))
    except USAGE as error:
        _stop(one_line(error.format_message()))


def _stop(message: str) -> Never:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    sys.exit(2)


@contextmanager
def _keeping(folder: Folder, shown: str = "") -> Iterator[None]:
    """Ctrl-C keeps what is done; an internal error says where its trace is."""
    place = shown or folder.path
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"\nstopped; what is done is kept in {place}: run the same command to go on", soft_wrap=True)
        raise typer.Exit(130) from None
    except SearchkitError:
        raise
    except Exception as error:
        if not folder.log.exists():
            raise
        trace = f"{place}/{folder.log.name}"
        message = f"[bold red]internal error:[/] {escape(f'{type(error).__name__}: {error}')}; the trace is in {trace}"
        err.print(message, soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error


@contextmanager
def _local(runs: str, loaded: Loaded) -> Iterator[Path]:
    """The folder of runs, or a local one that is mirrored to a URL."""
    if "://" not in runs:
        yield Path(runs)
        return
    from searchkit.storage.remote import mirrored
    from searchkit.training.supernet import fingerprint

    study = loaded.study
    with mirrored(runs, study.name, fingerprint(study.supernet, study.task, study.seed)) as here:
        yield here


def _refuse_unknown(arguments: list[str]) -> None:
    """What `searchkit run` does not take, or is told by `submit` itself, is said here, before anything is sent."""
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    context = command.commands["run"].make_context("run", arguments)
    for name in ("runs", "ray_address", "param"):
        source = context.get_parameter_source(name)
        if source and source.name == "COMMANDLINE":
            option = "--" + name.replace("_", "-")
            raise StudyError(f"{option} does not stand after --; `submit` has its own, or needs none")


def _followed(sent: Submitted, folder: Path) -> int:
    """The job's exit code, after its log was shown; Ctrl-C leaves the job alone."""
    from searchkit.cluster.submit import follow

    def write(text: str) -> None:
        out.file.write(text)
        out.file.flush()

    try:
        found = follow(sent, write)
    except KeyboardInterrupt:
        say(
            f"\ndetached, the job goes on: searchkit status --follow {folder} follows it again, "
            f"searchkit stop {folder} ends it"
        )
        return 130
    _tell_job(found, sent)
    return found.code or 0


def _tell_job(found: State, sent: Submitted) -> None:
    code = f", exit code {found.code}" if found.code else ""
    say(f"job {sent.job} at {sent.address}: {found.name}{code}{f', {found.message}' if found.message else ''}")


def _parameters(given: list[str] | None) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for item in given or []:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise StudyError(f"-p {item!r}: expected NAME=VALUE")
        if name in parameters:
            raise StudyError(f"-p {item!r}: {name} is given twice, before as {parameters[name]!r}")
        parameters[name] = value
    return parameters


def _amounts(given: list[str] | None) -> dict[str, float]:
    amounts = {}
    for item in given or []:
        name, _, amount = item.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            raise StudyError(f"--resource {item!r}: expected NAME=AMOUNT, such as A100=1") from None
    return amounts


__all__ = ["app", "main"]
