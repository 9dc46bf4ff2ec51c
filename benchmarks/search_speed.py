"""Benchmark of search speed, against the published way and the best straightforward one.

Needs real data and a real model beside the checkout. The candidates are those of a recorded search, in its order and
generations; every generation is evaluated by each way in turn, in one run, so that all meet the same machine. The two
slow ways take a sample, evenly spaced over the list, since their time per candidate does not depend on the others.

published: LAT's protocol, one candidate at a time, fp32, eager attention, batches of 32 padded to the longest length
allowed. straightforward: one candidate at a time, bf16, examples sorted by length in batches of 4,096 tokens padded to
their own longest, dropped by gathering. shared: generations together, as a search without racing runs them. raced: the
same with racing, against the front of the generations before. Beside these: both fronts on the report split, two Ray
workers of one thread against one process of two, memory, where the time goes, and how it grows.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from benchmarks.family import TASKS, fine_tuned, run_of
from benchmarks.padded import by_length, in_order, padded_search
from benchmarks.result import SHARED, finish
from benchmarks.timed import large_product, seconds, shares
from objectives import macs
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.inline import Inline
from searchkit.evaluate.racing import RaceState, Racing
from searchkit.evaluate.ray import Ray
from searchkit.evaluate.workbench import SupernetWorkbench
from searchkit.front import Front, hypervolume, losses
from searchkit.objective import Objective
from searchkit.records import Ask, Candidate, Estimate, Measured, Trial
from searchkit.reduction.cost import unreduced_macs
from searchkit.runs.benches import evaluator, workbench
from searchkit.runs.opening import opened
from searchkit.runs.phases import trained
from searchkit.runs.search_phase import search
from searchkit.runs.session import Session
from searchkit.search.generational import leading, with_examples
from searchkit.space import Lengths, Space
from searchkit.tasks import TextClassification

GENERATION = 24
PROFILED = 200  # examples; every operation is a record in memory
WORKED = 10  # generations that workers and one process evaluate in turns
DOCUMENTS = {"sst2_sentences": None, "imdb": 1000}  # that candidates are timed on; None: the whole search split
EVALUATIONS = {"sst2_sentences": 1820, "imdb": 48}  # 1,820 is what the published search evaluates
SAMPLED = {  # candidates that each slow way evaluates
    "sst2_sentences": {"published": 40, "straightforward": 160},
    "imdb": {"published": 1, "straightforward": 8},
}
PEAK = Objective("peak", "GiB", "lower", lambda _: Estimate(_gib(), None, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where benchmarks.family left its supernets; default: a new folder")
    parser.add_argument("--tasks", nargs="+", choices=DOCUMENTS, default=list(DOCUMENTS))
    parser.add_argument("--evaluations", type=int, help="default: 1,820 as published, 48 of imdb")
    parser.add_argument("--cache-mib", type=int, default=4096, help="for prefixes; two workers have half each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as new:
        runs = arguments.runs or Path(new)
        figures = {
            task: on_task(task, arguments.evaluations or EVALUATIONS[task], arguments.cache_mib << 20, runs / task)
            for task in arguments.tasks
        }
    finish("search_speed", figures)


def on_task(task: str, evaluations: int, cache: int, runs: Path) -> dict[str, Any]:
    run = recorded(task, evaluations, runs)
    with opened(run):
        trials = sorted(search(run).values(), key=lambda trial: trial.ask.number)
        asks = [trial.ask for trial in trials][:evaluations]
        mean, fronts = timed(run, asks, SAMPLED[task], cache)
        bench = built(run)
        figures: dict[str, Any] = {}

        def report(**more: Any) -> None:
            """Print a result at once, since the next part may take long."""
            figures.update(more)
            print(task, more, flush=True)

        report(
            published_over_ours=round(mean["published"] / mean["raced"], 2),
            straightforward_over_ours_without_racing=round(mean["straightforward"] / mean["shared"], 2),
            straightforward_over_ours=round(mean["straightforward"] / mean["raced"], 2),
            evaluations=len(asks),
            cache_gib=cache / 2**30,
            seconds_per_candidate={name: round(value, 4) for name, value in mean.items()},
            gflops=throughput(bench, asks, mean),
        )
        report(hypervolume_ratio=round(hypervolume_ratio(run, fronts), 4))
        report(**workers(run, asks[: WORKED * GENERATION], cache // 2))
        report(where_the_time_goes=stages(bench, [ask.candidate for ask in asks[-GENERATION:]]))
        if task == "sst2_sentences":
            report(growth=growth(bench))
        return figures


def recorded(task: str, evaluations: int, runs: Path) -> Session:
    """The search whose candidates are timed: LengthDrop's lengths, no racing."""
    settings = {"data": SHARED / "data" / task, "front_latency": False, **TASKS[task]}
    settings["evaluations"] = evaluations
    start = fine_tuned(settings, runs)
    with opened(start):
        settings |= {"model": trained(start).folder, "finetune_epochs": 0, "recipe": "length_drop", "space": "lengths"}
    known = run_of({**settings, "input": False}, runs)
    study = replace(known.study, name="search-speed", racing=None)  # beside benchmarks.family, with its supernets
    return Session(replace(known.loaded, study=study), known.conditions, known.progress)


