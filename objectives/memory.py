"""Peak memory of a forward pass beyond the weights, on the device where the model runs."""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path

import torch

from objectives.batches import check_batches, real_batches
from searchkit.errors import TrialError
from searchkit.objective import Objective, Subject, Timing
from searchkit.records import Estimate
from searchkit.reduction.device import give_back_memory
from searchkit.reduction.ragged import Tokens


def memory(batch_size: int = 1, *, length: int | None = None, batches: int = 5) -> Objective:
    """Peak memory of a pass in MiB, beyond what was held before: the maximum over `batches` batches of real examples.

    On a GPU it is the allocator's peak; on Linux the growth of the process's resident memory, to about a MiB; elsewhere
    it is unknown, and the candidate is `Failed` with that reason.

    >>> memory(batch_size=8).unit
    'MiB at batch 8'
    """
    check_batches("memory", batch_size, length, batches)
    unit = f"MiB at batch {batch_size}{'' if length is None else f' of {length} tokens'}"
    measure = partial(_memory, batch_size=batch_size, length=length, batches=batches)
    with_batch = partial(memory, batch_size=batch_size, length=length, batches=batches)
    return Objective("memory", unit, "lower", measure, timing=Timing(with_batch=with_batch))


def _memory(subject: Subject, *, batch_size: int, length: int | None, batches: int) -> Estimate:
    for side in (subject, subject.reference):  # what is made once, such as copies of weights, is no pass's
        side.forward(real_batches(side, batch_size, length, 1)[0])
    peaks, unreduced = (
        [_peak_mib(side, tokens) for tokens in real_batches(side, batch_size, length, batches)]
        for side in (subject, subject.reference)
    )
    beside = {
        "unreduced_mib": max(unreduced),
        "weights_mib": subject.weights_bytes / 2**20,
        "batch_size": float(batch_size),
    }
    return Estimate(max(peaks), None, len(peaks), beside)


def _peak_mib(subject: Subject, tokens: Tokens) -> float:
    device = subject.device
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        subject.forward(tokens)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    give_back_memory()
    before_kib = _reset_peak()
    subject.forward(tokens)
    return max(_status_kib("VmHWM") - before_kib, 0) / 1024


def _reset_peak() -> int:
    """Reset the peak of resident memory, and return the KiB that are resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        raise TrialError("peak memory on a processor needs Linux's /proc/self/clear_refs") from None
    return _status_kib("VmRSS")


def _status_kib(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise TrialError(f"this system does not tell {name}")
