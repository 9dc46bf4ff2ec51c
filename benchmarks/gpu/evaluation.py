"""Evaluation of candidates on the device: objectives, memory that runs out, and energy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch

from benchmarks.gpu.checks import CannotRunError, Check, Figures
from benchmarks.gpu.made import Setting, documents, families, words_of
from objectives import accuracy, latency, macs, memory
from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.energy import meter
from searchkit.evaluate.trial import measure_together
from searchkit.evaluate.workbench import SupernetWorkbench
from searchkit.objective import Objective, Subject
from searchkit.records import Ask, Candidate, Estimate, Failed, Measured, Trial
from searchkit.reduction.heads import HEADS
from searchkit.testing.models import random_model
from searchkit.training import LengthDrop

TOO_MUCH: Final = 1 << 50  # bytes
QUICK: Final[dict[str, Any]] = {"batches": 2, "rounds": 3, "min_round_interval_s": 0.0}


def bench(setting: Setting, device: torch.device, dtype: str, **changes: Any) -> SupernetBench:
    """A bench of a random model on generated documents."""
    return workbench(setting, device, dtype, **changes).build()


def workbench(setting: Setting, device: torch.device, dtype: str, **changes: Any) -> SupernetWorkbench:
    """The same as plain data."""
    length = (14, 26) if setting.smoke else (60, 120)
    size = replace(setting.size, words=words_of(length), texts=(length[1] + 2,))
    model = random_model(families(size)["bert"](num_labels=2), HEADS["classification"], scale=1.1 / size.width**0.5)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    data = documents(size.examples, length)
    return SupernetWorkbench(
        model.stock.config.to_dict(),
        "classification",
        weights,
        LengthDrop(),
        data,
        length[1] + 2,
        device=str(device),
        dtype=dtype,
        **changes,
    )


def asks(layers: int) -> list[Ask]:
    """Candidates from the whole model to a tenth of it."""
    ratios = (1.0, 0.8, 0.6, 0.4)
    lengths = [tuple(round(ratio**layer, 4) for layer in range(1, layers + 1)) for ratio in ratios]
    return [Ask(number, Candidate.of(lengths=each)) for number, each in enumerate(lengths)]


def measured(trials: Sequence[Trial]) -> list[dict[str, Estimate]]:
    """Estimates of every trial; ValueError with the message of one that has none."""
    made = []
    for trial in trials:
        if not isinstance(trial.outcome, Measured):
            raise ValueError(f"candidate {trial.ask.number} was not measured: {trial.outcome}")
        made.append(dict(trial.outcome.estimates))
    return made


@functools.lru_cache(maxsize=1)
def expected(setting: Setting) -> list[dict[str, Estimate]]:
    """Accuracy and MACs of the candidates on the CPU, in float32."""
    exact = bench(setting, torch.device("cpu"), "fp32")
    return measured(list(measure_together(asks(setting.size.layers), exact, [accuracy, macs])))


def objectives(figures: Figures, setting: Setting, dtype: str) -> None:
    """Compare accuracy and MACs with the CPU's; memory and time must be there and make sense."""
    if dtype == "fp16" and not setting.on_gpu:
        raise CannotRunError("float16 is for GPUs")
    timed = [memory(8, batches=2), latency(8, **QUICK, budget_s=0.02 if setting.smoke else 0.3)]
    given = asks(setting.size.layers)
    ours = measured(list(measure_together(given, bench(setting, setting.device, dtype), [accuracy, macs, *timed])))
    limit = {"fp32": 0.002, "fp16": 0.02, "bf16": 0.05}[dtype]  # of a random model, whose logits are close together
    for own, other in zip(ours, expected(setting), strict=True):
        figures.at_most("accuracy", abs(own["accuracy"].value - other["accuracy"].value), limit)
        figures.at_most("macs", abs(own["macs"].value - other["macs"].value), 0.0)
        figures.holds("time_is_positive", own["latency"].value > 0)
        figures.holds("memory_is_positive", own["memory"].value > 0 or not setting.on_gpu)
    last = ours[-1]
    figures.tell(
        speedup=last["latency"].beside["speedup"],
        memory_mib=last["memory"].value,
        unreduced_mib=last["memory"].beside["unreduced_mib"],
    )