def workbench_of(run: Session, **changes: Any) -> SupernetWorkbench:
    """Workbench with the documents that are timed, which may be more than the search uses."""
    bench, task = workbench(run, "search"), run.study.task
    assert isinstance(bench, SupernetWorkbench)
    assert isinstance(task, TextClassification)
    documents = DOCUMENTS[Path(task.data).name]
    if documents is not None:
        larger = replace(task, limit={"search": documents})
        tokenizer = AutoTokenizer.from_pretrained(run.supernet.folder, trust_remote_code=False)
        bench = replace(bench, data=task.encode(larger.tables(run.study.seed)["search"], tokenizer))
    return replace(bench, **changes)


def built(run: Session, **changes: Any) -> SupernetBench:
    return workbench_of(run, **changes).build()


def timed(
    run: Session, asks: Sequence[Ask], sampled: dict[str, int], cache: int
) -> tuple[dict[str, float], dict[str, list[Trial]]]:
    """Mean seconds per candidate, by way; and the trials of our two ways."""
    bench, exact, racing = built(run), built(run, dtype="fp32"), Racing()
    objectives = run.study.objectives
    workbench = workbench_of(run, cache_bytes=cache)
    slow: dict[str, Callable[[Candidate], Any]] = {
        "published": lambda one: padded_search(exact, one, in_order(exact), bench.padded_to),
        "straightforward": lambda one: padded_search(bench, one, by_length(bench), None),
    }
    ours = {
        "shared": Searched(Inline(workbench, objectives), None),
        "raced": Searched(
            Inline(replace(workbench, shards=racing.shards), objectives), RaceState.of(racing, objectives)
        ),
    }
    chosen = {name: {round((i + 0.5) * len(asks) / count) for i in range(count)} for name, count in sampled.items()}
    with torch.inference_mode():
        slow["straightforward"](asks[0].candidate)  # compiles what both need
    spent: dict[str, list[float]] = {name: [] for name in (*ours, *slow)}
    for start in range(0, len(asks), GENERATION):
        generation = asks[start : start + GENERATION]
        for name, searched in ours.items():
            each = seconds(lambda: searched.generation(generation)) / len(generation)  # noqa: B023
            spent[name] += [each] * len(generation)
        for name, way in slow.items():
            picked = [one for number, one in enumerate(generation, start) if number in chosen[name]]
            spent[name] += [seconds(lambda: way(one.candidate)) for one in picked]  # noqa: B023
        latest = {name: round(times[-1], 4) for name, times in spent.items() if times}
        print(start + len(generation), latest, flush=True)
    mean = {name: float(np.mean(spent[name])) for name in ours}
    costs = np.array([cost_of(bench, ask.candidate) for ask in asks])
    for (
        name,
        numbers,
    ) in chosen.items():  # seconds per MAC vary with the machine's mood only: their median times all MACs
        mean[name] = float(np.median(spent[name] / costs[sorted(numbers)]) * costs.mean())
    return mean, {name: list(searched.done.values()) for name, searched in ours.items()}


def cost_of(bench: SupernetBench, candidate: Candidate) -> float:
    """MACs of unreduced; lengths alone have them before any pass."""
    static = bench.subject(candidate).static
    assert static is not None
    return float(macs.measure(static).value)


class Searched:
    """The evaluations of a search, generation by generation, with the race that it would hold."""

    def __init__(self, evaluator: Inline, race: RaceState | None) -> None:
        self.evaluator, self.race = evaluator, race
        self.done: dict[str, Trial] = {}
        self._leaders: list[str] = []

    def generation(self, asks: Sequence[Ask]) -> None:
        if self.race is not None:
            leaders = [self.done[key] for key in self._leaders]
            self.done |= with_examples(self.race, leaders, self.evaluator)
            self.race = self.race.against([self.done[key] for key in self._leaders if self.done[key].examples])
        for trial in self.evaluator.run(asks, self.race):
            self.done[trial.key] = trial
        if self.race is not None:
            keys = dict.fromkeys([*self._leaders, *(ask.key for ask in asks)])
            self._leaders, beaten = leading(self.race, [self.done[key] for key in keys])
            self.done |= beaten


