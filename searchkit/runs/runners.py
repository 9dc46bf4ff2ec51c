"""Runners of a session: the runtime that a split's candidates run in, and the unreduced model's in others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.records import Candidate
from searchkit.runs.runtimes import STOCK, Runtime
from searchkit.runs.session import Session

if TYPE_CHECKING:
    from searchkit.evaluate.workbench import MakeRunner


def runner_of_split(session: Session, split: str) -> MakeRunner:
    """Maker of a split's runner: on the report split every pass is in the session's runtime, in a search timed ones."""
    if split == "report" and session.runtime.is_onnx:
        return _in_onnx(session, session.runtime)
    searched = Runtime.of(session.study.objectives)
    if split == "search" and searched.is_onnx:
        return _in_onnx(session, searched, timed_only=True)
    return PlanRunner


def runner_of_rival(session: Session, candidate: Candidate) -> MakeRunner:
    """Maker of the runner of the unreduced model in the runtime that the candidate names."""
    from searchkit.ship.runner import StockRunner

    if candidate["runtime"] == STOCK:
        return StockRunner
    return _in_onnx(session, replace(session.runtime, int8=candidate["dtype"] == "int8"))


def _in_onnx(session: Session, runtime: Runtime, timed_only: bool = False) -> MakeRunner:
    from searchkit.hf.inputs import Special
    from searchkit.reduction.checkpoint import load_config
    from searchkit.ship.runner import InOnnxRuntime
    from searchkit.training.pretrained import load_tokenizer

    folder = str(session.supernet.folder)
    special = Special.of_tokenizer(load_tokenizer(folder), load_config(folder))
    return InOnnxRuntime(special, runtime.threads or session.placement.threads, runtime.int8, timed_only)
