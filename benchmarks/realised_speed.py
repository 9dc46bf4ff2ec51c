"""Benchmark of realised speed: the measured speed-up over the MACs ratio.

Needs a real model beside the checkout, and SST-2 for the mix of lengths. Every pass of a plan is timed next to passes
of the unreduced model, in turns. The unreduced side is the faster of two: ours in the same runtime, and the stock
transformers model with its fused attention on a padded batch of the same token ids. Fixed lengths use random token ids:
with lengths alone the content of a text decides nothing about time.

runtimes: "packed" for every batch; "lean", the pass that one example takes on a CPU, for batches of one; "onnxruntime",
the exported graph on a CPU in float32. threads: one for single texts, and as many as torch takes for every batch.

plans: constant ratio (each layer keeps 0.9 or 0.8 of what it is given), "half" (the first layer whole, then 0.6 and
fewer), and what benchmarks.family found for LengthDrop's lengths, where its results are there.
realised = measured speed-up / MACs ratio; 1 would be perfect.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.realised import Pass, compared
from benchmarks.result import SHARED, finish
from searchkit.hf.inputs import Special
from searchkit.reduction import lean
from searchkit.reduction.device import device_of, dtype_of
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.ragged import Tokens
from searchkit.ship.sessions import Sessions
from searchkit.tasks import TextClassification

LENGTHS = (24, 64, 128, 384)
BATCHES = (1, 8, 32)
RUNTIMES = ("packed", "lean", "onnxruntime")
HALF = (1.0, 0.6, 0.4, 0.3, 0.2, 0.2)
VOCABULARY = range(2000, 20_000)  # whole words of BERT's vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="the lean pass takes fp32 alone")
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--batches", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--threads", type=int, nargs="*", default=(1, 0), help="0: as many as torch takes")
    parser.add_argument("--runtimes", nargs="*", choices=RUNTIMES, default=RUNTIMES)
    arguments = parser.parse_args()
    device = device_of(arguments.device)
    dtype = dtype_of(arguments.dtype, device)
    models = [load_model(str(SHARED / "models" / "minilm-l6"), labels=2) for _ in range(2)]
    ours, stock = models[0].to(device, dtype).frozen(), models[1].to(device, dtype).eval().stock
    rows, all_threads, in_onnx = [], torch.get_num_threads(), InOnnx(models[1])
    for threads in dict.fromkeys(count or all_threads for count in arguments.threads):
        torch.set_num_threads(threads)
        for kind, batch in itertools.product((*arguments.lengths, "mix"), arguments.batches):
            if batch > 1 and threads < all_threads:
                continue  # few threads are for single texts
            inputs = [drawn(kind, batch, seed).to(device) for seed in range(4)]
            for (name, lengths), runtime in itertools.product(plans(ours.shape.layers).items(), arguments.runtimes):
                if runtime == "lean" and (batch > 1 or device.type != "cpu" or dtype not in lean.DTYPES):
                    continue
                if runtime == "onnxruntime" and (device.type != "cpu" or dtype != torch.float32):
                    continue
                passes: dict[str, Pass] = {"packed": ours.packed, "lean": ours, "onnxruntime": in_onnx}
                row = compared(
                    ours, stock, inputs, ReductionPlan.of_lengths(lengths), arguments.rounds, passes[runtime]
                )
                key = {"length": kind, "batch": batch, "plan": name, "runtime": runtime, "threads": threads}
                rows.append({**key, **row})
                print(rows[-1], flush=True)
    finish("realised_speed", {"rows": rows})


def plans(layers: int) -> dict[str, tuple[float, ...]]:
    """Plans by name; searched ones from the table that benchmarks.family leaves."""
    lengths = {f"constant ratio {kept}": tuple(kept**layer for layer in range(1, layers + 1)) for kept in (0.9, 0.8)}
    if layers == len(HALF):
        lengths["half"] = HALF
    table = Path(__file__).parent / "results" / "family.json"
    for row in json.loads(table.read_text())["figures"]["rows"] if table.exists() else ():
        if (row["recipe"], row["space"]) == ("length_drop", "lengths") and row.get("candidate"):
            lengths[f"searched on {row['task']}"] = tuple(row["candidate"]["lengths"])
    return lengths


def drawn(kind: int | str, batch: int, seed: int) -> Tokens:
    """A batch of one length, or of neighbours in the sorted lengths of SST-2's sentences."""
    rng = np.random.default_rng(seed)
    lengths = [int(kind)] * batch if kind != "mix" else _mixed(batch, seed)
    return Tokens.of_examples([[101, *rng.choice(VOCABULARY, length - 2).tolist(), 102] for length in lengths])


def _mixed(batch: int, seed: int) -> list[int]:
    from transformers import AutoTokenizer

    task = TextClassification(str(SHARED / "data" / "sst2_sentences"), text="text", max_length=128)
    tokenizer = AutoTokenizer.from_pretrained(SHARED / "models" / "minilm-l6", trust_remote_code=False)
    lengths = np.sort(task.encode(task.tables(0).search, tokenizer).lengths)
    start = int((seed + 0.5) / 4 * (len(lengths) - batch))
    return [int(length) for length in lengths[start : start + batch]]


class InOnnx:
    """Passes of a model in ONNX Runtime, for each number of threads; inputs are made before."""

    def __init__(self, model: AdaptiveModel) -> None:
        self._model = model
        self._sessions: dict[int, Sessions] = {}
        self._fed: dict[Tokens, dict[str, Any]] = {}

    def __call__(self, tokens: Tokens, plan: ReductionPlan) -> Any:
        threads = torch.get_num_threads()
        if threads not in self._sessions:
            self._sessions[threads] = Sessions(self._model, Special.of_config(self._model.stock.config), threads)
        session = self._sessions[threads].of(plan)
        if tokens not in self._fed:
            self._fed[tokens] = session.inputs_of(tokens)
        return session.run(self._fed[tokens])


if __name__ == "__main__":
    main()
