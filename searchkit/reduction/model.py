"""Stock Hugging Face model that runs under a reduction plan; saved as the stock model it is.

Axes: B examples, T tokens in all, D width, C outputs of the head.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from searchkit.errors import QUOTED, DataError, one_line
from searchkit.reduction.checkpoint import listed, load_config, quiet_transformers
from searchkit.reduction.cost import Shape
from searchkit.reduction.encoder import encode, encode_alone, goes_alone
from searchkit.reduction.families import Block, lean_block, view_of
from searchkit.reduction.heads import UNREACHABLE, head_of
from searchkit.reduction.plan import Reducer, ReductionPlan
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.reduction.relaxed import Faded, Relaxation, fade
from searchkit.reduction.scorers import PREDICTORS, Scorer
from searchkit.reduction.state import Encoding, Restored, State
from searchkit.reduction.trace import Counter, Trace, static_trace

log = logging.getLogger(__name__)

PREDICTORS_FILE: Final = "predictors.safetensors"  # beside the stock model's weights


@dataclass(frozen=True, eq=False)
class Predicted:
    """Logits (B, C), or (T, C) where the head reads every token, and the trace of the pass, made on demand."""

    logits: Tensor
    counter: Counter

    @cached_property
    def trace(self) -> Trace:
        return self.counter.trace()


class AdaptiveModel(nn.Module):
    """A stock `...ForSequenceClassification` or `...ForQuestionAnswering` (`.stock`) on packed tokens, under a plan.

    Trained scorers live beside it (`.predictors`); their names and settings, and the thresholds and lengths that a
    recipe ended with, stand in the stock config under `searchkit`, and so travel with the checkpoint.
    """

    def __init__(self, stock: Any, predictors: nn.ModuleDict | None = None) -> None:
        """Wrap a stock model; `predictors` are the trained scorers that its notes name, made untrained by default."""
        super().__init__()
        self.stock = stock
        self.view = view_of(stock)
        self.lone_blocks: tuple[Block, ...] = ()  # for one example, made once no weight changes any more
        self.head = head_of(stock.config, type(stock).__name__)
        self.shape = Shape.of_config(stock.config, reads=self.view.reads)
        made = self.notes.get("predictors", {})
        self.predictors = untrained_predictors(made, self.shape) if predictors is None else predictors
        self.learned = nn.ParameterDict()  # what a stage of training learns beside, such as thresholds
        self.train(stock.training)

    @property
    def notes(self) -> dict[str, Any]:
        """Notes of a recipe in the config: `predictors`, `thresholds`, `lengths`."""
        return getattr(self.stock.config, "searchkit", None) or {}

    def note(self, name: str, value: Any) -> None:
        """Leave `value` (JSON) in the config under `name`."""
        self.stock.config.searchkit = {**self.notes, name: value}

    def attach(self, name: str, **settings: Any) -> nn.ModuleList:
        """Add untrained predictors of a kind, one per layer (one alone for "input").

        Those of an earlier training stay if they were made with the same settings, and are made anew otherwise.
        """
        made = self.notes.get("predictors", {}).get(name)
        if made is not None and made != settings:
            log.warning("predictors %r of the model begin anew: they were made with %s, not %s", name, made, settings)
        if made != settings or name not in self.predictors:
            self.note("predictors", {**self.notes.get("predictors", {}), name: settings})
            made_now = untrained_predictors({name: settings}, self.shape)[name]
            self.predictors[name] = made_now.to(next(self.stock.parameters()).device)
        return cast(nn.ModuleList, self.predictors[name])

    def forget(self, keep: Collection[str]) -> list[str]:
        """Drop what an earlier training left, such as thresholds and predictors; `keep` names predictors that stay.

        Returns the names of what is gone.
        """
        made = self.notes.get("predictors", {})
        gone = [name for name in made if name not in keep] + [name for name in self.notes if name != "predictors"]
        for name in made.keys() - set(keep):
            del self.predictors[name]
        kept = {name: settings for name, settings in made.items() if name in keep}
        if gone:
            self.stock.config.searchkit = {"predictors": kept} if kept else {}
        return gone

    def learn(self, name: str, initial: Tensor) -> nn.Parameter:
        """Add a parameter that a stage of training learns and settles at its end."""
        self.learned[name] = nn.Parameter(initial.to(next(self.stock.parameters()).device))
        return cast(nn.Parameter, self.learned[name])

    def pop_learned(self, name: str) -> list[float]:
        """Final values of a learned parameter, which is removed."""
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

        `embedded` saves embedding the tokens again; `after_first_attention` (see `begin`) the first attention too. For
        one example, without a gradient, on a CPU, it is the lean pass, whose last digits are not the packed pass's.
        """
        whole = not skip and embedded is None and after_first_attention is None and not self.training
        if whole and goes_alone(tokens, self.view.output.weight.dtype):
            return self._lean(tokens, plan)
        return self.packed(tokens, plan, skip, embedded, after_first_attention)

    def _lean(self, tokens: Tokens, plan: ReductionPlan) -> Predicted:
        restore = self.needs_buffer(plan)
        encoding = encode_alone(
            self.lone_blocks or self.view.blocks,
            self.embed(tokens),
            tokens.layout,
            plan,
            predictors=self.predictor,
            restore=restore,
            first_only=self.reads_first_only and not restore,
        )
        return self.read(encoding, tokens.layout)

    def packed(
        self,
        tokens: Tokens,
        plan: ReductionPlan,
        skip: Collection[int] = (),
        embedded: Tensor | None = None,
        after_first_attention: State | None = None,
        watch: Callable[[Layout], None] | None = None,
    ) -> Predicted:
        """`forward` by the packed pass, however many examples there are: the numbers of an evaluation.

        watch: is called with the tokens alive before the first layer and after each (see `encode`)
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
            watch=watch,
        )
        return self.read(encoding, tokens.layout)

    def begin(self, embedded: Tensor, tokens: Tokens, template: Reducer) -> State:
        """State of the tokens after the first attention, with the statistics of its map that `template`'s scorer reads.

        For plans without a buffer that drop nothing before it.
        """
        state = State(embedded, tokens.layout, self.predictor, restore=False)
        state.attend(self.view.blocks[0], 0, template, self.training)
        return state

    def frozen(self) -> AdaptiveModel:
        """Copy for inference alone: its weights must not change any more."""
        return self.eval().requires_grad_(False).join()

    def join(self) -> AdaptiveModel:
        """Make the blocks' copies of weights for inference, of many examples and of one, as the weights are now."""
        self.view = replace(self.view, blocks=tuple(block.joined() for block in self.view.blocks))
        self.lone_blocks = tuple(map(lean_block, self.view.blocks))
        return self

    def static_trace(self, whole: Layout, plan: ReductionPlan) -> Trace | None:
        """Trace of a pass over examples of this layout, without the pass; None where it depends on their content."""
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
        """Return whether the head sees each example's first token alone, so that the last layer computes no other."""
        return self.view.reads == "first"

    def needs_buffer(self, plan: ReductionPlan) -> bool:
        """Return whether the head reads Drop-and-Restore's buffer: every token, or first tokens that may be dropped."""
        unprotected = any(reducer is not None and "cls" not in reducer.protect for reducer in plan.slots)
        return self.view.reads == "tokens" or unprotected

    def read(self, encoding: Encoding, layout: Layout) -> Predicted:
        """Outputs of the head on an encoding of examples whose whole layout is `layout`."""
        if encoding.restored is not None:
            return Predicted(self.read_buffer(encoding.restored, layout), encoding.counter)
        return Predicted(self.pooled(encoding.hidden, encoding.layout), encoding.counter)

    def fade(
        self,
        tokens: Tokens,
        plan: ReductionPlan,
        relaxation: Relaxation,
        embedded: Tensor | None = None,
        attention_dropout: bool = True,
    ) -> tuple[Tensor, Faded]:
        """Relaxed pass: logits as of `forward`, and the weights of the tokens at each reducer."""
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
            return self.read_buffer(faded.restored, tokens.layout), faded
        return self.pooled(faded.hidden, tokens.layout, faded.alive[-1]), faded

    def read_buffer(self, restored: Restored, layout: Layout) -> Tensor:
        """Apply the head to the buffer: every token, or the first ones."""
        if self.view.reads != "tokens":
            return self.pooled(restored.hidden, layout, (~restored.discarded).float())
        logits = self.view.head(self.view.finish(restored.hidden))
        return logits.masked_fill(restored.discarded[:, None], UNREACHABLE)

    def pooled(self, hidden: Tensor, layout: Layout, alive: Tensor | None = None) -> Tensor:
        """Apply the head to (T, D) states: each example's first token, or the mean of the tokens that are `alive`."""
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

    def load_predictors(self, folder: Path) -> None:
        """Read the predictors that `save` wrote; DataError where they are missing, damaged or not finite."""
        from safetensors.torch import load_file

        try:
            self.predictors.load_state_dict(load_file(folder / PREDICTORS_FILE))
        except Exception as error:
            raise DataError(
                f"{folder / PREDICTORS_FILE}: cannot load the predictors: {one_line(error, QUOTED)}"
            ) from error
        odd = [name for name, weight in self.predictors.named_parameters() if not torch.isfinite(weight).all()]
        if odd:
            raise DataError(f"{folder / PREDICTORS_FILE}: weights are not finite: {listed(odd)}")

    def restore(self, folder: Path) -> None:
        """Take over weights, predictors and notes that `save` wrote for the same architecture; DataError if damaged."""
        from safetensors.torch import load_file

        saved = load_config(str(folder))
        self.stock.config.searchkit = getattr(saved, "searchkit", None) or {}
        self.learned.clear()
        try:
            for name, settings in self.notes.get("predictors", {}).items():
                self.attach(name, **settings)
            self.stock.load_state_dict(load_file(folder / "model.safetensors"))
        except Exception as error:
            raise DataError(
                f"{folder}: cannot go on from it: {one_line(error, QUOTED)}; remove it to train again"
            ) from error
        if self.predictors:
            self.load_predictors(folder)


def untrained_predictors(notes: Mapping[str, Mapping[str, Any]], shape: Shape) -> nn.ModuleDict:
    """Make new predictors of these kinds (name -> settings), one per layer (one alone for "input").

    Raises StudyError for a name that nobody registered.
    """
    kinds = ((name, PREDICTORS.look_up(name), settings) for name, settings in notes.items())
    return nn.ModuleDict(
        {
            name: nn.ModuleList(
                kind(shape.width, shape.heads, **settings) for _ in range(1 if name == "input" else shape.layers)
            )
            for name, kind, settings in kinds
        }
    )
