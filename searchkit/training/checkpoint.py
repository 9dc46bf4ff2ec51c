"""Untrained supernet from a checkpoint: its head is kept, permuted, made anew or refused, its labels are named.

A recipe that begins with `FineTune` trains the head, so it may be new. One with `start=None`, or `FineTune(epochs=0)`,
takes the checkpoint as it is: there the head must be complete, and its classes must be the data's by name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from searchkit.errors import DataError, StudyError
from searchkit.reduction.checkpoint import Weights, listed, load_config, read_stock
from searchkit.reduction.families import FAMILIES
from searchkit.reduction.heads import HEADS, SETTING, Head, is_class_of, set_head
from searchkit.reduction.loading import of_stock
from searchkit.reduction.model import AdaptiveModel
from searchkit.training.label_names import order_of, plain, suggestion

if TYPE_CHECKING:
    from searchkit.training.recipe import Recipe

log = logging.getLogger(__name__)

REMEDY: Final = "; begin with start=FineTune(...), which trains a head"
REMEDY_OF_RIVAL: Final = "; a rival is a model that is trained for the task"
# heads of pre-training, which stay in files of fine-tuned models, and poolers that the new head does not read
UNUSED: Final = ("cls.", "lm_head.", "generator_", "discriminator_", "vocab_", "mlm_", "head.", "decoder.", "pooler.")


@dataclass(frozen=True)
class RequiredOutputs:
    """Outputs that the data needs.

    labels: names of the outputs, in the data's order; trained: the head is trained on the data before anything else;
    label_map: checkpoint's name -> data's name; is_rival: the model is to be measured as it is, whatever the recipe
    """

    labels: tuple[str, ...]
    head: Head
    trained: bool
    label_map: Mapping[str, str | int] | None = None
    is_rival: bool = False

    @classmethod
    def by(
        cls, recipe: Recipe, labels: Sequence[str], head: str, label_map: Mapping[str, str | int] | None = None
    ) -> RequiredOutputs:
        """Outputs for these labels, with a head of `HEADS` that the recipe trains or takes as it is."""
        return cls(tuple(labels), HEADS.look_up(head), trains_head(recipe), label_map)

    @classmethod
    def of_rival(cls, labels: Sequence[str], head: str) -> RequiredOutputs:
        """Outputs for these labels of a model that is measured as it is."""
        return cls(tuple(labels), HEADS.look_up(head), trained=False, is_rival=True)

    @property
    def remedy(self) -> str:
        """End of a message on a head that cannot be used as it is."""
        return REMEDY_OF_RIVAL if self.is_rival else REMEDY

    def naming(self, names: Sequence[str]) -> str:
        """Advice where the checkpoint's `names` are not the data's."""
        return "name them so in its config.json (id2label)" if self.is_rival else suggestion(names, self.labels)


def trains_head(recipe: Recipe) -> bool:
    """Return whether the first recipe of the chain trains the head by the task's loss, as `FineTune` does."""
    while recipe.start is not None:
        recipe = recipe.start
    return bool(getattr(recipe, "trains_head", False))


def from_checkpoint(source: str, required: RequiredOutputs, attention_dropout: float | None = None) -> AdaptiveModel:
    """Load the checkpoint's model with the outputs that the data needs, in the data's order.

    What is new, unread or taken over without a name is logged as a warning. Raises DataError in one line where the
    checkpoint does not fit, StudyError for a `label_map` that has nothing to map.
    """
    config = load_config(source)
    _check_own_code(source, config, required)
    names, resized = _names(config), config.num_labels != len(required.labels)
    if not required.trained:
        _check_head(source, config, required)
    order = None if resized else _order(source, config, names, required)
    set_head(config, required.head)
    if resized:
        config.num_labels = len(required.labels)
    if attention_dropout is not None:  # the families have two names for it
        for name in ("attention_dropout", "attention_probs_dropout_prob"):
            if hasattr(config, name):  # a config may hold both, of which its family reads one
                setattr(config, name, attention_dropout)
    stock, weights = read_stock(source, config, required.head.auto_class, new_outputs=resized)
    if not required.trained:
        weights.check_complete(source, required.remedy)
        _check_read(source, weights, required)
    model = of_stock(stock, source)
    new = _is_new(model, weights)
    order = None if new else order
    if order is None and required.label_map is not None:
        raise StudyError(f"label_map: {source} has no classification head of {len(required.labels)} labels to map")
    _report(source, names, required, weights, resized)
    if order is not None:
        _permute(source, model, names, order, required)
    elif required.head.named_outputs and not new:
        pairs = ", ".join(f"{name} as {label}" for name, label in zip(names, required.labels, strict=False))
        log.warning("%s: its labels do not match the data's; the head is trained on from: %s", source, pairs)
    name_outputs(model, _saved_names(names, order, required), required.head)
    return model


def name_outputs(model: AdaptiveModel, labels: Sequence[str], head: Head) -> None:
    """Leave label names and problem type in the config, as stock pipelines read them."""
    config = model.stock.config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = head.problem_type


def _names(config: Any) -> tuple[str, ...]:
    """Label names of the checkpoint in the order of its outputs."""
    return tuple(str(config.id2label.get(number, f"LABEL_{number}")) for number in range(config.num_labels))


def _architecture(config: Any) -> str:
    return str(next(iter(config.architectures or ()), ""))


