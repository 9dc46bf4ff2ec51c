"""Command that writes a first study from a model and data, asking where a terminal can answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from searchkit.cli.notices import notices
from searchkit.cli.options import pairs
from searchkit.cli.progress import bars, loading
from searchkit.cli.terminal import plain, say
from searchkit.errors import StudyError


def init_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new study file.")] = Path("study.py"),
    model: Annotated[
        str | None, typer.Option(help="A folder as save_pretrained or the Trainer leaves it, or a name on the hub.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder with train.csv (or parquet, json), and validation and test if you have them; or a hub name."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="classification, regression or question_answering; default: as columns and model tell."),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="The column of texts; give it twice for pairs.")
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of labels.")] = None,
    label_map: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LABEL", help="A label of the model and the data's name for it; repeat for each."),
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Train a new head on the data, even if the model has one for them.")
    ] = False,
    subset: Annotated[str | None, typer.Option(help="The subset of a data set of the hub.")] = None,
    name: Annotated[str | None, typer.Option(help="The study's name; default: that of the data.")] = None,
) -> None:
    """Write a study for a model and data: it looks at columns, labels and lengths, and asks for what they leave open.

    It trains and changes nothing, and overwrites no file.
    """
    if file.exists():
        raise StudyError(f"{file}: there is such a file already; name another one, or remove it")
    model = model or _asked("Which model? A folder, or a name on the hub", "--model")
    data = data or _asked("Which data? A folder with train.csv (or parquet, json), or a name on the hub", "--data")
    with loading():
        from searchkit.runs.draft import Answers, drafted, write_draft

        answers = Answers(task, text or (), label, pairs(label_map, "--label-map"), fine_tune, subset)
    with notices():
        draft = drafted(model, data, answers, _chosen, name, partial(bars, transient=True))
    write_draft(draft, file)
    say(f"{file}: a study of {draft.columns.kind.replace('_', ' ')}, named {draft.name}")
    for line in draft.seen:
        say(f"  {line}")
    say(f"what it would do and how long that takes: searchkit run {file} --dry-run")
    say(f"a first try on some of the rows: searchkit run {file} -p limit=200 -p evaluations=16")
    say(f"next: searchkit run {file}")


def has_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty()


def _asked(question: str, option: str) -> str:
    if not has_terminal():
        raise StudyError(f"{option} is needed, as there is no terminal to ask in")
    answer: str = typer.prompt(plain(question))
    return answer.strip()


def _chosen(question: str, option: str, choices: Sequence[str]) -> str:
    """Ask for one of the choices, by its number or its name."""
    if not has_terminal():
        raise StudyError(f"{question} Choose with {option}: {', '.join(choices)}")
    if len(choices) == 1:
        return choices[0]
    say(question)
    for number, choice in enumerate(choices, 1):
        say(f"  {number} {choice}")
    while True:
        answer = typer.prompt("number or name").strip()
        if answer in choices:
            return str(answer)
        if answer.isdecimal() and 1 <= int(answer) <= len(choices):
            return choices[int(answer) - 1]
