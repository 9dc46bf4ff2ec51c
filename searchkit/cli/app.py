"""Commands that make a run, and the list of all commands."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from searchkit import __version__
from searchkit.cli import cluster, figures, inspect
from searchkit.cli.init import init_command
from searchkit.cli.notices import notices
from searchkit.cli.options import (
    STORAGES,
    CacheMib,
    CpusPerWorker,
    Deadline,
    Device,
    Dtype,
    GpusPerWorker,
    Parameter,
    RayAddress,
    Resource,
    RunFolder,
    Runs,
    Storage,
    StudyFile,
    Threads,
    WarmStart,
    Workers,
    amounts,
    local_runs,
    parameters,
    refuse_public_password,
)
from searchkit.cli.progress import bars, loading
from searchkit.cli.ship import ship_command
from searchkit.cli.terminal import keeping, say, show, stop, warn
from searchkit.errors import SearchkitError, StudyError, one_line
from searchkit.runs.folder import Folder
from searchkit.storage.address import ENVIRONMENT, StorageAddress

if TYPE_CHECKING:
    from searchkit.runs.config import Conditions
    from searchkit.runs.study_file import Loaded

USAGE: Any = typer.BadParameter.__base__  # a mistake in options; typer has no public name for it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train a length-adaptive encoder once, search its per-layer token lengths, and report an honest Pareto front.",
    epilog="A first run: [bold]searchkit run studies/quickstart.py[/bold], which ends with a table of the best points. "
    "Afterwards [bold]searchkit status[/bold], [bold]report[/bold] and [bold]pick[/bold] take its folder, "
    "runs/quickstart. Each command has an example: [bold]searchkit pick --help[/bold].",
)


def print_version(wanted: bool) -> None:
    if wanted:
        say(f"searchkit {__version__}")
        raise typer.Exit


def train_command(
    study: StudyFile,
    param: Parameter = None,
    runs: Runs = "runs",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
) -> None:
    """Train the study's supernet, or find it in the cache; `run` does this by itself."""
    with loading():
        from searchkit.runs.config import Conditions
        from searchkit.runs.phases import train_only
        from searchkit.runs.study_file import load

        loaded = load(study, parameters(param))
    with local_runs(runs, loaded) as local, keeping(Folder(local / loaded.study.name)), bars() as progress, notices():
        trained = train_only(loaded, Conditions(runs=local, device=device, dtype=dtype, threads=threads), progress)
    say(f"supernet {runs}/supernets/{trained.folder.name} ({trained.train_s:.0f} s of training)")


def run(
    study: StudyFile,
    param: Parameter = None,
    runs: Runs = "runs",
    device: Device = "auto",
    dtype: Dtype = "auto",
    workers: Workers = 0,
    threads: Threads = 0,
    ray_address: RayAddress = None,
    cpus_per_worker: CpusPerWorker = 1,
    gpus_per_worker: GpusPerWorker = None,
    resource: Resource = None,
    deadline: Deadline = 900,
    cache_mib: CacheMib = 2048,
    storage: Storage = None,
    warm_start: WarmStart = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run would do and how long it takes, and do nothing.")
    ] = False,
) -> None:
    """Train, search, re-measure the front on the report split, and write tables and plots.

    Stop it at any moment (Ctrl-C, kill, power cut) and run the same command again: it goes on and measures nothing
    twice. Ctrl-C once lets a search finish what is in flight, twice stops it now.
    """
    with loading():
        from searchkit.runs.config import Conditions
        from searchkit.runs.phases import execute
        from searchkit.runs.study_file import load
        from searchkit.search.interrupt import Interrupt

        loaded = load(study, parameters(param))
    conditions = Conditions(
        device=device,
        dtype=dtype,
        workers=workers,
        threads=threads,
        ray_address=ray_address,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
        custom=amounts(resource),
        deadline_s=deadline,
        cache_mib=cache_mib,
        storage=storage,
        warm_start=warm_start,
    )
    if dry_run:
        show_forecast(loaded, conditions, runs)
        return
    with local_runs(runs, loaded, warm_start) as local:
        folder = Folder(local / loaded.study.name)
        with keeping(folder, f"{runs}/{loaded.study.name}"), bars() as progress, notices():
            results = execute(loaded, replace(conditions, runs=local), progress, Interrupt(warn))
        show(results, f"{runs}/{loaded.study.name}")


