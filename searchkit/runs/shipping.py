"""Shipping of a front member: a folder that serves it, tested in a fresh process, with its speed beside unreduced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from searchkit._internal.checks import needs
from searchkit._internal.files import one_line_where_full, replace_whole
from searchkit._internal.progress import Progress, silent
from searchkit.errors import DataError, StudyError, TrialError, unknown
from searchkit.evaluate.passes import Passes
from searchkit.evaluate.predictions import instruction_set
from searchkit.evaluate.resamples import with_resamples
from searchkit.hf.members import UNREDUCED
from searchkit.objective import Objective
from searchkit.records import Candidate
from searchkit.reduction.device import threads_of_torch
from searchkit.runs.benches import workbench
from searchkit.runs.config import Conditions
from searchkit.runs.folder import Folder
from searchkit.runs.pick import member
from searchkit.runs.reopen import check_trained, reopened
from searchkit.runs.session import Session
from searchkit.runs.shipped_front import shipment
from searchkit.runs.stored import stored_results
from searchkit.ship.card import card
from searchkit.ship.check import TOLERANCE, Agreement, agreement, logits_of
from searchkit.ship.folder import CARD, new_folder, write_onnx, write_pytorch, write_record, write_stock
from searchkit.ship.graph import EXTRA, export
from searchkit.ship.onnx_runtime import OnnxModel
from searchkit.ship.quantize import quantized
from searchkit.ship.shipment import FORMATS, Format, Shipment, marks_of
from searchkit.ship.speed import Prepare, Speed, of_graph, of_transformers, spread, timed

if TYPE_CHECKING:
    from searchkit.evaluate.bench import SupernetBench
    from searchkit.reduction.plan import ReductionPlan
    from searchkit.reduction.ragged import Tokens

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
    objective: Objective
    where: Mapping[str, Any]

    @property
    def gained(self) -> str:
        """One sentence on what was gained and lost against the unreduced model in the same runtime."""
        own, whole = (self.quality[self.objective.name][side]["value"] for side in ("member", "unreduced"))
        if not self.speeds:
            return f"the unreduced model: {self.objective.name} {own:.4g}"
        change = f"{100 * (own - whole):+.1f} points" if self.objective.unit == "fraction" else f"{own - whole:+.3g}"
        speed = self.speeds[-1]
        return (
            f"{speed.speedup:.2f} times as fast as unreduced at batch 1 in {self.where['runtime']} "
            f"({speed.low:.2f} to {speed.high:.2f}); {self.objective.name} {own:.4g}, unreduced {whole:.4g} ({change})"
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
    of products in ONNX. Everything runs on the CPU in float32; threads: 0 for those of the study's latency, or torch's
    own choice. StudyError, DataError or StoreError, in one line; then nothing is left in `to`.
    """
    kind = _format(format, int8)
    if kind == "onnx":
        needs("onnx", "onnxscript", "onnxruntime", extra=EXTRA, what="ONNX folders")
    results = stored_results(folder)
    chosen = member(folder, results, key, where, best, confident, measured).key
    conditions = Conditions(runs=folder.path.parent, device="cpu", dtype="fp32", threads=threads)
    session = reopened(folder, conditions, progress)
    check_trained(session)
    with (
        new_folder(Path(to)) as partial,
        session.placement.in_force(),
        one_line_where_full(partial, "make room and ship it again"),
    ):
        progress("ship", 0, STEPS, "loading the model")
        bench = workbench(session, "report").build()
        candidates = {trial.key: trial.ask.candidate for trial in results.members}
        content = shipment(session, results, bench, candidates, chosen)
        order = _Order(session, bench, content, candidates[chosen], results.quality, kind, int8)
        with threads_of_torch(threads or session.runtime.threads):
            return _shipped(order, partial, Path(to))


def _format(name: str, int8: bool) -> Format:
    known = {str(each): each for each in FORMATS}
    if name not in known:
        raise StudyError(f"--format: {unknown('format', name, FORMATS)}")
    if int8 and name != "onnx":
        raise StudyError(f"--int8 is for --format onnx alone, got --format {name}")
    return known[name]


@dataclass(frozen=True, eq=False)
class _Order:
    """What is shipped, and how. candidate: the chosen one, as the bench knows it; objective: of quality."""

    session: Session
    bench: SupernetBench
    shipment: Shipment
    candidate: Candidate
    objective: Objective
    kind: Format
    int8: bool

    def progress(self, done: int, note: str = "") -> None:
        self.session.progress("ship", done, STEPS, note)

    @property
    def plan(self) -> ReductionPlan:
        """Plan that the folder runs."""
        return self.bench.runner.unreduced if self.kind == "stock" else self.shipment.plan


