"""Cache of trained supernets: each is trained once, and kept in a folder named by its fingerprint.

Number formats of training: `auto` is the device's own and takes any that is there; one that was asked for has its own
supernet (docs/decisions/training-format.md).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from searchkit._internal.code import digest
from searchkit._internal.files import held_lock, one_line_where_full, replace_whole
from searchkit._internal.processors import spinning_warning
from searchkit._internal.progress import Progress, Stopwatch, silent
from searchkit.errors import StoreError, StudyError
from searchkit.reduction.plugins import with_plug_ins
from searchkit.training.plans import predictors_of
from searchkit.training.supernet import Supernet, check_fits

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from searchkit.reduction.model import AdaptiveModel
    from searchkit.tasks.base import Encoded, Tables, Task
    from searchkit.training.stage import TrainingContext

log = logging.getLogger(__name__)

FORMATS: Final = ("bf16", "fp32")  # number formats of training; fp16 would need loss scaling
RECORD: Final = "searchkit.json"  # beside the weights, and the last file that is written
CONDITIONS: Final = "conditions.json"  # file in the folder of a training: the conditions it began with


@dataclass(frozen=True)
class Trained:
    """Trained supernet: its folder (a Hugging Face checkpoint) and the seconds of training, over all interruptions."""

    folder: Path
    fingerprint: str
    train_s: float

    @property
    def notes(self) -> dict[str, Any]:
        """Notes of the recipe in the checkpoint's config: thresholds, lengths and predictors' settings."""
        try:
            notes: dict[str, Any] = json.loads((self.folder / "config.json").read_text()).get("searchkit", {})
            return {name: tuple(value) if isinstance(value, list) else value for name, value in notes.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise _damaged(self.folder / "config.json", error) from error


def fingerprint(supernet: Supernet, task: Task, seed: int) -> str:
    """16 hex digits of everything that decides the trained weights, but for the format that a user asks for."""
    return digest({"supernet": supernet.describe(), "task": describe_task(task), "seed": seed})


def describe_task(task: Task) -> dict[str, Any]:
    """The task as JSON, with the identity of the user's code in it and in its head."""
    from searchkit.reduction.heads import HEADS

    return with_plug_ins(task.describe(), task, HEADS.look_up(task.head))


def train(
    supernet: Supernet,
    task: Task,
    tables: Tables,
    *,
    seed: int,
    cache: Path,
    device: torch.device,
    dtype: str = "auto",
    threads: int = 0,
    began_with: str = "",
    progress: Progress = silent,
) -> Trained:
    """Load the trained supernet from `cache`, or train it there; an interrupted training is resumed.

    dtype: "auto" (the device's own), "bf16" or "fp32"; "fp16" takes what is in the cache, and is a StudyError where
    nothing is. threads: of torch while it trains, 0 for those it has. began_with: the fingerprint of a supernet that a
    run began with; it goes on with that one. Another process that trains the same supernet is waited for. StoreError
    where nothing can be written.
    """
    from searchkit.reduction.device import DTYPES
    from searchkit.training.stage import TrainingContext

    base = fingerprint(supernet, task, seed)
    dtype, wanted = _formats(base, device, dtype, began_with)
    if kept := _kept(cache, base, dtype, wanted, device, progress):
        return kept
    if wanted not in FORMATS:
        raise StudyError(f"--dtype {wanted} is for the search alone: train first, with --dtype bf16 or fp32")
    name = base if dtype == "auto" else f"{base}-{wanted}"
    if (cache / name).exists():
        raise StoreError(f"{cache / name}: no trained supernet, it has no {RECORD}; remove the folder to train again")
    untrained = _Untrained.of(supernet, task, tables, seed)
    _make_writable(cache)
    with held_lock(cache / f".{name}.lock", _waiting(name, progress)):
        if kept := _kept(cache, base, dtype, wanted, device, progress):
            return kept
        partial = cache / f"{name}.partial"
        _make_writable(partial)
        from searchkit.reduction.device import threads_of_torch

        with threads_of_torch(threads), one_line_where_full(partial, "make room and run again: the training goes on"):
            conditions = _conditions(partial, device, wanted)
            spent = Stopwatch(partial / "seconds")
            context = TrainingContext(partial, device, seed, spent.watching(progress), DTYPES[conditions["dtype"]])
            untrained.train(context)
            record = {"fingerprint": name, "supernet": supernet.describe(), "seed": seed, **conditions}
            untrained.save(partial / "model", {**record, "train_s": spent.seconds(), "trained_on": _today()})
            os.replace(partial / "model", cache / name)
        shutil.rmtree(partial, ignore_errors=True)
    return _read(cache / name)


