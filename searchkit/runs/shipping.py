"""Shipping of a front member: a folder that serves it, tested in a fresh process, with its speed beside unreduced."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from searchkit import __version__
from searchkit._internal.checks import needs
from searchkit._internal.files import replace_whole
from searchkit._internal.progress import Progress, silent
from searchkit.errors import DataError, StudyError, TrialError, unknown
from searchkit.evaluate.passes import Passes
from searchkit.evaluate.resamples import with_resamples
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate, Measured, Trial
from searchkit.report.results import Results
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.pick import picked
from searchkit.runs.reopen import reopened
from searchkit.runs.session import Session
from searchkit.runs.stored import stored_results
from searchkit.ship.card import card
from searchkit.ship.check import TOLERANCE, Agreement, agreement, logits_of
from searchkit.ship.folder import CARD, new_folder, write_onnx, write_pytorch, write_record, write_stock
from searchkit.ship.graph import EXTRA, export
from searchkit.ship.onnx_runtime import OnnxModel
from searchkit.ship.quantize import quantized
from searchkit.ship.shipment import FORMATS, Format, Shipment, marks_of
from searchkit.ship.speed import Prepare, Speed, of_graph, of_pytorch, spread, timed
from searchkit.training.cache import RECORD, fingerprint
from searchkit.training.pretrained import load_tokenizer

if TYPE_CHECKING:
    from searchkit.evaluate.bench import SupernetBench
    from searchkit.reduction.ragged import Tokens

log = logging.getLogger(__name__)

STEPS: Final = 5


@dataclass(frozen=True)
class Shipped:
    """Folder that was shipped, with its self-test, its speed beside the unreduced model, and its quality.

    quality: figure -> "member" and "unreduced" -> value, low, high; speeds: the unreduced model first
    """

    folder: Path
    format: Format
    key: str
    agreement: Agreement
    speeds: tuple[Speed, ...]
    quality: Mapping[str, Mapping[str, Any]]
    objective: str
    where: Mapping[str, Any]

    @property
    def gained(self) -> str:
        """One sentence on what was gained and lost against the unreduced model in the same runtime."""
        row = self.quality[self.objective]
        difference = row["member"]["value"] - row["unreduced"]["value"]
        lost = f"{self.objective} {row['member']['value']:.4g}, {row['unreduced']['value']:.4g} unreduced"
        if not self.speeds:
            return f"the unreduced model: {lost}"
        speed = self.speeds[-1]
        return (
            f"{speed.speedup:.2f} times as fast as unreduced at batch 1 in {self.where['runtime']} "
            f"({speed.low:.2f} to {speed.high:.2f}), {self.objective} {difference:+.4f} ({lost})"
        )


def ship(
    folder: Folder,
    to: Path,
    *,
    key: str | None = None,
    where: Sequence[str] = (),
    best: str | None = None,
    confident: bool = False,
    measured: str | None = None,
    format: str = "pytorch",
    int8: bool = False,
    threads: int = 0,
    progress: Progress = silent,
) -> Shipped:
    """Write the chosen member of a finished run to the new folder `to`, test it, and time it beside unreduced.

    key: of a member; without it the choice is that of `pick` by where, best, confident and measured. format: "pytorch"
    (transformers, with the whole front's plans), "onnx" (this member's graph) or "stock" (the unreduced model); int8:
    of products in ONNX. Everything runs on the CPU in float32; threads: 0 for torch's own choice. StudyError, DataError
    or StoreError, in one line; then nothing is left in `to`.
    """
    kind = _format(format, int8)
    if kind == "onnx":
        needs("onnx", "onnxscript", "onnxruntime", extra=EXTRA, what="ONNX folders")
    results = stored_results(folder)
    chosen = _key(results, key) if key else picked(folder, where, best, confident, measured).trial.key
    conditions = Conditions(runs=folder.path.parent, device="cpu", dtype="fp32", threads=threads)
    session = reopened(folder, conditions, progress)
    _check_trained(session)
    with new_folder(Path(to)) as partial, session.placement.in_force():
        progress("ship", 0, STEPS, "loading the model")
        bench = workbench(session, "report").build()
        return _Shipping(session, results, bench, chosen, kind, int8).into(partial, Path(to))


def _format(name: str, int8: bool) -> Format:
    known = {str(each): each for each in FORMATS}
    if name not in known:
        raise StudyError(f"--format: {unknown('format', name, FORMATS)}")
    if int8 and name != "onnx":
        raise StudyError(f"--int8 is for --format onnx alone, got --format {name}")
    return known[name]


def _key(results: Results, key: str) -> str:
    members = [member.key for member in results.front]
    if key not in members:
        raise StudyError(f"--key: {unknown('member of the front', key, members)}")
    return key


def _check_trained(session: Session) -> None:
    name = fingerprint(session.study.supernet, session.study.task, session.study.seed)
    if not any((session.conditions.runs / "supernets").glob(f"{name}*/{RECORD}")):
        raise StudyError(
            f"{session.conditions.runs / 'supernets' / name}: the trained supernet of this run is not there; copy it "
            "back, or train it again with `searchkit train`"
        )


class _Shipping:
    """One shipping: the steps and what they make."""

    def __init__(
        self, session: Session, results: Results, bench: SupernetBench, key: str, kind: Format, int8: bool
    ) -> None:
        self.session, self.results, self.bench, self.kind, self.int8 = session, results, bench, kind, int8
        self.candidates = {trial.key: trial.ask.candidate for trial in results.front}
        self.shipment = self._shipment(key)
        self.unreduced = Candidate.of(baseline="unreduced")

    def into(self, partial: Path, to: Path) -> Shipped:
        """Write, test, time and describe the folder."""
        shipment, progress = self.shipment, self.session.progress
        plan = self.bench.runner.unreduced if self.kind == "stock" else shipment.plan
        progress("ship", 1, STEPS, "writing the folder" if self.kind != "onnx" else "exporting the graph")
        sides = self._written(partial)
        progress("ship", 2, STEPS, "predicting the report split in a fresh process")
        (expected,) = self.bench.passes([plan])
        tokens = self.bench.split.tokens(_all(self.bench))
        logits = logits_of(partial, tokens)
        agreed = agreement(logits, expected.logits, tokens, self.bench.model.head.named_outputs)
        self._judge(agreed, expected)
        progress("ship", 3, STEPS, "timing it beside the unreduced model")
        rows = spread(self.bench.data.lengths)
        inputs = [self.bench.split.tokens(rows[number : number + 1]) for number in range(len(rows))]
        speeds = tuple(timed(sides, inputs)) if len(sides) > 1 else ()
        progress("ship", 4, STEPS, "writing the card")
        quality = self._quality(Passes(logits, expected.trace))
        where = self._where(inputs)
        text = card(shipment, self.kind, int8=self.int8, agreement=agreed, speeds=speeds, quality=quality, where=where)
        replace_whole(partial / CARD, text.encode())
        if self.kind == "onnx":
            write_record(shipment, partial, {"format": self.kind, "int8": self.int8, "setting": where})
        progress("ship", STEPS, STEPS)
        return Shipped(to, self.kind, shipment.key, agreed, speeds, quality, shipment.quality, where)

    def _written(self, folder: Path) -> dict[str, Prepare]:
        """Write the files of the format; the sides that are timed, the unreduced model first."""
        shipment, model, whole = self.shipment, self.bench.model, self.bench.runner.unreduced
        if self.kind == "stock":
            write_stock(shipment, folder)
            return {"unreduced": of_pytorch(model, whole)}
        if self.kind == "pytorch":
            write_pytorch(shipment, folder)
            return {"unreduced": of_pytorch(model, whole), "this model": of_pytorch(model, shipment.plan)}
        proto = export(model, shipment.plan, marks_of(shipment.plan, shipment.special)).bound(shipment.plan)
        self.session.progress("ship", 1, STEPS, "exporting the unreduced model, to be timed beside it")
        reference = export(model, whole).bound(whole)
        threads = torch.get_num_threads()
        sides = {"unreduced": of_graph(OnnxModel(reference, threads))}
        if self.int8:
            self.session.progress("ship", 1, STEPS, "quantising")
            sides |= {"unreduced, int8": of_graph(OnnxModel(quantized(reference), threads))}
            sides |= {"reduced, float32": of_graph(OnnxModel(proto, threads))}
            proto = quantized(proto)
        write_onnx(shipment, proto, folder)
        return {**sides, "this model": of_graph(OnnxModel(proto, threads))}

    def _judge(self, agreed: Agreement, expected: Passes) -> None:
        """Refuse a folder whose predictions are others; those of int8 are, and are told."""
        scale = max(1.0, float(expected.logits.abs().amax()))
        if self.int8 or agreed.largest <= TOLERANCE[self.kind] * scale:
            return
        raise DataError(
            f"the folder predicts otherwise than the model that was measured ({agreed.text}): it is not shipped; "
            "please report this"
        )

    def _quality(self, passes: Passes) -> dict[str, dict[str, Any]]:
        """Figures of quality in this runtime, and the unreduced model's; costs are those of the plan."""
        own = self.bench.subject(self.candidates[self.shipment.key])
        if self.kind == "stock":
            own = self.bench.subject(self.unreduced)
        subject = own.on(self.bench.split, passes)
        rows: dict[str, dict[str, Any]] = {}
        for objective in self.session.study.objectives:
            if objective.exclusive:
                continue
            measured = with_resamples(objective)
            try:
                estimate = measured.measure(subject)
                whole = measured.measure(self.bench.unreduced)
            except TrialError as error:
                raise DataError(f"{objective.name} cannot be measured on what the folder predicts: {error}") from error
            rows[objective.name] = {"member": _figure(estimate), "unreduced": _figure(whole)}
        return rows

    def _where(self, inputs: Sequence[Tokens]) -> dict[str, Any]:
        tokens = sum(len(batch.ids) for batch in inputs) / len(inputs)
        setting: dict[str, Any] = {"runtime": "PyTorch"}
        if self.kind == "onnx":
            import onnxruntime

            setting = {"runtime": f"ONNX Runtime {onnxruntime.__version__}"}
        return {
            **setting,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "isa": torch.backends.cpu.get_cpu_capability(),
            "mean tokens": round(tokens, 1),
        }

    def _shipment(self, key: str) -> Shipment:
        session, bench = self.session, self.bench
        plans = {each: bench.plan(candidate) for each, candidate in self.candidates.items()}
        tokenizer = load_tokenizer(str(session.supernet.folder))
        environment: Mapping[str, Any] = self.results.environment
        study = self.results.study
        about = {
            "study": study["name"],
            "fingerprint": study.get("fingerprint", session.fingerprint),
            "data": session.study.task.describe().get("kind", "the task"),
            "searchkit": __version__,
            "measured with": ", ".join(f"{name} {environment[name]}" for name in ("torch",) if name in environment),
        }
        measured = {trial: _measured(self.results.report.get(trial), self.results) for trial in self.candidates}
        dtype = str(environment.get("dtype", "fp32"))
        quality = self.results.quality.name
        return Shipment(
            bench.model, tokenizer, key, plans, measured, quality, session.study.task.max_length, dtype, about
        )


