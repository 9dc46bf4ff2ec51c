"""Output of the commands: lines, tables, and errors."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never

import typer
from rich.console import Console
from rich.markup import escape

from searchkit.errors import SearchkitError, one_line
from searchkit.report.environment import OF_TEXTS, in_short

if TYPE_CHECKING:
    from searchkit.records import Trial
    from searchkit.report.pick import Figure, Picked
    from searchkit.report.results import Results
    from searchkit.runs.folder import Folder
    from searchkit.runs.remeasure import Remeasured

out, err = Console(), Console(stderr=True)

SHOWN: Final = 12  # members of a front in a status


def say(text: str) -> None:
    indent = len(text) - len(text.lstrip(" "))
    out.print(" " * indent + plain(text), soft_wrap=True, highlight=False)


def plain(text: str) -> str:
    """Text for the terminal without markup or control characters, whatever a store holds."""
    return escape(one_line(text))


def warn(text: str) -> None:
    err.print(escape(text), soft_wrap=True, highlight=False)


def show(results: Results, folder: Path | str) -> None:
    """The front as a table of the terminal's width, notes, and where the files are."""
    from searchkit.report.console import console_text
    from searchkit.report.gained import gained

    show_text(console_text(results, out.width, ascii_only=ascii_only()))
    say(f"report.html, front.csv, summary.json, trials.parquet and plots are in {folder}")
    faster = [each.member.key for each in gained(results) if each.is_faster and each.member]
    if faster:
        command = f"searchkit ship {shlex.quote(str(folder))} --key {faster[0]} --to DIR"
        say(f"{command} writes a folder that serves it, and times calls of it")


def show_text(text: str) -> None:
    """Show lines that fit already."""
    out.print(text, soft_wrap=True, highlight=False, markup=False)


def ascii_only() -> bool:
    """Return whether standard output can write nothing but ASCII."""
    return not out.encoding.startswith("utf")


