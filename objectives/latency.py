"""Wall-clock time of a forward pass on real examples, on the device where the model runs.

Batches are drawn from the real length distribution, or made of real tokens at one stated length. Candidates and the
unreduced model, in the fastest form that searchkit has of it, take turns in random order (`evaluate.timing`): what is
known best is the ratio to it. The value is that ratio times the milliseconds of the unreduced model, which are measured
once per process, so that candidates that were timed at different moments compare by their ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from objectives.batches import check_batches, real_batches, seconds
from objectives.latency_model import modelled
from searchkit._internal.checks import check, check_count
from searchkit.errors import StudyError, unknown
from searchkit.evaluate.energy import Meter, meter
from searchkit.evaluate.timing import Protocol, Timed, in_turns, steady
from searchkit.objective import Objective, Subject, Timing
from searchkit.records import Estimate
from searchkit.reduction.device import threads_of_torch

LAP_S: Final = 0.5  # in which all sides take their turns on one batch: a moment, in which a machine stays as it is
WARM_UP: Final = 1  # rounds before passes are timed to see how many candidates fit into that
MOST_THREADS: Final = 1024
RUNTIMES: Final = ("pytorch", "onnxruntime")
TOGETHER: Final = 6  # candidates in ONNX Runtime that take turns: each may need a session, with a copy of the weights,
ROOM: Final = 1 << 31  # or more, if so many bytes hold their copies


def latency(
    batch_size: int = 1,
    *,
    length: int | None = None,
    batches: int = 10,
    rounds: int = 8,
    width: float = 0.02,
    budget_s: float = 1.5,
    min_round_interval_s: float = 1.0,
    during_search: Literal["measured", "modelled"] = "measured",
    runtime: Literal["pytorch", "onnxruntime"] = "pytorch",
    int8: bool = False,
    threads: int = 0,
) -> Objective:
    """Milliseconds per batch of `batch_size` examples, averaged over `batches` batches of real examples.

    length: every example has so many tokens, cut or joined from real ones; None leaves the examples as they are.
    rounds: every batch is timed at least so often under every plan; more rounds follow until the interval of each ratio
    to the unreduced model is narrower than +- `width`, or `budget_s` seconds per plan are spent. min_round_interval_s:
    seconds from round to round, at least, since a shared machine favours one plan for seconds at a time. during_search:
    "modelled" looks costs up in a table that is measured on the device before the search (`objectives.latency_model`),
    and measures the final front alone. runtime: "onnxruntime" times the exported graph on the CPU, in float32 or, with
    int8, with quantised products, and the report's quality is then that of the graphs; needs `searchkit[onnx]`.
    threads: of the CPU while passes are timed, as one process that serves has them; 0 for those of the run.

    >>> latency(batch_size=32, length=128).unit
    'ms at batch 32 of 128 tokens'
    >>> latency(runtime="onnxruntime", int8=True).unit
    'ms at batch 1 in ONNX Runtime, int8'
    >>> latency(threads=1).unit
    'ms at batch 1 on 1 thread'
    """
    check_batches("latency", batch_size, length, batches)
    check_count("latency: rounds", rounds, least=3)
    check_count("latency: threads", threads, MOST_THREADS, least=0)
    protocol = Protocol(width, budget_s, min_round_interval_s, fewest=rounds, most=max(200, rounds))
    inputs: dict[str, Any] = {"batch_size": batch_size, "length": length, "batches": batches, "threads": threads}
    together = partial(_latencies if runtime == "pytorch" else _in_groups, protocol=protocol, **inputs)
    tokens = "" if length is None else f" of {length} tokens"
    unit = f"ms at batch {batch_size}{tokens}{_in_words(runtime, int8)}{_on(threads)}"
    rules: dict[str, Any] = {"rounds": rounds, "width": width, "budget_s": budget_s}
    with_batch = partial(latency, min_round_interval_s=min_round_interval_s, **rules, **inputs)
    timing = Timing(
        together=together,
        at_once=partial(_at_once, **inputs),
        with_batch=with_batch,
        runtime=runtime,
        int8=int8,
        threads=threads,
        budget_s=budget_s,
    )
    measured = Objective("latency", unit, "lower", partial(_alone, together), timing=timing)
    if during_search == "measured":
        return measured
    if during_search != "modelled":
        raise StudyError(unknown("during_search", during_search, ("measured", "modelled")))
    if length is not None:
        raise StudyError("latency: what is modelled is the time of the examples as they are; leave length out")
    return modelled(measured, batch_size, batches, threads)


def _on(threads: int) -> str:
    """Threads as part of a unit; nothing for those of the run."""
    return "" if not threads else f" on {threads} thread{'' if threads == 1 else 's'}"


def _in_words(runtime: str, int8: bool) -> str:
    """Runtime as part of a unit; nothing for searchkit's own pass."""
    if runtime not in RUNTIMES:
        raise StudyError(f"latency: {unknown('runtime', runtime, RUNTIMES)}")
    check("latency: int8", "bool", int8)
    if int8 and runtime == "pytorch":
        raise StudyError("latency: int8 is for runtime='onnxruntime' alone")
    return "" if runtime == "pytorch" else f" in ONNX Runtime{', int8' if int8 else ''}"


