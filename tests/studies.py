"""A whole study that takes seconds, as a file, for tests of runs and of the command line."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

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
