"""Workbenches and evaluators of a session: the supernet with one split, in this process or on Ray workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from searchkit._internal.progress import step
from searchkit.evaluate.base import Evaluator
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.evaluate.ray import Ray
from searchkit.objective import Objective
from searchkit.records import Candidate
from searchkit.runs.calibration import calibrated
from searchkit.runs.rivals import rival_parts
from searchkit.runs.runners import runner_of_split
from searchkit.runs.session import Session
from searchkit.training.pretrained import load_tokenizer

if TYPE_CHECKING:
    from searchkit.evaluate.workbench import MakeRunner, SupernetWorkbench

SPLIT_OF: Final = {"published": "search"}  # its baseline is searched on that split, without races and constraints


def workbench(
    session: Session, split: str, candidates: Sequence[Candidate] = (), runner: MakeRunner | None = None
) -> SupernetWorkbench:
    """Workbench of the trained supernet with one split, under the session's conditions: see `SPLIT_OF` for others.

    candidates: those to be measured, of which the rivals are loaded; runner: of another runtime than searchkit's pass
    """
    from searchkit.evaluate.workbench import SupernetWorkbench

    step(f"loading the supernet and encoding the {split} split")
    study, placement, folder = session.study, session.placement, str(session.supernet.folder)
    bench = SupernetWorkbench.of_folder(
        folder,
        study.supernet.recipe,
        study.task.encode(session.tables[SPLIT_OF.get(split, split)], load_tokenizer(folder)),
        padded_to=study.task.max_length,
        device=placement.worker_device,
        dtype=placement.dtype,
        threads=placement.threads,
        cache_bytes=session.conditions.cache_mib << 20,
        shards=study.racing.shards if study.racing and study.race and split == "search" else 1,
        constraints=tuple(study.constraints) if split == "search" else (),
        keeps_outputs=split == "report",
        runner=runner or PlanRunner,
    )
    if split == "search":
        return replace(bench, tables=calibrated(session, bench.build))
    return replace(bench, rivals=rival_parts(session, candidates, bench.config, bench.weights, bench.data))


def evaluator(
    session: Session, split: str, objectives: Sequence[Objective], asks: int, candidates: Sequence[Candidate] = ()
) -> Evaluator:
    """Make the evaluator: inline, or on Ray where workers were requested; never more workers than asks.

    candidates: those to be measured, where some are rivals
    """
    conditions = session.conditions
    built = workbench(session, split, candidates, runner_of_split(session, split))
    if not conditions.workers:
        from searchkit.evaluate.inline import Inline

        return Inline(built, objectives)
    step(f"starting {conditions.workers} workers")
    return Ray(
        built,
        objectives,
        workers=max(1, min(conditions.workers, asks)),
        address=conditions.ray_address,
        resources=session.placement.resources,
        deadline_s=conditions.deadline_s,
    )