def _impossible(subject: Subject) -> Estimate:
    """Take memory that no device has, for all candidates but the first."""
    if subject.candidate == asks(subject.shape.layers)[0].candidate:
        return Estimate(1.0, None, 1)
    torch.empty(TOO_MUCH, dtype=torch.uint8, device=subject.device)
    raise AssertionError("there was so much memory")


def too_much(figures: Figures, setting: Setting) -> None:
    """Let a candidate ask for more memory than there is: its trial must say so, and the next one be measured."""
    made, (first, second, *_) = bench(setting, setting.device, "auto"), asks(setting.size.layers)
    greedy = Objective("greedy", "bytes", "lower", _impossible)
    failed, fine = measure_together([second, first], made, [accuracy, greedy])
    outcome = failed.outcome
    figures.holds("it_is_an_outcome", isinstance(outcome, Failed) and outcome.kind == "out-of-memory")
    figures.holds("the_next_is_measured", isinstance(fine.outcome, Measured))
    figures.tell(message=outcome.message.splitlines()[0][:100] if isinstance(outcome, Failed) else "")


def smaller_batches(figures: Figures, setting: Setting) -> None:
    """Give the process half of what a pass over large batches takes: smaller batches must make the same trials."""
    if not setting.on_gpu:
        raise CannotRunError("a limit on memory is for GPUs")
    device, given = setting.device, asks(setting.size.layers)
    whole = bench(setting, device, "fp32", cache_bytes=0)
    large = replace(whole, token_budget=len(whole.data) * int(whole.data.lengths.max()))  # one batch of all
    given_all = measured(list(measure_together(given, large, [accuracy, macs])))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    measured(list(measure_together(given, large, [accuracy])))
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((before + (peak - before) / 2) / total, device)
    try:
        trials = list(measure_together(given, large, [accuracy, macs]))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    for own, other in zip(measured(trials), given_all, strict=True):
        figures.at_most("accuracy", abs(own["accuracy"].value - other["accuracy"].value), 0.002)
        figures.at_most("macs", abs(own["macs"].value - other["macs"].value), 0.0)
    figures.tell(peak_mib=peak / 2**20, before_mib=before / 2**20)
    after = list(measure_together(given, bench(setting, device, "fp32"), [accuracy]))
    figures.holds("the_next_is_measured", all(isinstance(trial.outcome, Measured) for trial in after))


def energy(figures: Figures, setting: Setting) -> None:
    """Read the device's energy meter around passes."""
    found = meter(setting.device)
    if not found.is_there:
        raise CannotRunError(found.why)
    made = bench(setting, setting.device, "auto")
    estimate = latency(8, **QUICK, budget_s=0.2 if setting.smoke else 2.0).measure(
        made.subject(asks(setting.size.layers)[-1].candidate)
    )
    figures.tell(meter=found.why, energy_mj=estimate.beside["energy_mj"])
    figures.holds("energy_is_positive", estimate.beside["unreduced_energy_mj"] > 0 or not setting.on_gpu)


def checks(setting: Setting) -> list[Check]:
    per_dtype = [
        Check(f"objectives.{dtype}", functools.partial(objectives, setting=setting, dtype=dtype))
        for dtype in ("fp32", "bf16", "fp16")
    ]
    others: dict[str, Any] = {
        "out_of_memory": too_much,
        "out_of_memory.smaller_batches": smaller_batches,
        "energy": energy,
    }
    return [*per_dtype, *(Check(name, functools.partial(kind, setting=setting)) for name, kind in others.items())]
