"""Text classifier on Ray Serve: texts that arrive together run in groups of similar length.

pip install searchkit 'ray[serve]'
serve run ray_app:build model=fast              # a folder of `searchkit ship`; on 127.0.0.1:8000
curl 127.0.0.1:8000 --json '{"text": "A fine film."}'
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ray import serve
from ray.serve import Application
from starlette.requests import Request
from starlette.responses import JSONResponse

MOST_BYTES = 20_000  # of a text
WAITING = 32  # texts that are collected before any runs
WAIT_S = 0.005  # how long the first of them waits for others
TOGETHER = 8  # texts in a pass


def groups(lengths: list[int], size: int) -> list[list[int]]:
    """Indices of the texts in groups of neighbours in length, the shortest first."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


@serve.deployment(max_ongoing_requests=4 * WAITING, ray_actor_options={"num_cpus": 1})
class Classifier:
    """Replica with a model of its own, on one core; `num_replicas` makes more of them."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import searchkit.hf  # noqa: F401  # registers the classes of shipped models

        torch.set_num_threads(1)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    async def __call__(self, request: Request) -> JSONResponse:
        try:
            text = (await request.json())["text"]
            fits = len(text.strip()) > 0 and len(text.encode()) <= MOST_BYTES
        except (ValueError, LookupError, TypeError, AttributeError):  # no JSON, no object, no text, half a character
            fits = False
        if not fits:  # one that raised in the model would take the texts beside it along
            error = f'a JSON object {{"text": "..."}} with 1 to {MOST_BYTES} bytes of text is needed'
            return JSONResponse({"detail": error}, status_code=422)
        return JSONResponse(await self.predict(text))

    @serve.batch(max_batch_size=WAITING, batch_wait_timeout_s=WAIT_S)
    async def predict(self, texts: list[str]) -> list[dict[str, str | float]]:
        """Label and score of each text; called with one, run with those of other requests."""
        return await asyncio.to_thread(self._run, texts)  # more may arrive meanwhile

    def _run(self, texts: list[str]) -> list[dict[str, str | float]]:
        import torch

        encoded = self.tokenizer(texts, truncation=True)
        found: list[dict[str, str | float]] = [{}] * len(texts)
        for rows in groups([len(ids) for ids in encoded["input_ids"]], TOGETHER):
            group = {name: [values[row] for row in rows] for name, values in encoded.items()}
            with torch.inference_mode():
                logits = self.model(**self.tokenizer.pad(group, return_tensors="pt")).logits
            for row, shares in zip(rows, logits.softmax(1), strict=True):
                best = int(shares.argmax())
                found[row] = {"label": self.model.config.id2label[best], "score": float(shares[best])}
        return found


def build(arguments: dict[str, str]) -> Application:
    """The application of `serve run ray_app:build model=FOLDER`."""
    folder = Path(arguments.get("model", "")).resolve()
    if not (folder / "model.safetensors").is_file():
        raise SystemExit("model=FOLDER has to be a folder of `searchkit ship`, with a model.safetensors")
    return Classifier.bind(str(folder))
