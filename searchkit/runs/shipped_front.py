"""Front of a run as it is shipped: plans, and what was measured of every member."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from searchkit import __version__
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate, Measured, Trial
from searchkit.reduction.device import ONE_TEXT
from searchkit.report.results import Results
from searchkit.runs.session import Session
from searchkit.ship.shipment import Shipment
from searchkit.training.pretrained import load_tokenizer

if TYPE_CHECKING:
    from searchkit.evaluate.bench import SupernetBench

DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as torch calls them


def shipment(
    session: Session, results: Results, bench: SupernetBench, candidates: Mapping[str, Candidate], key: str
) -> Shipment:
    """Content of a folder: the candidates of the front, by key, of which `key` was chosen."""
    environment: Mapping[str, Any] = results.environment
    task = session.study.task
    versions = ", ".join(f"{name} {environment[name]}" for name in ("torch", "transformers") if name in environment)
    return Shipment(
        model=bench.model,
        tokenizer=load_tokenizer(str(session.supernet.folder)),
        key=key,
        plans={each: bench.plan(candidate) for each, candidate in candidates.items()},
        measured={each: measured_of(results.report.get(each), results) for each in candidates},
        quality=results.quality.name,
        max_length=task.max_length,
        dtype=str(environment.get("dtype", "fp32")),
        about={
            "study": results.study["name"],
            "fingerprint": results.study.get("fingerprint", session.fingerprint),
            "data": _data(task.describe()),
            "searchkit": __version__,
            "searched with": versions,
        },
    )


def _data(task: Mapping[str, Any]) -> str:
    """The task's kind, and the data's name on the hub, where it has one; local files have no name that others know."""
    data = task.get("data")
    named = f" of {data['hub']}" if isinstance(data, Mapping) and "hub" in data else ""
    return f"{task.get('kind', 'the task')}{named}"


def measured_of(trial: Trial | None, results: Results) -> dict[str, Any]:
    """What the run measured of a member on the report split, in the form of `searchkit.hf.members.Members`."""
    if trial is None or not isinstance(trial.outcome, Measured):
        return {}
    quality, latency, cost = dict[str, Any](), list[dict[str, Any]](), dict[str, Any]()
    for objective in results.all_objectives:
        estimate = trial.outcome.estimates.get(objective.name)
        if estimate is None:
            continue
        if objective.name == "macs":
            cost["macs"] = estimate.value
        elif objective.name == "latency":
            latency.append(_latency(trial, objective, estimate))
        elif objective.better == "higher":
            error = {} if estimate.standard_error is None else {"standard_error": estimate.standard_error}
            quality[objective.name] = {"value": estimate.value, "goal": "max", **error}
    return {**cost, **({"quality": quality} if quality else {}), **({"latency": latency} if latency else {})}


def _latency(trial: Trial, objective: Objective, estimate: Estimate) -> dict[str, Any]:
    environment, batch = trial.environment, int(estimate.beside.get("batch_size", 1))
    own = environment.get(ONE_TEXT) if batch == 1 else None
    dtype = str(own or environment.get("dtype", "fp32"))
    setting = {
        "device": str(environment.get("device", "cpu")).split(":")[0],
        "dtype": DTYPES.get(dtype, dtype),
        "threads": int(estimate.beside["threads"]) if "threads" in estimate.beside else environment.get("threads"),
        "runtime": environment.get("runtime", "pytorch"),
        "batch": batch,
    }
    return {"setting": setting, "ms": estimate.value, "speedup": estimate.beside.get("speedup")}
