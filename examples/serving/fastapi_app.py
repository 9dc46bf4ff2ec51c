"""Text classifier over HTTP: FastAPI and ONNX Runtime, on a folder of `searchkit ship --format onnx`.

    pip install fastapi uvicorn onnxruntime tokenizers      # neither torch nor searchkit is needed
    MODEL=fast-onnx uvicorn --factory fastapi_app:create    # on 127.0.0.1:8000; `--workers 4` for more processes
    curl 127.0.0.1:8000/predict --json '{"texts": ["A fine film.", "No."]}'

MODEL is the folder, THREADS those of one pass (1: requests at the same time take a core each).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from onnxruntime import InferenceSession, SessionOptions
from pydantic import BaseModel, ConfigDict, field_validator
from tokenizers import Encoding, Tokenizer

MOST_TEXTS, MOST_BYTES = 64, 20_000  # of a request, and of one text
TOGETHER = 8  # texts in a pass: neighbours in length, since what pads fill is computed
FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class Asked(BaseModel):
    """Body of a request: a text, or a list of them."""

    model_config = ConfigDict(extra="forbid")
    texts: list[str]

    @field_validator("texts", mode="before")
    @classmethod
    def _listed(cls, given: object) -> list[object]:
        texts = given if isinstance(given, list) else [given]
        if not 1 <= len(texts) <= MOST_TEXTS:
            raise ValueError(f"a text or a list of 1 to {MOST_TEXTS} is needed, got a list of {len(texts)}")
        for number, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip() or len(text.encode()) > MOST_BYTES:
                raise ValueError(f"text {number} is not a text of 1 to {MOST_BYTES} bytes")
        return texts


class Prediction(BaseModel):
    """Most likely label of a text, with its probability."""

    label: str
    score: float


class Answered(BaseModel):
    """One prediction for each text, in the order of the texts."""

    predictions: list[Prediction]


class Classifier:
    """Session of a shipped graph, with its tokenizer. Threads may share it."""

    def __init__(self, folder: Path, threads: int) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.labels = [config["id2label"][str(number)] for number in range(len(config["id2label"]))]
        self.pad = config["pad_token_id"] or 0
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"])
        options = SessionOptions()
        options.intra_op_num_threads = threads
        self.session = InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.inputs = [item.name for item in self.session.get_inputs()]

    def __call__(self, texts: list[str]) -> list[Prediction]:
        encoded = self.tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda number: len(encoded[number].ids))
        logits = np.empty((len(texts), len(self.labels)), np.float32)
        for start in range(0, len(order), TOGETHER):
            rows = order[start : start + TOGETHER]
            (logits[rows],) = self.session.run(["logits"], self._padded([encoded[row] for row in rows]))
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        return [Prediction(label=self.labels[row.argmax()], score=row.max()) for row in shares]

    def _padded(self, encoded: list[Encoding]) -> dict[str, np.ndarray]:
        """Inputs (texts, longest) int64 of the graph, padded on the right."""
        longest = max(len(each.ids) for each in encoded)
        for each in encoded:
            each.pad(longest, pad_id=self.pad)
        return {name: np.array([getattr(each, FIELDS[name]) for each in encoded], np.int64) for name in self.inputs}


def create() -> FastAPI:
    """The application, its model loaded."""
    if not (Path(os.environ.get("MODEL", "")) / "model.onnx").is_file():
        raise SystemExit("MODEL has to be a folder of `searchkit ship --format onnx`, with a model.onnx")
    classifier = Classifier(Path(os.environ["MODEL"]), int(os.environ.get("THREADS", "1")))
    app = FastAPI(title="Text classifier")

    @app.exception_handler(RequestValidationError)
    def refuse(_: object, error: RequestValidationError) -> JSONResponse:
        """One line instead of a list of everything that was tried."""
        first = error.errors()[0]
        where = next(part for part in reversed(first["loc"]) if isinstance(part, str))
        return JSONResponse({"detail": f"{where}: {first['msg'].removeprefix('Value error, ')}"}, status_code=422)

    @app.post("/predict")
    def predict(asked: Asked) -> Answered:  # not async: a pass would stop the event loop
        return Answered(predictions=classifier(asked.texts))

    return app
