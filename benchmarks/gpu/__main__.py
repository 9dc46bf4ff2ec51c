"""Command line of the checks and measurements on a GPU."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported: nothing is downloaded

from searchkit.errors import SearchkitError, StudyError

if TYPE_CHECKING:
    import torch

LONGEST_S = 1e6
MINUTES = {"verify": 3.0, "speed": 4.0}  # that a command may take, unless --seconds says otherwise


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line, where argparse would print two."""
        print(f"{self.prog}: {message}", file=sys.stderr)
        sys.exit(2)


def parser() -> argparse.ArgumentParser:
    import benchmarks.gpu as described

    shown = argparse.RawDescriptionHelpFormatter
    made = Parser(prog="python -m benchmarks.gpu", description=described.__doc__, formatter_class=shown)
    commands = made.add_subparsers(dest="command", required=True, parser_class=Parser)
    for name, meaning in {
        "verify": "compare every number that the GPU makes with the CPU's; exit code 1 where one is wrong",
        "speed": "measure passes, searches and training steps",
    }.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        _common(command)
        command.add_argument(
            "--only", action="append", default=[], metavar="NAME", help="a check, or a pattern like passes.bert.*"
        )
        command.add_argument("--list", action="store_true", help="print the names of the checks")
    _train(commands.add_parser("train", help="train and search on all of the data; write what small files can hold"))
    joined = commands.add_parser("join", help="put together the checkpoint that train wrote")
    joined.add_argument("folder", type=Path, help="with checkpoint.json and the shards")
    joined.add_argument("--to", type=Path, help="new folder; default: FOLDER/model")
    return made


def _train(command: argparse.ArgumentParser) -> None:
    _common(command)
    command.add_argument("--task", required=True, choices=("squad", "imdb", "sst2"))
    command.add_argument("--minutes", type=float, default=10.0, help="for all of it (default: 10)")
    command.add_argument("--data", type=Path, help="folder of the data; default: shared/data/TASK here or beside")
    command.add_argument("--model", type=Path, help="folder of the model; default: shared/models/minilm-l6")


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cuda or cuda:n")
    command.add_argument("--smoke", action="store_true", help="all of it at a tiny size on the CPU")
    command.add_argument("--seconds", type=float, help="end after so many seconds, with what is known by then")
    command.add_argument("--out", type=Path, help="folder of the results; default: $OUT, or benchmarks/results")


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        return run(given)
    except SearchkitError as error:
        print(f"{parser().prog}: {error}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    if given.command == "join":
        from benchmarks.gpu.shards import join

        print(join(given.folder, given.to or given.folder / "model"))
        return 0
    if given.smoke:
        os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
    return trained(given) if given.command == "train" else checked(given)


def checked(given: argparse.Namespace) -> int:
    """Run the checks of a command; 1 where one failed."""
    from benchmarks.gpu import checks, suites
    from benchmarks.gpu.made import FULL, SMOKE, Setting

    logging.getLogger("searchkit").addHandler(logging.NullHandler())  # memory that runs out is told by its check
    setting = Setting(device_of(given.device, given.smoke), SMOKE if given.smoke else FULL, given.smoke)
    picked = checks.chosen(suites.SUITES[given.command](setting), given.only)
    if given.list:
        print("\n".join(check.name for check in picked))
        return 0
    gc.freeze()  # what is imported by now is left out of the collection before each measurement of memory
    seconds, folder = seconds_of(given, MINUTES[given.command]), folder_of(given.out, given.smoke)
    found = checks.run_all(picked, seconds, lambda found: suites.keep(f"gpu_{given.command}", found, folder, setting))
    counts = checks.figures_of(found)
    print(f"{counts['ok']} ok, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


def trained(given: argparse.Namespace) -> int:
    """Train, search and write; 0."""
    from benchmarks.gpu import jobs
    from benchmarks.gpu.train import train

    folder = folder_of(given.out, smoke=True)
    if folder is None:
        raise StudyError("train: name a folder for the checkpoint with --out, or in the variable OUT")
    device, seconds = device_of(given.device, given.smoke), seconds_of(given, given.minutes)
    job = jobs.smoke_job(given.task) if given.smoke else jobs.job(given.task, given.data, given.model)
    train(job, device, folder, seconds)
    return 0


def seconds_of(given: argparse.Namespace, minutes: float) -> float:
    """Seconds that a command may take; StudyError for a number that is none."""
    name, seconds = ("--minutes", 60 * minutes) if given.seconds is None else ("--seconds", given.seconds)
    if not 0 < seconds < LONGEST_S:
        raise StudyError(f"{name} must be above 0 and below {LONGEST_S / (60 if name == '--minutes' else 1):g}")
    return float(seconds)


def device_of(name: str, smoke: bool) -> torch.device:
    """The GPU, or the CPU for a smoke run; StudyError where there is no GPU."""
    from searchkit.reduction import device

    found = device.device_of("cpu" if smoke else name)
    if found.type != "cuda" and not smoke:
        raise StudyError(f"--device {name}: there is no GPU here; --smoke runs all of it at a tiny size on the CPU")
    return found


def folder_of(out: Path | None, smoke: bool) -> Path | None:
    """Folder of the results; None for a smoke run that nobody asked to keep."""
    from benchmarks.result import RESULTS

    named = out or (Path(os.environ["OUT"]) if os.environ.get("OUT") else None)
    return named or (None if smoke else RESULTS)


if __name__ == "__main__":
    sys.exit(main())
