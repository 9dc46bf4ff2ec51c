"""Commands on a finished or running run: status, report, pick, measure, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from searchkit.cli.cluster import followed, show_job
from searchkit.cli.notices import notices
from searchkit.cli.options import Best, Confident, Device, Dtype, MeasuredSetting, RunFolder, Threads, Where
from searchkit.cli.progress import bars, loading
from searchkit.cli.terminal import keeping, say, show, show_picked, show_remeasured, show_status
from searchkit.errors import StoreError, StudyError
from searchkit.runs.folder import PAGE, Folder

LAST_LINES: Final = 10  # lines of a job's log in its status


def status(
    run: RunFolder,
    follow: Annotated[bool, typer.Option(help="Follow the log of a submitted run until its job is over.")] = False,
) -> None:
    """Show the status of a run, also while it is running: evaluations, failures by kind, the best points so far.

    Of a submitted run: its job's state and the end of its log too.
    """
    from searchkit.cluster.jobs import last_lines, state
    from searchkit.cluster.submission import RECORD, Submitted

    sent = Submitted.read(run) if follow or (run / RECORD).exists() else None
    if follow and sent:
        raise typer.Exit(followed(sent, run))
    folders = [Folder(path) for path in (sent and sent.folder, run) if path]
    folder = next((candidate_folder for candidate_folder in folders if candidate_folder.study.exists()), None)
    if folder or not sent:
        show_status(folder or Folder(run))
    if sent:
        show_job(state(sent), sent)
        for line in last_lines(sent, LAST_LINES):
            say(f"  | {line}")
        if not sent.folder:
            say(f"the run is in {sent.runs}/{sent.study}; searchkit fetch {run} copies it here")


def report(
    run: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run's folder; several for one page of all.")],
    html: Annotated[bool, typer.Option("--html", help="Write the page report.html alone.")] = False,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --html: where the page goes. Default: RUN/report.html.")
    ] = None,
) -> None:
    """Write tables, plots and the page report.html of a finished run again, from its storage; nothing is measured anew.

    The page is one file that any browser opens, without a network. With --html --to FILE it compares several runs.
    """
    if not html and (to or len(run) > 1):
        raise StudyError("searchkit report: --to, and several runs, are for the page: add --html")
    if len(run) > 1 and to is None:
        raise StudyError("searchkit report --html: a page of several runs needs --to FILE")
    with loading():
        from searchkit.runs.page import write_page, write_report
        from searchkit.runs.stored import stored_results

    folders = [Folder(path) for path in run]
    shown = [(folder, stored_results(folder)) for folder in folders]
    if html:
        page = to or run[0] / PAGE
        write_page(shown, page)
        say(f"the page is in {page}")
    else:
        write_report(shown[0][1], folders[0])
        show(shown[0][1], run[0])


def pick_command(
    run: RunFolder,
    where: Where = None,
    best: Best = None,
    confident: Confident = False,
    measured: MeasuredSetting = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is written, as JSON.")] = False,
) -> None:
    """Choose one member of a finished run's front, with the reason; RUN/pick.json keeps it.

    Values are those of the report split, and the study's own constraints are kept there too. What is relative to the
    unreduced model has the interval of the paired difference. Nothing is measured, and no code of the study runs.
    """
    with loading():
        from searchkit.report.pick import FILE
        from searchkit.runs.pick import picked

    choice = picked(Folder(run), where or [], best, confident, measured)
    unkept = None
    try:
        choice.write(run)
    except StoreError as error:
        unkept = error
    if as_json:
        typer.echo(choice.text, nl=False)
    else:
        show_picked(choice, None if unkept else run / FILE)
    if unkept:
        raise StoreError(f"the choice is not kept: {unkept}")


def measure_command(
    run: RunFolder,
    batch_size: Annotated[list[int], typer.Option(min=1, help="Examples per timed batch; repeat for more.")] = [1],  # noqa: B006
    length: Annotated[
        int | None, typer.Option(min=3, help="Tokens of every timed example; default: the examples as they are.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Costs on your own unlabelled texts (csv, json, parquet ...): a column text, or the study's columns.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="RUNTIME",
            help="pytorch, or onnxruntime: the exported graph on the CPU, quality too. Default: the study's.",
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise products to int8, in onnxruntime.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
) -> None:
    """Measure a run's front again on this machine and in this setting; earlier measurements are kept beside it.

    Stop other work on the machine first: rounds with a busy neighbour are thrown away and measured anew.
    """
    with loading():
        from searchkit.runs.config import Conditions
        from searchkit.runs.remeasure import measure

    folder = Folder(run)
    conditions = Conditions(runs=folder.path.parent, device=device, dtype=dtype, threads=threads)
    remeasured = []
    with keeping(folder), bars() as progress, notices():
        for size in dict.fromkeys(batch_size):
            remeasured.append(
                measure(
                    folder,
                    conditions,
                    batch_size=size,
                    length=length,
                    texts=texts,
                    runtime=runtime,
                    int8=int8,
                    progress=progress,
                )
            )
            remeasured[-1].write(folder.path)
    for measurement in remeasured:
        show_remeasured(measurement)
    for name, value in remeasured[0].setting.items():
        if name != "batch_size":
            say(f"  {name}: {value}")
    say(f"kept in {folder.path / 'measured'}")


def verify(
    run: RunFolder,
    again: Annotated[int, typer.Option(min=0, help="Measure this many stored trials again and compare.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = 0,
) -> None:
    """Replay a run: given the stored outcomes in order, the engine must ask for exactly the stored candidates."""
    with loading():
        from searchkit.runs.config import Conditions
        from searchkit.runs.verify import measured_again, predicted_again, replayed

    folder = Folder(run)
    with notices():
        replay = replayed(folder)
    say(f"replayed {replay} asks: every one is the stored one")
    if again:
        conditions = Conditions(runs=folder.path.parent, device=device, dtype=dtype, threads=threads)
        with bars() as progress:
            same = measured_again(folder, again, conditions, progress)
            predictions = predicted_again(folder, again, conditions, progress)
        say(f"measured {same} trials again: the same values")
        if predictions:
            say(f"predicted with {predictions} models on the report split again: the same to the last bit")
