"""A stock Hugging Face model that can run under a reduction plan; saved and loaded as the stock model it is.

Axes: B examples, T tokens in all, D width, C outputs of the head.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from searchkit.errors import QUOTED, DataError, one_line
from searchkit.reduction.cost import Shape
from searchkit.reduction.encoder import Encoding, Restored, State, Trace, encode, static_trace
from searchkit.reduction.families import check_supported, view_of
from searchkit.reduction.heads import HEADS, UNREACHABLE, head_of
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.relaxed import Faded, Relaxation, fade
from searchkit.reduction.scorers import PREDICTORS, Scorer

log = logging.getLogger(__name__)

PREDICTORS_FILE: Final = "predictors.safetensors"  # beside the stock model's weights


@dataclass(frozen=True, eq=False)
class Predicted:
    """logits (B, C), or (T, C) where the head reads every token, and the trace of the pass, made on demand."""

    logits: Tensor
    traced: Callable[[], Trace]

    @cached_property
    def trace(self) -> Trace:
        return self.traced()


class AdaptiveModel(nn.Module):
    """A stock `...ForSequenceClassification` or `...ForQuestionAnswering` (`.stock`) on packed tokens, under a plan.

    Trained scorers live beside it (`.predictors`); which ones there are, and what else a recipe found (thresholds,
    lengths), stands in the stock config under `searchkit`, and so travels with the checkpoint.
    """

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.stock = stock
        self.view = view_of(stock)
        self.head = head_of(stock.config, type(stock).__name__)
        self.shape = Shape.of_config(stock.config, reads=self.view.reads)
        self.predictors = nn.ModuleDict()
        for name, settings in self.found.get("predictors", {}).items():
            self._attach(name, settings)
        self.learned = nn.ParameterDict()  # what a stage of training learns beside, such as thresholds
        self.train(stock.training)

    @property
    def found(self) -> dict[str, Any]:
        """What a recipe left in the config: `predictors`, `thresholds`, `lengths`."""
        return getattr(self.stock.config, "searchkit", None) or {}

    def note(self, name: str, value: Any) -> None:
        """Leave `value` (JSON) in the config under `name`."""
        self.stock.config.searchkit = {**self.found, name: value}

    def attach(self, name: str, **settings: Any) -> nn.ModuleList:
        """Add untrained predictors of a kind, one per layer (one alone for "input").

        Those of an earlier training stay if they were made with the same settings, and are made anew otherwise.
        """
        made = self.found.get("predictors", {}).get(name)
        if made is not None and made != settings:
            log.warning("predictors %r of the model begin anew: they were made with %s, not %s", name, made, settings)
        if made != settings:
            self.note("predictors", {**self.found.get("predictors", {}), name: settings})
            self._attach(name, settings)
            self.predictors[name].to(next(self.stock.parameters()).device)
        return cast(nn.ModuleList, self.predictors[name])

    def forget(self, keep: Collection[str]) -> list[str]:
        """Drop what an earlier training left, such as thresholds and predictors; `keep` names predictors that stay.

        Returns the names of what is gone.
        """
        made = self.found.get("predictors", {})
        gone = [name for name in made if name not in keep] + [name for name in self.found if name != "predictors"]
        for name in made.keys() - set(keep):
            del self.predictors[name]
        kept = {name: settings for name, settings in made.items() if name in keep}
        if gone:
            self.stock.config.searchkit = {"predictors": kept} if kept else {}
        return gone

    def _attach(self, name: str, settings: Mapping[str, Any]) -> None:
        count = 1 if name == "input" else self.shape.layers
        self.predictors[name] = nn.ModuleList(
            PREDICTORS[name](self.shape.width, self.shape.heads, **settings) for _ in range(count)
        )

    def learn(self, name: str, initial: Tensor) -> nn.Parameter:
        """Add a parameter that a stage of training learns and settles at its end."""
        self.learned[name] = nn.Parameter(initial.to(next(self.stock.parameters()).device))
        return cast(nn.Parameter, self.learned[name])

    def settled(self, name: str) -> list[float]:
        """Its final values; the parameter is gone."""
        return [float(value) for value in self.learned.pop(name).detach()]

    def predictor(self, name: str, layer: int) -> Scorer:
        """The trained scorer of a layer."""
        if name not in self.predictors:
            raise ValueError(f"the plan scores by {name!r}, but the model was trained without it")
        return cast(Scorer, cast(nn.ModuleList, self.predictors[name])[layer])

    def forward(
        self,
        tokens: Tokens,
        plan: ReductionPlan,
        skip: Collection[int] = (),
        embedded: Tensor | None = None,
        after_first_attention: State | None = None,
    ) -> Predicted:
        """Predict under a plan, without the layers in `skip`.

        `embedded` saves embedding the tokens again; `after_first_attention` (see `begin`) the first attention too.
        """
        restore = self.needs_buffer(plan)
        encoding = encode(
            self.view.blocks,
            self.embed(tokens) if embedded is None else embedded,
            tokens.layout,
            plan,
            predictors=self.predictor,
            training=self.training,
            restore=restore,
            first_only=self.reads_first_only and not restore and not self.training and after_first_attention is None,
            skip=skip,
            after_first_attention=after_first_attention,
        )
        return self.read(encoding, tokens.layout)

    def begin(self, embedded: Tensor, tokens: Tokens, like: Reducer) -> State:
        """The tokens after the first attention, with what reducers that score as `like` does read of it.

        For plans without a buffer that drop nothing before it.
        """
        state = State(embedded, tokens.layout, self.predictor, restore=False)
        state.attend(self.view.blocks[0], 0, like, self.training)
        state.read = None if state.read is None else state.read.detach()  # scores choose, and pass no gradient on
        state.values = None if state.values is None else state.values.detach()
        return state

    def frozen(self) -> AdaptiveModel:
        """This model ready for inference and for nothing else: its weights must not change any more."""
        self.eval().requires_grad_(False)
        self.view = replace(self.view, blocks=tuple(block.joined() for block in self.view.blocks))
        return self

    def static_trace(self, whole: Layout, plan: ReductionPlan) -> Trace | None:
        """The trace of a pass over examples of this layout, without the pass; None where their content decides."""
        return static_trace(
            self.view.blocks,
            whole,
            plan,
            width=self.shape.width,
            predictors=self.predictor,
            first_only=self.reads_first_only and not self.needs_buffer(plan),
        )

    @property
    def reads_first_only(self) -> bool:
        """The head sees each example's first token alone, so the last layer need not compute any other."""
        return self.view.reads == "first"

    def needs_buffer(self, plan: ReductionPlan) -> bool:
        """Whether the head reads Drop-and-Restore's buffer: every token, or first tokens that the plan may drop."""
        return self.view.reads == "tokens" or not _keeps_first(plan)

    def read(self, encoding: Encoding, layout: Layout) -> Predicted:
        """What the head makes of an encoding of examples whose whole layout is `layout`."""
        if encoding.restored is not None:
            return Predicted(self._read(encoding.restored, layout), encoding.traced)
        return Predicted(self._pooled(encoding.hidden, encoding.layout), encoding.traced)

    def fade(
        self,
        tokens: Tokens,
        plan: ReductionPlan,
        relaxation: Relaxation,
        embedded: Tensor | None = None,
        attention_dropout: bool = True,
    ) -> tuple[Tensor, Faded]:
        """The relaxed pass: logits as `forward` gives them, and what faded where."""
        faded = fade(
            self.view.blocks,
            self.embed(tokens) if embedded is None else embedded,
            tokens.layout,
            plan,
            relaxation,
            predictors=self.predictor,
            training=self.training,
            attention_dropout=attention_dropout,
        )
        if self.needs_buffer(plan):
            return self._read(faded.restored, tokens.layout), faded
        return self._pooled(faded.hidden, tokens.layout, faded.alive[-1]), faded

    def _read(self, restored: Restored, layout: Layout) -> Tensor:
        """Heads read the buffer: every token, or the first ones."""
        if self.view.reads != "tokens":
            return self._pooled(restored.hidden, layout, (~restored.discarded).float())
        logits = self.view.head(self.view.finish(restored.hidden))
        return logits.masked_fill(restored.discarded[:, None], UNREACHABLE)

    def _pooled(self, hidden: Tensor, layout: Layout, alive: Tensor | None = None) -> Tensor:
        if self.view.reads == "first":
            return self.view.head(self.view.finish(hidden[layout.first]))
        finished = self.view.finish(hidden)
        present = torch.ones(len(hidden), device=hidden.device) if alive is None else alive
        sums = layout.pad(finished * present[:, None]).sum(1)  # (B, D), in float32 at least
        means = sums / layout.pad(present).sum(1)[:, None]
        return self.view.head(means.to(finished.dtype))

    def embed(self, tokens: Tokens) -> Tensor:
        """(T, D) embeddings of the tokens at their positions."""
        longest, limit = tokens.layout.longest, self.view.limit
        if longest > limit:
            raise ValueError(f"an example has {longest} tokens, the encoder takes {limit}")
        return self.view.embed(tokens.ids, tokens.layout.positions, tokens.types)

    @classmethod
    def load(
        cls,
        source: str,
        labels: int | None = None,
        head: str = "classification",
        *,
        attention_dropout: float | None = None,
    ) -> AdaptiveModel:
        """Load from a Hugging Face folder or hub name, in float32, from safetensors only, without remote code.

        `labels` outputs are given to a newly initialised `head`; a checkpoint that has such a head must agree. A folder
        that searchkit wrote brings its head and its predictors along. Raises DataError in one line for whatever cannot
        be used.
        """
        import transformers

        config = load_config(source)
        architecture = next(iter(config.architectures or ()), "")
        if labels is None:
            head = head_of(config, architecture).name
        else:
            wanted = HEADS[head].auto_class.removeprefix("AutoModel")
            if architecture.endswith(wanted) and config.num_labels != labels:
                raise DataError(f"{source}: the checkpoint's head has {config.num_labels} labels, the data {labels}")
            config.num_labels = labels
        if attention_dropout is not None:  # the families have two names for it
            name = "attention_dropout" if hasattr(config, "attention_dropout") else "attention_probs_dropout_prob"
            setattr(config, name, attention_dropout)
        with quiet_transformers():
            try:
                stock, told = getattr(transformers, HEADS[head].auto_class).from_pretrained(
                    source,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
                model = cls(stock)
            except Exception as error:  # whatever a config or a file of weights makes the libraries raise
                what = "the safetensors file is damaged" if _is_of_safetensors(error) else "cannot load the weights"
                raise DataError(f"{source}: {what}: {one_line(error, QUOTED)}") from error
        _refuse_new_encoder(source, stock.base_model_prefix, told["missing_keys"])
        if model.predictors:
            model._load_predictors(Path(source).expanduser())
        return model

    def save(self, folder: Path) -> None:
        """Write config and safetensors; the stock class's `from_pretrained(folder)` loads them, predictors aside."""
        from safetensors.torch import save_file

        with quiet_transformers():
            self.stock.save_pretrained(folder)
        if self.predictors:
            save_file(
                {name: part.contiguous() for name, part in self.predictors.state_dict().items()},
                folder / PREDICTORS_FILE,
            )

    def _load_predictors(self, folder: Path) -> None:
        from safetensors.torch import load_file

        try:
            self.predictors.load_state_dict(load_file(folder / PREDICTORS_FILE))
        except Exception as error:
            raise DataError(
                f"{folder / PREDICTORS_FILE}: cannot load the predictors: {one_line(error, QUOTED)}"
            ) from error

    def restore(self, folder: Path) -> None:
        """Take over weights, predictors and notes that `save` wrote for the same architecture; DataError if damaged."""
        from safetensors.torch import load_file

        other = load_config(str(folder))
        self.stock.config.searchkit = getattr(other, "searchkit", None) or {}
        self.learned.clear()
        try:
            for name, settings in self.found.get("predictors", {}).items():
                self.attach(name, **settings)
            self.stock.load_state_dict(load_file(folder / "model.safetensors"))
        except Exception as error:
            raise DataError(
                f"{folder}: cannot go on from it: {one_line(error, QUOTED)}; remove it to train again"
            ) from error
        if self.predictors:
            self._load_predictors(folder)


def _keeps_first(plan: ReductionPlan) -> bool:
    return all(reducer is None or "cls" in reducer.protect for reducer in plan.slots)


def load_config(source: str) -> Any:
    """The transformers config of a folder or hub name, of a supported family; DataError says what is wrong."""
    from transformers import AutoConfig

    path = Path(source).expanduser()
    if not path.exists() and source.startswith((".", "/", "~")):
        raise DataError(f"{source}: there is no such model folder")
    if path.is_file() or (path.is_dir() and not (path / "config.json").is_file()):
        raise DataError(f"{source}: not a Hugging Face model folder: it has no config.json")
    if path.is_dir() and not any(path.glob("*.safetensors")):
        raise DataError(
            f"{source}: no safetensors weights (only these are read, never pickles); convert the checkpoint"
        )
    _refuse_shards_elsewhere(path)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # a config of sizes that are none, of another form, of another kind of file
        hint = "" if path.is_dir() else "; without network access give a local folder"
        raise DataError(f"{source}: cannot read the model's config: {one_line(error, QUOTED)}{hint}") from error
    check_supported(config.model_type, source)
    return config


def _refuse_shards_elsewhere(folder: Path) -> None:
    """Weights are the folder's own safetensors files: an index must not lead to another place, nor to a pickle."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values())
        odd = [name for name in shards if Path(name).name != name or not name.endswith(".safetensors")]
    except Exception as error:
        raise DataError(f"{index}: not an index of safetensors files: {one_line(error, QUOTED)}") from error
    if odd:
        raise DataError(f"{index}: weights are safetensors files beside it, got {min(odd)!r}")


def _refuse_new_encoder(source: str, prefix: str, missing: Iterable[str]) -> None:
    """A new head is trained; an encoder whose weights the file lacks would be noise. A pooler belongs to the head."""
    lacking = sorted(
        name for name in missing if name.startswith(f"{prefix}.") and not name.startswith(f"{prefix}.pooler")
    )
    if lacking:
        raise DataError(f"{source}: the file of weights lacks {len(lacking)} of the encoder's, such as {lacking[0]!r}")


def _is_of_safetensors(error: BaseException) -> bool:
    return type(error).__module__.startswith("safetensors")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no 'newly initialised' tables from transformers: searchkit says itself what it does."""
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()