def _check_head(source: str, config: Any, required: RequiredOutputs) -> None:
    """Refuse a head of another kind or size where none is trained; one without architecture is known by its weights."""
    architecture, count, remedy = _architecture(config), len(required.labels), required.remedy
    if not architecture and FAMILIES[config.model_type].dense_reader:  # whose heads have the same names of weights
        raise DataError(f"{source}: its config names no architecture, so the kind of its head is unknown{remedy}")
    if architecture and not is_class_of(architecture, required.head):
        kind = required.head.name.replace("_", " ")
        raise DataError(f"{source}: a {architecture} has no {kind} head, and none is trained{remedy}")
    if config.num_labels != count:
        raise DataError(f"{source}: the checkpoint's head has {config.num_labels} labels, the data {count}{remedy}")
    if (own := getattr(config, SETTING, None)) not in (None, required.head.name):
        raise DataError(f"{source}: its head is {own!r}, the task is {required.head.name!r}{remedy}")
    if (kind := config.problem_type) not in (None, required.head.problem_type):
        raise DataError(f"{source}: its head was trained as {kind}, the task is {required.head.problem_type}{remedy}")
    activation = str(
        (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
        or getattr(config, "sbert_ce_default_activation_function", None)  # its name before version 4
        or "Identity"
    )
    if required.head.name == "regression" and not activation.endswith("Identity"):
        raise DataError(f"{source}: its number is the output after {activation}, which is not computed here{remedy}")


def _check_own_code(source: str, config: Any, required: RequiredOutputs) -> None:
    """Tell of a model whose code is not transformers', whose weights may mean another function; refuse it as it is."""
    import transformers

    architecture = _architecture(config)
    known = getattr(getattr(transformers, architecture, None), "config_class", None) if architecture else None
    remote = [name for name in (getattr(config, "auto_map", None) or {}) if name.startswith("AutoModel")]
    if not remote and (not architecture or getattr(known, "model_type", None) == config.model_type):
        return
    line = f"{source}: its model is {architecture or remote[0]}, which is not transformers' own {config.model_type}"
    if not required.trained:
        raise DataError(f"{line}: what it computes is not known here{required.remedy}")
    log.warning("%s: its weights are read as those of transformers' class", line)


def _check_read(source: str, weights: Weights, required: RequiredOutputs) -> None:
    """Refuse a head with parts that the stock class does not read."""
    if unread := [name for name in weights.unread if not _is_unused(name)]:
        line = f"{source}: weights of the file have no place in transformers' head: {listed(unread)}"
        raise DataError(line + required.remedy)


def _is_unused(name: str) -> bool:
    return name.startswith(UNUSED) or ".pooler." in name or name.endswith(".position_ids")


def _order(source: str, config: Any, names: tuple[str, ...], required: RequiredOutputs) -> tuple[int, ...] | None:
    """Output of the checkpoint for each class; None where the head is no classifier, or is trained without a match."""
    architecture = _architecture(config)
    if not required.head.named_outputs or (architecture and not is_class_of(architecture, required.head)):
        return None
    try:
        order = order_of(names, required.labels, required.label_map)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    if required.label_map is None and not _agree(config, names):
        order = None
    if order is None and not required.trained:
        raise DataError(
            f"{source}: the checkpoint's labels are {list(names)}, the data's {list(required.labels)}: the names do "
            f"not match, so their order is unknown; {required.naming(names)}"
        )
    return order


def _agree(config: Any, names: tuple[str, ...]) -> bool:
    """Return whether `label2id` agrees with `id2label`, as far as it has the names, in any spelling."""
    exact = {str(name): str(number) for name, number in (config.label2id or {}).items()}
    alike = {plain(name): number for name, number in exact.items()}
    numbers = [exact.get(name, alike.get(plain(name), str(number))) for number, name in enumerate(names)]
    return numbers == [str(number) for number in range(len(names))]


def _is_new(model: AdaptiveModel, weights: Weights) -> bool:
    """Return whether the last product of the head was initialised."""
    new = set(weights.new)
    return any(part is model.view.output.weight for name, part in model.stock.named_parameters() if name in new)


def _report(source: str, names: tuple[str, ...], required: RequiredOutputs, weights: Weights, resized: bool) -> None:
    if weights.new:
        labels = f", as the checkpoint has {len(names)} labels and the data {len(required.labels)}" if resized else ""
        log.warning("%s: the head is new: %s%s", source, listed(weights.new), labels)
    if weights.unread:
        log.warning("%s: weights of the file are not read: %s", source, listed(weights.unread))


def _permute(
    source: str, model: AdaptiveModel, names: tuple[str, ...], order: tuple[int, ...], required: RequiredOutputs
) -> None:
    """Put the outputs into the data's order."""
    output = model.view.output
    with torch.no_grad():
        output.weight.copy_(output.weight[list(order)])
        if output.bias is not None:
            output.bias.copy_(output.bias[list(order)])
    if order != tuple(range(len(order))):
        moved = [names[number] for number in order]
        log.warning(
            "%s: its outputs %s are put into the order %s: the data's are %s",
            source,
            list(names),
            moved,
            list(required.labels),
        )


def _saved_names(names: tuple[str, ...], order: tuple[int, ...] | None, required: RequiredOutputs) -> tuple[str, ...]:
    """Names to save: the data's; the checkpoint's where the data has numbers and a `label_map` names them."""
    if order is None or not all(label.lstrip("-").isdecimal() for label in required.labels):
        return required.labels
    own = tuple(names[number] for number in order)
    return required.labels if any(name.startswith("LABEL_") for name in own) else own
