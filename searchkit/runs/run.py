"""Run opened from Python: its status, its tables as pandas frames, its figures, and the choice of a candidate."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from searchkit._internal.html import line, titled
from searchkit.errors import StudyError, unknown
from searchkit.front import Front
from searchkit.records import Candidate
from searchkit.report.cells import results_html
from searchkit.report.pick import Picked
from searchkit.report.results import Results
from searchkit.runs.folder import Folder
from searchkit.runs.looks import Looks
from searchkit.runs.page import write_report
from searchkit.runs.pick import picked
from searchkit.runs.status import Status, StoredTrials, read_trials
from searchkit.runs.stored import stored_results

if TYPE_CHECKING:
    import pandas as pd

    from searchkit.runs.shipping import Shipped


class Run(Looks):
    """Run in its folder `runs/<study>`, read from its records alone: no model is loaded, no code of the study runs.

    Frames and results are read once; open the run again to see how it went on. StudyError where the folder holds no
    run, or for results of one that is not finished; StoreError for damaged records.

    >>> import searchkit
    >>> run = searchkit.open("runs/quickstart")  # doctest: +SKIP
    >>> print(run.status)  # doctest: +SKIP
    quickstart: 120 of 120 evaluations, 0 failed, 42 measured on the report split; ended: 120 evaluations are made
    >>> run.front[["key", "accuracy_report", "macs_report"]].head()  # doctest: +SKIP
    >>> run.pick("accuracy >= unreduced - 0.01").trial.ask.candidate  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        self._folder = Folder(self.path)
        self._folder.read()  # StudyError where it is no run

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        """Table for notebooks: results of a finished run, else its status and the front on the search split."""
        return _html(self, read_trials(self._folder))

    @property
    def status(self) -> Status:
        """Status of the run now, also while it is running."""
        return Status.of(read_trials(self._folder))

    @cached_property
    def results(self) -> Results:
        """Results of a finished run."""
        return stored_results(self._folder)

    @cached_property
    def front(self) -> pd.DataFrame:
        """Table of the front, one row per member, cheapest first: the columns of `front.csv`."""
        from searchkit.report.table import front_frame

        return self._identified(front_frame(self.results))

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """Table of the baselines on the report split, one row each: the columns of `baselines.csv`."""
        from searchkit.report.table import baselines_frame

        return self._identified(baselines_frame(self.results))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """Table of the trials on the search split, one row each, by ask number: the columns of `trials.parquet`."""
        from searchkit.report.table import trials_frame

        return self._identified(trials_frame(self.results))

    def _identified(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Frame whose `attrs` name its study and the fingerprint of it."""
        study = self.results.study
        frame.attrs = {"study": study["name"], "fingerprint": study["fingerprint"], "run": str(self.path)}
        return frame

    @property
    def figures(self) -> dict[str, Path]:
        """Name -> PNG file of each figure in the folder; `report` draws them."""
        return {file.stem: file for file in sorted(self.path.glob("*.png"))}

    def candidate(self, key: str) -> Candidate:
        """Candidate of a key, of the search or a baseline; StudyError for an unknown key."""
        trials = (*self.results.trials, *self.results.on_report)
        known = {trial.key: trial.ask.candidate for trial in trials}
        if key not in known:
            raise StudyError(f"{self.path}: {unknown('key', key, known)}")
        return known[key]

    def report(self) -> Path:
        """Write tables, figures, text and page of a finished run again, without measuring; return the path of
        `report.md`, beside which lies `report.html`.
        """
        write_report(self.results, self._folder)
        return self.path / "report.md"

    def pick(
        self, *where: str, best: str | None = None, confident: bool = False, measured: str | None = None
    ) -> Picked:
        """Pick a member of the front by limits such as "accuracy >= unreduced - 0.01" and the study's own constraints.

        best: the objective that decides among those within the limits, or "knee"; confident: limits hold on the whole
        95 % interval; measured: the setting of `searchkit measure` whose values count. StudyError where no member keeps
        the limits.
        """
        return picked(self._folder, where, best, confident, measured)

    def ship(
        self,
        to: str | Path,
        *where: str,
        key: str | None = None,
        best: str | None = None,
        confident: bool = False,
        measured: str | None = None,
        format: str = "pytorch",
        int8: bool = False,
        threads: int = 0,
    ) -> Shipped:
        """Write a member of the front as a folder that serves it, as `searchkit ship` does; test it and time it.

        The member is that of `key`, or what `pick` chooses; format: "pytorch", "onnx" or "stock". The study is loaded
        from its file, and its supernet has to be there still.

        >>> import searchkit
        >>> run = searchkit.open("runs/quickstart")  # doctest: +SKIP
        >>> shipped = run.ship("fast", "accuracy >= unreduced - 0.01", format="onnx")  # doctest: +SKIP
        >>> print(shipped.gained)  # doctest: +SKIP
        """
        from searchkit.runs.shipping import ship

        return ship(
            self._folder,
            Path(to),
            key=key,
            where=where,
            best=best,
            confident=confident,
            measured=measured,
            format=format,
            int8=int8,
            threads=threads,
        )


def _html(run: Run, stored: StoredTrials) -> str:
    try:
        return titled(str(run.path), results_html(run.results))
    except StudyError as error:
        front = Front.of(stored.search, stored.objectives)
        return titled(str(run.path), line(Status.of(stored)), front._repr_html_(), line(error))
