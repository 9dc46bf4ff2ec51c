"""How fast a search evaluates its candidates, against the published way and the best straightforward one.

Needs real data and a real model beside the checkout. The candidates are those of a recorded search, in its order and
generations; every generation is evaluated by each way in turn, in one run, so that all meet the same machine. The two
slower ways take a sample of each generation, since their time per candidate does not depend on the others.

published: LAT's protocol, one candidate at a time, fp32, eager attention, batches of 32 padded to the longest length
allowed. straightforward: one candidate at a time, bf16, examples sorted by length in batches of 4,096 tokens padded to
their own longest, dropped by gathering. ours: generations together, as the search runs them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.family import SHARED, TASKS, fine_tuned, run_of
from benchmarks.result import finish
from searchkit.evaluate.subject import SupernetBench
from searchkit.records import Candidate
from searchkit.run import Run

SAMPLED = {"published": 1, "straightforward": 4}  # candidates of a generation
GENERATION = 24
BATCH = 32
TOKENS = 4096
SPLITS = {"sst2_sentences": {}, "imdb": {"search_limit": 1000}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where benchmarks.family left its supernets; default: a new folder")
    parser.add_argument("--tasks", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--evaluations", type=int, default=240)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as new:
        runs = arguments.runs or Path(new)
        found = {task: on_task(task, arguments.evaluations, runs / task) for task in arguments.tasks}
    finish("search_speed", {"evaluations": arguments.evaluations, **found})


def on_task(task: str, evaluations: int, runs: Path) -> dict[str, Any]:
    settings = {"data": SHARED / "data" / task, "front_latency": False, **TASKS[task], **SPLITS[task]}
    settings["evaluations"] = evaluations
    start = fine_tuned(settings, runs)
    with start.opened():
        settings |= {"model": start.trained().folder, "finetune_epochs": 0, "recipe": "length_drop", "space": "lengths"}
    known = run_of({**settings, "input": False}, runs)
    study = replace(known.study, name="search-speed")  # beside the runs of benchmarks.family, with their supernets
    run = Run(study, replace(known.loaded, study=study), known.conditions, known.progress)
    with run.opened():
        trials = sorted(run.searched().values(), key=lambda trial: trial.ask.number)
        return timed(run, [trial.ask.candidate for trial in trials])


def timed(run: Run, candidates: Sequence[Candidate]) -> dict[str, Any]:
    bench, exact = run.workbench("search").build(), run.workbench("search").build()
    assert isinstance(bench, SupernetBench)
    assert isinstance(exact, SupernetBench)
    exact.model.float()
    ways: dict[str, Callable[[Candidate], Any]] = {
        "published": lambda one: padded_search(exact, one, list(in_order(exact)), bench.padded_to),
        "straightforward": lambda one: padded_search(bench, one, by_length(bench), None),
    }
    spent: dict[str, list[float]] = {"ours": [], **{name: [] for name in ways}}
    for start in range(0, len(candidates), GENERATION):
        generation = candidates[start : start + GENERATION]
        spent["ours"].append(seconds(lambda: bench.prepare(generation)) / len(generation))  # noqa: B023
        for name, way in ways.items():
            picked = generation[:: max(1, len(generation) // SAMPLED[name])][: SAMPLED[name]]
            spent[name].append(float(np.mean([seconds(lambda: way(one)) for one in picked])))  # noqa: B023
        print({name: round(float(np.mean(times)), 3) for name, times in spent.items()}, flush=True)
    mean = {name: float(np.mean(times)) for name, times in spent.items()}
    return {
        "seconds_per_candidate": {name: round(value, 4) for name, value in mean.items()},
        "published_over_ours_without_racing": round(mean["published"] / mean["ours"], 2),
        "straightforward_over_ours_without_racing": round(mean["straightforward"] / mean["ours"], 2),
    }


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    return time.perf_counter() - start


def in_order(bench: SupernetBench) -> Iterator[np.ndarray[Any, Any]]:
    yield from np.array_split(np.arange(len(bench.data)), -(-len(bench.data) // BATCH))


def by_length(bench: SupernetBench) -> list[np.ndarray[Any, Any]]:
    return list(bench.data.batches(TOKENS))


def padded_search(
    bench: SupernetBench, candidate: Candidate, batches: Sequence[np.ndarray[Any, Any]], padded_to: int | None
) -> Tensor:
    """Logits of one candidate; every example of a batch keeps as many tokens as the ratio of the padded length says."""
    model = bench.model
    shares = [float(share) for share in candidate["lengths"]]  # type: ignore[union-attr, arg-type]
    logits = []
    for rows in batches:
        tokens = bench.tokens(rows)
        layout, longest = tokens.layout, padded_to or tokens.layout.longest
        embedded = layout.pad(model.embed(tokens))
        hidden = torch.nn.functional.pad(embedded, (0, 0, 0, longest - embedded.shape[1]))
        mask = torch.arange(longest) < layout.lengths[:, None]
        for block, share in zip(model.view.blocks, shares, strict=True):
            count, length, width = hidden.shape
            flat = hidden.flatten(0, 1)
            query, key, value = (
                part.reshape(count, length, block.heads, -1).transpose(1, 2)
                for part in block.projected(flat, torch.zeros(len(flat), dtype=torch.long))
            )
            scores = query @ key.transpose(-1, -2) / (width // block.heads) ** 0.5
            shares_of = scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1, dtype=torch.float32)
            context = (shares_of.to(value.dtype) @ value).transpose(1, 2).reshape(count * length, width)
            hidden = block.attended(flat, context).reshape(hidden.shape)
            kept = min(length, int(np.ceil(share * longest - 1e-9)))
            if kept < length:
                received = shares_of.sum((1, 2)).masked_fill(~mask, -1.0)
                received[:, 0] = float("inf")
                chosen = received.topk(kept, dim=1).indices.sort(1).values
                hidden = hidden.gather(1, chosen[..., None].expand(-1, -1, width))
                mask = mask.gather(1, chosen)
            hidden = block.transformed(hidden.flatten(0, 1)).reshape(hidden.shape)
        logits.append(model.view.head(model.view.finish(hidden[:, 0])))
    return torch.cat(logits)


if __name__ == "__main__":
    main()
