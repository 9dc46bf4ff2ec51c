"""Cache of trained supernets: each is trained once, and kept in a folder named by its fingerprint."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchkit._checks.code import with_code
from searchkit._progress import Progress, Stopwatch, silent
from searchkit.errors import StoreError, StudyError
from searchkit.records import digest
from searchkit.training.supernet import Supernet, check_vocabulary

if TYPE_CHECKING:
    import torch

    from searchkit.tasks.base import Tables, Task


@dataclass(frozen=True)
class Trained:
    """A trained supernet's folder (a Hugging Face checkpoint) and how long training took, summed over interruptions."""

    folder: Path
    fingerprint: str
    train_s: float

    @property
    def found(self) -> dict[str, Any]:
        """What the recipe left in the checkpoint's config: thresholds and lengths, for one."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "config.json").read_text()).get("searchkit", {})
            return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise _damaged(self.folder / "config.json", error) from error


def fingerprint(supernet: Supernet, task: Task, seed: int) -> str:
    """16 hex digits of everything that decides the trained weights."""
    return digest({"supernet": supernet.describe(), "task": with_code(task.describe(), task), "seed": seed})


def train(
    supernet: Supernet,
    task: Task,
    tables: Tables,
    *,
    seed: int,
    cache: Path,
    device: torch.device,
    progress: Progress = silent,
) -> Trained:
    """The trained supernet from `cache`, or train it there; an interrupted training goes on where it was."""
    name = fingerprint(supernet, task, seed)
    folder = cache / name
    if (folder / "searchkit.json").is_file():
        return _trained(folder, name)
    if folder.exists():
        raise StoreError(f"{folder}: no trained supernet, it has no searchkit.json; remove the folder to train again")
    from searchkit.training.stage import Where

    tokenizer = supernet.tokenizer(tables)
    data = task.encode(tables.train, tokenizer)
    model = supernet.build(tokenizer, len(tables.labels), task.max_length, seed, task.head)
    check_vocabulary(supernet.model, tokenizer, model)
    limit = model.view.limit
    if task.max_length > limit:
        raise StudyError(f"max_length={task.max_length} is more than the encoder takes ({limit}); lower it")
    partial = _writable(cache / f"{name}.partial")
    spent = Stopwatch(partial / "seconds")
    supernet.recipe.train(model.to(device), data, Where(partial, device, seed, spent.watching(progress)))
    model.stock.config.id2label = dict(enumerate(tables.labels))
    model.stock.config.label2id = {label: number for number, label in enumerate(tables.labels)}
    model.save(partial / "model")
    tokenizer.save_pretrained(partial / "model")
    record = {"fingerprint": name, "supernet": supernet.describe(), "seed": seed, "train_s": spent.seconds()}
    (partial / "model" / "searchkit.json").write_text(json.dumps(record, indent=2))
    os.replace(partial / "model", folder)
    shutil.rmtree(partial)
    return _trained(folder, name)


def _trained(folder: Path, name: str) -> Trained:
    try:
        return Trained(folder, name, float(json.loads((folder / "searchkit.json").read_text())["train_s"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder / "searchkit.json", error) from error


def _damaged(file: Path, error: Exception) -> StoreError:
    return StoreError(f"{file} is damaged ({error}); remove the folder to train again")


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StoreError(f"{folder}: cannot write there: {error.strerror}") from error
    return folder
