"""Draft of a study: a file of a study for a model and data, made from a look at both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from searchkit._internal.progress import step
from searchkit.errors import StudyError, one_line
from searchkit.runs.study_file import load
from searchkit.tasks import QuestionAnswering, TextClassification, TextRegression
from searchkit.tasks.base import Tables, Task
from searchkit.tasks.guess import KINDS, Choose, Columns, guessed
from searchkit.tasks.source import Source
from searchkit.training import FineTune, LengthDrop
from searchkit.training.label_names import order_of
from searchkit.training.pretrained import load_tokenizer
from searchkit.training.supernet import Supernet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLE: Final = 2000  # texts whose tokens are counted
COVERED: Final = 0.99  # share of the texts that `max_length` holds whole
SEARCHED: Final = 2000  # rows of the search split, of which every candidate sees all
STEP: Final = 8  # max_length is a multiple of it
LONGEST: Final = {"classification": 512, "regression": 512, "question_answering": 384}  # tokens, unless asked for more
LONG: Final = 128  # tokens; batches of longer texts are smaller, and training uses the fused kernel
LEFT: Final = 0.07  # share of tokens that the smallest plan of a training keeps after the last layer
MOST_DROPPED: Final = 0.6  # share that one layer may drop, however few there are
UNEQUAL: Final = 0.8  # share of the largest class from which on accuracy says little
OBJECTIVES: Final = {
    "classification": ("accuracy", ()),
    "regression": ("pearson", ("mse",)),
    "question_answering": ("f1", ("exact_match",)),
}
TASKS: Final = {
    "classification": TextClassification,
    "regression": TextRegression,
    "question_answering": QuestionAnswering,
}


@dataclass(frozen=True)
class Answers:
    """Answers that are given beforehand; what is left open is guessed, or chosen where the guess is not clear."""

    kind: str | None = None
    text: Sequence[str] = ()
    label: str | None = None
    label_map: Mapping[str, str] = field(default_factory=dict)  # checkpoint's name -> data's name
    fine_tune: bool = False  # train a new head, whatever the model has
    subset: str | None = None  # of a data set of the hub


@dataclass(frozen=True)
class Draft:
    """What was seen of a model and data, and the study that is made of it."""

    name: str  # of the study
    model: str
    data: str
    subset: str | None
    columns: Columns
    tables: Tables
    lengths: NDArray[np.int64]  # tokens of a sample of the train texts; of question and context together
    layers: int
    limit: int  # tokens that the model takes
    fine_tuned: bool  # its head is taken as it is
    label_map: Mapping[str, str]

    @cached_property
    def max_length(self) -> int:
        """Tokens at which texts are cut: so many hold nearly all of them, as far as the model takes them."""
        most = min(self.limit, LONGEST[self.columns.kind])
        if self.columns.kind == KINDS[2]:
            return most
        covered = int(np.quantile(self.lengths, COVERED, method="higher"))
        return min(most, max(2 * STEP, -(-covered // STEP) * STEP))

    @property
    def seen(self) -> list[str]:
        """Lines on the data, for the reader of the terminal and of the file."""
        rows = {split: len(self.tables[split]) for split in ("train", "search", "report")}
        taken = f" ({SEARCHED} of them are taken)" if self._of_search else ""
        low, high, most = (int(np.quantile(self.lengths, share)) for share in (0.5, 0.95, 1))
        cut = float((self.lengths > self.max_length).mean())
        over = "in several windows" if self.columns.kind == KINDS[2] else "cut"
        return [
            self._outputs,
            f"rows: {rows['train']} to train on, {rows['search']} for the search{taken}, {rows['report']} to report on",
            f"tokens: {low} in the median, {high} at 95 %, {most} at most; {100 * cut:.1f} % of the texts are {over}",
        ]

    @property
    def _of_search(self) -> str:
        """Limit of the search split where it is larger than a search needs."""
        return f' or {{"search": {SEARCHED}}}' if len(self.tables.search) > SEARCHED else ""

    @property
    def _outputs(self) -> str:
        if self.columns.kind == KINDS[2]:
            return "questions, each with its answer in a context"
        texts, label = " and ".join(self.columns.text), self.columns.label
        if self.columns.kind == KINDS[1]:
            numbers = self.tables.train["label"]
            return one_line(f"{texts} -> {label}: a number from {numbers.min():g} to {numbers.max():g}")
        return one_line(f"{texts} -> {label}: {len(self.tables.labels)} classes, {', '.join(self.tables.labels)}", 100)

    @property
    def text(self) -> str:
        """Source of the study file."""
        kind, is_long = self.columns.kind, self.max_length > LONG
        quality, beside = OBJECTIVES[kind]
        unequal = kind == KINDS[0] and self.tables.train["label"].value_counts(normalize=True).max() > UNEQUAL
        quality = "macro_f1" if unequal else quality
        bound = min(MOST_DROPPED, round(1 - LEFT ** (1 / self.layers), 2))
        start = "None" if self.fine_tuned else "FineTune(epochs=2, batch_size=16)" if is_long else "FineTune(epochs=2)"
        recipe = f"LengthDrop(epochs=epochs, bound={bound}, start={start}{', batch_size=16' if is_long else ''})"
        others = [f"label_map={_source(dict(self.label_map))}"] if self.label_map else []
        others += ["attention_dropout=0.0"] if is_long else []
        head = "the model is fine-tuned already" if self.fine_tuned else "its head is trained first"
        return TEMPLATE.format(
            objectives=", ".join(sorted([quality, *beside, "latency", "macs"])),
            task_class=TASKS[kind].__name__,
            recipes="LengthDrop" if self.fine_tuned else "FineTune, LengthDrop",
            model=_source(self.model),
            data=_source(self.data),
            name=_source(self.name),
            seen="\n".join(f"        # {line}" for line in self.seen),
            task=", ".join(["data", *self._task_arguments, f"limit=limit{self._of_search}"]),
            head=head,
            bound=f"{100 * bound:.0f} %",
            supernet="".join(f"            {argument},\n" for argument in ("model", f"recipe={recipe}", *others)),
            quality=quality,
            unequal="  # one class has most rows, so accuracy would say little" if unequal else "",
            front=", ".join([*beside, "latency(batch_size=1)"]),
        )

    @property
    def _task_arguments(self) -> list[str]:
        named: dict[str, Any] = {"max_length": self.max_length}
        if self.columns.kind == KINDS[2]:
            quarter = self.max_length // 4
            named |= {"stride": min(128, quarter), "question_length": min(64, quarter)}
        else:
            text = self.columns.text[0] if len(self.columns.text) == 1 else self.columns.text
            named = {"text": text, "label": self.columns.label, **named}
        named |= {"subset": self.subset} if self.subset else {}
        return [f"{name}={_source(value)}" for name, value in named.items()]


def drafted(
    model: str,
    data: str,
    answers: Answers,
    choose: Choose,
    name: str | None = None,
    busy: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Draft:
    """Look at a model and data, and draft a study; `choose` decides where names and values do not.

    busy: shows the steps of what may take seconds; nothing is asked within it. Raises DataError or StudyError in one
    line for what a run of the study would refuse.
    """
    with busy():
        kind = answers.kind or _kind_of(model)  # an error of the model comes before the data are read
        step("reading the data")
        train = Source(data, None, 0.1, 0.1, answers.subset, None).read()["train"]
    columns = guessed(train, choose, kind=kind, text=answers.text, label=answers.label)
    with busy():
        task = _task(data, columns, answers.subset)
        tables = task.tables(0)
    fine_tuned, label_map = _head(model, tables.labels, columns.kind, answers, choose)
    with busy():
        step("reading the model")
        tokenizer = load_tokenizer(model)
        recipe = LengthDrop(start=None if fine_tuned else FineTune())
        supernet = Supernet(model, recipe, label_map=label_map or None)
        built = supernet.build(tokenizer, tables.labels, task.max_length, seed=0, head=task.head)  # checks its weights
        step("counting tokens")
        lengths = _lengths(tables, tokenizer)
    return Draft(
        name=name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).name).strip("-._")[:100] or "study",
        model=model,
        data=data,
        subset=answers.subset,
        columns=columns,
        tables=tables,
        lengths=lengths,
        layers=supernet.layers,
        limit=min(built.view.limit, tokenizer.model_max_length),
        fine_tuned=fine_tuned,
        label_map=label_map,
    )


def write_draft(draft: Draft, file: Path) -> None:
    """Write the study to a new file; StudyError where there is one already, or where it would not load."""
    with TemporaryDirectory() as folder:
        trial = Path(folder) / "study.py"
        trial.write_text(draft.text, encoding="utf-8")
        load(trial)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(draft.text)
    except FileExistsError:
        raise StudyError(f"{file}: there is such a file already; name another one, or remove it") from None
    except OSError as error:
        raise StudyError(f"{file}: cannot be written: {error.strerror}") from error


def _kind_of(model: str) -> str | None:
    """Kind of task that a fine-tuned model tells: a number, or nothing that the data would not tell."""
    from searchkit.reduction.checkpoint import load_config

    config = load_config(model)
    return KINDS[1] if config.num_labels == 1 and _has_head(config, KINDS[1]) else None


def _has_head(config: Any, kind: str) -> bool:
    from searchkit.reduction.heads import HEADS, is_class_of

    return any(is_class_of(str(name), HEADS.look_up(kind)) for name in config.architectures or ())


def _head(
    model: str, labels: Sequence[str], kind: str, answers: Answers, choose: Choose
) -> tuple[bool, Mapping[str, str]]:
    """Return whether the model's head is taken as it is, and the names of its classes where they have to be told."""
    from searchkit.reduction.checkpoint import load_config

    config = load_config(model)
    if answers.fine_tune or not _has_head(config, kind) or config.num_labels != len(labels):
        if answers.label_map and not answers.fine_tune:
            raise StudyError(f"--label-map: {model} has no classification head of {len(labels)} labels to map")
        return False, {}
    own = [str(config.id2label[number]) for number in range(config.num_labels)]
    if kind != KINDS[0] or (not answers.label_map and order_of(own, labels) is not None):
        return True, {}
    left, told = list(labels), dict(answers.label_map)
    for label in own if {*told} <= {*own} and {*told.values()} <= {*labels} else ():
        left = [each for each in left if each not in told.values()]
        if label not in told:
            told[label] = choose(
                f"{model}: its label {label} is which of the data's?", f"--label-map {label}=...", left
            )
    order_of(own, labels, told)  # DataError unless one to one
    return True, {label: told[label] for label in own}