def _shipped(order: _Order, partial: Path, to: Path) -> Shipped:
    """Write, test, time and describe the folder."""
    bench = order.bench
    order.progress(1, "exporting the graph" if order.kind == "onnx" else "writing the folder")
    sides = _written(order, partial)
    (expected,) = bench.passes([order.plan])
    tokens = bench.split.tokens(np.arange(len(bench.data)))
    order.progress(2, "predicting the report split in a fresh process")
    logits = logits_of(partial, tokens)
    agreed = agreement(logits, expected.logits, tokens, bench.model.head.named_outputs)
    _judge(order, agreed, expected)
    order.progress(3, "timing it beside the unreduced model")
    rows = spread(bench.data.lengths)
    inputs = [bench.split.tokens(rows[number : number + 1]) for number in range(len(rows))]
    speeds = tuple(timed(sides, inputs)) if len(sides) > 1 else ()
    order.progress(4, "writing the card")
    quality, where = _quality(order, Passes(logits, expected.trace)), _where(order.kind, inputs)
    text = card(
        order.shipment, order.kind, int8=order.int8, agreement=agreed, speeds=speeds, quality=quality, where=where
    )
    replace_whole(partial / CARD, text.encode())
    if order.kind == "onnx":
        write_record(order.shipment, partial, {"format": order.kind, "int8": order.int8, "setting": where})
    order.progress(STEPS)
    return Shipped(to, order.kind, order.shipment.key, agreed, speeds, quality, order.objective, where)


def _written(order: _Order, folder: Path) -> dict[str, Prepare]:
    """Write the files of the format; the sides that are timed, the unreduced model first."""
    shipment, model, whole = order.shipment, order.bench.model, order.bench.runner.unreduced
    stock = of_transformers(model.stock)
    if order.kind == "stock":
        write_stock(shipment, folder)
        return {"this model": stock}
    if order.kind == "pytorch":
        served = write_pytorch(shipment, folder)
        sides = {"unreduced": of_transformers(served, plan=UNREDUCED), "unreduced, stock class": stock}
        return {**sides, "this model": of_transformers(served, plan=shipment.key)}
    proto = export(model, shipment.plan, marks_of(shipment.plan, shipment.special)).bound(shipment.plan)
    order.progress(1, "exporting the unreduced model, to be timed beside it")
    reference = export(model, whole).bound(whole)
    threads = torch.get_num_threads()
    sides = {"unreduced": of_graph(OnnxModel(reference, threads))}
    if order.int8:
        order.progress(1, "quantising")
        sides |= {"unreduced, int8": of_graph(OnnxModel(quantized(reference), threads))}
        sides |= {"reduced, float32": of_graph(OnnxModel(proto, threads))}
        proto = quantized(proto)
    write_onnx(shipment, proto, folder)
    return {**sides, "this model": of_graph(OnnxModel(proto, threads))}


def _judge(order: _Order, agreed: Agreement, expected: Passes) -> None:
    """Refuse a folder whose predictions are others; those of int8 are, and are named."""
    scale = max(1.0, float(expected.logits.abs().amax()))
    if not order.int8 and agreed.largest > TOLERANCE[order.kind] * scale:
        raise DataError(
            f"the folder predicts otherwise than the model that was measured ({agreed.text}): it is not shipped; "
            "please report this"
        )


def _quality(order: _Order, passes: Passes) -> dict[str, dict[str, Any]]:
    """Figures of the study's objectives on what the folder predicts, beside the unreduced model's."""
    bench, unreduced = order.bench, Candidate.of(baseline="unreduced")
    subject = bench.subject(unreduced if order.kind == "stock" else order.candidate).on(bench.split, passes)
    rows: dict[str, dict[str, Any]] = {}
    for objective in map(with_resamples, order.session.study.objectives):
        if objective.exclusive:
            continue
        try:
            figures = {"member": objective.measure(subject), "unreduced": objective.measure(bench.unreduced)}
        except TrialError as error:
            raise DataError(f"{objective.name} cannot be measured on what the folder predicts: {error}") from error
        rows[objective.name] = {
            side: {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            for side, estimate in figures.items()
        }
    return rows


def _where(kind: Format, inputs: Sequence[Tokens]) -> dict[str, Any]:
    """Setting of the times."""
    runtime = "PyTorch"
    if kind == "onnx":
        import onnxruntime

        runtime = f"ONNX Runtime {onnxruntime.__version__}"
    return {
        "runtime": runtime,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "instruction set": instruction_set(),
        "mean tokens": round(sum(len(batch.ids) for batch in inputs) / len(inputs), 1),
    }
