"""Heads: the outputs of a model (classes, a number, a span), each with its loss and its distillation.

Axes: B examples, T tokens in all, L the longest example, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchkit.errors import DataError, unknown
from searchkit.reduction.plugins import Registry
from searchkit.reduction.ragged import Layout

Direction = Literal["student-teacher", "teacher-student"]
Reads = Literal["first", "mean", "tokens"]  # the rows of the encoder's output that a head reads
LabelFormat = tuple[str, tuple[int, ...]]  # number format, and shape after the first axis
UNREACHABLE: Final = -1e4  # the logit of a token that was discarded: it can never be the answer


class Head(Protocol):
    """A kind of output. Logits are (B, C), or (T, 2) where every token is read."""

    @property
    def name(self) -> str: ...
    @property
    def auto_class(self) -> str:
        """The transformers class that loads such a model."""

    @property
    def label_format(self) -> LabelFormat:
        """The labels of N examples, such as ("int64", (2,)) for whole numbers (N, 2)."""

    @property
    def reads(self) -> Reads | None:
        """The rows it reads; None where the encoder's family decides ("first" or "mean")."""

    @property
    def problem_type(self) -> str | None:
        """The `problem_type` of a saved config, by which a stock pipeline chooses softmax, sigmoid or neither."""

    @property
    def named_outputs(self) -> bool:
        """Return whether outputs are classes, which a fine-tuned checkpoint and the data know by name."""

    def fits(self, labels: int) -> bool:
        """Return whether a stock model of its class with this number of outputs has this head."""

    def output(self, stock: Any) -> nn.Linear | None:
        """The stock model's product that makes its outputs; None where it is the family's."""

    def loss(self, logits: Tensor, labels: Tensor, layout: Layout) -> Tensor:
        """The task's loss, mean over examples."""

    def divergence(self, student: Tensor, teacher: Tensor, layout: Layout, direction: Direction) -> Tensor:
        """Divergence of the student's outputs from the teacher's, mean over examples."""

    def evidence(self, logits: Tensor, labels: Tensor | None, layout: Layout) -> Tensor:
        """(B,) the logit that saliency explains: of the right output, or of the predicted one if `labels` is None."""


@dataclass(frozen=True)
class Classification:
    """Head of classes; labels (B,) are class indices."""

    name: str = "classification"
    auto_class: str = "AutoModelForSequenceClassification"
    label_format: LabelFormat = ("int64", ())
    reads: Reads | None = None
    problem_type: str | None = "single_label_classification"
    named_outputs: bool = True

    def fits(self, labels: int) -> bool:
        return labels > 1

    def output(self, stock: Any) -> None:
        return None

    def loss(self, logits: Tensor, labels: Tensor, layout: Layout) -> Tensor:
        return F.cross_entropy(logits.float(), labels)

    def divergence(self, student: Tensor, teacher: Tensor, layout: Layout, direction: Direction) -> Tensor:
        return kl_divergence(student, teacher, direction)

    def evidence(self, logits: Tensor, labels: Tensor | None, layout: Layout) -> Tensor:
        chosen = logits.argmax(-1) if labels is None else labels
        return logits.float().gather(1, chosen[:, None]).squeeze(1)


@dataclass(frozen=True)
class Regression:
    """Head of one number; labels (B,). A softmax over it would be constant, so the distillation is a squared error.

    The published LAT code applies its KL divergence to regression too, where it is always zero.
    """

    name: str = "regression"
    auto_class: str = "AutoModelForSequenceClassification"
    label_format: LabelFormat = ("float32", ())
    reads: Reads | None = None
    problem_type: str | None = "regression"
    named_outputs: bool = False

    def fits(self, labels: int) -> bool:
        return labels == 1

    def output(self, stock: Any) -> None:
        return None

    def loss(self, logits: Tensor, labels: Tensor, layout: Layout) -> Tensor:
        return F.mse_loss(logits.float().squeeze(1), labels.float())

    def divergence(self, student: Tensor, teacher: Tensor, layout: Layout, direction: Direction) -> Tensor:
        return F.mse_loss(student.float(), teacher.float())

    def evidence(self, logits: Tensor, labels: Tensor | None, layout: Layout) -> Tensor:
        return logits.float().squeeze(1)


