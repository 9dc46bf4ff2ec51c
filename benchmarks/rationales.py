"""Evidence that survives under each recipe at equal cost, on the generated task, whose evidence words are known.

One fine-tuning; every recipe goes on from it. Each is cut to the same MACs, its own scores included, by lengths that
fall by one ratio per layer, which is found by bisection; thresholds play no part, so that scorers are compared and not
the numbers of tokens that they leave. Rows: precision, recall and false-positive rate of the tokens that the last layer
reads, pooled over the report split, and beside them as many tokens of each example by chance, by the attention that
they receive in the last layer of the recipe's unreduced model, and by that model's saliency.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.result import finish
from objectives import accuracy, macs
from searchkit import Budget, Candidate, Lengths, Scratch, Space, Study, Supernet, Surrogate
from searchkit.reduction.cost import macs as counted
from searchkit.reduction.cost import unreduced_macs
from searchkit.report.rationales import FIGURES, MEMBER
from searchkit.runs.config import Conditions
from searchkit.runs.rationales import compared
from searchkit.runs.session import Session
from searchkit.runs.study_file import Loaded
from searchkit.runs.words import Reader
from searchkit.tasks import Generated
from searchkit.training import LTP, AdapLeR, FineTune, LengthDrop, PowerBert, Recipe, Transkimmer
from searchkit.training.packing import as_tokens

LAYERS = 3
LENGTH = (44, 64)  # words of a document
COSTS = (0.35, 0.5, 0.7)  # of the unreduced model's MACs
RATE = 7e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=5_000, help="to train on")
    parser.add_argument("--epochs", type=int, default=2, help="of the fine-tuning")
    parser.add_argument("--report", type=int, default=1000, help="documents that are compared")
    parser.add_argument("--recipes", nargs="+", choices=recipes(), default=list(recipes()))
    arguments = parser.parse_args()
    task = Generated(arguments.documents, search=2, report=arguments.report, length=LENGTH)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        scratch = Scratch(layers=LAYERS, width=128, feed_forward=512, dropout=0.0, positions="sinusoidal")
        start = session(task, scratch, FineTune(epochs=arguments.epochs, learning_rate=RATE), "fine-tune", runs)
        trained = {"FineTune": start}
        for name in arguments.recipes:
            trained[name] = session(task, str(start.supernet.folder), recipes()[name], name, runs)
        rows = [row for name, each in trained.items() for row in of_recipe(each, name)]
        whole = Candidate.of(lengths=(1.0,) * LAYERS)
        unreduced = {name: accuracy_of(Reader(each), whole) for name, each in trained.items()}
    about = {"documents": arguments.documents, "report": arguments.report, "length": LENGTH, "layers": LAYERS}
    finish("rationales", {**about, "unreduced_accuracy": unreduced, "rows": rows})


def recipes() -> dict[str, Recipe]:
    """Recipes that go on from the fine-tuned model, by about as many passes over the documents."""
    return {
        "LengthDrop": LengthDrop(epochs=1, learning_rate=RATE, bound=0.6, sandwich=1, start=None),
        "PowerBert": PowerBert(epochs=2, retrain_epochs=2, learning_rate=RATE, start=None),
        "LTP": LTP(epochs=2, hard_epochs=2, learning_rate=RATE, start=None),
        "AdapLeR": AdapLeR(epochs=2, initial="finetuned", learning_rate=RATE, start=None),
        "Transkimmer": Transkimmer(epochs=4, learning_rate=RATE, start=None, width=32, bias=2.0, measure="macs"),
    }


def session(task: Generated, model: str | Scratch, recipe: Recipe, name: str, runs: Path) -> Session:
    study = Study(
        name=name.lower(),
        task=task,
        supernet=Supernet(model, recipe),
        space=Space(Lengths(levels=16)),
        objectives=[accuracy, macs],
        engine=Surrogate(population=4),
        budget=Budget(evaluations=4),
    )
    return Session(Loaded(study), Conditions(runs=runs, device="cpu"))


def of_recipe(trained: Session, name: str) -> Iterator[dict[str, Any]]:
    """Rows of a trained recipe at every cost."""
    reader = Reader(trained)
    for target in COSTS:
        candidate = at_cost(reader, target)
        right, cost = accuracy_of(reader, candidate), cost_of(reader, candidate)
        evidence, found = compared(reader, reader.report, candidate)
        for each in (each for each in found if each.layer == LAYERS):
            figures = {key: round(each.figures[key][0], 4) for key in FIGURES}
            ends = {f"{key}_interval": [round(end, 4) for end in each.figures[key][1:]] for key in FIGURES}
            about = {"kept": round(each.kept, 4), "evidence": round(evidence, 4)}
            own = {"accuracy": right} if each.by == MEMBER else {}
            yield {"recipe": name, "by": each.by, "cost": round(cost, 4), **figures, **ends, **about, **own}
        print(name, target, candidate.to_json(), right, flush=True)


def at_cost(reader: Reader, target: float) -> Candidate:
    """Lengths that fall by one ratio, at these MACs."""
    low, high = 0.05, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if cost_of(reader, falling(middle)) > target else (middle, high)
    return falling(low)


def falling(ratio: float) -> Candidate:
    return Candidate.of(lengths=tuple(ratio**layer for layer in range(1, LAYERS + 1)))


def cost_of(reader: Reader, candidate: Candidate) -> float:
    """MACs of a candidate over those of the unreduced model, on the report split."""
    data, model = reader.encoded(reader.report), reader.model
    tokens = as_tokens(data)
    trace = model.static_trace(tokens.layout, reader.plan(candidate, data))
    assert trace is not None
    return float(counted(trace, model.shape).sum() / unreduced_macs(tokens.layout.lengths, model.shape).sum())


def accuracy_of(reader: Reader, candidate: Candidate) -> float:
    data, model = reader.encoded(reader.report), reader.model
    plan, right = reader.plan(candidate, data), 0
    for rows in data.batches(4096):
        batch = data.take(rows)
        with torch.inference_mode():
            classes = model.packed(as_tokens(batch), plan).logits.argmax(1).numpy()
        right += int(np.equal(classes, batch.labels).sum())
    return round(right / len(data), 4)


if __name__ == "__main__":
    main()
