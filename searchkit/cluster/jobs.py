"""Submitted job: its state, the reason why it waits, its log, and its end."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from searchkit.cluster.server import ANSWER_S, server
from searchkit.cluster.submission import Submitted
from searchkit.errors import QUOTED, one_line

log = logging.getLogger(__name__)

OVER: Final = {"SUCCEEDED": 0, "STOPPED": 130, "FAILED": 1}  # state -> exit code, where the job gave none
STOP_S: Final = 120  # until a job that is stopped is killed; it writes what it has first
PENDING_S: Final = 5.0  # usual time of a job's start; after it the reason for waiting is shown
SILENT_S: Final = 5.0  # between looks at the state of a job whose log says nothing more


@dataclass(frozen=True)
class State:
    """State of a job: PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED.

    message: why, where the job's log does not say it; code: its exit code, None until it is over
    """

    name: str
    message: str
    code: int | None


def state(submitted: Submitted) -> State:
    """State of the job now; while it is PENDING, with the reason."""
    with server(submitted.address) as client:
        job_state = _state(client, submitted)
        return replace(job_state, message=waits_for(client, submitted)) if job_state.name == "PENDING" else job_state


def last_lines(submitted: Submitted, count: int) -> list[str]:
    """Last lines of the job's log."""
    with server(submitted.address) as client:
        lines: list[str] = client.get_job_logs(submitted.job).splitlines()
        return lines[-count:]


def stop(submitted: Submitted, folder: Path) -> State:
    """Stop the job and wait until it is over; a job that is over already stays as it is.

    Ray cannot reach a job that has not started: that is noted in `folder` and in the run's own, and counts as STOPPED;
    should it start after all, it ends at once.
    """
    with server(submitted.address) as client:
        job_state = _state(client, submitted)
        if job_state.code is None:
            client.stop_job(submitted.job)
        begun = time.monotonic()
        while job_state.code is None:
            if time.monotonic() - begun > (PENDING_S if job_state.name == "PENDING" else STOP_S + ANSWER_S):
                break
            time.sleep(0.2)
            job_state = _state(client, submitted)
        if job_state.name != "PENDING":
            return job_state
        noted = replace(submitted, stopped=datetime.now(UTC).isoformat(timespec="seconds"))
        for run_folder in {folder, submitted.folder or folder}:
            noted.write(run_folder)
        reason = waits_for(client, submitted)
        return replace(_state(client, noted), message=f"before it started: {reason}")


def waits_for(client: Any, submitted: Submitted) -> str:
    """Reason why a job has not started: resources requested and available, or the error of the nodes' workers."""
    from ray.util.state import list_actors, list_nodes
    from ray.util.state.exception import RayStateApiException

    try:
        with warnings.catch_warnings(action="ignore"):  # warning that there may be more results than requested
            nodes = list_nodes(submitted.address, [("state", "=", "ALIVE")], detail=True, timeout=int(ANSWER_S))
            name = f"_ray_internal_job_actor_{submitted.job}"
            actors = list_actors(submitted.address, [("name", "=", name)], detail=True, timeout=int(ANSWER_S))
        requested = dict(actors[0].required_resources or {}) if actors else {}
        if requested:
            return lacking(requested, {node.node_ip: dict(node.resources_total) for node in nodes})
        for node in nodes:
            if node.is_head_node and (line := _last_error(client, node.node_id)):
                return f"no process of it starts on {node.node_ip}, whose raylet.err ends with: {line}"
    except (RayStateApiException, RuntimeError, ValueError, OSError) as error:
        log.info("the cluster does not say what %s waits for: %s", submitted.job, one_line(error, QUOTED))
    return one_line(client.get_job_info(submitted.job).message or "", QUOTED)


def lacking(requested: Mapping[str, float], nodes: Mapping[str, Mapping[str, float]]) -> str:
    """Missing resources: the requested amount of each, against what each node has in all."""
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in requested.items())
    has = "; ".join(
        f"{node} has {', '.join(f'{total.get(name, 0):g} {name}' for name in requested)}"
        for node, total in nodes.items()
    )
    fits = any(all(total.get(name, 0) >= amount for name, amount in requested.items()) for total in nodes.values())
    return f"its own process asks for {wanted}, and {'others hold them' if fits else 'no node has so much'} ({has})"


def _last_error(client: Any, node: str) -> str:
    """Last line that the node's raylet and its workers wrote to stderr."""
    query = {"node_id": node, "filename": "raylet.err", "lines": 20}
    answer = client._do_request("GET", "/api/v0/logs/file", params=query, timeout=ANSWER_S)
    lines = answer.text.split() and answer.text.strip().splitlines()
    return one_line(lines[-1], QUOTED) if answer.status_code == 200 and lines else ""


def follow(submitted: Submitted, write: Callable[[str], object]) -> State:
    """Write the job's log as it grows, and return its last state.

    A connection that breaks is made again. One that stays open when the job is over is closed, and the rest is fetched.
    """
    shown = 0

    async def read(client: Any) -> None:
        nonlocal shown
        passed = 0
        async for text in client.tail_job_logs(submitted.job):
            new = text[max(0, shown - passed) :]
            passed += len(text)
            if new:
                write(new)
                shown = passed

    async def tail(client: Any) -> None:
        reading, over = asyncio.create_task(read(client)), False
        while not over and not reading.done():
            over = (await asyncio.to_thread(_state, client, submitted)).code is not None
            await asyncio.wait({reading}, timeout=SILENT_S)
        if reading.done():
            return reading.result()
        reading.cancel()
        await asyncio.wait({reading})
        write(client.get_job_logs(submitted.job)[shown:])

    with server(submitted.address) as client:
        import aiohttp

        _await_start(client, submitted, write)
        if submitted.stopped and (job_state := _state(client, submitted)).code is not None:  # it has no log
            return job_state
        while True:
            try:
                asyncio.run(tail(client))
            except (RuntimeError, OSError, aiohttp.ClientError) as error:
                log.info("the connection to the log broke: %s", one_line(error, QUOTED))
                time.sleep(1)
            if (job_state := _state(client, submitted)).code is not None:
                return job_state
            time.sleep(0.2)  # the log ends a little before the state changes


def _await_start(client: Any, submitted: Submitted, write: Callable[[str], object]) -> None:
    """Write the reason why the job waits, whenever it changes, until it has started."""
    begun, reason = time.monotonic(), ""
    while _state(client, submitted).name == "PENDING":
        if time.monotonic() - begun > PENDING_S and (now := waits_for(client, submitted)) != reason:
            reason = now
            write(f"job {submitted.job} is PENDING: {reason}\n")
        time.sleep(0.5)


def _state(client: Any, submitted: Submitted) -> State:
    info = client.get_job_info(submitted.job)
    name, code = str(info.status.value), info.driver_exit_code
    message = one_line(info.message or "", QUOTED) if name == "FAILED" and code is None else ""
    if name == "PENDING" and submitted.stopped:
        return State("STOPPED", "before it started", OVER["STOPPED"])
    if name in OVER:
        code = code if code in range(1, 256) else OVER[name]
    return State(name, message, code if name in OVER else None)
