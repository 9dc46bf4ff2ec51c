"""Functions to run a study from Python, without a study file and without the command line."""

from __future__ import annotations

from pathlib import Path

from searchkit._internal.progress import Progress
from searchkit.errors import StudyError
from searchkit.report.results import Results
from searchkit.runs.config import Conditions
from searchkit.runs.notebook import live_progress
from searchkit.runs.phases import execute
from searchkit.runs.run import Run
from searchkit.runs.study_file import Loaded
from searchkit.study import Study


def run(
    study: Study,
    *,
    runs: str | Path = "runs",
    device: str = "auto",
    dtype: str = "auto",
    workers: int = 0,
    threads: int = 0,
    gpus_per_worker: float | None = None,
    cache_mib: int = 2048,
    storage: str | None = None,
    warm_start: str | Path | None = None,
    progress: Progress | None = None,
) -> Results:
    """Train, search and report, as `searchkit run` does, and return the results; the folder is `<runs>/<study.name>`.

    Interrupted at any moment (Ctrl-C, a restarted kernel), the same call goes on where it was and measures nothing
    twice. A run that is made without a study file records that: `searchkit verify`, `measure` and `ship`, which load
    the study anew, need one, and so do `searchkit submit` and the workers of a cluster.

    runs: a local folder; device: "auto", "cpu", "cuda" or "cuda:N"; dtype: "auto", "fp32", "bf16" or "fp16"; workers:
    Ray actors on this machine, 0 for this process; threads: of training and of each worker, 0 for torch's own choice;
    cache_mib: that each worker may keep of prefixes which candidates share; storage: a journal file or a database URL,
    None for a journal in the folder; warm_start: an earlier run, by its folder or its name in `runs`, whose front the
    search begins with, mapped to its own space; progress: a function of (phase, done,
    total, note); None shows bars below the running cell of a notebook, and nothing elsewhere

    StudyError, DataError or StoreError, in one line, for whatever the caller can mend.

    >>> import searchkit
    >>> results = searchkit.run(study, runs="runs")  # doctest: +SKIP
    >>> [trial.ask.candidate for trial in results.front][:1]  # doctest: +SKIP
    >>> searchkit.open("runs/quickstart").front  # doctest: +SKIP
    """
    if not isinstance(study, Study):
        raise StudyError(f"run takes a searchkit.Study, got {study!r}; `searchkit run FILE` takes a study file")
    if "://" in str(runs):
        raise StudyError(
            f"runs={str(runs)!r}: from Python a run has a local folder; URLs are for `searchkit run --runs`"
        )
    conditions = Conditions(
        runs=Path(runs),
        device=device,
        dtype=dtype,
        workers=workers,
        threads=threads,
        gpus_per_worker=gpus_per_worker,
        cache_mib=cache_mib,
        storage=storage,
        warm_start=None if warm_start is None else str(warm_start),
    )
    if progress is not None:
        return execute(Loaded(study), conditions, progress)
    with live_progress() as shown:
        return execute(Loaded(study), conditions, shown)


def open(folder: str | Path) -> Run:
    """Open the run of a folder such as `runs/quickstart`; StudyError where there is none.

    >>> import searchkit
    >>> searchkit.open("nowhere")
    Traceback (most recent call last):
    searchkit.errors.StudyError: nowhere: not a run folder: it has no study.json
    """
    return Run(folder)
