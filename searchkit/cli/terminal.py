"""What the terminal shows: lines, tables, and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from searchkit.errors import NothingStoredError, SearchkitError, one_line
from searchkit.report.environment import in_short
from searchkit.storage.address import with_password

if TYPE_CHECKING:
    from searchkit.objective import Objective
    from searchkit.records import Trial
    from searchkit.report.pick import Figure, Picked
    from searchkit.runs.folder import Folder
    from searchkit.runs.remeasure import Remeasured

out, err = Console(), Console(stderr=True)

_PICKED: Final = ("picked", "  95 % interval", "  n", "unreduced", "difference", "  95 % interval")
SHOWN: Final = 12  # members of a front in a status


def say(text: str) -> None:
    out.print(plain(text), soft_wrap=True, highlight=False)


def plain(text: str) -> str:
    """Text for the terminal without markup or control characters, whatever a store holds."""
    return escape(one_line(text))


def warn(text: str) -> None:
    err.print(escape(text), soft_wrap=True, highlight=False)


def show(results: Any, place: Path | str) -> None:
    from searchkit.report.table import console_table

    out.print(console_table(results))
    say(f"front.csv, summary.json, trials.parquet and plots are in {place}")


def show_status(folder: Folder) -> None:
    """How far the run is, and its front on the search split, thinned."""
    from searchkit._progress import Stopwatch
    from searchkit.front import Front
    from searchkit.runs.folder import stored_objectives
    from searchkit.runs.status import told
    from searchkit.search.budget import ENDED
    from searchkit.search.steady import IN_FLIGHT
    from searchkit.storage.store import Store

    record = folder.read()
    objectives, front_objectives = stored_objectives(record)
    storage, name = with_password(record["storage"] or str(folder.journal)), record["description"]["name"]
    try:
        store = Store.open(storage, f"{name}-search", objectives, create=False)
        trials, ended, in_flight = store.trials(), store.note(ENDED), store.note(IN_FLIGHT)
    except NothingStoredError:
        trials, ended, in_flight = [], None, None
    try:
        report = Store.open(storage, f"{name}-report", (*objectives, *front_objectives), create=False).trials()
    except NothingStoredError:
        report = []
    count = sum(trial.is_evaluation for trial in trials)
    say(f"{name}: {count} of {record['evaluations']} evaluations, {len(report)} measured on the report split")
    seconds = Stopwatch(folder.seconds("search")).before
    for line in told(record, trials, ended=ended, in_flight=in_flight, seconds=seconds):
        say(f"  {line}")
    if "cache_mib" in record:
        say(f"  prefixes kept for later candidates: up to {record['cache_mib']} MiB per worker")
    front = Front.of(trials, objectives)
    table = Table(title="front on the search split", title_justify="left")
    for objective in objectives:
        table.add_column(plain(f"{objective.name} ({objective.unit})"), justify="right")
    table.add_column("candidate")
    for member in front.members[:: max(1, -(-len(front.members) // SHOWN))]:
        values = [f"{member.outcome.estimates[one.name].value:.4g}" for one in objectives]  # type: ignore[union-attr]
        table.add_row(*values, plain(str(member.ask.candidate.to_json())))
    if front.members:
        out.print(table)


def show_picked(found: Picked, path: Path) -> None:
    """Why this member, what it is beside the unreduced model, and how it stands to every limit."""
    say(f"{found.study.get('name')}: {found.why}")
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("report split")
    for figure in found.figures:
        table.add_column(f"{plain(figure.objective.name)}\n{plain(figure.objective.unit)}", justify="right")
    for row in zip(_PICKED, *map(_picked_column, found.figures), strict=True):
        table.add_row(*row)
    out.print(table)
    for held in found.held:
        whose = " of the study" if held.limit.by_study else ""
        say(f"{held.limit}{whose} {held.verdict}: {held}")
    for untold in found.untold:
        say(f"{untold} of the study was kept on the search split; the report split has no such figure")
    say(f"candidate {json.dumps(found.trial.ask.candidate.to_json())}, key {found.trial.key}")
    say(f"measured on {in_short(found.trial.environment)}; written to {path}")


def _picked_column(figure: Figure) -> list[str]:
    own, unreduced, against = figure.own, figure.unreduced, figure.difference
    return [
        f"{own.value:.4g}",
        _interval(own.interval, ""),
        str(own.n),
        f"{unreduced.value:.4g}" if unreduced else "-",
        f"{against.value:+.4g}" if against else "-",
        _interval((against.low, against.high) if against else None, "+"),
    ]


def _interval(ends: tuple[float | None, float | None] | None, sign: str) -> str:
    low, high = ends or (None, None)
    return "-" if low is None or high is None else f"{low:{sign}.4g} to {high:{sign}.4g}"


def show_remeasured(found: Remeasured) -> None:
    table = Table(title=f"{found.study} at batch {found.setting['batch_size']}, setting {found.fingerprint}")
    for objective in found.objectives:
        table.add_column(f"{objective.name}\n{plain(objective.unit)}", justify="right")
    table.add_column("times unreduced\n95 % interval", justify="right")
    table.add_column("candidate")
    for trial in found.trials:
        table.add_row(*_remeasured_row(trial, found.objectives))
    out.print(table)
    if any(_beside(trial, "contended") for trial in found.trials):
        say("the machine was busy with something else: intervals are wider than they need to be; measure again")


def _remeasured_row(trial: Trial, objectives: Sequence[Objective]) -> list[str]:
    from searchkit.records import Measured

    if not isinstance(trial.outcome, Measured):
        return [*(trial.status for _ in objectives), "", plain(str(trial.ask.candidate.to_json()))]
    values = [f"{trial.outcome.estimates[one.name].value:.4g}" for one in objectives]
    ratio, low, high = (_beside(trial, name) for name in ("ratio", "ratio_low", "ratio_high"))
    times = f"{ratio:.3f} ({low:.3f} to {high:.3f})" if ratio else ""
    return [*values, times, plain(str(trial.ask.candidate.to_json()))]


def _beside(trial: Trial, name: str) -> float:
    """What stands beside the timed objective; 0 where nothing does."""
    estimates = getattr(trial.outcome, "estimates", {})
    return next((one.beside[name] for one in estimates.values() if name in one.beside), 0.0)


def stop(message: str) -> Never:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    sys.exit(2)


@contextmanager
def keeping(folder: Folder, shown: str = "") -> Iterator[None]:
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
