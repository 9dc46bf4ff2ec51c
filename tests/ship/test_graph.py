"""ONNX graphs in ONNX Runtime against the packed pass, at batches and lengths that they were not traced with."""

from __future__ import annotations

import onnx
import pytest
import torch

from searchkit.errors import DataError
from searchkit.hf.inputs import Special
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import Reducer, ReductionPlan, TopK
from searchkit.reduction.ragged import Layout, Tokens
from searchkit.ship.graph import Graph, export
from searchkit.ship.onnx_runtime import OnnxModel
from searchkit.ship.quantize import quantized
from searchkit.ship.shipment import marks_of
from tests.reduction.models import LAYERS, MODELS, examples, tokens

LENGTHS = ((0.8, 0.5, 0.3), (0.9, 0.2, 0.1), (0.4, 0.35, 0.05))
SEPARATOR = 7


def check(model: AdaptiveModel, plan: ReductionPlan, proto: onnx.ModelProto, batches: tuple[int, ...]) -> None:
    runtime = OnnxModel(proto)
    for seed, batch in enumerate(batches):
        packed = with_marks(tokens(examples(batch, seed)))
        with torch.inference_mode():
            expected = model.packed(packed, plan).logits
        torch.testing.assert_close(runtime.logits(packed), expected, atol=1e-4, rtol=1e-4)


def with_marks(packed: Tokens) -> Tokens:
    """The tokens with every separator marked, and with a question up to the first of them."""
    ids, layout = packed.ids, packed.layout
    padded = layout.pad(ids.float()).long()
    ends = [row.index(SEPARATOR) if SEPARATOR in row else len(row) for row in padded.tolist()]
    ends = [min(end, int(length)) for end, length in zip(ends, layout.lengths, strict=True)]
    before = layout.positions < torch.tensor(ends)[layout.examples]
    marks = {"sep": ids == SEPARATOR, "question": before & (layout.positions > 0)}
    return Tokens(ids, packed.types, Layout(layout.offsets, layout.positions, marks))


@pytest.fixture(scope="module")
def of_bert() -> Graph:
    return export(MODELS["bert"](), ReductionPlan.of_lengths(LENGTHS[0]))


@pytest.mark.parametrize("lengths", LENGTHS)
def test_one_export_serves_every_plan_of_its_pattern(of_bert: Graph, lengths: tuple[float, ...]) -> None:
    plan = ReductionPlan.of_lengths(lengths)
    check(of_bert.model, plan, of_bert.bound(plan), (1, 1, 2, 7, 16))


def test_a_plan_that_drops_elsewhere_needs_another_graph(of_bert: Graph) -> None:
    with pytest.raises(ValueError, match="other places"):
        of_bert.bound(ReductionPlan.of_lengths((1.0, 0.5, 0.3)))


def test_inputs_and_outputs_have_the_names_that_servers_expect(of_bert: Graph) -> None:
    proto = of_bert.bound(ReductionPlan.of_lengths(LENGTHS[0]))
    assert [item.name for item in proto.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [item.name for item in proto.graph.output] == ["logits"]
    shapes = [[axis.dim_param != "" for axis in item.type.tensor_type.shape.dim] for item in proto.graph.input]
    assert shapes == [[True, True]] * 3


def test_int8_leaves_products_of_two_activations_alone(of_bert: Graph) -> None:
    proto = of_bert.bound(ReductionPlan.of_lengths(LENGTHS[0]))
    small = quantized(proto)
    kinds = [node.op_type for node in small.graph.node]
    # per layer query, key and value in one, output and two of the feed-forward part; the last layer's query apart; the
    # pooler, and no classifier
    assert kinds.count("MatMulInteger") == LAYERS * 4 + 2
    assert sum(node.op_type in ("Softmax", "TopK") for node in small.graph.node) == LAYERS + 2
    packed = tokens(examples(8))
    assert OnnxModel(small).logits(packed).isfinite().all()


def test_int8_leaves_predictors_alone() -> None:
    """Their errors would change which tokens are kept."""
    float32, names = onnx.TensorProto.FLOAT, ("stock.up.weight", "predictors.gate.0.up.weight")
    weights = [onnx.helper.make_tensor(name, float32, (8, 8), [0.01] * 64) for name in names]
    nodes = [
        onnx.helper.make_node("Gemm", [before, name], [after], name=f"product of {name}", transB=1)
        for before, name, after in zip(("x", "h"), names, ("h", "y"), strict=True)
    ]
    ends = [onnx.helper.make_tensor_value_info(name, float32, ("B", 8)) for name in ("x", "y")]
    graph = onnx.helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    kinds = [node.op_type for node in quantized(proto).graph.node]
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul")) == (1, 1)


def test_a_reader_with_thresholds_and_marked_tokens() -> None:
    model = MODELS["roberta reader"]()
    model.attach("gate")
    model.eval()
    template = Reducer(
        TopK(ratio=1.0), scorer="gate", site="after_layer", fate="discard", protect=("cls", "sep", "question")
    )
    plan = ReductionPlan.of_slots(template, LAYERS, lengths=(1.0, 0.8, 0.6), thresholds=(0.5, 0.5, 0.5))
    special = Special(pad=0, separator=SEPARATOR, doubled=False)
    proto = export(model, plan, marks_of(plan, special)).bound(plan)
    assert [item.name for item in proto.graph.output] == ["start_logits", "end_logits"]
    check(model, plan, proto, (1, 3, 8))


@pytest.mark.slow  # the twin is held to the packed pass there too; this is the export alone
def test_local_attention_and_mean_pooling() -> None:
    model = MODELS["modernbert_mean"]()
    template = Reducer(TopK(ratio=1.0), scorer="value_norm", site="before_attention", protect=())
    plan = ReductionPlan.of_slots(template, LAYERS, lengths=(0.9, 0.7, 0.5))
    check(model, plan, export(model, plan).bound(plan), (1, 4, 9))


def test_what_is_no_graph_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="ONNX Runtime cannot load it"):
        OnnxModel(onnx.ModelProto())
