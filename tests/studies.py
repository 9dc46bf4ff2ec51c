"""A whole study that takes seconds, as a file, for tests of runs and of the command line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pandas as pd

SMALL = dedent(
    '''
    """Two tiny layers on generated documents."""
    from objectives import accuracy, macs
    from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
    from searchkit.tasks import Generated
    from searchkit.training import FineTune, LengthDrop


    def study(evaluations: int = 24, seed: int = 0, documents: int = 320, name: str = "small") -> Study:
        return Study(
            name=name,
            task=Generated(train=documents, search=120, report=100),
            supernet=Supernet(
                Scratch(layers=3, width=16, heads=2, feed_forward=32),
                recipe=LengthDrop(epochs=1, learning_rate=1e-3, start=FineTune(epochs=1, learning_rate=1e-3)),
            ),
            space=Space(Lengths(levels=16)),
            objectives=[accuracy, macs],
            engine=NSGA2(population=8),
            budget=Budget(evaluations=evaluations),
            seed=seed,
        )
    '''
)


def small_study(folder: Path, text: str = SMALL) -> Path:
    """The study as a file in `folder`."""
    file = folder / "small_study.py"
    file.write_text(text)
    return file


def stored(run: Path) -> int:
    """Trials in a run's journal, which exists with the names of its two studies before anything is trained."""
    journal = run / "journal.log"
    return journal.read_text(errors="replace").count('"searchkit":{') if journal.exists() else 0


def trials_and_front(run: Path) -> list[pd.DataFrame]:
    """Trials and front of a finished run, without what the clock decides."""
    frames = (pd.read_parquet(run / f"{name}.parquet") for name in ("trials", "front"))
    return [frame.drop(columns=[name for name in frame if "seconds" in name]) for frame in frames]