def _all(bench: SupernetBench) -> Any:
    import numpy as np

    return np.arange(len(bench.data))


def _figure(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _measured(trial: Trial | None, results: Results) -> dict[str, Any]:
    """What the run measured of a member on the report split, in the form of `searchkit.hf.members.Members`."""
    if trial is None or not isinstance(trial.outcome, Measured):
        return {}
    quality, latency, found = dict[str, Any](), list[dict[str, Any]](), dict[str, Any]()
    for objective in results.all_objectives:
        estimate = trial.outcome.estimates.get(objective.name)
        if estimate is None:
            continue
        if objective.name == "macs":
            found["macs"] = estimate.value
        elif objective.name == "latency":
            latency.append(_latency(trial, objective, estimate))
        elif objective.better == "higher":
            error = {} if estimate.standard_error is None else {"standard_error": estimate.standard_error}
            quality[objective.name] = {"value": estimate.value, "goal": "max", **error}
    return {**found, **({"quality": quality} if quality else {}), **({"latency": latency} if latency else {})}


def _latency(trial: Trial, objective: Objective, estimate: Estimate) -> dict[str, Any]:
    environment = trial.environment
    setting = {
        "device": str(environment.get("device", "cpu")).split(":")[0],
        "dtype": {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}.get(
            str(environment.get("dtype")), "float32"
        ),
        "threads": environment.get("threads"),
        "runtime": "pytorch",
        "batch": int(estimate.beside.get("batch_size", 1)),
    }
    return {"setting": setting, "ms": estimate.value, "speedup": estimate.beside.get("speedup")}