def _task(data: str, columns: Columns, subset: str | None) -> Task:
    if columns.kind == KINDS[2]:
        return QuestionAnswering(data, subset=subset)
    text = columns.text[0] if len(columns.text) == 1 else (columns.text[0], columns.text[1])
    task = TextClassification if columns.kind == KINDS[0] else TextRegression
    return task(data, text=text, label=columns.label, subset=subset)


def _lengths(tables: Tables, tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """(n,) tokens of up to SAMPLE rows of the train split, uncut, special ones included."""
    rows = tables.train.sample(min(SAMPLE, len(tables.train)), random_state=0)
    names = [name for name in ("question", "context", "text", "text_pair") if name in rows]
    texts = [rows[name].tolist() for name in names]
    ids = tokenizer(*texts, return_attention_mask=False, verbose=False)["input_ids"]
    return np.array([len(row) for row in ids], dtype=np.int64)


def _source(value: Any) -> str:
    """Literal of a text, a number, a pair or a mapping, in double quotes."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))})"
    return json.dumps(value, ensure_ascii=False)


TEMPLATE: Final = '''"""Made by `searchkit init`: quality against computation when layers keep fewer words."""

from objectives import {objectives}
from searchkit import Budget, Lengths, Space, Study, Supernet, Surrogate
from searchkit.tasks import {task_class}
from searchkit.training import {recipes}


def study(
    model: str = {model},
    data: str = {data},
    epochs: int = 2,  # of the training that teaches the model to do with fewer words; more are better
    evaluations: int = 150,  # candidates that the search measures
    limit: int | None = None,  # rows of each split; `-p limit=200 -p evaluations=16` is a first try
) -> Study:
    return Study(
        name={name} + (f"-{{limit}}" if limit else ""),
{seen}
        task={task_class}({task}),
        # {head}; one layer may drop up to {bound} of its words in training
        supernet=Supernet(
{supernet}        ),
        space=Space(Lengths(levels=16)),  # searched: how many sixteenths of the words each layer keeps
        objectives=[{quality}, macs],{unequal}
        front_objectives=[{front}],  # of the best candidates only; take the batch size you serve with
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
    )
'''