def show_forecast(loaded: Loaded, conditions: Conditions, runs: str) -> None:
    """Show what a run would do; its steps meanwhile, since data and model are read."""
    from searchkit.runs.forecast import forecast
    from searchkit.runs.session import Session

    if "://" in runs:
        raise StudyError(f"--dry-run: --runs {runs}: it looks at a local folder; leave --runs out, or name one")
    with bars(transient=True), notices():
        lines = list(forecast(Session(loaded, replace(conditions, runs=Path(runs)))))
    for line in lines:
        say(line)


def copy_command(
    run: RunFolder,
    to: Annotated[
        str,
        typer.Option(
            metavar="STORAGE",
            help=f"{STORAGES}.",
            envvar=ENVIRONMENT,
            show_envvar=False,
            callback=refuse_public_password,
        ),
    ],
) -> None:
    """Copy a run into another storage: its trials, its notes, and what `restore` needs to make a run folder of it.

    Go on there with `searchkit run STUDY --storage STORAGE`. What is there already is not copied again.
    """
    from searchkit.runs.transfer import copy_run

    count = copy_run(Folder(run), to)
    say(f"{count} trials copied to {StorageAddress(to)}")


def restore_command(
    study: StudyFile,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STORAGE",
            help=f"{STORAGES}.",
            envvar=ENVIRONMENT,
            show_envvar=False,
            callback=refuse_public_password,
        ),
    ],
    param: Parameter = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs; the study's own is made in it.")] = Path("runs"),
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where the trials are copied to. Default: journal.log in the run folder.",
            callback=refuse_public_password,
        ),
    ] = None,
) -> None:
    """Make the run folder of a study from a storage that holds its trials, put there by `copy`.

    Then `status`, `report` and `run` go on as if it had run here.
    """
    from searchkit.runs.study_file import load
    from searchkit.runs.transfer import restore_run

    folder, count = restore_run(load(study, parameters(param)), source, runs, storage)
    say(f"{count} trials copied to {folder.path}")


_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {  # with an example
    "init": (init_command, "searchkit init my_study.py --model my-model --data reviews"),
    "run": (run, "searchkit run studies/quickstart.py -p evaluations=100"),
    "train": (train_command, "searchkit train studies/quickstart.py"),
    "status": (inspect.status, "searchkit status runs/quickstart"),
    "report": (inspect.report, "searchkit report runs/quickstart"),
    "pick": (inspect.pick_command, 'searchkit pick runs/quickstart --where "accuracy >= unreduced - 0.01"'),
    "ship": (ship_command, 'searchkit ship runs/quickstart --to fast --where "accuracy >= unreduced - 0.01"'),
    "measure": (inspect.measure_command, "searchkit measure runs/quickstart --batch-size 1 --batch-size 16"),
    "plot": (figures.plot_command, "searchkit plot runs/quickstart latency --to latency.pdf"),
    "words": (figures.words_command, "searchkit words runs/quickstart --best accuracy --examples 2"),
    "rationales": (figures.rationales_command, "searchkit rationales runs/quickstart --best accuracy"),
    "verify": (inspect.verify, "searchkit verify runs/quickstart --again 10"),
    "submit": (cluster.submit, "searchkit submit study.py --workers 8 --runs s3://bucket/runs -- --device cuda"),
    "stop": (cluster.stop, "searchkit stop runs/quickstart"),
    "fetch": (cluster.fetch, "searchkit fetch runs/quickstart"),
    "copy": (copy_command, "searchkit copy runs/quickstart --to sqlite:///trials.db"),
    "restore": (restore_command, "searchkit restore studies/quickstart.py --from sqlite:///trials.db"),
}


def _help(command: Callable[..., None]) -> str:
    """Docstring of a command with one line per paragraph, which the terminal wraps at its own width."""
    paragraphs = (getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


for _name, (_command, _example) in _COMMANDS.items():
    app.command(name=_name, help=_help(_command), epilog=f"Example: [bold]{escape(_example)}[/bold]")(_command)

_RENAMED = {"export": "copy RUN --to STORAGE", "import": "restore STUDY --from STORAGE"}


def _refuse_renamed(context: typer.Context) -> None:
    """Refuse a command's former name with the current one."""
    raise StudyError(f"searchkit {context.info_name} is called searchkit {_RENAMED[str(context.info_name)]} now")


for _name in _RENAMED:
    anything = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name=_name, hidden=True, context_settings=anything)(_refuse_renamed)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=print_version, is_eager=True)
    ] = False,
) -> None: ...


def main() -> None:
    """Entry point: errors that the user can mend are one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has not every letter gets a mark in its place
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except SearchkitError as error:
        stop(str(error))
    except USAGE as error:
        stop(one_line(error.format_message()))


__all__ = ["app", "main"]
