"""Dynamic int8 quantisation of a graph's products with weights, by ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from searchkit._internal.checks import needs
from searchkit.ship.graph import quiet, save

if TYPE_CHECKING:
    import onnx


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with int8 weights and activations quantised as they come.

    Only products with constant weights are: scores, softmax and what follows from them stay in float32, and so do
    predictors, whose errors would change which tokens are kept, and the head, which is small.
    """
    needs("onnxruntime", extra="onnx", what="int8 models")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    weights = {item.name for item in proto.graph.initializer if "predictors." in item.name or "classifier" in item.name}
    names = [node.name for node in proto.graph.node if weights & set(node.input)]
    left_out = [*names, *(f"{name}_MatMul" for name in names)]  # the latter: of a Gemm, which is split first
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        save(proto, plain)
        with quiet():
            quantize_dynamic(
                plain,
                small,
                op_types_to_quantize=["MatMul", "Gemm"],
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=left_out,
                extra_options={"MatMulConstBOnly": True},
            )
        return onnx.load(str(small))
