"""What `train` can train: three tasks on real data with a real model, and small generated ones for a smoke run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.result import ROOT, SHARED
from objectives import accuracy, exact_match, f1, macs
from searchkit import Scratch, Supernet
from searchkit.errors import DataError
from searchkit.objective import Objective
from searchkit.tasks import Generated, GeneratedQuestions, QuestionAnswering, TextClassification
from searchkit.tasks.base import Task
from searchkit.training import LengthDrop

PLACES: Final = (ROOT / "shared", SHARED)  # where data and models are looked for
MODEL: Final = "minilm-l6"
SEARCHED: Final = 2000  # examples of the search split, at most


@dataclass(frozen=True)
class Job:
    """A task, the untrained supernet, the objectives of its search, and those of its report alone."""

    name: str
    task: Task
    supernet: Supernet
    objectives: tuple[Objective, ...]
    reported: tuple[Objective, ...] = ()
    evaluations: int = 2000

    @property
    def recipe(self) -> LengthDrop:
        assert isinstance(self.supernet.recipe, LengthDrop)
        return self.supernet.recipe


def job(name: str, data: Path | None, model: Path | None) -> Job:
    """The job on real data; DataError where data or model are not there."""
    folder, limit = str(data or _found("data", name)), {"search": SEARCHED}
    source = str(model or _found("models", MODEL))
    task: Task
    if name == "squad":
        task, recipe = QuestionAnswering(folder, limit=limit), LengthDrop(bound=0.2, batch_size=16)
    else:
        length = 384 if name == "imdb" else 128
        task, recipe = TextClassification(folder, max_length=length, limit=limit), LengthDrop(bound=0.36)
    return _job(name, task, Supernet(source, recipe, attention_dropout=0.0))


def smoke_job(name: str) -> Job:
    """A job of the same kind that takes seconds on a CPU."""
    generated = GeneratedQuestions if name == "squad" else Generated
    task: Task = generated(train=96, search=32, report=32)
    supernet = Supernet(Scratch(layers=2, width=32, heads=2, feed_forward=64), LengthDrop(batch_size=8))
    return replace(_job(name, task, supernet), evaluations=24)


def _job(name: str, task: Task, supernet: Supernet) -> Job:
    if task.head == "question_answering":
        return Job(name, task, supernet, (f1, macs), (exact_match,))
    return Job(name, task, supernet, (accuracy, macs))


TASKS: Final = ("squad", "imdb", "sst2")


def _found(kind: str, name: str) -> Path:
    for place in PLACES:
        if (place / kind / name).is_dir():
            return place / kind / name
    looked = " and ".join(str(place / kind) for place in PLACES)
    raise DataError(f"there is no {name} in {looked}; name its folder with --{kind.removesuffix('s')}")