def cached(
    supernet: Supernet,
    task: Task,
    seed: int,
    cache: Path,
    device: torch.device,
    dtype: str = "auto",
    began_with: str = "",
) -> Trained | None:
    """Trained supernet that `train` would take from the cache; None where it would train."""
    base = fingerprint(supernet, task, seed)
    folders = _candidates(cache, base, *_formats(base, device, dtype, began_with))
    return next((_read(folder) for folder in folders if (folder / RECORD).is_file()), None)


def _formats(base: str, device: torch.device, dtype: str, began_with: str) -> tuple[str, str]:
    """Number format that is asked for, or that the run began with, and the one that is trained in."""
    from searchkit.reduction.device import dtype_of, name_of

    dtype = {base: "auto", **{f"{base}-{own}": own for own in FORMATS}}.get(began_with, dtype)
    return dtype, name_of(dtype_of(dtype, device))


def _kept(cache: Path, base: str, dtype: str, wanted: str, device: torch.device, progress: Progress) -> Trained | None:
    """First supernet in the cache that serves this number format; log and progress name it."""
    for folder in _candidates(cache, base, dtype, wanted):
        if (folder / RECORD).is_file():
            _tell_other_arithmetic(folder, device)
            origin = f"from the cache, {_origin(folder)}"
            log.info("supernet %s %s", folder, origin)
            progress("train", 1, 1, f"supernet {origin}")
            return _read(folder)
    return None


def _tell_other_arithmetic(folder: Path, device: torch.device) -> None:
    """Warn where the weights would differ in their last digits if they were trained in this process."""
    record, now = _record(folder), _arithmetic(device)
    before = record.get("arithmetic", [""])
    if record.get("device") == device.type and before != [now]:
        settings = [str(setting) or "none" for setting in (before if isinstance(before, list) else [before])]
        log.warning(
            "supernet %s was trained with other settings of the processor's arithmetic (%s; here %s): weights that are "
            "trained here would differ from its in their last digits",
            folder.name,
            ", then ".join(settings),
            now or "none",
        )


def _candidates(cache: Path, base: str, dtype: str, wanted: str) -> list[Path]:
    """Folders to look at: `auto` also takes one in the device's own format, and an explicit format one of `auto`."""
    of_auto, own = cache / base, cache / f"{base}-{wanted}"
    if dtype == "auto":
        return [of_auto, own]
    if wanted not in FORMATS:
        return [of_auto, *(cache / f"{base}-{number_format}" for number_format in FORMATS)]
    return [own, of_auto] if (of_auto / RECORD).is_file() and _record(of_auto).get("dtype") == wanted else [own]


def _origin(folder: Path) -> str:
    """Origin as text, such as "trained on 2026-11-30, in bf16, with 2 threads"; older records hold less."""
    record = _record(folder)
    written = datetime.fromtimestamp((folder / RECORD).stat().st_mtime, UTC).date().isoformat()
    parts = [f"trained on {record.get('trained_on', written)}"]
    if "dtype" in record:
        parts.append(f"in {record['dtype']}")
    if counts := record.get("threads"):
        parts.append(f"with {', then '.join(map(str, counts))} thread{'s' if counts != [1] else ''}")
    return ", ".join(parts)


