"""The servers of examples/serving, on folders of one small model, and what text-embeddings-inference would feed one."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from fastapi.testclient import TestClient
from tokenizers import Encoding, Tokenizer
from transformers import AutoConfig, AutoTokenizer

import searchkit
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.ship.check import GRAPH
from searchkit.ship.folder import write_onnx, write_pytorch
from searchkit.ship.graph import export
from searchkit.ship.shipment import Shipment
from searchkit.tasks import word_tokenizer
from tests.reduction.models import LAYERS, VOCABULARY, classifier

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "serving"
LABELS = ("positive", "neutral", "negative")
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: number for number, label in enumerate(LABELS)}}
WORDS = [f"word{number}" for number in range(VOCABULARY - 5)]
LONGEST = 32  # tokens of an example
PLAN = ReductionPlan.of_lengths((0.6, 0.3))


def example(name: str) -> ModuleType:
    """Module of an example, as its file stands there."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def shipment(model: AdaptiveModel) -> Shipment:
    return Shipment(
        model=model,
        tokenizer=word_tokenizer(WORDS),
        key="chosen",
        plans={"chosen": PLAN},
        measured={},
        quality="accuracy",
        max_length=LONGEST,
        dtype="fp32",
        about={},
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of one model: `fast` for transformers, `fast-onnx` with its graph."""
    home = tmp_path_factory.mktemp("serving")
    content = shipment(classifier("bert", num_hidden_layers=len(PLAN.slots) - 1, **NAMES))
    for name in ("fast", "fast-onnx"):
        (home / name).mkdir()
    write_onnx(content, export(content.model, PLAN).bound(PLAN), home / "fast-onnx")
    write_pytorch(content, home / "fast")
    return home


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 40 words: the longest are cut."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 41))) for _ in range(count)]


def expected(folders: Path, given: list[str]) -> torch.Tensor:
    """Logits of the shipped PyTorch model, one text at a time."""
    model, tokenizer = searchkit.load(folders / "fast"), AutoTokenizer.from_pretrained(folders / "fast")
    with torch.inference_mode():
        return torch.cat([model(**tokenizer(text, truncation=True, return_tensors="pt")).logits for text in given])


def check(predictions: list[dict[str, Any]], logits: torch.Tensor) -> None:
    scores, best = logits.softmax(1).max(1)
    assert [found["label"] for found in predictions] == [LABELS[number] for number in best]
    np.testing.assert_allclose([found["score"] for found in predictions], scores, atol=1e-4)


@pytest.fixture(scope="module")
def client(folders: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MODEL", str(folders / "fast-onnx"))
        app = example("fastapi_app").create()
    with TestClient(app) as client:
        yield client


class TestFastAPI:
    def test_predictions_are_those_of_the_shipped_model_in_the_order_of_the_texts(
        self, client: TestClient, folders: Path
    ) -> None:
        given = texts(21)
        answer = client.post("/predict", json={"texts": given})
        assert answer.status_code == 200
        check(answer.json()["predictions"], expected(folders, given))
        one = client.post("/predict", json={"texts": given[3]}).json()["predictions"]
        check(one, expected(folders, [given[3]]))

    def test_requests_beside_each_other_get_their_own_predictions(self, client: TestClient, folders: Path) -> None:
        given = texts(24, seed=1)
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda text: client.post("/predict", json={"texts": text}).json(), given)
            check([answer["predictions"][0] for answer in answers], expected(folders, given))

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({}, "texts: Field required"),
            ({"texts": []}, "texts: a text or a list of 1 to 64 is needed, got a list of 0"),
            ({"texts": ["a"] * 65}, "texts: a text or a list of 1 to 64 is needed, got a list of 65"),
            ({"texts": ["a", " "]}, "texts: text 1 is not a text of 1 to 20000 bytes"),
            ({"texts": "a" * 20_001}, "texts: text 0 is not a text of 1 to 20000 bytes"),
            ({"texts": {"a": 1}}, "texts: text 0 is not a text of 1 to 20000 bytes"),
            ({"texts": None}, "texts: text 0 is not a text of 1 to 20000 bytes"),
            ({"texts": "a", "budget": 1}, "budget: Extra inputs are not permitted"),
            ("texts", "body: Input should be a valid dictionary or object to extract fields from"),
        ],
    )
    def test_a_mistake_is_one_line(self, client: TestClient, body: Any, error: str) -> None:
        answer = client.post("/predict", json=body)
        assert (answer.status_code, answer.json()) == (422, {"detail": error})

    @pytest.mark.parametrize(
        ("body", "status", "error"),
        [
            (b'{"texts": ["\\ud800"]}', 422, "texts: 'utf-8' codec can't encode"),
            (b'{"texts": "a"', 422, "body: JSON decode error"),
            (b"\xff", 400, "There was an error parsing the body"),
        ],
    )
    def test_what_is_no_text_at_all_is_a_mistake_too(
        self, client: TestClient, body: bytes, status: int, error: str
    ) -> None:
        answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status
        assert answer.json()["detail"].startswith(error)

    def test_without_a_folder_it_does_not_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MODEL", str(tmp_path))
        with pytest.raises(SystemExit, match="a folder of `searchkit ship --format onnx`"):
            example("fastapi_app").create()


class TestTextEmbeddingsInference:
    """What its router and its ONNX Runtime backend read from a folder, and what they feed to the graph."""

    def test_the_folder_has_what_it_reads(self, folders: Path) -> None:
        folder = folders / "fast-onnx"
        config = json.loads((folder / "config.json").read_text())
        assert config["architectures"] == ["BertForSequenceClassification"]
        assert config["id2label"] == {str(number): label for number, label in enumerate(LABELS)}
        assert config["label2id"] == {label: number for number, label in enumerate(LABELS)}
        for size in ("hidden_size", "num_hidden_layers", "max_position_embeddings", "pad_token_id"):
            assert type(config[size]) is int
        assert json.loads((folder / "sentence_bert_config.json").read_text()) == {"max_seq_length": LONGEST}
        assert json.loads((folder / "tokenizer_config.json").read_text()).get("padding_side", "right") == "right"
        assert not list(folder.glob("*.safetensors"))  # or its other backends would serve the unreduced model

    def test_older_runtimes_can_read_the_graph(self, folders: Path) -> None:
        """It may hold ONNX Runtime 1.20, which reads IR 10 and opset 21."""
        proto = onnx.load(str(folders / "fast-onnx" / GRAPH))
        assert proto.ir_version <= 10
        assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 18)]
        read = {name for node in proto.graph.node for name in node.input}
        assert {item.name for item in proto.graph.initializer} <= read  # it would warn of others

    @pytest.mark.parametrize("batch", [1, 2, 3, 8])
    def test_logits_are_those_of_the_shipped_model(self, folders: Path, batch: int) -> None:
        given = texts(batch, seed=batch)
        tokenizer = Tokenizer.from_file(str(folders / "fast-onnx" / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(LONGEST)
        logits = fed(folders / "fast-onnx", tokenizer.encode_batch(given))
        torch.testing.assert_close(logits, expected(folders, given), atol=1e-4, rtol=1e-4)

    def test_the_first_thing_it_feeds_is_one_token(self, folders: Path) -> None:
        """To find out whether it is healthy; where that fails it does not start."""
        session = onnxruntime.InferenceSession(folders / "fast-onnx" / GRAPH)
        one = {"input_ids": [[0]], "attention_mask": [[1]], "token_type_ids": [[0]]}
        (logits,) = session.run(["logits"], {name: np.array(value, np.int64) for name, value in one.items()})
        assert np.isfinite(logits).all()

    def test_sizes_have_the_names_it_knows_where_the_family_has_others(self, tmp_path: Path) -> None:
        write_onnx(shipment(classifier("distilbert")), onnx.ModelProto(), tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        assert (config["hidden_size"], config["num_hidden_layers"]) == (32, LAYERS)
        assert AutoConfig.from_pretrained(tmp_path).dim == 32

    def test_the_script_wants_a_graph(self, folders: Path) -> None:
        for arguments, code in (([], 1), ([str(folders / "fast")], 2)):
            ran = subprocess.run(["bash", EXAMPLES / "tei.sh", *arguments], capture_output=True, text=True)
            assert ran.returncode == code
            assert "searchkit ship --format onnx" in ran.stderr


def fed(folder: Path, encoded: list[Encoding]) -> torch.Tensor:
    """Logits (B, C) of a batch as the backend makes it: int64, padded on the right with `pad_token_id`, types 0."""
    pad, longest = json.loads((folder / "config.json").read_text())["pad_token_id"], max(len(each) for each in encoded)
    ids = np.full((len(encoded), longest), pad, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, each in enumerate(encoded):
        ids[row, : len(each)], mask[row, : len(each)], types[row, : len(each)] = each.ids, 1, each.type_ids
    session = onnxruntime.InferenceSession(folder / GRAPH)
    (logits,) = session.run(["logits"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": types})
    assert logits.dtype == np.float32
    return torch.from_numpy(logits)


@pytest.fixture(scope="module")
def ray_app(local_ray: None) -> ModuleType:
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray Serve's own, when it is imported
        module = example("ray_app")
    ray.cloudpickle.register_pickle_by_value(module)  # as `serve run` has it, workers would find the file
    return module


@pytest.fixture(scope="module")
def server(folders: Path, ray_app: ModuleType) -> Iterator[str]:
    """Address of the application on a local cluster, listening on this machine alone."""
    from ray import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(ray_app.build({"model": str(folders / "fast")}))
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


class TestRayServe:
    @pytest.mark.parametrize("size", [1, 4, 100])
    def test_groups_are_neighbours_in_length(self, ray_app: ModuleType, size: int) -> None:
        lengths = [7, 3, 9, 3, 1, 8, 2, 5, 4]
        grouped = ray_app.groups(lengths, size)
        rows = [row for group in grouped for row in group]
        assert sorted(rows) == list(range(len(lengths)))
        assert [lengths[row] for row in rows] == sorted(lengths)
        assert {len(group) for group in grouped[:-1]} <= {size}

    def test_texts_of_many_requests_get_their_own_predictions(self, folders: Path, server: str) -> None:
        given = texts(40, seed=2)
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda text: posted(server, {"text": text}), given))
        assert {code for code, _ in answers} == {200}
        check([answer for _, answer in answers], expected(folders, given))

    @pytest.mark.parametrize(
        "body", [{}, [], None, {"text": 3}, {"text": " "}, {"text": "\ud800"}, {"text": "a" * 20_001}]
    )
    def test_a_mistake_is_one_line(self, server: str, body: Any) -> None:
        code, answer = posted(server, body)
        assert code == 422
        assert answer == {"detail": 'a JSON object {"text": "..."} with 1 to 20000 bytes of text is needed'}

    def test_without_a_folder_it_does_not_start(self, ray_app: ModuleType, tmp_path: Path) -> None:
        with pytest.raises(SystemExit, match="a folder of `searchkit ship`"):
            ray_app.build({"model": str(tmp_path)})


def posted(server: str, body: Any) -> tuple[int, Any]:
    """Status and JSON of the answer."""
    try:
        with urllib.request.urlopen(server, json.dumps(body).encode(), timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_the_page_shows_what_stands_in_the_files() -> None:
    shown = re.findall(r'^```python title="(.+?)"\n(.*?)^```', (ROOT / "docs/serving.md").read_text(), re.M | re.S)
    assert [name for name, _ in shown] == ["fastapi_app.py", "ray_app.py"]
    for name, code in shown:
        assert code in (EXAMPLES / name).read_text()
