"""A supernet on all of the training data, a search, and both in files that are small enough to carry away.

After a few steps of each stage that are timed, as many epochs are trained as fit into a share of the minutes; the
search has what is left, and the front is measured on the report split. Where not even one epoch of each stage fits, a
part of the data is taken, and the figures say which. When the time is up, what there is is written, and where it
stopped. In the folder of results: the shards of the checkpoint (`shards`) and `gpu_train.json`.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks import result
from benchmarks.gpu import shards
from benchmarks.gpu.checks import TimeUp, limited
from benchmarks.gpu.jobs import Job
from objectives import latency
from searchkit.engines import NSGA2, Random
from searchkit.errors import StudyError
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.trial import measure_together
from searchkit.evaluate.workbench import SupernetWorkbench
from searchkit.front import Front
from searchkit.records import Ask, Candidate, Measured, Trial
from searchkit.reduction.device import dtype_of, name_of
from searchkit.reduction.model import AdaptiveModel
from searchkit.search.budget import Account, Budget
from searchkit.search.generational import search
from searchkit.space import Lengths, Space
from searchkit.training import FineTune, LengthDrop
from searchkit.training.stage import TrainingContext

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from searchkit.tasks.base import Encoded, Tables

TRAINING, SEARCH, WRITING = 0.6, 0.25, 0.05  # shares of the time; the report has the rest
STEPS: Final = 24  # of each stage that are timed
EPOCHS: Final = {"finetune": 3, "lengthdrop": 6}  # at most
POPULATION: Final = 24
LARGE: Final = 1 << 16  # tokens of a batch in evaluation, on a GPU
TIMED: Final[dict[int, dict[str, Any]]] = {1: {"batches": 8}, 32: {"batches": 4}}  # latencies of the front, by batch

QUICK: Final[dict[int, dict[str, Any]]] = {
    1: {"batches": 2, "rounds": 3, "budget_s": 0.2, "min_round_interval_s": 0.0}
}  # in a smoke run


class Trials:
    """Trials of a search in memory."""

    def __init__(self) -> None:
        self._done: list[Trial] = []

    def append(self, trial: Trial) -> None:
        self._done.append(trial)

    def appended(self) -> list[Trial]:
        return list(self._done)

    def trials(self) -> list[Trial]:
        return sorted(self._done, key=lambda trial: trial.ask.number)


@dataclass
class Written:
    """Figures so far, which are written whenever some are added."""

    folder: Path
    device: torch.device
    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, **figures: Any) -> None:
        self.figures |= figures
        result.keep("gpu_train", self.figures, self.folder, str(self.device))
        shown = {name: f"{len(value)} rows" if isinstance(value, list) else value for name, value in figures.items()}
        print(json.dumps(shown), flush=True)


@dataclass
class Pace:
    """Progress that notes when each step of a training ended."""

    ends: list[float] = field(default_factory=list)

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        self.ends.append(time.perf_counter())

    @property
    def step_s(self) -> float:
        """Median seconds from step to step, the first half left out."""
        return float(np.median(np.diff(self.ends)[len(self.ends) // 2 :]))


def train(job: Job, device: torch.device, folder: Path, seconds: float) -> None:
    """Train, search and report within `seconds`; StudyError where a library is missing."""
    if importlib.util.find_spec("accelerate") is None:
        raise StudyError("train needs the library accelerate, for the loop of transformers.Trainer")
    written = Written(folder, device)
    with tempfile.TemporaryDirectory() as own:
        work = _Work(job, device, Path(own), written, seconds)
        try:
            with limited(seconds * (1 - WRITING)) as left:
                work.run(left)
        finally:
            work.write_checkpoint()


@dataclass
class _Work:
    """The phases of `train`, and what one leaves to the next."""

    job: Job
    device: torch.device
    own: Path
    written: Written
    seconds: float
    left: Callable[[], float] = field(init=False)
    phase: str = "reading the data"
    tables: Tables = field(init=False)
    tokenizer: PreTrainedTokenizerBase = field(init=False)
    data: Encoded = field(init=False)
    model: AdaptiveModel | None = None
    front: Sequence[Trial] = ()
    was_written: bool = False

    def run(self, left: Callable[[], float]) -> None:
        """Run all phases, or those for which there is time."""
        self.left = left
        try:
            self.prepare()
            self.train()
            self.search()
            self.report()
            self.written.add(ended="all is done")
        except TimeUp:
            self.written.add(ended=f"the time was up: {self.phase}")

    def prepare(self) -> None:
        """Read and encode the data."""
        job = self.job
        self.tables = job.task.tables(0)
        self.tokenizer = job.supernet.tokenizer(self.tables)
        self.data = job.task.encode(self.tables.train, self.tokenizer)
        self.written.add(task=job.name, train_examples=len(self.data), train_tokens=len(self.data.ids))

    def train(self) -> None:
        """Train as many epochs as fit."""
        self.phase = "timing steps"
        recipe = self.job.recipe
        stages: dict[str, FineTune | LengthDrop] = {
            "finetune": FineTune(epochs=1, batch_size=recipe.batch_size),
            "lengthdrop": replace(recipe, epochs=1, start=None),
        }
        step_s = {name: self._step_s(stage) for name, stage in stages.items()}
        steps = -(-len(self.data) // recipe.batch_size)
        epoch_s = {name: steps * each for name, each in step_s.items()}
        room = max(0.0, TRAINING * self.seconds - (self.seconds - self.left()))
        share = min(1.0, room / sum(epoch_s.values()))
        epochs = _epochs(epoch_s, room)
        if share < 1:
            rows = np.random.default_rng(0).permutation(len(self.data))[
                : max(recipe.batch_size, int(share * len(self.data)))
            ]
            self.data = self.data.take(np.sort(rows))
        self.written.add(step_s=step_s, epochs=epochs, share_of_the_data=round(share, 4), dtype=name_of(self._dtype))
        self.phase = "training"
        self.model = self._model()
        start = time.perf_counter()
        whole = replace(
            recipe, epochs=epochs["lengthdrop"], start=FineTune(epochs=epochs["finetune"], batch_size=recipe.batch_size)
        )
        whole.train(self.model, self.data, self._context("whole"))
        self.written.add(train_s=round(time.perf_counter() - start, 1))
        self.write_checkpoint()

    @property
    def _dtype(self) -> torch.dtype:
        return dtype_of("auto", self.device)

    def _model(self) -> AdaptiveModel:
        job = self.job
        made = job.supernet.build(self.tokenizer, self.tables.labels, job.task.max_length, 0, job.task.head)
        return made.to(self.device)

    def _context(self, name: str, progress: Any = lambda *_: None) -> TrainingContext:
        return TrainingContext(self.own / name, self.device, 0, progress, self._dtype)

    def _step_s(self, stage: FineTune | LengthDrop) -> float:
        """Seconds of a step of the stage, with batches of all sorts of lengths."""
        rows = np.random.default_rng(1).permutation(len(self.data))[: STEPS * stage.batch_size]
        pace = Pace()
        stage.train(self._model(), self.data.take(rows), self._context(f"timed {type(stage).__name__}", pace))
        return pace.step_s

    def _bench(self, split: str) -> SupernetBench:
        assert self.model is not None
        job = self.job
        weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in self.model.state_dict().items()}
        workbench = SupernetWorkbench(
            self.model.stock.config.to_dict(),
            job.task.head,
            weights,
            job.recipe,
            job.task.encode(self.tables[split], self.tokenizer),
            job.task.max_length,
            device=str(self.device),
            token_budget=LARGE if self.device.type == "cuda" else 4096,
        )
        return workbench.build()

    def search(self) -> None:
        """Search lengths until the share of the time is spent."""
        self.phase = "searching"
        start, bench, objectives = time.perf_counter(), self._bench("search"), self.job.objectives
        stops = min(0.5 * self.left(), (1 - TRAINING - SEARCH) * self.seconds)  # seconds for the report
        space = Space(Lengths(levels=16)).bound(bench.model.shape.layers)
        has_pymoo = importlib.util.find_spec("pymoo") is not None
        engine = (NSGA2(population=POPULATION) if has_pymoo else Random(population=POPULATION)).start(
            space, objectives, 0
        )
        trials, budget = Trials(), Budget(evaluations=self.job.evaluations)
        account = Account(budget, objectives, generation=POPULATION)
        try:
            with Inline(_Built(bench), objectives) as evaluator:
                search(engine, evaluator, trials, account, population=POPULATION, halted=lambda: self.left() < stops)
        finally:
            self.front = Front.of(trials.trials(), objectives).members
            took = time.perf_counter() - start
            self.written.add(
                engine="nsga2" if has_pymoo else "random: pymoo is not installed",
                evaluations=len(trials.appended()),
                search_s=round(took, 1),
                s_per_evaluation=round(took / max(1, len(trials.appended())), 4),
                front=[_shown(trial) for trial in self.front],
            )

    def report(self) -> None:
        """Measure the unreduced model and the front on the report split, one after the other."""
        self.phase = "reporting"
        bench = self._bench("report")
        sizes = TIMED if self.device.type == "cuda" else QUICK
        timed = [latency(size, **settings) for size, settings in sizes.items()]
        rows: list[dict[str, Any]] = []
        for candidate in (Candidate.of(baseline="unreduced"), *(trial.ask.candidate for trial in self.front)):
            (trial,) = measure_together([Ask(len(rows), candidate)], bench, [*self.job.objectives, *self.job.reported])
            subject = bench.subject(candidate)
            latencies = {objective.unit: objective.measure(subject).beside for objective in timed}
            rows.append(_shown(trial) | {"latency": {unit: dict(beside) for unit, beside in latencies.items()}})
            self.written.add(report=rows)

    def write_checkpoint(self) -> None:
        """Write the model as it is now, once."""
        if self.model is None or self.was_written:
            return
        folder = self.own / "checkpoint"
        self.model.save(folder)
        self.tokenizer.save_pretrained(folder)
        self.written.add(files=shards.split(folder, self.written.folder))
        self.was_written = True


@dataclass(frozen=True)
class _Built:
    """A workbench whose bench is there already."""

    bench: SupernetBench

    def build(self) -> SupernetBench:
        return self.bench


def _epochs(epoch_s: dict[str, float], room: float) -> dict[str, int]:
    """Epochs that fit into so many seconds, one at least: a third for the fine-tuning, the rest for LengthDrop."""
    first = min(EPOCHS["finetune"], max(1, int(room / 3 / epoch_s["finetune"])))
    second = min(EPOCHS["lengthdrop"], max(1, int((room - first * epoch_s["finetune"]) / epoch_s["lengthdrop"])))
    return {"finetune": first, "lengthdrop": second}


def _shown(trial: Trial) -> dict[str, Any]:
    if not isinstance(trial.outcome, Measured):
        return {"candidate": trial.ask.candidate.to_json(), "outcome": str(trial.outcome)}
    values = {
        name: {"value": estimate.value, "standard_error": estimate.standard_error, "n": estimate.n}
        for name, estimate in trial.outcome.estimates.items()
    }
    return {"candidate": trial.ask.candidate.to_json(), **values}
