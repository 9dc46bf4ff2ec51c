"""Command that makes a folder of a front member, ready to serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from searchkit.cli.notices import notices
from searchkit.cli.options import Best, Confident, Key, MeasuredSetting, RunFolder, Where
from searchkit.cli.progress import bars, loading
from searchkit.cli.terminal import keeping, say, warn
from searchkit.runs.folder import Folder

if TYPE_CHECKING:
    from searchkit.runs.shipping import Shipped


def ship_command(
    run: RunFolder,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="The new folder that serves the member.")],
    key: Key = None,
    where: Where = None,
    best: Best = None,
    confident: Confident = False,
    measured: MeasuredSetting = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="pytorch: for transformers, with every plan of the front. onnx: this member's graph, for ONNX "
            "Runtime and servers of ONNX models. stock: the unreduced model, for comparison.",
        ),
    ] = "pytorch",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the products of --format onnx to int8.")] = False,
    threads: Annotated[
        int,
        typer.Option(min=0, help="CPU threads that it is timed with; 0: those of the study's latency, or torch's own."),
    ] = 0,
) -> None:
    """Write a member of a finished run's front as a folder that serves it; test it, and tell how fast it is.

    The folder is loaded again in a fresh process, its predictions on the whole report split are compared with those
    of the model that was searched, and it is timed beside the unreduced model in the same runtime. What fails is not
    left behind. Everything happens on the CPU in float32.
    """
    with loading():
        from searchkit.runs.shipping import ship

    folder = Folder(run)
    with keeping(folder), bars() as progress, notices():
        shipped = ship(
            folder,
            to,
            key=key,
            where=where or [],
            best=best,
            confident=confident,
            measured=measured,
            format=format,
            int8=int8,
            threads=threads,
            progress=progress,
        )
    show_shipped(shipped)


def show_shipped(shipped: Shipped) -> None:
    """Show what was shipped: the self-test, the times, what was gained, and how to load it."""
    model = "the unreduced model" if shipped.format == "stock" else shipped.key
    say(f"{model} is in {shipped.folder} ({shipped.format})")
    say(f"  self-test: {shipped.agreement.text}")
    for number, margin in shipped.agreement.differing[:5]:
        say(f"    example {number} has another label; its two best logits are {margin:.2g} apart")
    for speed in shipped.speeds:
        times = f", {speed.speedup:.2f} times as fast" if speed is not shipped.speeds[0] else ""
        say(f"  {speed.name}: {speed.ms:.2f} ms for one text{times}")
    say(f"  {shipped.gained}")
    if any(speed.contended for speed in shipped.speeds):
        warn("the machine was busy with other work meanwhile: for times to believe, ship it again when it is quiet")
    say(f"how to load it: {shipped.folder / 'README.md'}")