def show_status(folder: Folder) -> None:
    """Show the status of the run, and its front on the search split, thinned."""
    from searchkit._internal.progress import Stopwatch
    from searchkit.front import Front
    from searchkit.report.columns import Name, Numbers, in_words, tables
    from searchkit.report.notes import lost, timing_note
    from searchkit.report.table import estimate_of, plus_minus
    from searchkit.runs.status import Status, read_trials, status_lines

    stored = read_trials(folder)
    record, objectives, trials, now = stored.record, stored.objectives, stored.search, Status.of(stored)
    say(f"{now.study}: {now.evaluations} of {now.planned} evaluations, {now.on_report} measured on the report split")
    seconds = Stopwatch(folder.seconds("search")).before
    for line in status_lines(record, trials, ended=stored.ended, in_flight=stored.in_flight, seconds=seconds):
        say(f"  {line}")
    if "cache_mib" in record:
        say(f"  prefixes kept for later candidates: up to {record['cache_mib']} MiB per worker")
    members = Front.of(trials, objectives).members
    shown = members[:: max(1, -(-len(members) // SHOWN))]
    if shown:
        say(f"front on the search split, {len(shown)} of {len(members)} candidates:")
        columns = [
            Numbers(in_words(axis.name), axis.unit, [plus_minus(estimate_of(member, axis)) for member in shown])
            for axis in objectives
        ]
        names = [Name("", member.ask.candidate) for member in shown]
        show_text(tables(names, columns, out.width, ascii_only=ascii_only()))
    for line in [note for objective in objectives if (note := timing_note(objective, trials, "search split"))]:
        say(line)
    for line in lost(stored.report, (*objectives, *stored.front_objectives)):
        say(line)


def show_picked(picked: Picked, path: Path | None) -> None:
    """Show the chosen member: why, its values beside the unreduced model's, and how it stands to every limit."""
    from searchkit.report.neighbours import lines
    from searchkit.report.notes import contended, timing_flaw

    of_texts = any(OF_TEXTS in figure.objective.unit for figure in picked.figures)
    split = "the report split, and of texts where that is said" if of_texts else "the report split"
    say(f"{picked.study.get('name')}: {picked.why}; values of {split}:")
    for figure in picked.figures:
        say(_figure(figure))
        if flaw := timing_flaw(figure.own):
            say(f"  {figure.objective.name} was {flaw}" if contended(figure.own) else f"  {flaw}")
    for held in picked.held:
        whose = " of the study" if held.limit.by_study else ""
        say(f"{held.limit}{whose} {held.verdict}: {held}")
    for untold in picked.untold:
        say(f"{untold} of the study was kept on the search split; the report split has no such figure")
    say(f"candidate {json.dumps(picked.trial.ask.candidate.to_json())}, key {picked.trial.key}")
    written = f"; written to {path}" if path else ""
    say(f"measured on {in_short(picked.trial.environment)}{written}")
    for line in lines(picked.cheaper, picked.better):
        say(line)


def _figure(figure: Figure) -> str:
    """Format `latency 4.2 ms at batch 1 (95 % interval 4.1 to 4.3, n = 80); unreduced 9.1, difference -4.9 (...)`."""
    own, unreduced, against = figure.own, figure.unreduced, figure.difference
    text = f"  {figure.objective.name} {own.value:.4g} {figure.objective.unit}{_interval(own.interval, own.n)}"
    if unreduced and against:
        ends = None if against.low is None or against.high is None else (against.low, against.high)
        text += f"; unreduced {unreduced.value:.4g}, difference {against.value:+.4g}{_interval(ends, sign='+')}"
    return text


def _interval(ends: tuple[float, float] | None, n: int | None = None, sign: str = "") -> str:
    parts = [] if ends is None else [f"95 % interval {ends[0]:{sign}.4g} to {ends[1]:{sign}.4g}"]
    parts += [] if n is None else [f"n = {n}"]
    return f" ({', '.join(parts)})" if parts else ""


def show_remeasured(remeasured: Remeasured) -> None:
    """Show the front in one setting, and whether the machine was busy."""
    from searchkit.report.columns import Name, Numbers, in_words, tables
    from searchkit.report.notes import lost, timing_note
    from searchkit.report.table import estimate_of, plus_minus

    of_texts = f"{OF_TEXTS}{remeasured.texts.name}" if remeasured.texts else ""
    say(f"{remeasured.study} at batch {remeasured.setting['batch_size']}{of_texts}, setting {remeasured.fingerprint}")
    if remeasured.texts:
        say(f"  {remeasured.texts}; quality is that of the report split")
    columns = [
        Numbers(
            in_words(objective.name),
            objective.unit,
            [plus_minus(estimate_of(trial, objective)) for trial in remeasured.trials],
        )
        for objective in remeasured.objectives
    ]
    columns.append(
        Numbers("times unreduced", "95 % interval", [_times_unreduced(trial) for trial in remeasured.trials])
    )
    names = [Name(remeasured.families.get(trial.key, ""), trial.ask.candidate) for trial in remeasured.trials]
    show_text(tables(names, columns, out.width, ascii_only=ascii_only()))
    for line in [
        note
        for timed_objective in remeasured.objectives
        if (note := timing_note(timed_objective, remeasured.trials, of_texts.removeprefix(", ") or "report split"))
    ]:
        say(line)
    for line in lost(remeasured.trials, remeasured.objectives):
        say(line)


def _times_unreduced(trial: Trial) -> str:
    ratio, low, high = (_beside(trial, name) for name in ("ratio", "ratio_low", "ratio_high"))
    return f"{ratio:.3f} ({low:.3f} to {high:.3f})" if ratio else "-"


def _beside(trial: Trial, name: str) -> float:
    """Figure beside the timed objective; 0 where there is none."""
    estimates = getattr(trial.outcome, "estimates", {})
    return next((estimate.beside[name] for estimate in estimates.values() if name in estimate.beside), 0.0)


def stop(message: str) -> Never:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    sys.exit(2)


@contextmanager
def keeping(folder: Folder, shown: str = "") -> Iterator[None]:
    """Handle Ctrl-C and internal errors: finished work is kept, and the message names the log with the trace."""
    folder_shown = shown or folder.path
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"\nstopped; what is done is kept in {folder_shown}: run the same command to go on", soft_wrap=True)
        raise typer.Exit(130) from None
    except SearchkitError:
        raise
    except Exception as error:
        if not folder.log.exists():
            raise
        trace = f"{folder_shown}/{folder.log.name}"
        message = f"[bold red]internal error:[/] {escape(f'{type(error).__name__}: {error}')}; the trace is in {trace}"
        err.print(message, soft_wrap=True, highlight=False)
        raise typer.Exit(1) from error
