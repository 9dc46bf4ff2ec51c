"""Environment of measurements: common values, fingerprint, and a short form for readers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from searchkit._internal.code import digest
from searchkit._internal.plain_texts import lettered
from searchkit.errors import one_line
from searchkit.records import Scalar, Trial

OF_TEXTS: Final = ", texts of "  # in a unit, before the name of the file that was measured instead of the report split


def common(environments: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """Common values of all trials; `mixed` where a run was continued under other conditions."""
    names = {name: None for environment in environments for name in environment}  # in order
    values = {name: [environment.get(name) for environment in environments] for name in names}
    return {
        name: seen[0] if seen[0] is not None and set(seen) == {seen[0]} else "mixed" for name, seen in values.items()
    }


def fingerprint(setting: Mapping[str, Scalar]) -> str:
    """8 hex digits of what numbers depend on beside the candidate. Times of different fingerprints are not compared."""
    return lettered(former_fingerprint(setting))


def former_fingerprint(setting: Mapping[str, Scalar]) -> str:
    """The fingerprint in records from before it was never digits alone."""
    return digest(dict(setting))[:8]


def fingerprint_of(trial: Trial | None) -> str | None:
    """Fingerprint of the trial's environment; None where that is not known."""
    return fingerprint(trial.environment) if trial and trial.environment else None


def environments(trials: Iterable[Trial]) -> dict[str, Mapping[str, Scalar]]:
    """Environments of the trials by fingerprint, in order of first appearance."""
    distinct = {frozenset(trial.environment.items()): trial.environment for trial in trials if trial.environment}
    return {fingerprint(environment): environment for environment in distinct.values()}


def in_short(environment: Mapping[str, Scalar]) -> str:
    """Short text of the environment: device, threads, number format, another runtime, and its fingerprint."""
    name, device, threads = (environment.get(name) for name in ("device_name", "device", "threads"))
    parts = [
        f"{name} ({device})" if name and device else name or device,
        f"{threads} thread{'' if threads == 1 else 's'}" if threads else None,
        environment.get("dtype"),
        f"ONNX Runtime {environment['onnxruntime']}" if "onnxruntime" in environment else None,
        f"environment {fingerprint(environment)}",
    ]
    return one_line(", ".join(str(part) for part in parts if part), 150)