def hypervolume_ratio(run: Session, fronts: dict[str, list[Trial]]) -> float:
    """Raced over not raced: the volume that the members of either front dominate on the report split."""
    objectives = run.study.objectives
    members = {name: [trial.ask for trial in Front.of(trials, objectives)] for name, trials in fronts.items()}
    with evaluator(run, "report", objectives, GENERATION) as evaluation:
        every = list({ask.key: ask for asks in members.values() for ask in asks}.values())
        report = {trial.key: trial.outcome for trial in evaluation.run(every)}
    volumes = {}
    for name, asks in members.items():
        outcomes = [report[ask.key] for ask in asks]
        points = losses([one.estimates for one in outcomes if isinstance(one, Measured)], objectives)
        volumes[name] = hypervolume(points, (-0.5, 1.0))  # the accuracy of a coin, and the unreduced cost
    return volumes["raced"] / volumes["shared"]


def workers(run: Session, asks: Sequence[Ask], cache: int) -> dict[str, float]:
    """Two Ray workers of one thread against one process of two threads: the same generations in turns, once all have
    started and have measured the unreduced model."""
    workbench, objectives = workbench_of(run, cache_bytes=cache), run.study.objectives
    threads = torch.get_num_threads()
    single = replace(workbench, threads=1, device="cpu")
    alone = together = 0.0
    with Inline(workbench, objectives) as inline, Ray(single, (*objectives, PEAK), workers=2) as ray:
        warm = [Ask(len(asks) + number, Candidate.of(baseline="unreduced")) for number in range(2)]
        for evaluator in (inline, ray):
            list(evaluator.run(warm))
        for start in range(0, len(asks), GENERATION):
            generation = asks[start : start + GENERATION]
            alone += seconds(lambda: list(inline.run(generation)))  # noqa: B023
            together += seconds(lambda: list(ray.run(generation)))  # noqa: B023
        (last,) = ray.run([Ask(len(asks) + len(warm), asks[0].candidate)])
    torch.set_num_threads(threads)
    assert isinstance(last.outcome, Measured)
    return {
        "two_workers_over_inline": round(alone / together, 3),
        "worker_peak_gib": round(last.outcome.estimates["peak"].value, 2),
        "inline_peak_gib": round(_gib(), 2),
    }


def _gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def throughput(bench: SupernetBench, asks: Sequence[Ask], mean: dict[str, float]) -> dict[str, float]:
    """GFLOP/s of what candidates ask for (not of what is computed), and of a large matrix product in the same dtype."""
    whole = float(unreduced_macs(torch.as_tensor(bench.data.lengths), bench.model.shape).sum())
    costs = [cost_of(bench, ask.candidate) for ask in asks]
    needed = 2 * whole * float(np.mean(costs)) / 1e9
    large = large_product(next(bench.model.parameters()).dtype)
    rates = {name: round(needed / spent, 1) for name, spent in mean.items()}
    return {**rates, "large_product": round(large, 1)}


def stages(bench: SupernetBench, candidates: Sequence[Candidate]) -> dict[str, float]:
    """Shares of the time of one generation, by kind of operation."""
    part = replace(bench, data=bench.data.take(np.arange(min(len(bench.data), PROFILED))), cache_bytes=0)
    part.prepare(candidates)
    return shares(lambda: part.prepare(candidates))


def growth(bench: SupernetBench) -> dict[str, dict[str, float]]:
    """Seconds to evaluate random candidates together, as one thing grows and the others stay."""

    def took(candidates: int = 24, examples: float = 1.0, layers: int = 6, levels: int = 16) -> float:
        rows = np.arange(0, len(bench.data), max(1, round(1 / examples)))
        runner = replace(bench.runner, model=_of_layers(bench, layers))
        part = replace(bench, runner=runner, data=bench.data.take(rows), cache_bytes=0)
        space = Space(Lengths(levels=levels)).bound(layers)
        genomes = space.sample(candidates, np.random.default_rng(0))
        return round(seconds(lambda: part.prepare([space.decode(genome) for genome in genomes])), 2)

    took()
    return {
        "candidates": {str(count): took(candidates=count) for count in (6, 12, 24, 48)},
        "examples": {str(share): took(examples=share) for share in (0.25, 0.5, 1.0)},
        "layers": {str(count): took(layers=count) for count in (2, 4, 6)},
        "levels": {str(count): took(levels=count) for count in (4, 16, 64)},
    }


def _of_layers(bench: SupernetBench, layers: int) -> Any:
    """The model with its first layers alone."""
    if layers == bench.model.shape.layers:
        return bench.model
    import copy

    model = copy.copy(bench.model)
    model.view = replace(bench.model.view, blocks=bench.model.view.blocks[:layers])
    model.shape = replace(bench.model.shape, layers=layers)
    return model


if __name__ == "__main__":
    main()
