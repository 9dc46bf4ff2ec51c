"""Commands that show a finished run: the words that survive, and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from searchkit.cli.notices import notices
from searchkit.cli.options import Best, Confident, Key, MeasuredSetting, RunFolder, Where
from searchkit.cli.progress import bars, loading
from searchkit.cli.terminal import ascii_only, keeping, out, say, show_text
from searchkit.errors import StudyError
from searchkit.runs.folder import Folder

# `report.figures.kinds` has them; written out here so that `--help` loads no figures
KINDS: Final = "pareto, hypervolume, hypervolume-seconds, convergence, lengths, thresholds, macs, latency, parallel"


def words_command(
    run: RunFolder,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A text of your own; default: examples of the report split.")
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="The second text of a pair, or the context of the question in --text."),
    ] = None,
    key: Key = None,
    where: Where = None,
    best: Best = None,
    confident: Confident = False,
    measured: MeasuredSetting = None,
    row: Annotated[
        list[int] | None, typer.Option(min=0, help="A row of the report split, the first is 0; repeat for more.")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples that are drawn, the same every time.")] = 3,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it as a .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print words, characters and layers as JSON.")] = False,
) -> None:
    """Show which words of a text each layer of a front member keeps.

    A word stays as long as one of its pieces does. Everything runs on the CPU in float32.
    """
    with loading():
        from searchkit.report.figures.saved import check_suffix
        from searchkit.report.figures.text import save
        from searchkit.report.words import in_paragraphs
        from searchkit.runs.words import words

    if to is not None:
        check_suffix(to)
    folder, chosen = Folder(run), _choice(key, where, best, confident, measured)
    with keeping(folder), bars() as progress, notices():
        shown = words(folder, text, second, **chosen, rows=row or [], examples=examples, progress=progress)
    if as_json:
        typer.echo(json.dumps(shown.to_json(), indent=2))
    elif to is None:
        show_text(in_paragraphs(shown.examples, out.width, ascii_only=ascii_only()))
        say(f"candidate {json.dumps(shown.candidate)}, key {shown.key}")
    if to is not None:
        save(shown.examples, to)
        say(f"drawn in {to}")


def rationales_command(
    run: RunFolder,
    key: Key = None,
    where: Where = None,
    best: Best = None,
    confident: Confident = False,
    measured: MeasuredSetting = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Compare what each layer of a front member keeps with what people marked as the reasons for the labels.

    Precision, recall and false-positive rate on the report split, beside as many tokens by chance, attention and
    saliency. The task names the column: TextClassification(..., rationales="column"). Generated documents have them.
    """
    with loading():
        from searchkit.runs.rationales import rationales

    folder, chosen = Folder(run), _choice(key, where, best, confident, measured)
    with keeping(folder), bars() as progress, notices():
        found = rationales(folder, **chosen, progress=progress)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_text(found.text)
        say(f"candidate {json.dumps(found.candidate)}, key {found.key}")


def plot_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, one or several.")],
    kind: Annotated[str, typer.Argument(metavar="KIND", help=f"One of {KINDS}.")],
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png, .svg or .pdf. Default, of one run: KIND.png in it.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(metavar="OBJECTIVE", help="Of pareto: quality over this instead of the search's cost.")
    ] = None,
) -> None:
    """Draw a figure of finished runs, from their records; nothing is measured.

    pareto, hypervolume, hypervolume-seconds and convergence take several runs, such as those of one study with several
    seeds; lengths, thresholds, macs, latency and parallel are of one.
    """
    with loading():
        from searchkit.runs.looks import plotted
        from searchkit.runs.run import Run

    if to is None and len(runs) > 1:
        raise StudyError(f"--to names the file of a figure of {len(runs)} runs")
    file = to or runs[0] / f"{kind}{f'_{cost}' if cost else ''}.png"
    plotted([Run(run) for run in runs], kind, file, cost=cost)
    say(f"drawn in {file}")


def _choice(
    key: str | None, where: list[str] | None, best: str | None, confident: bool, measured: str | None
) -> dict[str, Any]:
    return {"key": key, "where": where or [], "best": best, "confident": confident, "measured": measured}
