"""Benchmark of serving: the member a user would choose, in each runtime, beside the unreduced model there.

Needs real data and a real model beside the checkout, and the extra `onnx`. Per task: a model is trained and searched
(or taken from --runs), and chosen is the front member with the fewest MACs whose accuracy on the search split is within
one point of the unreduced model's there. Nothing is chosen on the report split.

runtimes: "stock" transformers (unreduced alone); "lean", the pass that one example takes; "packed", that of batches;
"onnxruntime" in fp32 and int8. All sides of a batch size and scope take turns in one measurement. scope: "model" has
its inputs ready, "text to label" starts with a string and ends with a label. Batches of 32 are texts as they come,
padded to their longest where the runtime needs that. Each side is timed as in a process that serves nothing else: its
weights lie in the caches (`searchkit.evaluate.timing.steady`).

speedup: over unreduced in the same runtime and precision, with its 95 % interval; speedup_over_stock: over stock
transformers; over_fp32: over unreduced in the same runtime in fp32. macs_speedup: unreduced by reduced MACs of the
timed texts; realised: speedup / macs_speedup. reported: the speed-up that `searchkit measure` gave before, for the
whole front in the lean pass; kept: speedup / reported. accuracy: on the report split, of what this runtime predicts.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer

import searchkit
from benchmarks.family import POINT, TASKS, tell
from benchmarks.result import ROOT, SHARED, finish
from objectives import accuracy
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.passes import Passes
from searchkit.evaluate.timing import Protocol, Timed, in_turns, steady
from searchkit.hf.inputs import Special
from searchkit.records import Measured
from searchkit.reduction.cost import macs, unreduced_macs
from searchkit.reduction.plan import ReductionPlan
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.phases import execute
from searchkit.runs.remeasure import measure
from searchkit.runs.reopen import reopened
from searchkit.runs.study_file import load
from searchkit.ship.onnx_runtime import OnnxModel
from searchkit.ship.runner import OnnxRunner
from searchkit.ship.sessions import Sessions
from searchkit.ship.speed import spread

STUDIES: dict[str, tuple[str, dict[str, Any]]] = {
    "sst2_sentences": ("sst2_lengths.py", {"evaluations": 600}),  # the run that benchmarks.sst2 leaves
    "imdb": (
        "family.py",
        {
            **TASKS["imdb"],
            "train_limit": 1000,
            "passes": 2,
            "recipe": "transkimmer",
            "space": "joint",
            "evaluations": 96,
        },
    ),
}
TIMED = {1: 16, 32: 4}  # batches by batch size
PROTOCOL = Protocol(width=0.02, budget_s=6.0, min_round_interval_s=0.3)
Call = Callable[[], Any]
Key = tuple[str, str, str]  # runtime, precision, plan
STOCK: Key = ("stock", "fp32", "unreduced")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="keep runs here, and go on with what is there; default: a new folder")
    parser.add_argument("--tasks", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--batches", nargs="+", type=int, choices=TIMED, default=list(TIMED))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as new:
        runs = arguments.runs or Path(new)
        rows, chosen = list[dict[str, Any]](), dict[str, Any]()
        for task in arguments.tasks:
            folder = searched(task, runs / task)
            chosen[task] = chosen_of(folder)
            for row in Served.of(folder, chosen[task]["key"], arguments.threads).rows(arguments.batches):
                rows.append({"task": task, **row})
                print(rows[-1], flush=True)
    finish("serving", {"threads": arguments.threads, "chosen": chosen, "rows": rows})


def searched(task: str, runs: Path) -> Path:
    """Folder of the finished run."""
    file, chosen = STUDIES[task]
    settings = {"model": SHARED / "models" / "minilm-l6", "data": SHARED / "data" / task, **chosen}
    loaded = load(ROOT / "studies" / file, {name: str(value) for name, value in settings.items()})
    execute(loaded, Conditions(runs=runs, device="cpu", dtype="fp32"), tell(task))
    return runs / loaded.study.name


@dataclass(frozen=True, eq=False)
class Served:
    """The chosen member of a run, in every runtime.

    model: the shipped one, as transformers loads it; texts: of the report split; reported: the member's speed-up in the
    lean pass, as the run's front was measured
    """

    bench: SupernetBench
    key: str
    plan: ReductionPlan
    tokenizer: Any
    model: Any
    texts: Sequence[str]
    reported: float
    threads: int

    @classmethod
    def of(cls, folder: Path, key: str, threads: int) -> Served:
        member = next(trial for trial in searchkit.open(folder).results.front if trial.key == key)
        shipped = folder / "shipped" / key
        if not shipped.exists():
            print(searchkit.open(folder).ship(shipped, key=key).gained, flush=True)
        session = reopened(Folder(folder), Conditions(runs=folder.parent, device="cpu", dtype="fp32", threads=threads))
        with session.placement.in_force():
            bench = workbench(session, "report").build()
        return cls(
            bench=bench,
            key=key,
            plan=bench.plan(member.ask.candidate),
            tokenizer=AutoTokenizer.from_pretrained(shipped, trust_remote_code=False),
            model=searchkit.load(shipped),
            texts=[str(text) for text in session.tables["report"]["text"]],
            reported=reported(folder, key, threads),
            threads=threads,
        )

    @cached_property
    def plans(self) -> dict[str, ReductionPlan]:
        return {"unreduced": self.bench.runner.unreduced, "chosen": self.plan}

    @cached_property
    def sessions(self) -> dict[str, Sessions]:
        special = Special.of_tokenizer(self.tokenizer, self.bench.model.stock.config)
        return {name: Sessions(self.bench.model, special, self.threads, name == "int8") for name in ("fp32", "int8")}

    @cached_property
    def accuracies(self) -> dict[Key, float]:
        """Accuracy on the report split of what each runtime predicts; the lean pass alone, example by example."""
        print("predicting the report split in every runtime", flush=True)
        runner = self.bench.runner
        benches = {("packed", "fp32"): self.bench}
        for name, sessions in self.sessions.items():
            in_onnx = OnnxRunner(runner.model, runner.recipe, sessions)
            benches["onnxruntime", name] = replace(self.bench, runner=in_onnx)
        found: dict[Key, float] = {}
        for (runtime, precision), bench in benches.items():
            for name, plan in self.plans.items():
                passes = bench.passes([plan])[0]
                subject = bench.unreduced.on(bench.split, passes)
                found[runtime, precision, name] = accuracy.measure(subject).value
        for name in self.plans:
            logits = [self._one(number, name) for number in range(len(self.bench.data))]
            passes = Passes(torch.cat(logits), self.bench.passes([self.plans[name]])[0].trace)
            found["lean", "fp32", name] = accuracy.measure(self.bench.unreduced.on(self.bench.split, passes)).value
        return {**found, STOCK: found["packed", "fp32", "unreduced"]}

    @torch.inference_mode()
    def _one(self, number: int, name: str) -> Tensor:
        logits: Tensor = self.bench.model(self.bench.split.tokens(np.array([number])), self.plans[name]).logits
        return logits

    def rows(self, batches: Sequence[int]) -> Iterator[dict[str, Any]]:
        for batch, scope in itertools.product(batches, ("model", "text to label")):
            yield from self._timed(batch, scope)

    def _timed(self, batch: int, scope: str) -> Iterator[dict[str, Any]]:
        chosen = self._batches(batch)
        prepared = self._sides(batch, scope, chosen)
        keys, calls = list(prepared), list(prepared.values())

        def run(side: int, number: int) -> None:
            with torch.inference_mode():
                calls[side][number]()

        def visit(side: int, number: int) -> float:
            start = time.perf_counter()
            run(side, number)
            return time.perf_counter() - start

        timed = in_turns(steady(visit, run, int), len(keys), len(chosen), PROTOCOL)
        saved = self._macs_speedup(chosen)
        for number, key in enumerate(keys):
            runtime, precision, plan = key
            whole = keys.index((runtime, precision, "unreduced"))
            over = ratio(timed, number, whole)
            row: dict[str, Any] = {
                "batch": batch,
                "scope": scope,
                "runtime": runtime,
                "precision": precision,
                "plan": plan,
                "latency_ms_p50": round(1e3 * timed.quantile(number, 0.5), 2),
                "accuracy": round(self.accuracies[key], 4),
                "speedup_over_stock": ratio(timed, number, keys.index(STOCK))[0],
                "over_fp32": ratio(timed, number, keys.index((runtime, "fp32", "unreduced")))[0],
            }
            if plan == "chosen":
                row |= {"speedup": over[0], "low": over[1], "high": over[2], "macs_speedup": round(saved, 3)}
                row |= {"realised": round(over[0] / saved, 3), **self._kept(key, scope, over[0])}
            yield {**row, "contended": timed.contended}

    def _kept(self, key: Key, scope: str, speedup: float) -> dict[str, float]:
        if key[0] != "lean" or scope != "model":
            return {}
        return {"reported": round(self.reported, 3), "kept": round(speedup / self.reported, 3)}

    def _batches(self, batch: int) -> list[NDArray[np.int64]]:
        """Numbers of the examples of each batch: of single ones spread over the lengths, of others as they come."""
        if batch == 1:
            return [np.array([number]) for number in spread(self.bench.data.lengths, TIMED[1])]
        drawn = np.random.default_rng(0).permutation(len(self.bench.data))
        return list(drawn[: batch * TIMED[batch]].reshape(TIMED[batch], batch))

    def _sides(self, batch: int, scope: str, chosen: Sequence[NDArray[np.int64]]) -> dict[Key, list[Call]]:
        """Calls of every side, one per batch."""
        own = "lean" if batch == 1 else "packed"
        pytorch = {
            STOCK: self.bench.model.stock,
            (own, "fp32", "unreduced"): functools.partial(self.model, plan="unreduced"),
            (own, "fp32", "chosen"): functools.partial(self.model, plan=self.key),
        }
        graphs = {
            ("onnxruntime", precision, name): sessions.of(plan)
            for precision, sessions in self.sessions.items()
            for name, plan in self.plans.items()
        }
        calls: dict[Key, list[Call]] = {}
        if scope == "text to label":
            texts = [[self.texts[row] for row in rows] for rows in chosen]
            for key, model in pytorch.items():
                calls[key] = [functools.partial(self._labels, model, each) for each in texts]
            for key, graph in graphs.items():
                calls[key] = [functools.partial(self._labels_of_graph, graph, each) for each in texts]
            return calls
        tokens = [self.bench.split.tokens(rows) for rows in chosen]
        for key, model in pytorch.items():
            calls[key] = [functools.partial(model, **each.padded(True)) for each in tokens]
        if batch == 1:
            for name, plan in self.plans.items():
                calls["packed", "fp32", name] = [
                    functools.partial(self.bench.model.packed, each, plan) for each in tokens
                ]
        for key, graph in graphs.items():
            calls[key] = [functools.partial(graph.run, graph.inputs_of(each)) for each in tokens]
        return calls

    def _labels(self, model: Any, texts: list[str]) -> list[str]:
        given = self.tokenizer(texts, truncation=True, padding=len(texts) > 1, return_tensors="pt")
        return [self._label(int(number)) for number in model(**given).logits.argmax(-1)]

    def _labels_of_graph(self, graph: OnnxModel, texts: list[str]) -> list[str]:
        given = self.tokenizer(texts, truncation=True, padding=len(texts) > 1, return_tensors="np")
        fed = {name: given[name].astype(np.int64, copy=False) for name in graph.inputs if name in given}
        return [self._label(int(number)) for number in graph.run(fed)[0].argmax(-1)]

    def _label(self, number: int) -> str:
        return str(self.model.config.id2label[number])

    def _macs_speedup(self, chosen: Sequence[NDArray[np.int64]]) -> float:
        """Unreduced by reduced MACs of the timed examples."""
        model, tokens = self.bench.model, self.bench.split.tokens(np.concatenate(chosen))
        with torch.inference_mode():
            reduced = float(macs(model.packed(tokens, self.plan).trace, model.shape).sum())
        return float(unreduced_macs(tokens.layout.lengths, model.shape).sum()) / reduced


def ratio(timed: Timed, side: int, reference: int) -> tuple[float, float, float]:
    """Speed of a side over another's, with its 95 % interval."""
    if side == reference:
        return 1.0, 1.0, 1.0
    (found,) = replace(timed, times=timed.times[:, [reference, side]]).ratios
    return round(1 / found.value, 3), round(1 / found.high, 3), round(1 / found.low, 3)


