"""Self-test of a shipped folder: predictions in a fresh process, at batch sizes and lengths of real examples.

Run as `python -m searchkit.ship.check FOLDER INPUTS OUTPUTS`: reads packed examples, writes their logits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from searchkit.errors import DataError
from searchkit.reduction.ragged import Layout, Tokens

BATCHES: Final = (1, 2, 5, 16)  # sizes of batches in turn: graphs are traced with two examples
TOLERANCE: Final = {"pytorch": 1e-4, "onnx": 1e-3, "stock": 1e-3}  # of a logit in float32, for logits around 1
GRAPH: Final = "model.onnx"
SECONDS: Final = 3600


@dataclass(frozen=True)
class Agreement:
    """Predictions of a shipped folder beside those of the model that was measured, on the report split.

    largest: difference of two logits; equal: examples whose logits are the same to the last bit; differing: examples
    whose label is another, with the margin between the two best labels where it was measured; no label is another where
    outputs are no classes
    """

    examples: int
    largest: float
    equal: int
    differing: tuple[tuple[int, float], ...]

    @property
    def text(self) -> str:
        """One line on it."""
        if self.equal == self.examples:
            return f"predictions of all {self.examples} examples are the same to the last bit"
        labels = f"{len(self.differing)} of {self.examples} labels differ" if self.differing else "all labels agree"
        return f"{self.examples} examples: {labels}, logits differ by at most {self.largest:.2g}"


def agreement(logits: Tensor, expected: Tensor, tokens: Tokens, classes: bool) -> Agreement:
    """Compare logits (B, C), or (T, C) of every token."""
    apart = (logits - expected).abs().amax(1)
    if len(apart) != len(tokens.layout.lengths):
        apart = tokens.layout.highest(apart)
    differing: tuple[tuple[int, float], ...] = ()
    if classes:
        others = (logits.argmax(1) != expected.argmax(1)).nonzero().squeeze(1).tolist()
        best = expected.topk(2, dim=1).values
        differing = tuple((number, float(best[number, 0] - best[number, 1])) for number in others)
    return Agreement(len(apart), float(apart.max()), int((apart == 0).sum()), differing)


def logits_of(folder: Path, tokens: Tokens) -> Tensor:
    """Logits of a shipped folder, loaded in a fresh process; DataError with its last line where that fails."""
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory() as place:
        inputs, outputs = Path(place) / "inputs.safetensors", Path(place) / "outputs.safetensors"
        given = {"ids": tokens.ids, "types": tokens.types, "offsets": tokens.layout.offsets}
        save_file({name: tensor.contiguous() for name, tensor in given.items()}, inputs)
        command = [sys.executable, "-m", "searchkit.ship.check", str(folder), str(inputs), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise DataError(f"{folder}: the folder does not load in a fresh process: {last}")
        return load_file(outputs)["logits"]


def predicted(folder: Path, tokens: Tokens) -> Tensor:
    """Logits of every example, in batches of changing sizes, in this process."""
    predict = _of_graph(folder / GRAPH) if (folder / GRAPH).exists() else _of_model(folder)
    with torch.inference_mode():
        return torch.cat([predict(batch).float() for batch in _batches(tokens)])


def _of_graph(file: Path) -> Callable[[Tokens], Tensor]:
    from searchkit.ship.onnx_runtime import OnnxModel

    return OnnxModel(file, torch.get_num_threads()).logits


def _of_model(folder: Path) -> Callable[[Tokens], Tensor]:
    import transformers

    import searchkit.hf  # noqa: F401  # registers the classes

    config = transformers.AutoConfig.from_pretrained(folder)
    (name,) = config.architectures
    reader = name.endswith("QuestionAnswering")
    auto: Any = (
        transformers.AutoModelForQuestionAnswering if reader else transformers.AutoModelForSequenceClassification
    )
    model = auto.from_pretrained(folder, dtype=torch.float32).eval()
    typed = getattr(config, "type_vocab_size", 0) > 1

    def predict(tokens: Tokens) -> Tensor:
        out = model(**tokens.padded(typed))
        return tokens.layout.unpad(torch.stack([out.start_logits, out.end_logits], -1)) if reader else out.logits

    return predict


def _batches(tokens: Tokens) -> Iterator[Tokens]:
    offsets, start, turn = tokens.layout.offsets.tolist(), 0, 0
    while start < len(offsets) - 1:
        stop = min(start + BATCHES[turn % len(BATCHES)], len(offsets) - 1)
        rows = slice(offsets[start], offsets[stop])
        yield Tokens(tokens.ids[rows], tokens.types[rows], Layout.of_lengths(tokens.layout.lengths[start:stop]))
        start, turn = stop, turn + 1


def main() -> None:
    from safetensors.torch import load_file, save_file

    folder, inputs, outputs = map(Path, sys.argv[1:])
    given = load_file(inputs)
    tokens = Tokens(given["ids"], given["types"], Layout.of_lengths(given["offsets"].diff()))
    save_file({"logits": predicted(folder, tokens).contiguous()}, outputs)


if __name__ == "__main__":
    main()