@dataclass(frozen=True)
class QuestionAnswering:
    """Head of spans; labels (B, 2) are positions of the answer's first and last token, 0 where there is no answer."""

    name: str = "question_answering"
    auto_class: str = "AutoModelForQuestionAnswering"
    label_format: LabelFormat = ("int64", (2,))
    reads: Reads | None = "tokens"
    problem_type: str | None = None
    named_outputs: bool = False

    def fits(self, labels: int) -> bool:
        return True

    def output(self, stock: Any) -> nn.Linear | None:
        return getattr(stock, "qa_outputs", None)  # ModernBERT's has the name of the classifier's

    def loss(self, logits: Tensor, labels: Tensor, layout: Layout) -> Tensor:
        starts, ends = _ends(logits, layout)
        return (F.cross_entropy(starts, labels[:, 0]) + F.cross_entropy(ends, labels[:, 1])) / 2

    def divergence(self, student: Tensor, teacher: Tensor, layout: Layout, direction: Direction) -> Tensor:
        pairs = zip(_ends(student, layout), _ends(teacher, layout), strict=True)
        return torch.stack([kl_divergence(own, other_ends, direction) for own, other_ends in pairs]).mean()

    def evidence(self, logits: Tensor, labels: Tensor | None, layout: Layout) -> Tensor:
        chosen = [end.argmax(1) for end in _ends(logits, layout)] if labels is None else labels.unbind(1)
        ends = zip(_ends(logits, layout), chosen, strict=True)
        return torch.stack([end.gather(1, position[:, None]).squeeze(1) for end, position in ends]).sum(0)


OWN: Final[tuple[Head, ...]] = (Classification(), Regression(), QuestionAnswering())
HEADS: Final[Registry[Head]] = Registry(
    "head",
    {head.name: head for head in OWN},
    group="searchkit.heads",
    needs=(
        *("name", "auto_class", "label_format", "reads", "problem_type", "named_outputs"),
        *("fits", "output", "loss", "divergence", "evidence"),
    ),
)
SETTING: Final = "searchkit_head"  # of a config: the name of a head that its class and number of labels do not tell


def head_of(config: Any, architecture: str) -> Head:
    """The head of a stock model, by its config's `searchkit_head`, or its class and number of labels.

    DataError for a head that nobody registered.
    """
    if (name := getattr(config, SETTING, None)) is not None:
        if name not in HEADS:
            source = getattr(config, "name_or_path", "") or "the model"
            raise DataError(f"{source}: {unknown('head', name, HEADS)}; load the code that registers it first")
        return HEADS[name]
    return next(
        (head for head in OWN if is_class_of(architecture, head) and head.fits(config.num_labels)),
        HEADS["regression" if config.num_labels == 1 else "classification"],
    )


def set_head(config: Any, head: Head) -> None:
    """Name a plug-in's head in the config, and so in checkpoints; searchkit's own are known without."""
    if head in OWN:
        config.__dict__.pop(SETTING, None)
    else:
        setattr(config, SETTING, head.name)


def is_class_of(architecture: str, head: Head) -> bool:
    """Return whether a stock class of this name has such outputs: BertForQuestionAnswering, for one."""
    return architecture.endswith(head.auto_class.removeprefix("AutoModel"))


def kl_divergence(student: Tensor, teacher: Tensor, direction: Direction) -> Tensor:
    """KL divergence between the distributions of (B, C) logits, mean over examples (LAT eq. 5)."""
    p, q = F.log_softmax(student.float(), -1), F.log_softmax(teacher.float(), -1)
    if direction == "student-teacher":
        return F.kl_div(q, p, reduction="batchmean", log_target=True)  # KL(student || teacher)
    return F.kl_div(p, q, reduction="batchmean", log_target=True)  # KL(teacher || student)


def _ends(logits: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """(T, 2) -> start and end logits (B, L), float32; pads cannot be chosen."""
    padded = layout.pad(logits.float(), fill=2 * UNREACHABLE)
    start, end = padded.unbind(-1)
    return start, end