def _waiting(name: str, progress: Progress) -> Callable[[], None]:
    """Report that another process trains this supernet: in the log once, to progress each time."""
    reported = False

    def waiting() -> None:
        nonlocal reported
        if not reported:
            log.info("another process trains supernet %s: waiting for it", name)
            reported = True
        progress("train", 0, 1, "another process trains this supernet: waiting for it")

    return waiting


@dataclass(frozen=True, eq=False)
class _Untrained:
    """Inputs of a training, checked and in memory before anything is written."""

    supernet: Supernet
    tokenizer: PreTrainedTokenizerBase
    data: Encoded
    model: AdaptiveModel

    @classmethod
    def of(cls, supernet: Supernet, task: Task, tables: Tables, seed: int) -> _Untrained:
        tokenizer = supernet.tokenizer(tables)
        data = task.encode(tables.train, tokenizer)
        model = supernet.build(tokenizer, tables.labels, task.max_length, seed, task.head)
        check_fits(supernet.model, tokenizer, model, data, task.max_length)
        return cls(supernet, tokenizer, data, model)

    def train(self, context: TrainingContext) -> None:
        import torch

        recipe = self.supernet.recipe
        for name in self.model.forget(keep=predictors_of(recipe)):
            log.warning("%s: the model's %s of an earlier training are dropped", type(recipe).__name__, name)
        if context.device.type == "cpu" and (warning := spinning_warning(torch.get_num_threads())):
            log.warning("%s", warning)
        recipe.train(self.model.to(context.device), self.data, context)

    def save(self, folder: Path, record: Mapping[str, Any]) -> None:
        """Save a Hugging Face checkpoint that the stock class reads as this model does; the record last."""
        from searchkit.reduction.stock_check import compare_with_stock

        compare_with_stock(self.model.to("cpu"), str(folder))
        self.model.save(folder)
        self.tokenizer.save_pretrained(folder)
        replace_whole(folder / RECORD, json.dumps(record, indent=2).encode())


def _conditions(partial: Path, device: torch.device, dtype: str) -> dict[str, Any]:
    """Device, number format and threads of a training, kept beside it; one that goes on keeps its format.

    threads, arithmetic: every one that some stretch of it ran with, in order
    """
    import torch

    file = partial / CONDITIONS
    try:
        begun = json.loads(file.read_text())
        before, threads = begun["dtype"], [int(count) for count in begun["threads"]]
        settings = [str(setting) for setting in begun.get("arithmetic", [""])]
    except (OSError, ValueError, KeyError, TypeError):
        before, threads, settings = dtype, [], []
    if before in FORMATS and before != dtype:
        log.warning("the training began in %s on another device and goes on in it", before)
        dtype = before
    threads += [count for count in [torch.get_num_threads()] if count not in threads]
    settings += [setting for setting in [_arithmetic(device)] if setting not in settings]
    conditions = {"device": device.type, "dtype": dtype, "threads": threads, "arithmetic": settings}
    replace_whole(file, json.dumps(conditions).encode())
    log.info("training in %s with %d threads on %s", dtype, threads[-1], device)
    return conditions


def _arithmetic(device: torch.device) -> str:
    """Settings of the processor's arithmetic in this process, such as "MKL_CBWR=COMPATIBLE"; mostly none."""
    from searchkit.reduction.device import arithmetic

    return " ".join(f"{name}={value}" for name, value in arithmetic().items() if device.type == "cpu")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _read(folder: Path) -> Trained:
    try:
        return Trained(folder, folder.name, float(_record(folder)["train_s"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / RECORD, error) from error


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text())
        return dict(record)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder / RECORD, error) from error


def _damaged(file: Path, error: Exception) -> StoreError:
    return StoreError(f"{file} is damaged ({error}); remove the folder to train again")


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # another process may probe too
    except OSError as error:
        raise StoreError(f"{folder}: cannot write there: {error.strerror}") from error
