"""ONNX Runtime on the CPU: a session with a fixed number of threads, fed with packed tokens.

Axes: B examples, L slots, T tokens in all, C outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from searchkit._internal.checks import needs
from searchkit.errors import DataError, one_line
from searchkit.records import Scalar
from searchkit.reduction.ragged import Tokens

if TYPE_CHECKING:
    import onnx

RUNTIME: Final = "onnxruntime"
_QUIET: Final = 3  # log level: errors alone


class OnnxModel:
    """Session of one graph. `source` is a file, or the graph itself.

    Its threads wait without spinning between two calls, so that what is timed beside it is not slowed.
    """

    def __init__(self, source: Path | onnx.ModelProto, threads: int = 1) -> None:
        needs("onnxruntime", extra="onnx", what="models in ONNX Runtime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.threads = threads
        self._numbers: Mapping[str, NDArray[Any]] = {}
        given = str(source) if isinstance(source, Path) else source.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own classes, which share no base
            where = source if isinstance(source, Path) else "the graph"
            raise DataError(f"{where}: ONNX Runtime cannot load it: {one_line(error)}") from error

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(item.name for item in self._session.get_inputs())

    def with_numbers(self, numbers: Mapping[str, NDArray[Any]]) -> OnnxModel:
        """The same session, with these values of the inputs that are no texts."""
        own = {name: values for name, values in numbers.items() if name in self.inputs}
        model = copy.copy(self)
        model._numbers = own
        return model

    def inputs_of(self, tokens: Tokens) -> dict[str, Any]:
        """Inputs of a batch: (B, L) int64, padded on the right."""
        return {name: tensor.numpy() for name, tensor in tokens.padded("token_type_ids" in self.inputs).items()}

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """Outputs of a batch that `inputs_of` prepared."""
        return self._session.run(None, {**inputs, **self._numbers})  # type: ignore[no-any-return]

    def logits(self, tokens: Tokens, inputs: dict[str, Any] | None = None) -> Tensor:
        """Logits (B, C), or (T, C) of every token, float32; `inputs` saves preparing the batch again."""
        outputs = self.run(self.inputs_of(tokens) if inputs is None else inputs)
        if len(outputs) == 1:
            return torch.from_numpy(outputs[0])
        return tokens.layout.unpad(torch.from_numpy(np.stack(outputs, -1)))


def environment() -> dict[str, Scalar]:
    """Runtime and its version, for numbers that are measured in it."""
    import onnxruntime

    return {"runtime": RUNTIME, "onnxruntime": onnxruntime.__version__}
