"""ONNX graphs of a model under a plan, made by torch's exporter from the traceable pass.

One export serves every plan that drops tokens at the same places (`pattern`): lengths and thresholds are inputs of the
graph, which `bound` turns into constants.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from searchkit._internal.checks import needs
from searchkit.errors import DataError, one_line
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.twin import Mark, Twin, numbers, pattern

if TYPE_CHECKING:
    import onnx

EXTRA: Final = "onnx"  # of the package's optional dependencies
OPSET: Final = 18
READER_OUTPUTS: Final = ("start_logits", "end_logits")
LARGEST: Final = 2_000_000_000  # bytes of a graph in one file


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph whose lengths and thresholds are open: `bound` gives the graph of one plan.

    idle: with the reducers of its pattern that drop nothing
    """

    model: AdaptiveModel
    pattern: ReductionPlan
    proto: onnx.ModelProto
    idle: bool = False

    def serves(self, plan: ReductionPlan) -> bool:
        """Return whether it is the graph of this plan, but for its numbers."""
        return same_but_numbers(pattern(self.model, plan, idle=self.idle), self.pattern)

    def bound(self, plan: ReductionPlan) -> onnx.ModelProto:
        """Graph of one plan; ValueError if it drops tokens at other places."""
        import onnx

        if not self.serves(plan):
            raise ValueError("the plan drops tokens at other places than the graph")
        made = onnx.ModelProto()
        made.CopyFrom(self.proto)
        values, read = numbers(plan), {name for node in made.graph.node for name in node.input}
        for item in [item for item in made.graph.input if item.name in values]:
            made.graph.input.remove(item)
            if item.name in read:  # of others ONNX Runtime would say that it removes them, whenever it loads the file
                made.graph.initializer.append(onnx.numpy_helper.from_array(values[item.name].numpy(), item.name))
        return made


def same_but_numbers(plan: ReductionPlan, other: ReductionPlan) -> bool:
    """Return whether two patterns differ in their lengths and thresholds at most."""
    return _without_numbers(plan) == _without_numbers(other)


def _without_numbers(plan: ReductionPlan) -> list[Any]:
    return [
        reducer
        and (
            None if reducer.keep is None else reducer.keep.ratio is None,
            reducer.threshold is None,
            reducer.site,
            reducer.scorer,
            reducer.fate,
            reducer.protect,
        )
        for reducer in plan.slots
    ]


def export(model: AdaptiveModel, plan: ReductionPlan, mark: Mark | None = None, *, idle: bool = False) -> Graph:
    """Export a model on the CPU in float32, for plans of this one's pattern; DataError if it cannot be exported.

    mark: how tokens that the plan protects beside the first are told from the inputs; idle: reducers that can drop
    nothing stay; see `Twin`
    """
    needs("onnx", "onnxscript", extra=EXTRA, what="ONNX graphs")
    twin = _Open(Twin(model, plan, mark, idle=idle), typed=model.view.segments is not None)
    ids = torch.ones(2, 8, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    given = (ids, mask, torch.zeros_like(ids))[: twin.tensors]
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    opened = numbers(plan)
    with quiet():
        try:
            program = torch.onnx.export(
                twin,
                (*given, *opened.values()),
                dynamo=True,
                dynamic_shapes=(tuple([shape] * twin.tensors + [None] * len(opened)),),
                input_names=[*("input_ids", "attention_mask", "token_type_ids")[: twin.tensors], *opened],
                output_names=list(READER_OUTPUTS if model.view.reads == "tokens" else ("logits",)),
                opset_version=OPSET,
                custom_translation_table=_translations(),
                verbose=False,
            )
        except Exception as error:  # whatever torch cannot trace or ONNX has no operator for
            raise DataError(f"this model cannot be exported to ONNX: {one_line(error)}") from error
    assert program is not None
    return Graph(model, twin.twin.plan, program.model_proto, idle)


def save(proto: onnx.ModelProto, file: Path) -> None:
    """Write a graph: one file, and `<name>.data` beside it where that is too large for one."""
    import onnx

    large = proto.ByteSize() > LARGEST
    onnx.save_model(proto, str(file), save_as_external_data=large, location=f"{file.name}.data" if large else None)


class _Open(nn.Module):
    """A twin with the numbers of its plan as inputs, after `tensors` (B, L) tensors."""

    def __init__(self, twin: Twin, typed: bool) -> None:
        super().__init__()
        self.twin, self.tensors = twin, 2 + typed

    def forward(self, *given: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = dict(zip(numbers(self.twin.plan), given[self.tensors :], strict=True))
        logits: Tensor = self.twin(*given[: self.tensors], numbers=values)
        return logits.unbind(-1) if self.twin.reads_tokens else logits


def _translations() -> dict[Any, Any]:
    """Operators that torch's exporter lacks. ONNX's TopK takes the earlier of equals first, as a stable sort does."""
    from onnxscript import opset18

    op: Any = opset18

    def sort_stable(self: Any, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
        size = op.Slice(op.Shape(self), [dim], [dim + 1], [0])
        return op.TopK(self, size, axis=dim, largest=int(descending), sorted=1)

    return {torch.ops.aten.sort.stable: sort_stable}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks of exporters and quantisers on their own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
