"""Options that several commands share, and parsers of their texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from searchkit.errors import StudyError
from searchkit.storage.address import ENVIRONMENT, StorageAddress

if TYPE_CHECKING:
    from searchkit.runs.study_file import Loaded

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
    str, typer.Option(help="auto (bf16 where the device is faster with it, else fp32), fp32, bf16 or fp16.")
]
Threads = Annotated[
    int,
    typer.Option(min=0, help="CPU threads of training and of each worker; 0: the machine's cores, over the workers."),
]
Workers = Annotated[int, typer.Option(min=0, help="Ray workers; 0 searches in this process.")]
RayAddress = Annotated[
    str | None, typer.Option(help="A running Ray cluster, such as auto or host:6379; default: a local one.")
]
CpusPerWorker = Annotated[float, typer.Option(min=0, help="Cores that Ray sets aside for each worker.")]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(min=0, help="GPUs per Ray worker, may be a fraction; default: this machine's, shared."),
]
Resource = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=AMOUNT", help="What else of the cluster a worker takes, such as A100=1; repeat."),
]
Deadline = Annotated[
    float, typer.Option(metavar="SECONDS", help="A candidate that takes longer on a worker has failed.")
]
CacheMib = Annotated[
    int,
    typer.Option(min=0, help="MiB that each worker may keep of prefixes that later candidates share; 0 keeps none."),
]

Key = Annotated[str | None, typer.Option(metavar="KEY", help="A member of the front; default: what `pick` chooses.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LIMIT",
        help='"NAME <= NUMBER", "NAME >= NUMBER", or relative to the unreduced model: '
        '"accuracy >= unreduced - 0.01". '
        "A name is an objective, or a figure beside one as front.csv calls it, such as latency_ms_p95. Repeat.",
    ),
]
Best = Annotated[
    str | None,
    typer.Option(
        metavar="OBJECTIVE",
        help="The objective that decides among those within the limits, or knee. Default: the lowest cost where a "
        "limit asks for quality, the highest quality where limits are on costs alone, the knee without limits.",
    ),
]
Confident = Annotated[
    bool, typer.Option("--confident", help="A limit has to hold on the whole 95 % interval, not on the value alone.")
]
MeasuredSetting = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Take the values of RUN/measured/NAME.csv, where `measure` kept a setting."),
]


def refuse_public_password(context: typer.Context, option: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse a password that everybody on the machine can read in the list of processes."""
    source = context.get_parameter_source(option.name or "")
    if value and source is not None and source.name == "COMMANDLINE" and StorageAddress(value).has_secret:
        raise StudyError(
            f"--{option.name} {StorageAddress(value)}: a password on the command line can be read in the "
            f"list of processes; put the URL into {ENVIRONMENT}, or leave the password to PGPASSWORD or ~/.pgpass"
        )
    return value


STORAGES = f"a journal file or a URL (sqlite:///run.db, postgresql://user@host/db). With a password: in {ENVIRONMENT}"
Storage = Annotated[
    str | None,
    typer.Option(
        help=f"Where trials are kept: {STORAGES}. Default: journal.log in the run folder.",
        envvar=ENVIRONMENT,
        show_envvar=False,
        callback=refuse_public_password,
    ),
]
WarmStart = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Begin with the front of an earlier run: its folder, or its name in RUNS. Other layers and levels are "
        "mapped by depth. A run keeps its first candidates: going on needs neither this option nor that run.",
    ),
]


def parameters(given: list[str] | None) -> dict[str, str]:
    for item in given or []:
        if not item.partition("=")[0].isidentifier():
            raise StudyError(f"-p {item!r}: expected NAME=VALUE")
    return pairs(given, "-p")


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """Parse items such as `NAME=VALUE`, each name once."""
    parsed: dict[str, str] = {}
    for item in given or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise StudyError(f"{option} {item!r}: expected NAME=VALUE")
        if name in parsed:
            raise StudyError(f"{option} {item!r}: {name} is given twice, before as {parsed[name]!r}")
        parsed[name] = value
    return parsed


def amounts(given: list[str] | None) -> dict[str, float]:
    parsed: dict[str, float] = {}
    for item in given or []:
        name, _, amount = item.partition("=")
        if name in parsed:
            raise StudyError(f"--resource {item!r}: {name} is given twice, before as {parsed[name]:g}")
        try:
            parsed[name] = float(amount)
        except ValueError:
            raise StudyError(f"--resource {item!r}: expected NAME=AMOUNT, such as A100=1") from None
    return parsed


@contextmanager
def local_runs(runs: str, loaded: Loaded, warm_start: str | None = None) -> Iterator[Path]:
    """Folder of runs, or a local one that is mirrored to a URL, with a copy of the run of the name `warm_start`."""
    if "://" not in runs:
        yield Path(runs)
        return
    from searchkit.storage.remote import Part, Remote, copied, mirrored
    from searchkit.training.cache import fingerprint

    study = loaded.study
    with mirrored(runs, study.name, fingerprint(study.supernet, study.task, study.seed)) as local:
        if warm_start and warm_start == Path(warm_start).name != study.name:
            copied(Remote(runs), Part.run(warm_start), local)
        yield local