def _alone(together: partial[list[Estimate]], subject: Subject) -> Estimate:
    (estimate,) = together([subject])
    return estimate


def _at_once(subject: Subject, *, batch_size: int, length: int | None, batches: int, threads: int) -> int:
    """Number of candidates whose passes over one batch take `LAP_S` seconds, if they take as long as unreduced."""

    def count() -> int:
        whole = subject.reference
        inputs = real_batches(whole, batch_size, length, batches)
        with threads_of_torch(threads):
            rounds = [[seconds(whole, tokens) for tokens in inputs] for _ in range(WARM_UP + 1)]
        return int(LAP_S / max(float(np.median(rounds[-1])), 1e-9))

    return subject.remembered(("latency, at once", batch_size, length, batches, threads), count)


def _in_groups(subjects: Sequence[Subject], **settings: Any) -> list[Estimate]:
    """Estimate the latency of each subject, as many in turns as there is room for sessions of ONNX Runtime."""
    most = max(TOGETHER, ROOM // subjects[0].reference.weights_bytes - 2)
    groups = (subjects[start : start + most] for start in range(0, len(subjects), most))
    return [estimate for group in groups for estimate in _latencies(group, **settings)]


def _latencies(
    subjects: Sequence[Subject], *, batch_size: int, length: int | None, batches: int, protocol: Protocol, threads: int
) -> list[Estimate]:
    """Estimate the latency of each subject; all are of one bench."""
    first = subjects[0]
    sides = [first.reference, *subjects]
    inputs = [real_batches(side, batch_size, length, batches) for side in sides]  # of each in its own tokens
    count = min(map(len, inputs))
    energy = meter(first.device)
    joules = np.zeros(len(sides))

    def visit(side: int, batch: int) -> float:
        before = energy.read()
        took = seconds(sides[side], inputs[side][batch])
        joules[side] += energy.read() - before
        return took

    def untimed(side: int, batch: int) -> None:
        sides[side].forward(inputs[side][batch])

    weights = [side.weights for side in sides]
    with threads_of_torch(threads):
        timed = in_turns(steady(visit, untimed, weights.__getitem__), len(sides), count, protocol)
    visits = (len(timed.times) + timed.rejected * (not timed.contended) + 1) * count
    known = ("latency", batch_size, length, batches, threads)
    reference_ms = first.remembered(known, lambda: 1e3 * float(timed.typical[0]))
    found = [_estimate(timed, side, batch_size, reference_ms, energy, joules / visits) for side in range(1, len(sides))]
    own = {"threads": float(threads)} if threads else {}
    return [replace(estimate, beside={**estimate.beside, **own}) for estimate in found]


def _estimate(
    timed: Timed, side: int, batch_size: int, reference_ms: float, energy: Meter, joules: NDArray[np.float64]
) -> Estimate:
    ratio = timed.ratios[side - 1]
    beside = {
        "latency_ms_p50": 1e3 * timed.quantile(side, 0.5),
        "latency_ms_p95": 1e3 * timed.quantile(side, 0.95),
        "latency_ms_raw": 1e3 * float(timed.typical[side]),
        "unreduced_ms": reference_ms,
        "unreduced_ms_p50": 1e3 * timed.quantile(0, 0.5),
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "speedup": 1 / ratio.value,
        "examples_per_s": batch_size * 1e3 / (ratio.value * reference_ms),
        "batch_size": float(batch_size),
        "rounds": float(len(timed.times)),
        "rejected_rounds": float(timed.rejected),
        "contended": float(timed.contended),
        "settled": float(timed.settled),
        "spent_s": timed.spent_s / timed.times.shape[1],
    }
    if energy.is_there:
        beside |= {"energy_mj": 1e3 * float(joules[side]), "unreduced_energy_mj": 1e3 * float(joules[0])}
    value, error = ratio.value * reference_ms, (ratio.high - ratio.low) / 3.92 * reference_ms
    n = len(timed.times) * timed.times.shape[2]
    return Estimate(value, error, n, beside, ratio.low * reference_ms, ratio.high * reference_ms)