def chosen_of(folder: Path) -> dict[str, Any]:
    """The cheapest front member within a point of the unreduced model on the search split."""
    results = searchkit.open(folder).results
    measured = {trial.key: trial.outcome.estimates for trial in results.trials if isinstance(trial.outcome, Measured)}
    values = {trial.key: measured[trial.key] for trial in results.front}
    whole = max(measured.values(), key=lambda each: each["macs"].value)["accuracy"].value
    good = {key: each["macs"].value for key, each in values.items() if each["accuracy"].value >= whole - POINT}
    if not good:
        raise SystemExit(f"{folder}: no member of the front is within a point on the search split")
    key = min(good, key=good.__getitem__)
    candidate = next(trial.ask.candidate for trial in results.front if trial.key == key)
    return {
        "key": key,
        "candidate": candidate.to_json(),
        "accuracy_search": round(values[key]["accuracy"].value, 4),
        "unreduced_accuracy_search": round(whole, 4),
        "front": len(values),
    }


def reported(folder: Path, key: str, threads: int) -> float:
    """Speed-up of a member at batch 1 in PyTorch as `searchkit measure` tells it."""
    conditions = Conditions(runs=folder.parent, device="cpu", dtype="fp32", threads=threads)
    measured = measure(Folder(folder), conditions, runtime="pytorch", progress=tell("measure"))
    outcome = next(trial.outcome for trial in measured.trials if trial.key == key)
    assert isinstance(outcome, Measured)
    return float(outcome.estimates["latency"].beside["speedup"])


if __name__ == "__main__":
    main()
